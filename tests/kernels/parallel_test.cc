// ForPieces: every item once, in whole granules, whoever comes and however slow it is.
#include "kernels/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/spawning_pool.h"

namespace mili::kernels {
namespace {

TEST(ForPiecesTest, CoversEveryItemOnceInWholeGranules) {
  for (const int num_threads : {1, 2, 3, 7, 100}) {
    SpawningPool pool(num_threads);
    for (const int64_t count : {1, 2, 15, 16, 17, 100, 1001}) {
      for (const int64_t granule : {1, 4, 16}) {
        std::vector<int> times(count);
        std::atomic<int> ragged{0};
        ForPieces(pool, count, granule, [&](int64_t begin, int64_t end, int thread_idx) {
          if (begin % granule != 0 || (end % granule != 0 && end != count)) ++ragged;
          if (thread_idx < 0 || thread_idx >= num_threads) ++ragged;
          for (int64_t i = begin; i < end; ++i) ++times[i];
        });
        EXPECT_EQ(times, std::vector<int>(count, 1)) << num_threads << " " << granule;
        EXPECT_EQ(ragged, 0);
      }
    }
  }
}

// A pool whose helpers never come.
class LonelyPool final : public ParallelFor {
 public:
  int num_threads() const override { return 3; }
  void Run(void (*task)(void*, int), void* context) override { task(context, 0); }
};

TEST(ForPiecesTest, TheCallerDoesWhatHelpersThatNeverComeLeave) {
  LonelyPool pool;
  int64_t done = 0;
  ForPieces(pool, 1000, 1, [&](int64_t begin, int64_t end, int) { done += end - begin; });
  EXPECT_EQ(done, 1000);
}

// Turns helpers away.
struct ForTheCallerAlone {
  bool Arrive(int thread_idx, int64_t begin) const {
    ++*num_arrived;
    if (thread_idx == 0) *callers_begin = begin;
    return thread_idx == 0;
  }
  void operator()(int64_t begin, int64_t end, int thread_idx) const {
    if (thread_idx == 0) *done += end - begin;
  }
  std::atomic<int>* num_arrived;
  int64_t* callers_begin;
  int64_t* done;
};

TEST(ForPiecesTest, AThreadThatTheBodyTurnsAwayClaimsNothing) {
  SpawningPool pool(3);
  std::atomic<int> num_arrived{0};
  int64_t callers_begin = -1;
  int64_t done = 0;
  ForPieces(pool, 1000, 1, ForTheCallerAlone{&num_arrived, &callers_begin, &done});
  EXPECT_EQ(done, 1000);
  EXPECT_EQ(num_arrived, 3);
  EXPECT_EQ(callers_begin, 0);
}

TEST(ForPiecesTest, OthersTakeTheShareOfASlowThread) {
  constexpr int64_t kCount = 160;
  SpawningPool pool(2);
  std::atomic<int64_t> done{0};
  std::atomic<int64_t> done_by_slow{0};
  ForPieces(pool, kCount, 1, [&](int64_t begin, int64_t end, int thread_idx) {
    if (thread_idx == 1) {
      done_by_slow += end - begin;
      while (done < kCount - (end - begin)) std::this_thread::yield();  // its first piece lasts
    }
    done += end - begin;
  });
  EXPECT_EQ(done, kCount);
  EXPECT_LE(done_by_slow, kCount / 16);  // one piece at most
}

TEST(ForPiecesTest, TheLastPiecesAreSmall) {
  SingleThread pool;
  std::vector<int64_t> sizes;
  ForPieces(pool, 4096, 2, [&](int64_t begin, int64_t end, int) { sizes.push_back(end - begin); });
  EXPECT_EQ(sizes.front(), 512);
  EXPECT_EQ(sizes.back(), 2);
  EXPECT_TRUE(std::is_sorted(sizes.rbegin(), sizes.rend()));
  EXPECT_LT(sizes.size(), 100u);
}

TEST(ForPiecesTest, AThreadMeetsTheSameItemsInEveryLoop) {
  SpawningPool pool(4);
  std::atomic<int> missing{0};
  for (int run = 0; run < 3; ++run) {
    std::vector<int> first(4, -1);
    missing = 4;
    ForPieces(pool, 320, 1, [&](int64_t begin, int64_t, int thread_idx) {
      if (first[thread_idx] >= 0) return;
      first[thread_idx] = static_cast<int>(begin);
      --missing;
      while (missing > 0) std::this_thread::yield();  // until each has its first
    });
    EXPECT_EQ(first, (std::vector<int>{0, 80, 160, 240}));
  }
}

}  // namespace
}  // namespace mili::kernels
