// Says of most hashes that were never added that they were not, from little memory, which stays in
// near caches where a table does not. Filled once, then readable from any thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mili::text {

class HashFilter {
 public:
  // `num_words`: a power of two from 2 to 2^52; an eighth of the hashes or more, else little is
  // kept out. The first bits of a hash must be its best.
  explicit HashFilter(size_t num_words)
      : words_(num_words), shift_(64 - std::countr_zero(num_words)) {}

  void Add(uint64_t hash) { words_[hash >> shift_] |= BitsOf(hash); }
  bool MayHave(uint64_t hash) const {
    const uint64_t bits = BitsOf(hash);
    return (words_[hash >> shift_] & bits) == bits;
  }

 private:
  // Two, by what follows of the hash.
  uint64_t BitsOf(uint64_t hash) const {
    return uint64_t{1} << (hash >> (shift_ - 6) & 63) | uint64_t{1} << (hash >> (shift_ - 12) & 63);
  }

  std::vector<uint64_t> words_;
  int shift_;
};

}  // namespace mili::text
