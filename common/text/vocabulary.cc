#include "common/text/vocabulary.h"

#include <algorithm>
#include <bit>

#include <absl/hash/hash.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include "common/base/strings.h"

namespace mili::text {
namespace {

uint32_t HashOf(std::string_view spelling) {
  return static_cast<uint32_t>(absl::HashOf(ToAbsl(spelling)) >> 16);
}

}  // namespace

absl::Status Vocabulary::Add(std::string_view spelling, uint64_t id) {
  if (id >= kMaxIds) {
    return absl::InvalidArgumentError(absl::StrCat("token \"", absl::CHexEscape(ToAbsl(spelling)),
                                                   "\" has id ", id, "; ids end at ", kMaxIds - 1));
  }
  if (spelling.size() >= kNoToken - spellings_.size()) {
    return absl::InvalidArgumentError("the tokens exceed 4 GiB");
  }
  added_.push_back(
      {{static_cast<uint32_t>(spellings_.size()), static_cast<uint32_t>(spelling.size())},
       static_cast<TokenId>(id),
       HashOf(spelling)});
  spellings_.append(spelling);
  return absl::OkStatus();
}

absl::Status Vocabulary::Finish() {
  TokenId end = 0;
  for (const Added& added : added_) end = std::max(end, added.id + 1);
  by_id_.resize(end);
  slots_.resize(std::bit_ceil(std::max<size_t>(added_.size() * 3 / 2, 64)));
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < added_.size(); ++i) {
    constexpr size_t kAhead = 16;
    if (i + kAhead < added_.size()) __builtin_prefetch(&slots_[added_[i + kAhead].hash & mask], 1);
    const auto& [entry, id, hash] = added_[i];
    const std::string_view spelling = Spelling(entry);
    if (Contains(id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("id ", id, " is given to \"", absl::CHexEscape(ToAbsl(SpellingOf(id))),
                       "\" and to \"", absl::CHexEscape(ToAbsl(spelling)), "\""));
    }
    size_t slot = hash & mask;
    for (; slots_[slot].id != kNoToken; slot = (slot + 1) & mask) {
      if (slots_[slot].hash != hash || SpellingOf(slots_[slot].id) != spelling) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("token \"", absl::CHexEscape(ToAbsl(spelling)), "\" is there twice"));
    }
    slots_[slot] = {hash, id};
    by_id_[id] = entry;
  }
  size_ = added_.size();
  added_ = {};
  return absl::OkStatus();
}

std::optional<TokenId> Vocabulary::Find(std::string_view spelling) const {
  if (slots_.empty()) return std::nullopt;
  const uint32_t hash = HashOf(spelling);
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask; slots_[slot].id != kNoToken; slot = (slot + 1) & mask) {
    const TokenId id = slots_[slot].id;
    if (slots_[slot].hash == hash && Spelling(by_id_[id]) == spelling) return id;
  }
  return std::nullopt;
}

std::string_view Vocabulary::SpellingOf(TokenId id) const {
  return Contains(id) ? Spelling(by_id_[id]) : std::string_view();
}

}  // namespace mili::text
