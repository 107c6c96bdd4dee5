#include "common/text/tokenizer.h"
#include "common/text/utf8.h"

namespace mili {

void IncrementalDetokenizer::Push(TokenId id, std::string& text) {
  if (skip_special_tokens_ && tokenizer_.IsSpecial(id)) return;
  held_.append(tokenizer_.BytesOf(id));
  const size_t tail = text::TruncatedTail(held_);
  text::AppendLossy(std::string_view(held_).substr(0, held_.size() - tail), text);
  held_.erase(0, held_.size() - tail);
}

void IncrementalDetokenizer::Flush(std::string& text) {
  text::AppendLossy(held_, text);
  held_.clear();
}

}  // namespace mili
