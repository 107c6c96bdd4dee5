#include "common/obs/log.h"

#include <cstdio>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili {
namespace {

using ::testing::EndsWith;
using ::testing::MatchesRegex;

// A Logger that writes to a file of its own.
class LogTest : public ::testing::Test {
 protected:
  LogTest() : file_(std::tmpfile()) {}
  ~LogTest() override { std::fclose(file_); }

  Logger::Options Options(LogFormat format) {
    return {.format = format, .program = "mili-probe", .out = file_};
  }
  std::string Text() {
    std::string text(static_cast<size_t>(std::ftell(file_)), '\0');
    std::rewind(file_);
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file_), text.size());
    return text;
  }

  std::FILE* file_;
};

TEST_F(LogTest, ATextLineHasTimeLevelProgramMessageAndFields) {
  Logger logger(Options(LogFormat::kText));
  logger.Info("worker attached", {{"worker", "a:1"}, {"reason", "first start"}, {"x", ""}});
  EXPECT_THAT(Text(), MatchesRegex("....-..-..T..:..:......Z info mili-probe worker attached "
                                   "worker=a:1 reason=\"first start\" x=\"\"\n"));
}

TEST_F(LogTest, AJsonLineIsOneObject) {
  Logger logger(Options(LogFormat::kJson));
  logger.Error("it \"broke\"", {{"path", "C:\\x\n"}});
  EXPECT_THAT(Text(), EndsWith(R"(","level":"error","program":"mili-probe",)"
                               R"("message":"it \"broke\"","path":"C:\\x\n"})"
                               "\n"));
}

TEST_F(LogTest, ValuesCannotForgeLinesOrMoveTheCursor) {
  Logger logger(Options(LogFormat::kText));
  logger.Warning("bad\nid", {{"request_id", "a\n2026 error x\x1b[2J"}, {"q", "a=\"b\""}});
  EXPECT_THAT(Text(), EndsWith("bad\\nid request_id=\"a\\n2026 error x\\u001b[2J\" "
                               "q=\"a=\\\"b\\\"\"\n"));
}

TEST_F(LogTest, BytesThatAreNoUtf8AreReplaced) {
  Logger logger(Options(LogFormat::kJson));
  logger.Info("x", {{"a", "\xff\xc3\xa9\xed\xa0\x80\xf0\x9f"}});
  EXPECT_THAT(Text(), EndsWith("\"a\":\"\xEF\xBF\xBD\xc3\xa9\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
                               "\xEF\xBF\xBD\xEF\xBF\xBD\"}\n"));
}

TEST_F(LogTest, LevelsBelowTheLeastAreLeftOut) {
  Logger logger(Options(LogFormat::kText));
  logger.Debug("unseen");
  EXPECT_EQ(Text(), "");
}

TEST_F(LogTest, LinesOfManyThreadsStayWhole) {
  Logger logger(Options(LogFormat::kText));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) logger.Info("line", {{"key", "value"}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string text = Text();
  size_t num_whole = 0;
  for (size_t at = 0; (at = text.find("Z info mili-probe line key=value\n", at)) != text.npos;
       ++at) {
    ++num_whole;
  }
  EXPECT_EQ(num_whole, 400u);
}

}  // namespace
}  // namespace mili
