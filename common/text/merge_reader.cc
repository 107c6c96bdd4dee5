#include "common/text/merge_reader.h"

#include <optional>
#include <utility>

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"

namespace mili::text {

absl::Status MergeReader::Read(JsonCursor& json) {
  if (json.Peek() == '"') {
    const std::optional<std::string_view> line = json.String();
    return line ? AddLine(json, *line) : Refuse(num_read(), "is not JSON");
  }
  if (!json.Take('[')) return Refuse(num_read(), "is no pair of tokens");
  std::optional<std::string_view> left = json.String();
  if (!left || !json.Take(',')) return Refuse(num_read(), "is no pair of tokens");
  const bool left_lasts = json.Lasts(*left);
  if (!left_lasts) left = left_.assign(*left);
  const std::optional<std::string_view> right = json.String();
  if (!right) return Refuse(num_read(), "is no pair of tokens");
  if (json.Peek() == ',') return Refuse(num_read(), "has more than two tokens");
  if (!json.Take(']')) return Refuse(num_read(), "is not JSON");
  return Add(*left, *right, left_lasts && json.Lasts(*right));
}

absl::Status MergeReader::AddLine(const JsonCursor& json, std::string_view line) {
  if (line.starts_with("#version")) return absl::OkStatus();
  const size_t space = line.find(' ');
  if (space == line.npos || line.find(' ', space + 1) != line.npos) {
    return Refuse(num_read(), absl::StrCat("is \"", absl::CHexEscape(ToAbsl(line)),
                                           "\"; expected two tokens with one space between"));
  }
  return Add(line.substr(0, space), line.substr(space + 1), json.Lasts(line));
}

absl::Status MergeReader::Add(std::string_view left, std::string_view right, bool lasts) {
  const Waiting entry = {left, right, Vocabulary::HashOf(left), Vocabulary::HashOf(right)};
  vocabulary_.Prefetch(entry.left_hash);
  vocabulary_.Prefetch(entry.right_hash);
  waiting_[num_waiting_++] = entry;
  return lasts && num_waiting_ < kMaxWaiting ? absl::OkStatus() : Finish();
}

absl::Status MergeReader::Finish() {
  const size_t count = std::exchange(num_waiting_, 0);
  for (size_t i = 0; i < count; ++i) MILI_RETURN_IF_ERROR(Resolve(waiting_[i]));
  return absl::OkStatus();
}

absl::Status MergeReader::Resolve(const Waiting& entry) {
  const auto& [left, right, left_hash, right_hash] = entry;
  const std::optional<TokenId> left_id = vocabulary_.Find(left, left_hash);
  if (!left_id) return Missing(left);
  const std::optional<TokenId> right_id = vocabulary_.Find(right, right_hash);
  if (!right_id) return Missing(right);
  // Vocabularies mostly list what the merges make, in their order.
  TokenId merged = rules_.empty() ? 0 : rules_.back().merged + 1;
  const std::string_view guess = vocabulary_.SpellingOf(merged);
  if (guess.size() != left.size() + right.size() || !guess.starts_with(left) ||
      !guess.ends_with(right)) {
    merged_.assign(left).append(right);
    const std::optional<TokenId> found = vocabulary_.Find(merged_);
    if (!found) return Missing(merged_);
    merged = *found;
  }
  rules_.push_back({*left_id, *right_id, merged});
  return absl::OkStatus();
}

absl::Status MergeReader::Missing(std::string_view token) const {
  return Refuse(rules_.size(), absl::StrCat("names \"", absl::CHexEscape(ToAbsl(token)),
                                            "\", which model.vocab lacks"));
}

absl::Status MergeReader::Refuse(size_t index, const std::string& why) const {
  return absl::InvalidArgumentError(absl::StrCat("model.merges[", index, "] ", why));
}

}  // namespace mili::text
