#include "common/text/utf8_vectors.h"

#include <array>
#include <cstdint>
#include <cstring>

#include "common/text/utf8.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mili::text {

#if defined(__x86_64__)
namespace {

// What is wrong between two neighbouring bytes shows in three half bytes: both of the first, the
// upper of the second (Keiser and Lemire, "Validating UTF-8 In Less Than One Instruction Per Byte",
// 2021). Here, for each kind of fault, the sets of half bytes that make it, as bits.
struct Fault {
  uint16_t first_upper;
  uint16_t first_lower;
  uint16_t second_upper;
};
constexpr uint16_t kAny = 0xFFFF, kContinues = 0x0F00;
constexpr std::array<Fault, 8> kFaults = {{
    {0xF000, kAny, static_cast<uint16_t>(~kContinues)},  // nothing continues what a lead byte began
    {0x00FF, kAny, kContinues},                          // something continues ASCII
    {1 << 0xE, 1 << 0, 0x0300},                          // three bytes for what needs two
    {1 << 0xE, 1 << 0xD, 0x0C00},                        // a surrogate
    {1 << 0xC, 0x0003, kContinues},                      // two bytes for ASCII
    {1 << 0xF, 0xFFF0, 0x0E00},                          // above U+10FFFF
    {1 << 0xF, 0xFFE1, 0x0100},                          // also that, or four bytes for too little
    // Two bytes that continue: a fault unless a lead byte of three or four stands before them.
    {kContinues, kAny, kContinues},
}};
constexpr char kTwoContinue = static_cast<char>(1 << 7);

// By half byte, the faults that it may be part of.
using Table = std::array<uint8_t, 16>;
constexpr Table TableOf(uint16_t Fault::*half) {
  Table table{};
  for (size_t fault = 0; fault < kFaults.size(); ++fault) {
    for (size_t value = 0; value < table.size(); ++value) {
      if ((kFaults[fault].*half >> value & 1) != 0) table[value] |= uint8_t{1} << fault;
    }
  }
  return table;
}
constexpr Table kFirstUpper = TableOf(&Fault::first_upper);
constexpr Table kFirstLower = TableOf(&Fault::first_lower);
constexpr Table kSecondUpper = TableOf(&Fault::second_upper);

[[gnu::target("avx2")]] inline __m256i Load(const char* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
[[gnu::target("avx2")]] inline __m256i LookUp(const Table& table, __m256i halves) {
  const __m128i row = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data()));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(row), halves);
}
[[gnu::target("avx2")]] inline __m256i UpperHalves(__m256i bytes) {
  return _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(0xF));
}

// Not zero where something is wrong with `bytes`, before which stand those of `before`.
[[gnu::target("avx2")]] inline __m256i FaultsOf(__m256i before, __m256i bytes) {
  const __m256i between = _mm256_permute2x128_si256(before, bytes, 0x21);
  const __m256i first = _mm256_alignr_epi8(bytes, between, 15);
  const __m256i faults = _mm256_and_si256(
      _mm256_and_si256(LookUp(kFirstUpper, UpperHalves(first)),
                       LookUp(kFirstLower, _mm256_and_si256(first, _mm256_set1_epi8(0xF)))),
      LookUp(kSecondUpper, UpperHalves(bytes)));
  // The upper bit is set where a lead byte of three bytes stands two before, or one of four three.
  const __m256i third = _mm256_subs_epu8(_mm256_alignr_epi8(bytes, between, 14),
                                         _mm256_set1_epi8(static_cast<char>(0xE0 - 0x80)));
  const __m256i fourth = _mm256_subs_epu8(_mm256_alignr_epi8(bytes, between, 13),
                                          _mm256_set1_epi8(static_cast<char>(0xF0 - 0x80)));
  const __m256i must_continue =
      _mm256_and_si256(_mm256_or_si256(third, fourth), _mm256_set1_epi8(kTwoContinue));
  return _mm256_xor_si256(must_continue, faults);
}

}  // namespace

bool HasUtf8Vectors() {
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  return has_avx2;
}

[[gnu::target("avx2")]] bool IsValidUtf8ByVectors(std::string_view text) {
  constexpr size_t kBytes = 32;
  __m256i faults = _mm256_setzero_si256();
  __m256i before = _mm256_setzero_si256();
  size_t at = 0;
  for (; at + kBytes <= text.size(); at += kBytes) {
    const __m256i bytes = Load(text.data() + at);
    faults = _mm256_or_si256(faults, FaultsOf(before, bytes));
    before = bytes;
  }
  // Zeros behind the end show whether it is cut off.
  char rest[kBytes] = {};
  std::memcpy(rest, text.data() + at, text.size() - at);
  faults = _mm256_or_si256(faults, FaultsOf(before, Load(rest)));
  return _mm256_testz_si256(faults, faults) != 0;
}
#else
bool HasUtf8Vectors() { return false; }
bool IsValidUtf8ByVectors(std::string_view text) { return IsValidUtf8ByBytes(text); }
#endif

}  // namespace mili::text
