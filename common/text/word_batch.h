// Words on their way from the pre-tokenizer to BPE, handed on some at a time: cutting and encoding
// each run as a loop of their own, and what the CPU knows of one does not wait for the other.
// Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include <absl/functional/function_ref.h>

namespace mili::text {

class WordBatch {
 public:
  // Words in order, none empty; whatever lies between a word and `readable_end` may be read too.
  // Valid during the call.
  using OnWords =
      absl::FunctionRef<void(std::span<const std::string_view> words, const char* readable_end)>;

  explicit WordBatch(OnWords on_words) : on_words_(on_words) {}

  // The text that the next words lie in ends there. Hands on what came before.
  void BeginText(const char* readable_end) {
    Flush();
    readable_end_ = readable_end;
  }
  void Add(const char* word, size_t size) {
    words_[size_++] = {word, size};
    if (size_ == words_.size()) Flush();
  }
  void Flush() {
    if (size_ != 0) on_words_({words_.data(), size_}, readable_end_);
    size_ = 0;
  }

 private:
  OnWords on_words_;
  const char* readable_end_ = nullptr;
  size_t size_ = 0;
  std::array<std::string_view, 256> words_;
};

}  // namespace mili::text
