#include "common/base/ids.h"

#include <set>
#include <sstream>
#include <type_traits>
#include <unordered_set>

#include <gtest/gtest.h>

#include "common/base/dtype.h"

namespace mili {
namespace {

static_assert(!std::is_convertible_v<PageId, SlotId>, "a page is no slot");
static_assert(!std::is_convertible_v<uint32_t, PageId>, "a number is no page");
static_assert(std::is_trivially_copyable_v<PageId>);
static_assert(sizeof(PageId) == sizeof(uint32_t));

TEST(IdsTest, CompareHashAndPrintAsTheirNumbers) {
  EXPECT_LT(StepId(1), StepId(2));
  EXPECT_EQ(Epoch(), Epoch(0));
  EXPECT_EQ((std::set<SlotId>{SlotId(2), SlotId(1), SlotId(2)}).size(), 2u);
  EXPECT_EQ((std::unordered_set<RequestKey>{RequestKey(2), RequestKey(2)}).size(), 1u);
  std::ostringstream out;
  out << PageId(7);
  EXPECT_EQ(out.str(), "7");
}

TEST(DTypeTest, CountsTheBytesOfWholeBlocks) {
  EXPECT_EQ(RowBytes(DType::kF32, 3), 12u);
  EXPECT_EQ(RowBytes(DType::kBF16, 3), 6u);
  EXPECT_EQ(RowBytes(DType::kQ8_0, 64), 68u);
  EXPECT_EQ(RowBytes(DType::kQ4_1, 32), 20u);
  EXPECT_EQ(RowBytes(DType::kQ4_K, 512), 288u);
  EXPECT_EQ(RowBytes(DType::kQ6_K, 256), 210u);
  EXPECT_FALSE(IsQuantized(DType::kF16));
  EXPECT_TRUE(IsQuantized(DType::kQ5_0));
  EXPECT_EQ(NameOf(DType::kQ4_1), "q4_1");
}

}  // namespace
}  // namespace mili
