#include "common/base/mailbox.h"

#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace mili {
namespace {

TEST(MailboxTest, GivesMessagesInOrderOfArrival) {
  Mailbox<int> mailbox(10);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(mailbox.Post(i));
  EXPECT_EQ(mailbox.Take(), 0);
  EXPECT_EQ(mailbox.TakeAll(), (std::vector<int>{1, 2, 3, 4}));
}

TEST(MailboxTest, RefusesTryPostWhenFullAndNeverPost) {
  Mailbox<std::unique_ptr<int>> mailbox(1);
  EXPECT_TRUE(mailbox.TryPost(std::make_unique<int>(1)));
  auto refused = std::make_unique<int>(2);
  EXPECT_FALSE(mailbox.TryPost(std::move(refused)));
  EXPECT_NE(refused, nullptr);  // nothing is taken
  EXPECT_TRUE(mailbox.Post(std::move(refused)));
  EXPECT_EQ(mailbox.TakeAll().size(), 2u);
  EXPECT_TRUE(mailbox.TryPost(std::make_unique<int>(3)));
}

TEST(MailboxTest, ReturnsNothingAtTheDeadline) {
  Mailbox<int> mailbox(1);
  EXPECT_EQ(mailbox.Take(absl::InfinitePast()), std::nullopt);
  EXPECT_TRUE(mailbox.TakeAll(absl::Now() + absl::Milliseconds(1)).empty());
}

TEST(MailboxTest, GivesAMessageEvenWhenTheDeadlineIsPast) {
  Mailbox<int> mailbox(1);
  mailbox.Post(7);
  EXPECT_EQ(mailbox.Take(absl::InfinitePast()), 7);
}

TEST(MailboxTest, GivesWhatIsInsideAfterCloseAndTakesNothingMore) {
  Mailbox<int> mailbox(2);
  mailbox.Post(1);
  mailbox.Close();
  EXPECT_TRUE(mailbox.closed());
  EXPECT_FALSE(mailbox.Post(2));
  EXPECT_FALSE(mailbox.TryPost(2));
  EXPECT_EQ(mailbox.Take(), 1);
  EXPECT_EQ(mailbox.Take(), std::nullopt);
  EXPECT_TRUE(mailbox.TakeAll().empty());
}

TEST(MailboxTest, WakesAWaitingReceiverOnClose) {
  Mailbox<int> mailbox(1);
  std::thread receiver([&] { EXPECT_EQ(mailbox.Take(), std::nullopt); });
  mailbox.Close();
  receiver.join();
}

TEST(MailboxTest, LosesAndDoublesNothingBetweenManySendersAndOneReceiver) {
  constexpr int kNumSenders = 4, kNumMessages = 2000;
  Mailbox<std::pair<int, int>> mailbox(1);
  std::vector<std::thread> senders;
  for (int sender = 0; sender < kNumSenders; ++sender) {
    senders.emplace_back([&mailbox, sender] {
      for (int i = 0; i < kNumMessages; ++i) ASSERT_TRUE(mailbox.Post({sender, i}));
    });
  }
  std::vector<int> next(kNumSenders, 0);
  for (int num = 0; num < kNumSenders * kNumMessages;) {
    for (const auto& [sender, i] : mailbox.TakeAll()) {
      ASSERT_EQ(i, next[sender]++);  // each sender's own order is kept
      ++num;
    }
  }
  for (std::thread& sender : senders) sender.join();
}

}  // namespace
}  // namespace mili
