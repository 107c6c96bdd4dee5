#include "common/base/actor.h"

#include <atomic>
#include <latch>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace mili {
namespace {

// Collects what it is handed; the vector needs no lock, as the actor promises.
struct Collector {
  absl::Time operator()(std::vector<int> messages) {
    EXPECT_FALSE(inside.exchange(true));
    all.insert(all.end(), messages.begin(), messages.end());
    thread = std::this_thread::get_id();
    inside = false;
    return absl::InfiniteFuture();
  }
  std::atomic<bool> inside = false;
  std::vector<int> all;
  std::thread::id thread;
};

TEST(ActorTest, HandlesOnTheSendersThreadWhatItPostsToHandle) {
  Collector collector;
  Actor<int> actor(0, std::ref(collector));
  EXPECT_TRUE(actor.PostAndHandle(7));
  EXPECT_EQ(collector.all, std::vector<int>{7});
  EXPECT_EQ(collector.thread, std::this_thread::get_id());
  EXPECT_FALSE(actor.TryPostAndHandle(8));  // no capacity
}

TEST(ActorTest, HandlesOnItsOwnThreadWhatIsOnlyPosted) {
  std::latch handled(1);
  std::thread::id thread;
  Actor<int> actor(0, [&](std::vector<int> messages) {
    if (!messages.empty()) {
      thread = std::this_thread::get_id();
      handled.count_down();
    }
    return absl::InfiniteFuture();
  });
  actor.Start();
  EXPECT_TRUE(actor.Post(1));
  handled.wait();
  actor.Stop();
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(ActorTest, KeepsTheOrderOfEachSenderAndLosesNothing) {
  constexpr int kNumSenders = 4, kNumMessages = 5000;
  Collector collector;
  Actor<int> actor(0, std::ref(collector));
  actor.Start();
  std::vector<std::thread> senders;
  for (int s = 0; s < kNumSenders; ++s) {
    senders.emplace_back([&actor, s] {
      for (int i = 0; i < kNumMessages; ++i) {
        const int message = s * kNumMessages + i;
        EXPECT_TRUE(i % 2 == 0 ? actor.PostAndHandle(message) : actor.Post(message));
      }
    });
  }
  for (std::thread& sender : senders) sender.join();
  actor.Stop();
  const std::vector<int> rest = actor.Close();
  collector.all.insert(collector.all.end(), rest.begin(), rest.end());
  ASSERT_EQ(collector.all.size(), size_t{kNumSenders * kNumMessages});
  std::vector<int> next(kNumSenders, 0);
  for (const int message : collector.all) {
    EXPECT_EQ(next[message / kNumMessages]++, message % kNumMessages);
  }
}

TEST(ActorTest, HandlesWhatArrivesWhileSomebodyIsInside) {
  std::latch inside(1), posted(1), all_handled(1);
  std::vector<int> seen;
  Actor<int> actor(0, [&](std::vector<int> messages) {
    seen.insert(seen.end(), messages.begin(), messages.end());
    if (messages == std::vector<int>{1}) {
      inside.count_down();
      posted.wait();
    }
    if (seen.size() == 2) all_handled.count_down();
    return absl::InfiniteFuture();
  });
  actor.Start();
  std::thread first([&] { actor.PostAndHandle(1); });
  inside.wait();
  EXPECT_TRUE(actor.PostAndHandle(2));  // returns at once; the actor's thread will see to it
  posted.count_down();
  all_handled.wait();
  first.join();
  actor.Stop();
  EXPECT_EQ(seen, (std::vector<int>{1, 2}));
}

TEST(ActorTest, WakesAtADeadlineThatASenderMadeEarlier) {
  std::latch woken(1);
  bool asked = false;
  Actor<int> actor(0, [&](std::vector<int> messages) {
    if (!messages.empty()) {
      asked = true;
      return absl::Now() + absl::Milliseconds(1);
    }
    if (std::exchange(asked, false)) woken.count_down();
    return absl::InfiniteFuture();
  });
  actor.Start();
  EXPECT_TRUE(actor.PostAndHandle(1));
  woken.wait();
}

TEST(ActorTest, RefusesTryPostWhenFullAndEverythingOnceClosed) {
  Collector collector;
  Actor<int> actor(2, std::ref(collector));
  EXPECT_TRUE(actor.TryPost(1));
  EXPECT_TRUE(actor.TryPost(2));
  EXPECT_FALSE(actor.TryPost(3));
  EXPECT_TRUE(actor.Post(4));
  EXPECT_EQ(actor.Close(), (std::vector<int>{1, 2, 4}));
  EXPECT_FALSE(actor.TryPost(5));
  EXPECT_FALSE(actor.Post(5));
  EXPECT_FALSE(actor.PostAndHandle(5));
  EXPECT_TRUE(collector.all.empty());
}

TEST(ActorTest, KeepsWhatIsPostedOnceItHasStopped) {
  Collector collector;
  Actor<int> actor(8, std::ref(collector));
  actor.Start();
  actor.Stop();
  EXPECT_TRUE(actor.Post(1));
  EXPECT_TRUE(actor.PostAndHandle(2));
  EXPECT_TRUE(actor.TryPostAndHandle(3));
  EXPECT_TRUE(collector.all.empty());
  EXPECT_EQ(actor.Close(), (std::vector<int>{1, 2, 3}));
}

TEST(ActorTest, StopsOnlyWhenTheSenderInsideIsOut) {
  std::latch inside(1), may_leave(1);
  std::atomic<bool> is_out = false;
  Actor<int> actor(0, [&](std::vector<int> messages) {
    if (!messages.empty()) {
      inside.count_down();
      may_leave.wait();
      is_out = true;
    }
    return absl::InfiniteFuture();
  });
  actor.Start();
  std::thread sender([&] { actor.PostAndHandle(1); });
  inside.wait();
  std::thread opener([&] { may_leave.count_down(); });
  actor.Stop();
  EXPECT_TRUE(is_out);
  sender.join();
  opener.join();
}

}  // namespace
}  // namespace mili
