#include "common/text/vocabulary.h"

#include <algorithm>

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include "common/base/strings.h"

namespace mili::text {

absl::Status Vocabulary::Add(std::string_view spelling, uint64_t id) {
  if (id >= kMaxIds) {
    return absl::InvalidArgumentError(absl::StrCat("token \"", absl::CHexEscape(ToAbsl(spelling)),
                                                   "\" has id ", id, "; ids end at ", kMaxIds - 1));
  }
  if (spelling.size() >= kNoToken - spellings_.size()) {
    return absl::InvalidArgumentError("the tokens exceed 4 GiB");
  }
  added_.push_back({static_cast<uint32_t>(spellings_.size()),
                    static_cast<uint32_t>(spelling.size()), static_cast<TokenId>(id)});
  spellings_.append(spelling);
  return absl::OkStatus();
}

absl::Status Vocabulary::Finish() {
  TokenId end = 0;
  for (const Entry& entry : added_) end = std::max(end, entry.id + 1);
  by_id_.resize(end);
  index_.reserve(added_.size());
  for (const Entry& entry : added_) {
    const absl::string_view spelling(spellings_.data() + entry.offset, entry.size);
    if (Contains(entry.id)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "id ", entry.id, " is given to \"", absl::CHexEscape(ToAbsl(SpellingOf(entry.id))),
          "\" and to \"", absl::CHexEscape(spelling), "\""));
    }
    if (!index_.emplace(spelling, entry.id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("token \"", absl::CHexEscape(spelling), "\" is there twice"));
    }
    by_id_[entry.id] = entry;
  }
  added_ = {};
  return absl::OkStatus();
}

std::optional<TokenId> Vocabulary::Find(std::string_view spelling) const {
  const auto found = index_.find(ToAbsl(spelling));
  if (found == index_.end()) return std::nullopt;
  return found->second;
}

std::string_view Vocabulary::SpellingOf(TokenId id) const {
  if (!Contains(id)) return {};
  return std::string_view(spellings_).substr(by_id_[id].offset, by_id_[id].size);
}

}  // namespace mili::text
