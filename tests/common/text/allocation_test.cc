// How often memory is asked for: not once a token. This program counts every operator new.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/text/tokenizer.h"
#include "tests/common/text/test_tokenizers.h"

namespace {

std::atomic<size_t> num_allocations = 0;

void* Allocate(size_t size, size_t alignment) {
  ++num_allocations;
  return std::aligned_alloc(alignment,
                            (std::max<size_t>(size, 1) + alignment - 1) / alignment * alignment);
}

void* AllocateOrThrow(size_t size, size_t alignment) {
  void* const memory = Allocate(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

constexpr size_t kAlignment = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

void* operator new(size_t size) { return AllocateOrThrow(size, kAlignment); }
void* operator new(size_t size, std::align_val_t alignment) {
  return AllocateOrThrow(size, static_cast<size_t>(alignment));
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return Allocate(size, kAlignment);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

namespace mili::text {
namespace {

template <typename Call>
size_t AllocationsOf(const Call& call) {
  const size_t before = num_allocations;
  call();
  return num_allocations - before;
}

// For a text four times as long: lists that double take two allocations more, normalizing takes one
// or two for each 64 KB.
size_t MoreFor(const std::string& longer) { return 4 + longer.size() / (32 << 10); }

class AllocationTest : public testing::TestWithParam<std::string> {
 protected:
  // Words, numbers, signs, a word that is several tokens, wide characters, marks that NFC composes
  // or moves.
  static std::string Text(size_t num_times) {
    std::string text;
    for (size_t i = 0; i < num_times; ++i) {
      text +=
          "The tokenizer's weights, 1984 of them: internationalisation -> \u6211\u4EEC\u5B66 "
          "e\u0301 \u0628\u0651\u064E.\n";
    }
    return text;
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = LoadTestTokenizer(GetParam());
  const std::string text_ = Text(2'000);
  const std::string longer_ = Text(8'000);
};

TEST_P(AllocationTest, EncodingKnownWordsAsksForNothingForATokenOfThem) {
  (void)tokenizer_->Encode(text_, {});
  const size_t few = AllocationsOf([&] { (void)tokenizer_->Encode(text_, {}); });
  EXPECT_LE(AllocationsOf([&] { (void)tokenizer_->Encode(longer_, {}); }), few + MoreFor(longer_));
  EXPECT_LE(few, 20u);
}

TEST_P(AllocationTest, CountingAsksForNothingForAToken) {
  (void)tokenizer_->Count(text_, {});
  const size_t few = AllocationsOf([&] { (void)tokenizer_->Count(text_, {}); });
  EXPECT_LE(AllocationsOf([&] { (void)tokenizer_->Count(longer_, {}); }), few + MoreFor(longer_));
  EXPECT_LE(few, 20u);
}

TEST_P(AllocationTest, DecodingAsksForNothingForAToken) {
  const std::vector<TokenId> ids = tokenizer_->Encode(text_, {});
  const std::vector<TokenId> more = tokenizer_->Encode(longer_, {});
  const size_t few = AllocationsOf([&] { (void)tokenizer_->Decode(ids, false); });
  EXPECT_LE(AllocationsOf([&] { (void)tokenizer_->Decode(more, false); }), few + MoreFor(longer_));
  EXPECT_LE(few, 40u);
}

TEST_P(AllocationTest, TokenByTokenAsksForNothingOnceThereIsRoom) {
  const std::vector<TokenId> ids = tokenizer_->Encode(text_, {});
  IncrementalDetokenizer detokenizer(*tokenizer_, /*skip_special_tokens=*/false);
  std::string piece;
  const auto stream = [&] {
    for (const TokenId id : ids) {
      piece.clear();
      detokenizer.Push(id, piece);
    }
    detokenizer.Flush(piece);
  };
  stream();
  EXPECT_EQ(AllocationsOf(stream), 0u);
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, AllocationTest, testing::ValuesIn(TestTokenizerNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mili::text
