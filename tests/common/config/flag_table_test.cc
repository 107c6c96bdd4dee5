#include "common/config/flag_table.h"

#include <cstdio>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

struct Settings {
  bool enable_cache = true;
  bool eager = false;
  int32_t top_k = -1;
  uint32_t port = 8000;
  int64_t seed = 7;
  uint64_t memory_bytes = 0;
  double temperature = 1;
  std::string policy = "fcfs";
  std::string model;
  std::string api_key;
  absl::Duration timeout = absl::Seconds(60);
  std::vector<std::string> workers = {"default:1"};
  std::optional<std::string> name;
  std::optional<uint32_t> max_tokens;
  std::optional<uint64_t> kv_bytes;
  std::optional<double> top_p;
};

class FlagTableTest : public ::testing::Test {
 protected:
  FlagTableTest() : table_("mili-probe", "mili-probe: a program for tests.") {
    table_.Add({.name = "enable-cache",
                .target = &s_.enable_cache,
                .value_name = "",
                .help = "Keep prefixes."});
    table_.Add({.name = "eager", .target = &s_.eager, .value_name = "", .help = "No graphs."});
    table_.Add({.name = "top-k",
                .target = &s_.top_k,
                .value_name = "N",
                .help = "Best K.",
                .short_name = 'k'});
    table_.AddSection("Network");
    table_.Add({.name = "port",
                .target = &s_.port,
                .value_name = "PORT",
                .help = "Where.",
                .max_value = 65535});
    table_.Add(
        {.name = "worker", .target = &s_.workers, .value_name = "HOST:PORT", .help = "A worker."});
    table_.Add({.name = "seed", .target = &s_.seed, .value_name = "N", .help = "Seed."});
    table_.Add({.name = "memory-bytes",
                .target = &s_.memory_bytes,
                .value_name = "SIZE",
                .help = "Memory."});
    table_.Add({.name = "kv-bytes", .target = &s_.kv_bytes, .value_name = "SIZE", .help = "KV."});
    table_.Add({.name = "temperature",
                .target = &s_.temperature,
                .value_name = "T",
                .help = "Heat.",
                .min_value = 0,
                .max_value = 100});
    table_.Add({.name = "scheduling-policy",
                .target = &s_.policy,
                .value_name = "fcfs|priority",
                .help = "Order.",
                .choices = {"fcfs", "priority"}});
    table_.Add({.name = "model", .target = &s_.model, .value_name = "PATH", .help = "Model."});
    table_.Add({.name = "api-key", .target = &s_.api_key, .value_name = "KEY", .help = "Key."});
    table_.Add(
        {.name = "timeout", .target = &s_.timeout, .value_name = "SECONDS", .help = "Patience."});
    table_.Add({.name = "name", .target = &s_.name, .value_name = "NAME", .help = "Name."});
    table_.Add({.name = "max-tokens",
                .target = &s_.max_tokens,
                .value_name = "N",
                .help = "Most tokens."});
    table_.Add({.name = "top-p", .target = &s_.top_p, .value_name = "P", .help = "Nucleus."});
    table_.Add({.name = "inner",
                .target = &s_.eager,
                .value_name = "",
                .help = "Not shown.",
                .hidden = true});
  }

