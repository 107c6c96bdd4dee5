#include "tools/mili/answer.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/clock.h>

namespace mili {

std::string ForTerminal(std::string_view text, bool is_terminal) {
  std::string shown;
  shown.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    const bool is_c1 = c == 0xC2 && i + 1 < text.size() &&
                       static_cast<unsigned char>(text[i + 1]) < 0xA0;  // U+0080 to U+009F
    if (!is_terminal || (!is_c1 && c >= 0x20 && c != 0x7F) || c == '\n' || c == '\t') {
      shown += text[i];
      continue;
    }
    shown += "\xEF\xBF\xBD";
    if (is_c1) ++i;
  }
  return shown;
}

Answer::Answer(std::FILE* out, bool is_terminal)
    : out_(out), is_terminal_(is_terminal), begin_(absl::Now()), last_(begin_) {}

void Answer::Take(const v1::GenerateStreamResponse& message) {
  if (message.has_prompt_info()) prompt_info_ = message.prompt_info();
  if (message.has_finish_info()) {
    finish_info_ = message.finish_info();
    is_finished_ = true;
  }
  if (!message.has_chunk()) return;
  last_ = absl::Now();
  if (first_ == absl::InfiniteFuture()) first_ = last_;
  const v1::Chunk& chunk = message.chunk();
  text_ += chunk.text();
  Print(chunk.text());
  if (chunk.text().empty()) {  // a model without a tokenizer
    for (const uint32_t id : chunk.token_ids()) {
      Print(absl::StrCat(printed_ids_ ? "," : "", id));
      printed_ids_ = true;
    }
  }
}

void Answer::Print(const std::string& text) {
  if (out_ == nullptr || text.empty()) return;
  const std::string shown = ForTerminal(text, is_terminal_);
  std::fwrite(shown.data(), 1, shown.size(), out_);
  std::fflush(out_);
}

std::string Answer::Statistics() const {
  if (!is_finished_) return "[stopped]";
  const v1::Usage& usage = finish_info_.usage();
  std::string out = absl::StrCat("[", usage.prompt_tokens(), " prompt tokens, ",
                                 usage.completion_tokens(), " tokens");
  if (first_ != absl::InfiniteFuture()) {
    absl::StrAppendFormat(
        &out, ", %.1f tokens/s, first after %.3f s",
        TokensPerSecond(usage.completion_tokens(), first_ - begin_, last_ - begin_),
        absl::ToDoubleSeconds(first_ - begin_));
  }
  return absl::StrCat(out, ", ", NameOf(finish_info_.finish_reason()), "]");
}

double TokensPerSecond(uint32_t num_tokens, absl::Duration to_first, absl::Duration whole) {
  // The first token's time is the prompt's.
  if (num_tokens > 1 && whole > to_first) {
    return (num_tokens - 1) / absl::ToDoubleSeconds(whole - to_first);
  }
  const double seconds = absl::ToDoubleSeconds(whole);
  return seconds > 0 ? num_tokens / seconds : 0;
}

std::string NameOf(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    case v1::FINISH_REASON_ABORT:
      return "abort";
    default:
      return "unknown";
  }
}

}  // namespace mili
