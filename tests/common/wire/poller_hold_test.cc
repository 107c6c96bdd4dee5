#include "common/wire/poller_hold.h"

#include <unistd.h>

#include <gtest/gtest.h>

namespace mili {
namespace {

TEST(PollerHoldTest, LeavesOneThreadOnASmallMachine) {
  const PollerHold hold(2);
  // gRPC has two pollers at least.
  EXPECT_GE(hold.num_held(), 1);
}

TEST(PollerHoldTest, HoldsNothingWhereThereAreManyCpus) {
  EXPECT_EQ(PollerHold(PollerHold::kMaxCpus + 1).num_held(), 0);
}

TEST(PollerHoldTest, LetsGoAgain) {
  for (int i = 0; i < 3; ++i) EXPECT_GE(PollerHold(1).num_held(), 1);
}

TEST(PollerHoldTest, GivesUpWhereNoThreadIsToSpare) {
  const PollerHold first(2);
  const PollerHold second(2);
  EXPECT_EQ(second.num_held(), 0);
}

TEST(PollerHoldTest, CountsTheCpusOfThisProcess) {
  EXPECT_GE(PollerHold::NumUsableCpus(), 1);
  EXPECT_LE(PollerHold::NumUsableCpus(), sysconf(_SC_NPROCESSORS_CONF));
}

}  // namespace
}  // namespace mili