  absl::StatusOr<FlagTable::Outcome> Parse(std::vector<const char*> args,
                                           std::vector<const char*> env = {}) {
    args.insert(args.begin(), "mili-probe");
    env.push_back(nullptr);
    return table_.Parse(static_cast<int>(args.size()), args.data(), env.data());
  }
  std::string ErrorOf(std::vector<const char*> args, std::vector<const char*> env = {}) {
    const auto outcome = Parse(std::move(args), std::move(env));
    EXPECT_EQ(outcome.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(outcome.status().message());
    EXPECT_THAT(message, Not(HasSubstr("\n"))) << "an error is one line";
    return message;
  }
  // Writes a YAML file and returns the flag that names it.
  std::string Yaml(const std::string& text) {
    const std::string path = ::testing::TempDir() + "/flag_table_test.yaml";
    std::ofstream(path) << text;
    return "--config=" + path;
  }

  Settings s_;
  FlagTable table_;
};

TEST_F(FlagTableTest, ReadsEveryKindOfValueFromArgv) {
  const auto outcome = Parse({"--no-enable-cache",
                              "--eager",
                              "-k",
                              "-1",
                              "--port=81",
                              "--worker",
                              "a:1",
                              "--worker",
                              "b:2",
                              "--seed",
                              "-9223372036854775808",
                              "--memory-bytes",
                              "4GiB",
                              "--kv-bytes",
                              "1.5GB",
                              "--temperature",
                              "0.25",
                              "--scheduling_policy",
                              "priority",
                              "--timeout",
                              "1m30s",
                              "--name",
                              "",
                              "--max-tokens=4294967295",
                              "--top-p",
                              ".5"});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->action, FlagTable::Action::kRun);
  EXPECT_FALSE(s_.enable_cache);
  EXPECT_TRUE(s_.eager);
  EXPECT_EQ(s_.top_k, -1);
  EXPECT_EQ(s_.port, 81u);
  EXPECT_THAT(s_.workers, ElementsAre("a:1", "b:2"));
  EXPECT_EQ(s_.seed, INT64_MIN);
  EXPECT_EQ(s_.memory_bytes, 4ull << 30);
  EXPECT_EQ(s_.kv_bytes, 1'500'000'000u);
  EXPECT_EQ(s_.temperature, 0.25);
  EXPECT_EQ(s_.policy, "priority");
  EXPECT_EQ(s_.timeout, absl::Seconds(90));
  EXPECT_EQ(s_.name, "");
  EXPECT_EQ(s_.max_tokens, 4294967295u);
  EXPECT_EQ(s_.top_p, 0.5);
}

TEST_F(FlagTableTest, PlainNumbersAreSecondsAndBytes) {
  ASSERT_TRUE(Parse({"--timeout", "0.5", "--memory-bytes", "4096"}).ok());
  EXPECT_EQ(s_.timeout, absl::Milliseconds(500));
  EXPECT_EQ(s_.memory_bytes, 4096u);
}

TEST_F(FlagTableTest, ABoolTakesAValueOnlyAfterEquals) {
  std::string rest;
  table_.AddPositional("FILE", &rest, "A file.", false);
  ASSERT_TRUE(Parse({"--enable-cache=off", "--eager", "false"}).ok());
  EXPECT_FALSE(s_.enable_cache);
  EXPECT_TRUE(s_.eager);
  EXPECT_EQ(rest, "false");
}

TEST_F(FlagTableTest, RefusesNumbersThatDoNotFit) {
  EXPECT_EQ(ErrorOf({"--port", "65536"}),
            "--port \"65536\" on the command line: expected a whole number from 0 to 65535");
  EXPECT_THAT(ErrorOf({"--port", "-1"}), HasSubstr("from 0 to 65535"));
  EXPECT_THAT(ErrorOf({"--port", "80x"}), HasSubstr("\"80x\""));
  EXPECT_THAT(ErrorOf({"--port="}), HasSubstr("expected a whole number"));
  EXPECT_THAT(ErrorOf({"--max-tokens", "4294967296"}), HasSubstr("0 to 4294967295"));
  EXPECT_THAT(ErrorOf({"--seed", "9223372036854775808"}), HasSubstr("to 9223372036854775807"));
  EXPECT_THAT(ErrorOf({"--temperature", "nan"}), HasSubstr("expected a number from 0 to 100"));
  EXPECT_THAT(ErrorOf({"--temperature", "1e999"}), HasSubstr("expected a number"));
  EXPECT_THAT(ErrorOf({"--temperature", "100.5"}), HasSubstr("from 0 to 100"));
  EXPECT_THAT(ErrorOf({"--top-p", "inf"}), HasSubstr("expected a number"));
}

TEST_F(FlagTableTest, RefusesSizesAndDurationsThatAreNone) {
  for (const char* size : {"4G", "GiB", "16777216TiB", "-1", "1.0001B", "4 parsecs", "1e3"}) {
    EXPECT_THAT(ErrorOf({"--memory-bytes", size}), HasSubstr("expected a size as 4GiB")) << size;
  }
  for (const char* time : {"soon", "5 lightyears", "", "--"}) {
    EXPECT_THAT(ErrorOf({(std::string("--timeout=") + time).c_str()}), HasSubstr("30s")) << time;
  }
  EXPECT_THAT(ErrorOf({"--timeout", "-5s"}), HasSubstr("at least 0s"));
  EXPECT_THAT(ErrorOf({"--timeout", "inf"}), HasSubstr("finite"));
}

TEST_F(FlagTableTest, RefusesWhatIsNoChoiceAndListsThem) {
  EXPECT_EQ(ErrorOf({"--scheduling-policy", "lifo"}),
            "--scheduling-policy \"lifo\" on the command line: expected one of fcfs, priority");
}

TEST_F(FlagTableTest, NamesTheNearestFlag) {
  EXPECT_EQ(ErrorOf({"--prot", "1"}),
            "unknown flag --prot (did you mean --port?); mili-probe --help lists them");
  EXPECT_THAT(ErrorOf({"--sched=fcfs"}), HasSubstr("(did you mean --scheduling-policy?)"));
  EXPECT_THAT(ErrorOf({"--quantum-flux"}), Not(HasSubstr("did you mean")));
  EXPECT_THAT(ErrorOf({"-x"}), HasSubstr("unknown flag -x"));
  EXPECT_THAT(ErrorOf({"--no-port"}), HasSubstr("unknown flag --no-port"));
}

TEST_F(FlagTableTest, AMissingValueIsAnError) {
  EXPECT_THAT(ErrorOf({"--port"}), HasSubstr("--port needs a value (PORT)"));
  EXPECT_THAT(ErrorOf({"--port", "--eager"}), HasSubstr("--port needs a value"));
  EXPECT_THAT(ErrorOf({"-k"}), HasSubstr("-k needs a value"));
  EXPECT_THAT(ErrorOf({"--no-eager=true"}), HasSubstr("takes no value"));
}

TEST_F(FlagTableTest, FlagBeatsEnvironmentBeatsYamlBeatsDefault) {
  const std::string yaml =
      Yaml("port: 1\nseed: 1\ntemperature: 1.5\nworker: [y:1, y:2]\nenable_cache: no\n");
  const auto outcome = Parse({yaml.c_str(), "--port", "3", "--worker", "f:1"},
                             {"MILI_PORT=2", "MILI_SEED=2", "MILI_WORKER=e:1", "HOME=/"});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(s_.port, 3u);
  EXPECT_EQ(s_.seed, 2);
  EXPECT_EQ(s_.temperature, 1.5);
  EXPECT_FALSE(s_.enable_cache);
  EXPECT_EQ(s_.policy, "fcfs");
  EXPECT_THAT(s_.workers, ElementsAre("f:1"));
  EXPECT_TRUE(table_.IsSet("port"));
  EXPECT_FALSE(table_.IsSet("scheduling-policy"));
}

TEST_F(FlagTableTest, ReadsListsFromEnvironmentAndYaml) {
  ASSERT_TRUE(Parse({}, {"MILI_WORKER=a:1, b:2"}).ok());
  EXPECT_THAT(s_.workers, ElementsAre("a:1", "b:2"));
}

TEST_F(FlagTableTest, AnEmptyYamlListEmptiesTheDefault) {
  ASSERT_TRUE(Parse({Yaml("worker: []").c_str()}).ok());
  EXPECT_THAT(s_.workers, IsEmpty());
}

TEST_F(FlagTableTest, ConfigMayComeFromTheEnvironment) {
  const std::string variable = "MILI_CONFIG=" + Yaml("port: 99").substr(9);
  ASSERT_TRUE(Parse({}, {variable.c_str()}).ok());
  EXPECT_EQ(s_.port, 99u);
}

TEST_F(FlagTableTest, ErrorsSayWhereTheValueCameFrom) {
  EXPECT_THAT(ErrorOf({}, {"MILI_PORT=abc"}),
              HasSubstr("MILI_PORT=\"abc\" in the environment: expected a whole number"));
  EXPECT_THAT(ErrorOf({}, {"MILI_PORT=tcp://10.0.0.1:80"}), HasSubstr("enableServiceLinks"));
  EXPECT_THAT(ErrorOf({Yaml("# ports\nport: abc\n").c_str()}),
              HasSubstr("flag_table_test.yaml, line 2: port: \"abc\": expected a whole number"));
  // A stronger right value does not hide a weaker wrong one.
  EXPECT_THAT(ErrorOf({Yaml("port: abc").c_str(), "--port", "1"}), HasSubstr("line 1"));
}

TEST_F(FlagTableTest, RefusesBadYaml) {
  EXPECT_THAT(ErrorOf({Yaml("prot: 1").c_str()}),
              HasSubstr("line 1: unknown setting prot (did you mean port?)"));
  EXPECT_THAT(ErrorOf({Yaml("port: 1\nport: 2").c_str()}), HasSubstr("line 2: port is set twice"));
  EXPECT_THAT(ErrorOf({Yaml("port: [1, 2]").c_str()}), HasSubstr("has a list"));
  EXPECT_THAT(ErrorOf({Yaml("port: {a: 1}").c_str()}), HasSubstr("has settings below it"));
  EXPECT_THAT(ErrorOf({Yaml("port:").c_str()}), HasSubstr("has no value"));
  EXPECT_THAT(ErrorOf({Yaml("- 1\n- 2").c_str()}), HasSubstr("no list of 'name: value' lines"));
  EXPECT_THAT(ErrorOf({Yaml("port: [1").c_str()}), HasSubstr("no valid YAML"));
  EXPECT_THAT(ErrorOf({Yaml("print-config: true").c_str()}), HasSubstr("unknown setting"));
  EXPECT_EQ(Parse({"--config", "/nowhere/x.yaml"}).status().message(),
            "--config /nowhere/x.yaml cannot be read");
  EXPECT_TRUE(Parse({Yaml("").c_str()}).ok());
}

TEST_F(FlagTableTest, WarnsOfVariablesThatLookMisspelt) {
  const auto outcome = Parse({}, {"MILI_PROT=1", "MILI_TEST_THINGS=1", "MILIPORT=3"});
  ASSERT_TRUE(outcome.ok());
  EXPECT_THAT(outcome->warnings,
              ElementsAre("MILI_PROT is set and means nothing here (did you mean --port?)"));
}

TEST_F(FlagTableTest, APositionalMayAlsoBeGivenAsAFlag) {
  table_.AddPositional("MODEL", &s_.model, "What to serve.", true);
  ASSERT_TRUE(Parse({"--model", "m"}).ok());
  EXPECT_EQ(s_.model, "m");
}

TEST_F(FlagTableTest, PositionalsAreCheckedForNumber) {
  table_.AddPositional("MODEL", &s_.model, "What to serve.", true);
  EXPECT_EQ(ErrorOf({}), "MODEL is missing: What to serve.");
  EXPECT_THAT(ErrorOf({"m", "x"}), HasSubstr("\"x\" is one argument too many"));
  EXPECT_THAT(ErrorOf({"m", "--model", "x"}), HasSubstr("give one"));
}

TEST_F(FlagTableTest, APositionalBeatsTheVariableOfItsFlag) {
  table_.AddPositional("MODEL", &s_.model, "What to serve.", true);
  ASSERT_TRUE(Parse({"m"}, {"MILI_MODEL=e"}).ok());
  EXPECT_EQ(s_.model, "m");
}

TEST_F(FlagTableTest, AListPositionalTakesTheRestAndDashesEndFlags) {
  std::vector<std::string> rest;
  table_.AddPositional("MODEL", &s_.model, "What to serve.", true);
  table_.AddPositional("TEXT", &rest, "Words.", false);
  ASSERT_TRUE(Parse({"m", "a", "--eager", "--", "--port"}).ok());
  EXPECT_THAT(rest, ElementsAre("a", "--port"));
}

TEST_F(FlagTableTest, HelpShowsSectionsDefaultsVariablesAndChoices) {
  const auto outcome = Parse({"--help", "--bogus"});
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(outcome->action, FlagTable::Action::kExit);
  EXPECT_THAT(outcome->print, HasSubstr("mili-probe: a program for tests."));
  EXPECT_THAT(outcome->print, HasSubstr("\nNetwork:\n  --port PORT\n      Where. [default: 8000; "
                                        "MILI_PORT]\n"));
  EXPECT_THAT(outcome->print, HasSubstr("--[no-]enable-cache\n"));
  EXPECT_THAT(outcome->print, HasSubstr("  -k, --top-k N\n"));
  EXPECT_THAT(outcome->print, HasSubstr("--scheduling-policy fcfs|priority"));
  EXPECT_THAT(outcome->print, HasSubstr("May be repeated."));
  EXPECT_THAT(outcome->print, Not(HasSubstr("inner")));
}

TEST_F(FlagTableTest, VersionNamesProgramAndRevision) {
  const auto outcome = Parse({"--version"});
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(outcome->action, FlagTable::Action::kExit);
  EXPECT_THAT(outcome->print, ::testing::StartsWith("mili-probe "));
  EXPECT_THAT(outcome->print, HasSubstr("git "));
}

TEST_F(FlagTableTest, PrintConfigShowsOriginsAndMasksSecrets) {
  const auto outcome = Parse({"--print-config", "--seed=5", "--api-key", "hush", "--memory-bytes",
                              "512MiB", "--name", "a b: c"},
                             {"MILI_PORT=2"});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->action, FlagTable::Action::kExit);
  EXPECT_THAT(outcome->print, HasSubstr("seed: 5  # command line\n"));
  EXPECT_THAT(outcome->print, HasSubstr("port: 2  # MILI_PORT\n"));
  EXPECT_THAT(outcome->print, HasSubstr("scheduling-policy: fcfs  # default\n"));
  EXPECT_THAT(outcome->print, HasSubstr("memory-bytes: 512MiB  # command line\n"));
  EXPECT_THAT(outcome->print, HasSubstr("api-key: \"***\"  # command line\n"));
  EXPECT_THAT(outcome->print, HasSubstr("max-tokens: ~  # default\n"));
  EXPECT_THAT(outcome->print, HasSubstr("name: \"a b: c\""));
  EXPECT_THAT(outcome->print, Not(HasSubstr("hush")));
}

