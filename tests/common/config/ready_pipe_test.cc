#include "common/config/ready_pipe.h"

#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

std::string ReadAll(int fd) {
  std::string text;
  char buffer[256];
  for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;) text.append(buffer, n);
  close(fd);
  return text;
}

TEST(ReadyPipeTest, WritesOneLineAnEvent) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  {
    ReadyPipe pipe(ends[1]);
    pipe.Listening({{"http", "127.0.0.1:8000"}, {"grpc", "127.0.0.1:50051"}});
    pipe.Loading(5, 10);
    pipe.Ready();
    pipe.NotReady("worker lost\nagain");
  }
  EXPECT_EQ(ReadAll(ends[0]),
            "listening http=127.0.0.1:8000 grpc=127.0.0.1:50051\nloading 5 10\nready\n"
            "not-ready worker lost again\n");
}

TEST(ReadyPipeTest, OutlivesItsReader) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  close(ends[0]);
  ReadyPipe pipe(ends[1]);
  pipe.Ready();  // would end the test by SIGPIPE
  pipe.Ready();
}

TEST(ReadyPipeTest, WithoutAPipeItSaysNothing) {
  ReadyPipe pipe(-1);
  pipe.Ready();
}

TEST(ReadyEventTest, ReadsWhatThePipeWrites) {
  const auto listening = ReadyEvent::Parse("listening worker=unix:/tmp/a=b http=h:1");
  ASSERT_TRUE(listening);
  EXPECT_EQ(listening->kind, ReadyEvent::Kind::kListening);
  EXPECT_THAT(listening->fields, ElementsAre(Pair("worker", "unix:/tmp/a=b"), Pair("http", "h:1")));
  const auto loading = ReadyEvent::Parse("loading 5 10");
  ASSERT_TRUE(loading);
  EXPECT_EQ(loading->bytes_done, 5u);
  EXPECT_EQ(loading->bytes_total, 10u);
  EXPECT_EQ(ReadyEvent::Parse("ready")->kind, ReadyEvent::Kind::kReady);
  EXPECT_EQ(ReadyEvent::Parse("not-ready no worker")->reason, "no worker");
}

TEST(ReadyEventTest, PassesOverWhatItDoesNotKnow) {
  for (const char* line : {"", "hello", "loading", "loading 5", "loading x 10", "readyy"}) {
    EXPECT_FALSE(ReadyEvent::Parse(line).has_value()) << line;
  }
}

}  // namespace
}  // namespace mili
