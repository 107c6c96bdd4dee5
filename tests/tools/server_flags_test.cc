#include "tools/mili/server_flags.h"

#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/settings.h"
#include "worker/program/settings.h"

namespace mili {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

class ServerFlagsTest : public ::testing::Test {
 protected:
  ServerFlagsTest() : table_("mili serve", "") {
    table_.AddPositional("MODEL", &flags_.model, "M.", true);
    AddRouterFlags(table_, flags_);
    AddWorkerFlags(table_, flags_);
    AddProgramFlags(table_, flags_);
  }

  Supervisor::Options Pair(std::vector<const char*> args, Ports ports) {
    args.insert(args.begin(), {"serve", "m.gguf"});
    const char* environ[] = {"HOME=/", "MILI_PAGE_SIZE=32", nullptr};
    const auto outcome = table_.Parse(static_cast<int>(args.size()), args.data(), environ);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    return MakePair(table_, flags_, ports, "/tmp/d", environ);
  }

  ServerFlags flags_;
  FlagTable table_;
};

TEST_F(ServerFlagsTest, EachProgramGetsItsOwnFlagsAndOnlyWhatWasSet) {
  const auto pair =
      Pair({"--port=1", "--threads", "2", "--kv-cache-memory-bytes=1GiB", "--log-format", "json"},
           Ports::kPublic);
  EXPECT_THAT(pair.router.args,
              AllOf(Contains("--port=1"), Contains("--log-format=json"),
                    Contains("--worker=unix:/tmp/d/worker.sock"),
                    Not(Contains(HasSubstr("threads"))), Not(Contains(HasSubstr("grpc-port")))));
  EXPECT_THAT(
      pair.worker.args,
      AllOf(Contains("--threads=2"), Contains("--kv-cache-memory-bytes=1GiB"),
            Contains("--page-size=32"), Contains("--log-format=json"), Contains("--model=m.gguf"),
            Contains("--listen=unix:/tmp/d/worker.sock"), Not(Contains(HasSubstr("--port")))));
}

TEST_F(ServerFlagsTest, SettingsOfTheEnvironmentReachChildrenAsFlagsAlone) {
  const auto pair = Pair({}, Ports::kPublic);
  EXPECT_THAT(pair.router.env, testing::ElementsAre("HOME=/"));
  EXPECT_THAT(pair.worker.env, testing::ElementsAre("HOME=/"));
}

TEST_F(ServerFlagsTest, APrivatePairTakesFreePorts) {
  const auto pair = Pair({"--port=1"}, Ports::kPrivate);
  EXPECT_THAT(pair.router.args, AllOf(Contains("--port=0"), Contains("--grpc-port=0"),
                                      Contains("--admin-port=0"), Not(Contains("--port=1"))));
  EXPECT_THAT(pair.worker.args, Contains("--no-metrics"));
}

TEST_F(ServerFlagsTest, TheRouterHasTimeToDrainBeforeItIsKilled) {
  const auto pair = Pair({"--shutdown-timeout=5s"}, Ports::kPublic);
  EXPECT_GT(pair.drain_limit, absl::Seconds(5));
  EXPECT_THAT(pair.router.args, Contains("--shutdown-timeout=5s"));
}

// "[default: 8000; MILI_PORT]" of each variable that a --help names.
std::map<std::string, std::string> DefaultsOf(const std::string& help) {
  std::map<std::string, std::string> defaults;
  std::string flat = help;
  std::replace(flat.begin(), flat.end(), '\n', ' ');
  const std::regex note(R"(\[(?:default: +([^;\]]+); +)?(MILI_[A-Z_]+)\])");
  for (std::sregex_iterator it(flat.begin(), flat.end(), note), end; it != end; ++it) {
    defaults[(*it)[2]] = (*it)[1];
  }
  return defaults;
}

TEST_F(ServerFlagsTest, TheProgramsKnowEachFlagAndHaveTheSameDefault) {
  const char* argv[] = {"program", "--help"};
  const char* environ[] = {nullptr};
  std::string router_help;
  std::string worker_help;
  std::vector<std::string> warnings;
  ASSERT_TRUE(router::ReadSettings(2, argv, environ, &router_help, &warnings).ok());
  ASSERT_TRUE(worker::ReadSettings(2, argv, environ, &worker_help).ok());
  const auto router_defaults = DefaultsOf(router_help);
  const auto worker_defaults = DefaultsOf(worker_help);
  ASSERT_GT(router_defaults.size(), 10u);
  ASSERT_GT(worker_defaults.size(), 10u);
  // Of the router these two have another meaning: its own bound, by default the worker's.
  const std::set<std::string> of_worker = {"MILI_MAX_NUM_SEQS", "MILI_MAX_NUM_BATCHED_TOKENS"};
  for (const auto& [variable, value] : DefaultsOf(table_.Help())) {
    if (variable == "MILI_CONFIG") continue;
    const bool is_router = router_defaults.contains(variable) && !of_worker.contains(variable);
    const bool is_worker = worker_defaults.contains(variable);
    ASSERT_TRUE(is_router || is_worker) << variable;
    if (is_router && variable != "MILI_SHUTDOWN_TIMEOUT") {
      EXPECT_EQ(router_defaults.at(variable), value) << variable;
    }
    if (is_worker && !is_router) EXPECT_EQ(worker_defaults.at(variable), value) << variable;
  }
}

TEST_F(ServerFlagsTest, TheProgramsTakeWhatTheyAreGiven) {
  const auto pair = Pair({"--port=1", "--drain-grace=1", "--shutdown-timeout=5", "--threads=2",
                          "--max-num-seqs=4", "--load-format=gguf", "--served-model-name=x",
                          "--max-num-queued-tokens=7", "--metrics-port=0"},
                         Ports::kPublic);
  const auto words = [](const std::vector<std::string>& args) {
    std::vector<const char*> argv = {"program"};
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    return argv;
  };
  const char* environ[] = {nullptr};
  std::string print;
  std::vector<std::string> warnings;
  const auto router_argv = words(pair.router.args);
  const auto router_settings = router::ReadSettings(static_cast<int>(router_argv.size()),
                                                    router_argv.data(), environ, &print, &warnings);
  EXPECT_TRUE(router_settings.ok()) << router_settings.status();
  const auto worker_argv = words(pair.worker.args);
  const auto worker_settings = worker::ReadSettings(static_cast<int>(worker_argv.size()),
                                                    worker_argv.data(), environ, &print);
  EXPECT_TRUE(worker_settings.ok()) << worker_settings.status();
}

}  // namespace
}  // namespace mili
