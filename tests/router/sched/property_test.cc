#include <cstdlib>
#include <iostream>

#include <gtest/gtest.h>

#include "tests/router/sched/trace.h"

namespace mili::router::testing {
namespace {

constexpr uint64_t kNumTraces = 250;
constexpr size_t kNumOps = 1200;

void Report(uint64_t seed, const Trace& trace, const std::string& failure) {
  const Trace shorter = Shorten(trace);
  FAIL() << "seed " << seed << ": " << failure << "\nshortened to " << shorter.ops.size()
         << " ops: " << *RunTrace(shorter) << "\n"
         << ToString(shorter);
}

// MILI_SCHED_SEED=N runs that trace alone.
TEST(SchedulerPropertyTest, KeepsEveryInvariantAndEveryTokenOverRandomTraces) {
  uint64_t first = 1, last = kNumTraces;
  if (const char* seed = std::getenv("MILI_SCHED_SEED"); seed != nullptr) {
    first = last = std::strtoull(seed, nullptr, 10);
  }
  TraceStats sum;
  for (uint64_t seed = first; seed <= last; ++seed) {
    std::cerr << "seed " << seed << "\r";  // the last word if an invariant of ours aborts
    const Trace trace = RandomTrace(seed, kNumOps);
    TraceStats stats;
    if (const auto failure = RunTrace(trace, &stats); failure.has_value()) {
      Report(seed, trace, *failure);
      return;
    }
    sum.num_steps += stats.num_steps;
    sum.num_preemptions += stats.num_preemptions;
    sum.num_finished += stats.num_finished;
    sum.num_lost_twice += stats.num_lost_twice;
    sum.num_expired += stats.num_expired;
    sum.num_tokens += stats.num_tokens;
  }
  std::cerr << sum.num_steps << " steps, " << sum.num_tokens << " tokens, " << sum.num_finished
            << " choices, " << sum.num_preemptions << " preemptions, " << sum.num_expired
            << " expired, " << sum.num_lost_twice << " lost twice\n";
  if (first == last) return;
  // The traces are worth running only if they reach what they are meant to reach.
  EXPECT_GE(sum.num_steps, 100'000u);
  EXPECT_GE(sum.num_preemptions, 1'000u);
  EXPECT_GE(sum.num_expired, 100u);
  EXPECT_GE(sum.num_lost_twice, 20u);
}

}  // namespace
}  // namespace mili::router::testing