TEST_F(FlagTableTest, WhatPrintConfigWritesCanBeReadAgain) {
  const auto printed = Parse({"--print-config", "--seed=5", "--name", "yes: \"no\"", "--worker",
                              "[::1]:4", "--worker", "b, c"});
  ASSERT_TRUE(printed.ok());
  s_ = Settings();
  FlagTableTest::table_.Settings();
  Settings again;
  FlagTable second("mili-probe", "");
  second.Add({.name = "seed", .target = &again.seed, .value_name = "N", .help = ""});
  second.Add({.name = "name", .target = &again.name, .value_name = "N", .help = ""});
  second.Add({.name = "worker", .target = &again.workers, .value_name = "N", .help = ""});
  std::string kept;
  for (const char* key : {"seed: ", "name: ", "worker: "}) {
    const size_t begin = printed->print.find(key);
    kept += printed->print.substr(begin, printed->print.find('\n', begin) + 1 - begin);
  }
  const std::string yaml = Yaml(kept);
  const char* argv[] = {"mili-probe", yaml.c_str()};
  const char* env[] = {nullptr};
  const auto outcome = second.Parse(2, argv, env);
  ASSERT_TRUE(outcome.ok()) << outcome.status() << "\n" << kept;
  EXPECT_EQ(again.seed, 5);
  EXPECT_EQ(again.name, "yes: \"no\"");
  EXPECT_THAT(again.workers, ElementsAre("[::1]:4", "b, c"));
}

