#include "tools/mili/server_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace mili
