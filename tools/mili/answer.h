// Answer: prints a streamed answer as it comes and keeps count of it. Not thread-safe.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include <absl/time/time.h>

#include "mili/v1/inference.pb.h"

namespace mili {

// `text` for a terminal: control characters other than tab and line end are shown as U+FFFD, so
// that no model can move the cursor or set the title. `is_terminal` false: as it is.
std::string ForTerminal(std::string_view text, bool is_terminal);

class Answer {
 public:
  // Prints to `out` if it is not null; begin is when the request is sent.
  Answer(std::FILE* out, bool is_terminal);

  void Take(const v1::GenerateStreamResponse& message);

  const std::string& text() const { return text_; }
  const v1::PromptInfo& prompt_info() const { return prompt_info_; }
  const v1::FinishInfo& finish_info() const { return finish_info_; }
  bool is_finished() const { return is_finished_; }
  // "[24 prompt tokens, 64 tokens, 121.3 tokens/s, first after 0.041 s, stop]"
  std::string Statistics() const;

 private:
  void Print(const std::string& text);

  std::FILE* const out_;
  const bool is_terminal_;
  const absl::Time begin_;
  absl::Time first_ = absl::InfiniteFuture();
  absl::Time last_;
  std::string text_;
  bool printed_ids_ = false;
  v1::PromptInfo prompt_info_;
  v1::FinishInfo finish_info_;
  bool is_finished_ = false;
};

// Tokens a second from the first token to the last of one choice or several that run together.
double TokensPerSecond(uint32_t num_tokens, absl::Duration to_first, absl::Duration whole);

std::string NameOf(v1::FinishReason reason);

}  // namespace mili