TEST_F(FlagTableTest, ArgumentsHandOnWhatWasSet) {
  ASSERT_TRUE(Parse({"--no-enable-cache", "--timeout=1500ms", "--memory-bytes=1GiB", "--worker=a b",
                     "--worker=c"},
                    {"MILI_PORT=5"})
                  .ok());
  EXPECT_THAT(table_.Arguments("enable-cache"), ElementsAre("--enable-cache=false"));
  EXPECT_THAT(table_.Arguments("timeout"), ElementsAre("--timeout=1.5s"));
  EXPECT_THAT(table_.Arguments("memory-bytes"), ElementsAre("--memory-bytes=1GiB"));
  EXPECT_THAT(table_.Arguments("worker"), ElementsAre("--worker=a b", "--worker=c"));
  EXPECT_THAT(table_.Arguments("port"), ElementsAre("--port=5"));
  EXPECT_THAT(table_.Arguments("seed"), IsEmpty());
}

TEST_F(FlagTableTest, SettingsAreInOrderAndMasked) {
  ASSERT_TRUE(Parse({"--api-key=hush"}).ok());
  const auto settings = table_.Settings();
  EXPECT_EQ(settings.front().first, "enable-cache");
  EXPECT_THAT(settings, ::testing::Contains(::testing::Pair("api-key", "***")));
  EXPECT_THAT(settings, ::testing::Contains(::testing::Pair("port", "8000")));
}

}  // namespace
}  // namespace mili
