#include "common/text/tokenizer.h"
#include "common/text/utf8.h"

namespace mili {

std::string IncrementalDetokenizer::Push(TokenId id) {
  if (skip_special_tokens_ && tokenizer_.IsSpecial(id)) return {};
  held_.append(tokenizer_.BytesOf(id));
  const size_t tail = text::TruncatedTail(held_);
  std::string out;
  text::AppendLossy(std::string_view(held_).substr(0, held_.size() - tail), out);
  held_.erase(0, held_.size() - tail);
  return out;
}

std::string IncrementalDetokenizer::Flush() {
  std::string out;
  text::AppendLossy(held_, out);
  held_.clear();
  return out;
}

}  // namespace mili
