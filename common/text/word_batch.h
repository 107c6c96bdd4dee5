// Words on their way from the pre-tokenizer to BPE, handed on some at a time: cutting and encoding
// each run as a loop of their own, and what the CPU knows of one does not wait for the other.
// Not thread-safe.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <absl/functional/function_ref.h>

namespace mili::text {

class WordBatch {
 public:
  // Words of one text in order, at least one, none empty; whatever lies between a word and
  // `readable_end` may be read too. Valid during the call.
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
  static constexpr size_t kMaxWords = 192;

  OnWords on_words_;
  const char* readable_end_ = nullptr;
  size_t size_ = 0;
  std::array<std::string_view, kMaxWords + 64> words_;
};

}  // namespace mili::text
