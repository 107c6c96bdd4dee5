#include "tools/mili/display.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

class DisplayTest : public ::testing::Test {
 protected:
  DisplayTest() : file_(std::tmpfile()) {}
  ~DisplayTest() override { std::fclose(file_); }

  Display::Options Options() {
    Display::Options options;
    options.model = "tiny";
    options.out = file_;
    return options;
  }
  std::string Text() {
    std::string text(static_cast<size_t>(std::ftell(file_)), '\0');
    std::rewind(file_);
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file_), text.size());
    return text;
  }

  std::FILE* file_;
};

TEST_F(DisplayTest, TellsWhereItListensOnceItIsReady) {
  Display display(Options());
  display.OnListening({{"http", "127.0.0.1:8000"}, {"grpc", "127.0.0.1:50051"}});
  display.OnReady();
  EXPECT_THAT(Text(), AllOf(HasSubstr("tiny"), HasSubstr("http://127.0.0.1:8000"),
                            HasSubstr("mili chat --server 127.0.0.1:50051")));
}

TEST_F(DisplayTest, ReadyIsToldOnce) {
  Display display(Options());
  display.OnReady();
  display.OnNotReady("the worker is gone");
  display.OnReady();
  const std::string text = Text();
  EXPECT_EQ(text.find("Ready after"), text.rfind("Ready after"));
}

TEST_F(DisplayTest, IsNeverSilentForTwoSecondsBeforeReady) {
  Display display(Options());
  EXPECT_LT(display.NextTick() - absl::Now(), absl::Seconds(2));
  display.OnTick();
  EXPECT_THAT(Text(), HasSubstr("starting tiny"));
  EXPECT_LT(display.NextTick() - absl::Now(), absl::Seconds(2));
  display.OnReady();
  EXPECT_EQ(display.NextTick(), absl::InfiniteFuture());
}

TEST_F(DisplayTest, PlainProgressNamesShareAndSize) {
  Display display(Options());
  display.OnLoading(48'000'000, 96'000'000);
  display.OnTick();
  EXPECT_THAT(Text(), HasSubstr("loading weights: 50 %, 48 MB of 96 MB"));
}

TEST_F(DisplayTest, ABarMakesWayForLogLines) {
  Display::Options options = Options();
  options.is_terminal = true;
  Display display(options);
  display.OnLoading(5, 10);
  display.OnLogLine("a line");
  display.OnReady();
  const std::string text = Text();
  EXPECT_THAT(text, HasSubstr("[###############...............] loading weights: 50 %"));
  EXPECT_THAT(text, HasSubstr("\r\033[Ka line\n"));
  EXPECT_THAT(text, HasSubstr("\r\033[K\nReady"));
}

TEST_F(DisplayTest, QuietShowsNeitherLogNorPorts) {
  Display::Options options = Options();
  options.is_quiet = true;
  Display display(options);
  display.OnLogLine("a line");
  display.OnWorkerLost("exit code 1", absl::Seconds(1));
  display.OnReady();
  EXPECT_EQ(Text(), "");
}

TEST_F(DisplayTest, JsonStaysJson) {
  Display::Options options = Options();
  options.format = LogFormat::kJson;
  Display display(options);
  display.OnListening({{"http", "h:1"}, {"grpc", "h:2"}});
  display.OnTick();
  display.OnReady();
  display.OnDraining();
  const std::string text = Text();
  EXPECT_THAT(text, HasSubstr("\"message\":\"ready\",\"model\":\"tiny\",\"http\":\"h:1\""));
  EXPECT_THAT(text, Not(HasSubstr("\n\n")));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
}

}  // namespace
}  // namespace mili
