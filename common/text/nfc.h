// Normalization Form C as the NFC of Hugging Face tokenizers makes it, with its Unicode data.
// Immutable once made, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mili::text {

class Nfc {
 public:
  Nfc();

  // True if normalizing cannot change the text (valid UTF-8); cheap, may say false needlessly.
  bool Keeps(std::string_view text) const;

  // The text (valid UTF-8) in NFC. Time n log n in the longest run of combining marks, else linear.
  std::string Normalize(std::string_view text) const;

 private:
  struct Mark {
    uint32_t code_point;
    uint8_t combining_class;
  };

  bool IsPlain(uint32_t code_point) const {
    return code_point < kFirstMark || !eventful_[code_point];
  }
  void Decompose(uint32_t code_point, std::vector<Mark>& out) const;
  void Compose(std::vector<Mark>& marks) const;
  // 0: the two do not compose.
  uint32_t Composed(uint32_t first, uint32_t second) const;

  static constexpr uint32_t kFirstMark = 0x300;  // below, all is as it should be
  // By code point: may be changed, moved or composed with what is before it.
  std::vector<bool> eventful_;
  // (first << 32 | second, composed), sorted.
  std::vector<std::pair<uint64_t, uint32_t>> pairs_;
};

}  // namespace mili::text
