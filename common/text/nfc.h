// Normalization Form C as the NFC of Hugging Face tokenizers makes it, with its Unicode data.
// Immutable once made, any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mili::text {

class Nfc {
 public:
  Nfc();

  // Where the first character stands that normalizing may change, move or join with the one before
  // it; the size of the text (valid UTF-8) if it is sure to stay as it is.
  size_t FindEvent(std::string_view text) const;

  // Puts the text (valid UTF-8) in NFC into `out`, which is empty, and says so; false if it is NFC
  // already: then `out` stays empty. Time n log n in the longest run of combining marks, else
  // linear.
  bool NormalizeTo(std::string& out, std::string_view text) const;
  std::string Normalize(std::string_view text) const;

 private:
  struct Mark {
    uint32_t code_point;
    uint8_t combining_class;
  };

  bool IsPlain(uint32_t code_point) const {
    return (events_[block_of_[code_point >> 6]] >> (code_point & 63) & 1) == 0;
  }
  static constexpr size_t kBlock = 64;
  // Which of so many bytes at p, and one more that may be read, begin a character that may not be
  // plain: a bit each.
  uint64_t MaybeEvents(const char* p) const;
  void SetEventful(uint32_t code_point);
  // A stretch that begins with a plain character, or none, and goes on with others.
  void AppendNormalized(std::string_view text, std::vector<Mark>& scratch, std::string& out) const;
  // Of a run without starters; equals stay in order.
  static void SortByClass(std::span<Mark> run);
  void Decompose(uint32_t code_point, std::vector<Mark>& out) const;
  void Compose(std::vector<Mark>& marks) const;
  // 0: the two do not compose.
  uint32_t Composed(uint32_t first, uint32_t second) const;

  // Characters that are not plain, a bit each, for each block of 64 that has some; [0] is for the
  // others.
  std::vector<uint64_t> events_;
  std::array<uint16_t, 0x110000 / 64> block_of_{};
  // By the first two bytes of a character: whether some that begin so are not plain.
  std::array<uint64_t, 64> maybe_events_{};
  // (first << 32 | second, composed), sorted.
  std::vector<std::pair<uint64_t, uint32_t>> pairs_;
};

}  // namespace mili::text
