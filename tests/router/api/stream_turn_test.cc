#include "router/api/http/stream_turn.h"

#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include <gtest/gtest.h>

namespace mili::router {
namespace {

class FakeSource final : public HttpStreamSource {
 public:
  Piece Next() override {
    ++num_asked;
    return std::exchange(next, {});
  }
  Piece next;
  int num_asked = 0;
};

class StreamTurnTest : public testing::Test {
 protected:
  StreamTurnTest() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds_), 0); }
  ~StreamTurnTest() override {
    ::close(fds_[0]);
    ::close(fds_[1]);
  }
  // All that has arrived at the client.
  std::string Received() {
    std::string all(1 << 22, '\0');
    size_t size = 0;
    while (true) {
      const ssize_t n = ::read(fds_[1], all.data() + size, all.size() - size);
      if (n <= 0) break;
      size += static_cast<size_t>(n);
    }
    all.resize(size);
    return all;
  }
  void Lend() { turn_.Lend(fds_[0], {.http10 = true}, source_); }

  int fds_[2];
  StreamTurn turn_;
  std::shared_ptr<FakeSource> source_ = std::make_shared<FakeSource>();
};

TEST_F(StreamTurnTest, WhoeverBringsNewsWritesThemWhileTheStrandWaits) {
  Lend();
  source_->next.bytes = "one";
  EXPECT_TRUE(turn_.Write());
  EXPECT_EQ(Received(), "one");
  source_->next.bytes = "two";
  EXPECT_TRUE(turn_.Write());
  EXPECT_EQ(Received(), "two");
  const StreamTurn::Left left = turn_.Reclaim();
  EXPECT_EQ(left.unsent, "");
  EXPECT_FALSE(left.done);
  EXPECT_GT(left.last_write, absl::InfinitePast());
}

TEST_F(StreamTurnTest, NothingIsAskedOfTheSourceInTheStrandsOwnTurn) {
  EXPECT_FALSE(turn_.Write());
  Lend();
  turn_.Reclaim();
  EXPECT_FALSE(turn_.Write());
  EXPECT_EQ(source_->num_asked, 0);
}

TEST_F(StreamTurnTest, NewsWithoutBytesDoNotCountAsWritten) {
  Lend();
  EXPECT_TRUE(turn_.Write());
  EXPECT_EQ(turn_.Reclaim().last_write, absl::InfinitePast());
}

TEST_F(StreamTurnTest, TheBodysEndIsWrittenAndToldOnce) {
  turn_.Lend(fds_[0], {}, source_);
  source_->next = {.bytes = "end", .done = true};
  EXPECT_FALSE(turn_.Write());
  EXPECT_FALSE(turn_.Write());
  EXPECT_EQ(source_->num_asked, 1);
  EXPECT_EQ(Received(), "3\r\nend\r\n0\r\n\r\n");
  EXPECT_TRUE(turn_.Reclaim().done);
  EXPECT_FALSE(turn_.Reclaim().done);
}

TEST_F(StreamTurnTest, WhatASlowClientDoesNotTakeIsLeftToTheStrandInOrder) {
  Lend();
  const std::string large(size_t{3} << 20, 'x');
  source_->next.bytes = large + "!";
  EXPECT_FALSE(turn_.Write());
  source_->next.bytes = "later";
  EXPECT_FALSE(turn_.Write());
  EXPECT_EQ(source_->num_asked, 1);
  const std::string received = Received();
  EXPECT_EQ(received + turn_.Reclaim().unsent, large + "!");
  EXPECT_GT(received.size(), 0U);
}

TEST_F(StreamTurnTest, WhatAVanishedClientDoesNotTakeIsLeftToo) {
  Lend();
  ::shutdown(fds_[1], SHUT_RDWR);
  source_->next.bytes = "lost";
  EXPECT_FALSE(turn_.Write());
  EXPECT_EQ(turn_.Reclaim().unsent, "lost");
}

}  // namespace
}  // namespace mili::router
