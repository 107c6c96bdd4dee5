#include "common/text/merge_reader.h"

#include <optional>

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"

namespace mili::text {

absl::Status MergeReader::Read(JsonCursor& json) {
  if (json.Peek() == '"') {
    const std::optional<std::string_view> line = json.String();
    return line ? AddLine(*line) : Refuse("is not JSON");
  }
  if (!json.Take('[')) return Refuse("is no pair of tokens");
  std::optional<std::string_view> token = json.String();
  if (!token || !json.Take(',')) return Refuse("is no pair of tokens");
  left_.assign(*token);
  token = json.String();
  if (!token) return Refuse("is no pair of tokens");
  MILI_RETURN_IF_ERROR(Add(left_, *token));
  if (json.Take(']')) return absl::OkStatus();
  rules_.pop_back();
  return Refuse(json.Peek() == ',' ? "has more than two tokens" : "is not JSON");
}

absl::Status MergeReader::AddLine(std::string_view line) {
  if (line.starts_with("#version")) return absl::OkStatus();
  const size_t space = line.find(' ');
  if (space == line.npos || line.find(' ', space + 1) != line.npos) {
    return Refuse(absl::StrCat("is \"", absl::CHexEscape(ToAbsl(line)),
                               "\"; expected two tokens with one space between"));
  }
  return Add(line.substr(0, space), line.substr(space + 1));
}

absl::Status MergeReader::Add(std::string_view left, std::string_view right) {
  const std::optional<TokenId> left_id = vocabulary_.Find(left);
  if (!left_id) return Missing(left);
  const std::optional<TokenId> right_id = vocabulary_.Find(right);
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
  return Refuse(
      absl::StrCat("names \"", absl::CHexEscape(ToAbsl(token)), "\", which model.vocab lacks"));
}

absl::Status MergeReader::Refuse(const std::string& why) const {
  return absl::InvalidArgumentError(absl::StrCat("model.merges[", rules_.size(), "] ", why));
}

}  // namespace mili::text
