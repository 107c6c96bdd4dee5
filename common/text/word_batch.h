// Words on their way from the pre-tokenizer to BPE, handed on some at a time: cutting and encoding
// each run as a loop of their own, and what the CPU knows of one does not wait for the other. Long
// words without spaces seldom come twice, their pieces do: they are cut on the way (word_seams.h).
// Not thread-safe.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <absl/functional/function_ref.h>

#include "common/text/word_seams.h"

namespace mili::text {

class WordBatch {
 public:
  // Words or pieces of one text in order, at least one, none empty; whatever lies between a word
  // and `readable_end` may be read too. Valid during the call.
  using OnWords =
      absl::FunctionRef<void(std::span<const std::string_view> words, const char* readable_end)>;

  // Words that come by Add are cut at `seams`, which may be null.
  explicit WordBatch(OnWords on_words, const WordSeams* seams = nullptr)
      : on_words_(on_words), seams_(seams) {}

  // The text that the next words lie in ends there. Hands on what came before.
  void BeginText(const char* readable_end) {
    Flush();
    readable_end_ = readable_end;
  }
  void Add(const char* word, size_t size) {
    if (seams_ != nullptr && WordSeams::AreLikely(word, size)) {
      const char* const last = AddPieces(word, size);
      size -= last - word;
      word = last;
    }
    words_[size_++] = {word, size};
    if (size_ == kMaxWords) Flush();
  }
  // The words from p on that end where the next begins: at p + i for each bit i of `starts`, of
  // which there is one. Returns where the last begins, which is not added.
  const char* AddAll(const char* p, uint64_t starts) {
    const char* begin = p;
    size_t size = size_;
    for (; starts != 0; starts &= starts - 1) {
      const char* const end = p + std::countr_zero(starts);
      words_[size++] = {begin, static_cast<size_t>(end - begin)};
      begin = end;
    }
    size_ = size;
    if (size_ >= kMaxWords) Flush();
    return begin;
  }
  void Flush() {
    if (size_ != 0) on_words_({words_.data(), size_}, readable_end_);
    size_ = 0;
  }

 private:
  // The pieces of a word but for the last; returns where that begins.
  const char* AddPieces(const char* word, size_t size);

  static constexpr size_t kMaxWords = 192;

  OnWords on_words_;
  const WordSeams* seams_;
  const char* readable_end_ = nullptr;
  size_t size_ = 0;
  std::array<std::string_view, kMaxWords + 64> words_;
};

}  // namespace mili::text
