#include "common/text/hash_filter.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace mili::text {
namespace {

TEST(HashFilterTest, MayHaveWhatWasAddedAndLittleElse) {
  std::mt19937_64 chance(5);
  for (const size_t num_words : {size_t{8}, size_t{1} << 15}) {
    HashFilter filter(num_words);
    std::vector<uint64_t> added(4 * num_words);
    for (uint64_t& hash : added) filter.Add(hash = chance());
    for (const uint64_t hash : added) EXPECT_TRUE(filter.MayHave(hash)) << hash;
    constexpr int kOthers = 20000;
    int passed = 0;
    for (int i = 0; i < kOthers; ++i) passed += filter.MayHave(chance()) ? 1 : 0;
    EXPECT_LT(passed, kOthers / 20) << num_words;
  }
}

TEST(HashFilterTest, AnEmptyOneHasNothing) {
  const HashFilter filter(8);
  for (uint64_t hash = 0; hash < 1000; ++hash) EXPECT_FALSE(filter.MayHave(hash << 52));
}

}  // namespace
}  // namespace mili::text
