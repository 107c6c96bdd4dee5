#include "common/base/check.h"

#include <absl/status/statusor.h>
#include <gtest/gtest.h>

#include "common/base/status_macros.h"

namespace mili {
namespace {

absl::StatusOr<int> Half(int number) {
  if (number % 2 != 0) return absl::InvalidArgumentError("odd");
  return number / 2;
}

absl::StatusOr<int> Quarter(int number) {
  MILI_ASSIGN_OR_RETURN(const int half, Half(number));
  MILI_RETURN_IF_ERROR(Half(half).status());
  return half / 2;
}

TEST(StatusMacrosTest, PassOnTheFirstErrorOrGoOn) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_TRUE(absl::IsInvalidArgument(Quarter(7).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Quarter(6).status()));
}

TEST(CheckDeathTest, NamesTheConditionAndWhatItMeans) {
  MILI_CHECK(1 + 1 == 2, "numbers add up");
  EXPECT_DEATH(MILI_CHECK(1 + 1 == 3, "numbers add up"),
               "check_test.cc:[0-9]+: check failed: 1 \\+ 1 == 3: numbers add up");
}

}  // namespace
}  // namespace mili
