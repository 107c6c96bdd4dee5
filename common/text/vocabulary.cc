#include "common/text/vocabulary.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <absl/hash/hash.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include "common/base/strings.h"

namespace mili::text {

uint32_t Vocabulary::HashOf(std::string_view spelling) {
  return static_cast<uint32_t>(absl::HashOf(ToAbsl(spelling)) >> 16);
}

void Vocabulary::ReserveForFile(size_t size_bytes) {
  records_.reserve(size_bytes / 4);
  added_.reserve(size_bytes / 64);
}

absl::Status Vocabulary::Add(std::string_view spelling, uint64_t id) {
  if (id >= kMaxIds) {
    return absl::InvalidArgumentError(absl::StrCat("token \"", absl::CHexEscape(ToAbsl(spelling)),
                                                   "\" has id ", id, "; ids end at ", kMaxIds - 1));
  }
  if (spelling.size() + sizeof(Head) >= kNoRecord - records_.size()) {
    return absl::InvalidArgumentError("the tokens exceed 4 GiB");
  }
  added_.push_back({HashOf(spelling), static_cast<uint32_t>(records_.size())});
  const Head head = {static_cast<TokenId>(id), static_cast<uint32_t>(spelling.size())};
  const auto* const head_bytes = reinterpret_cast<const char*>(&head);
  records_.insert(records_.end(), head_bytes, head_bytes + sizeof(head));
  records_.insert(records_.end(), spelling.begin(), spelling.end());
  size_bytes_ += spelling.size();
  return absl::OkStatus();
}

absl::Status Vocabulary::Finish() {
  TokenId end = 0;
  for (const Slot& added : added_) end = std::max(end, HeadAt(added.record).id + 1);
  by_id_.resize(end, kNoRecord);
  slots_.resize(std::bit_ceil(std::max<size_t>(added_.size() * 3 / 2, 64)));
  for (size_t i = 0; i < added_.size(); ++i) {
    constexpr size_t kAhead = 16;
    if (i + kAhead < added_.size()) {
      __builtin_prefetch(&slots_[added_[i + kAhead].hash & (slots_.size() - 1)], 1);
    }
    const TokenId id = HeadAt(added_[i].record).id;
    const std::string_view spelling = SpellingAt(added_[i].record);
    if (Contains(id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("id ", id, " is given to \"", absl::CHexEscape(ToAbsl(SpellingOf(id))),
                       "\" and to \"", absl::CHexEscape(ToAbsl(spelling)), "\""));
    }
    Slot& slot = slots_[SlotOf(spelling, added_[i].hash)];
    if (slot.record != kNoRecord) {
      return absl::InvalidArgumentError(
          absl::StrCat("token \"", absl::CHexEscape(ToAbsl(spelling)), "\" is there twice"));
    }
    slot = added_[i];
    by_id_[id] = added_[i].record;
  }
  size_ = added_.size();
  added_ = {};
  return absl::OkStatus();
}

Vocabulary::Head Vocabulary::HeadAt(uint32_t record) const {
  Head head;
  std::memcpy(&head, records_.data() + record, sizeof(head));
  return head;
}

size_t Vocabulary::SlotOf(std::string_view spelling, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  while (slots_[slot].record != kNoRecord &&
         (slots_[slot].hash != hash || SpellingAt(slots_[slot].record) != spelling)) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

std::optional<TokenId> Vocabulary::Find(std::string_view spelling, uint32_t hash) const {
  if (slots_.empty()) return std::nullopt;
  const uint32_t record = slots_[SlotOf(spelling, hash)].record;
  if (record == kNoRecord) return std::nullopt;
  return HeadAt(record).id;
}

std::string_view Vocabulary::SpellingOf(TokenId id) const {
  return Contains(id) ? SpellingAt(by_id_[id]) : std::string_view();
}

}  // namespace mili::text
