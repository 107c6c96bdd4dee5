// The small readers and writers of the command line tools.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/mili/answer.h"
#include "tools/mili/json_line.h"
#include "tools/mili/model_path.h"
#include "tools/mili/programs.h"
#include "tools/mili/token_ids.h"

namespace mili {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string StringOf(std::string_view line) {
  const auto text = ParseJsonString(line);
  return text.ok() ? *text : "error: " + std::string(text.status().message());
}

TEST(ParseJsonStringTest, DecodesEscapes) {
  EXPECT_EQ(StringOf(R"("")"), "");
  EXPECT_EQ(StringOf(R"( "a\"b\\c\/\b\f\n\r\t" )"), "a\"b\\c/\b\f\n\r\t");
  EXPECT_EQ(StringOf(R"("\u0041\u00e9\u20AC")"), "A\xC3\xA9\xE2\x82\xAC");
  EXPECT_EQ(StringOf(R"("\ud83d\ude00!")"), "\xF0\x9F\x98\x80!");
  EXPECT_EQ(StringOf("\"\xF0\x9F\x98\x80\""), "\xF0\x9F\x98\x80");
  EXPECT_EQ(StringOf(std::string_view("\"\\u0000\"")), std::string(1, '\0'));
}

TEST(ParseJsonStringTest, HalfASurrogatePairIsReplaced) {
  EXPECT_EQ(StringOf(R"("\ud83d")"), "\xEF\xBF\xBD");
  EXPECT_EQ(StringOf(R"("\ud83dx")"), "\xEF\xBF\xBDx");
  EXPECT_EQ(StringOf(R"("\ude00\ud83d\u0041")"),
            "\xEF\xBF\xBD\xEF\xBF\xBD"
            "A");
}

TEST(ParseJsonStringTest, PassesBytesThatAreNoUtf8) {
  EXPECT_EQ(StringOf("\"a\xff\xc3\""), "a\xff\xc3");
}

TEST(ParseJsonStringTest, SaysWhatIsWrongAndWhere) {
  EXPECT_EQ(StringOf(""), "error: column 1: expected a JSON string, found the end of the line");
  EXPECT_EQ(StringOf("[1]"), "error: column 1: expected a JSON string, found '['");
  EXPECT_EQ(StringOf("\x01"), "error: column 1: expected a JSON string, found the byte 0x01");
  EXPECT_EQ(StringOf("\"ab"), "error: column 4: the string has no closing quote");
  EXPECT_EQ(StringOf("\"a\" b"), "error: column 4: expected the end of the line, found ' '");
  EXPECT_THAT(StringOf("\"a\tb\""), HasSubstr("control character"));
  EXPECT_THAT(StringOf(R"("\x41")"), HasSubstr("unknown escape"));
  EXPECT_THAT(StringOf(R"("\u00g0")"), HasSubstr("unknown escape"));
  EXPECT_THAT(StringOf("\"\\"), HasSubstr("unknown escape"));
}

TEST(ParseJsonIdsTest, ReadsArrays) {
  EXPECT_THAT(*ParseJsonIds("[]"), IsEmpty());
  EXPECT_THAT(*ParseJsonIds(" [ 1 ,2,\t4294967295 ] \r"), ElementsAre(1, 2, 4294967295u));
}

TEST(ParseJsonIdsTest, RefusesAllElse) {
  for (const char* line : {"", "1", "[", "[1", "[1,]", "[,1]", "[-1]", "[4294967296]", "[1.5]",
                           "[\"1\"]", "[1] 2", "[[1]]"}) {
    EXPECT_FALSE(ParseJsonIds(line).ok()) << line;
  }
  EXPECT_EQ(ParseJsonIds("[1, x]").status().message(), "column 5: expected a token id, found 'x'");
}

TEST(AppendJsonIdsTest, WritesWhatParsesBack) {
  std::string out;
  AppendJsonIds({7, 0, 4294967295u}, &out);
  EXPECT_EQ(out, "[7, 0, 4294967295]");
}

TEST(ParseTokenIdsTest, ReadsWhatPeopleWrite) {
  EXPECT_THAT(*ParseTokenIds("1,2,3"), ElementsAre(1, 2, 3));
  EXPECT_THAT(*ParseTokenIds(" [1, 2 3]\n"), ElementsAre(1, 2, 3));
  for (const char* text : {"", "[]", "1,-2", "+1", "4294967296", "a"}) {
    EXPECT_FALSE(ParseTokenIds(text).ok()) << text;
  }
}

TEST(ForTerminalTest, NoModelMovesTheCursor) {
  EXPECT_EQ(ForTerminal("a\x1b[2Jb\tc\n\r\x7f", true),
            "a\xEF\xBF\xBD[2Jb\tc\n\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(ForTerminal("\xC2\x9B\xC2\xA0\xC3\xA9", true), "\xEF\xBF\xBD\xC2\xA0\xC3\xA9");
  EXPECT_EQ(ForTerminal("a\x1b[2J", false), "a\x1b[2J");
}

TEST(TokensPerSecondTest, CountsFromTheFirstToken) {
  EXPECT_DOUBLE_EQ(TokensPerSecond(11, absl::Seconds(1), absl::Seconds(2)), 10);
  EXPECT_DOUBLE_EQ(TokensPerSecond(1, absl::Seconds(2), absl::Seconds(2)), 0.5);
  EXPECT_DOUBLE_EQ(TokensPerSecond(0, absl::ZeroDuration(), absl::ZeroDuration()), 0);
}

TEST(ModelPathTest, SaysWhatIsMissing) {
  EXPECT_THAT(std::string(CheckModelPath("/nowhere/m.gguf").message()),
              HasSubstr("no model at /nowhere/m.gguf: No such file"));
  EXPECT_THAT(std::string(CheckModelPath("Qwen/Qwen3-0.6B").message()),
              HasSubstr("not downloaded by name"));
  EXPECT_THAT(std::string(CheckModelPath("/dev/null").message()),
              HasSubstr("neither a file nor a directory"));
  EXPECT_TRUE(CheckModelPath("/proc/self/exe").ok());
}

TEST(ModelPathTest, NamesAreWithoutExtensionOrSlash) {
  const std::string dir = ::testing::TempDir() + "/Model-0.5B";
  std::filesystem::create_directories(dir);
  EXPECT_EQ(ModelNameOf(dir), "Model-0.5B");
  EXPECT_EQ(ModelNameOf(dir + "/"), "Model-0.5B");
  EXPECT_EQ(ModelNameOf("/nowhere/x.Q4_1.gguf"), "x.Q4_1");
}

TEST(ChildEnvironmentTest, KeepsAllButSettings) {
  const char* environ[] = {"PATH=/bin", "MILI_PORT=1", "MILI_API_KEY=k", "MILIX=2", nullptr};
  EXPECT_THAT(ChildEnvironment(environ), ElementsAre("PATH=/bin", "MILI_API_KEY=k", "MILIX=2"));
}

TEST(SocketDirTest, IsPrivateAndGoesWithItsOwner) {
  std::string path;
  {
    const auto dir = SocketDir::Make();
    ASSERT_TRUE(dir.ok()) << dir.status();
    path = dir->path();
    EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms::owner_all);
    std::ofstream(path + "/worker.sock") << "x";
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(SocketDirTest, LeftoversOfTheKilledGoOthersStay) {
  const std::string base = ::testing::TempDir() + "/runtime";
  std::filesystem::remove_all(base);
  std::filesystem::create_directories(base + "/mili-killed");
  std::filesystem::create_directories(base + "/mili-foreig");
  std::ofstream(base + "/mili-killed/worker.sock") << "";
  std::ofstream(base + "/mili-foreig/letter") << "";
  unsetenv("XDG_RUNTIME_DIR");
  setenv("TMPDIR", base.c_str(), 1);
  const auto living = SocketDir::Make();
  ASSERT_TRUE(living.ok()) << living.status();
  const auto old = std::filesystem::file_time_type::clock::now() - std::chrono::hours(1);
  for (const std::string& path : {base + "/mili-killed", base + "/mili-foreig", living->path()}) {
    std::filesystem::last_write_time(path, old);
  }
  const auto next = SocketDir::Make();
  EXPECT_FALSE(std::filesystem::exists(base + "/mili-killed"));
  EXPECT_TRUE(std::filesystem::exists(base + "/mili-foreig/letter"));
  EXPECT_TRUE(std::filesystem::exists(living->path()));
  unsetenv("TMPDIR");
}

TEST(SocketDirTest, APathTooLongForASocketIsRefused) {
  const std::string dir = ::testing::TempDir() + "/" + std::string(100, 'x');
  std::filesystem::create_directories(dir);
  unsetenv("XDG_RUNTIME_DIR");
  setenv("TMPDIR", dir.c_str(), 1);
  EXPECT_THAT(std::string(SocketDir::Make().status().message()), HasSubstr("set TMPDIR"));
  setenv("TMPDIR", "/nowhere", 1);
  EXPECT_THAT(std::string(SocketDir::Make().status().message()), HasSubstr("cannot make"));
  unsetenv("TMPDIR");
}

}  // namespace
}  // namespace mili
