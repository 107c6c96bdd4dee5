// The supervisor against shell scripts in place of the router and the worker. They speak through
// fd 3, which is their --ready-fd.
#include "tools/mili/supervisor.h"

#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kGoodRouter[] =
    "echo 'listening http=127.0.0.1:1 grpc=127.0.0.1:2' >&3\n"
    "exec $FAKE_CHILD 'router drained' exit relay $DIR/router.fifo\n";
constexpr char kGoodWorker[] =
    "echo 'loading 5 10' >&3; echo ready >&3\n"
    "exec $FAKE_CHILD 'worker ended' exit tell $DIR/router.fifo\n";
// Does not end when asked to.
constexpr char kStubbornRouter[] =
    "echo 'listening http=h:1' >&3\n"
    "exec $FAKE_CHILD busy stay relay $DIR/router.fifo\n";

// Notes all news in order and acts on them as the test says.
class Notes : public SupervisorObserver {
 public:
  void OnLogLine(std::string_view line) override { Note(std::string(line)); }
  void OnListening(const ReadyPipe::Fields& fields) override {
    Note(absl::StrCat("listening ", fields.size()));
  }
  void OnLoading(uint64_t done, uint64_t total) override {
    Note(absl::StrCat("loading ", done, "/", total));
  }
  void OnReady() override { Note("ready"); }
  void OnNotReady(std::string_view reason) override { Note("not ready: " + std::string(reason)); }
  void OnWorkerLost(std::string_view reason, absl::Duration delay) override {
    Note(absl::StrCat("lost, ", absl::FormatDuration(delay), ": ", std::string(reason)));
  }
  void OnDraining() override { Note("draining"); }

  std::vector<std::string> all;
  std::function<void(const std::string&)> act = [](const std::string&) {};

 private:
  void Note(std::string note) {
    all.push_back(note);
    act(note);
  }
};

class SupervisorTest : public ::testing::Test {
 protected:
  SupervisorTest() : signals_({SIGCHLD, SIGUSR1}) {
    options_.first_backoff = absl::Milliseconds(1);
    options_.max_backoff = absl::Milliseconds(4);
    std::string pattern = ::testing::TempDir() + "/supervisor_XXXXXX";
    dir_ = mkdtemp(pattern.data());
    EXPECT_EQ(system(absl::StrCat("mkfifo ", dir_, "/router.fifo ", dir_, "/worker.fifo").c_str()),
              0);
  }
  ~SupervisorTest() override { EXPECT_EQ(system(absl::StrCat("rm -rf ", dir_).c_str()), 0); }

  ChildSpec Script(const std::string& name, const std::string& body) {
    const std::string path = dir_ + "/" + name;
    std::ofstream(path) << body;
    return {.name = name,
            .path = "/bin/sh",
            .args = {path},
            .env = {"DIR=" + dir_, "PATH=/usr/bin:/bin", "FAKE_CHILD=" MILI_FAKE_CHILD}};
  }
  // Runs to the end; `act` is told every note.
  absl::Status Run(const std::string& router, const std::string& worker,
                   std::function<void(const std::string&, Supervisor&)> act = {}) {
    Supervisor::Options options = options_;
    options.router = Script("router", router);
    options.worker = Script("worker", worker);
    Supervisor supervisor(std::move(options), signals_, notes_);
    if (act) notes_.act = [&](const std::string& note) { act(note, supervisor); };
    return supervisor.Run();
  }

  SignalFd signals_;
  std::string dir_;
  Notes notes_;
  Supervisor::Options options_;
};

TEST_F(SupervisorTest, StartsTheWorkerAfterThePortsAndDrainsTheRouterFirst) {
  const absl::Status status = Run(kGoodRouter, kGoodWorker, [](const auto& note, auto& s) {
    if (note == "ready") s.Stop();
  });
  EXPECT_TRUE(status.ok()) << status;
  // Two pipes have no order between them.
  EXPECT_EQ(std::erase(notes_.all, "loading 5/10"), 1u);
  EXPECT_THAT(notes_.all,
              ElementsAre("listening 2", "ready", "draining", "router drained", "worker ended"));
}

TEST_F(SupervisorTest, ASignalStopsToo) {
  const absl::Status status = Run(kGoodRouter, kGoodWorker, [](const auto& note, auto&) {
    if (note == "ready") kill(getpid(), SIGUSR1);
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(SupervisorTest, ASecondStopEndsAtOnce) {
  const absl::Status status = Run(kStubbornRouter, kGoodWorker, [](const auto& note, auto& s) {
    if (note == "ready" || note == "busy") s.Stop();
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(notes_.all, Not(Contains("worker ended")));
}

TEST_F(SupervisorTest, ARouterThatNeverDrainsIsKilledAtTheLimit) {
  options_.drain_limit = absl::Milliseconds(20);
  const absl::Status status = Run(kStubbornRouter, kGoodWorker, [](const auto& note, auto& s) {
    if (note == "ready") s.Stop();
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(notes_.all, Contains("worker ended"));
}

TEST_F(SupervisorTest, AWorkerThatDiesIsStartedAgainAndTheReasonTold) {
  const std::string worker =
      "n=$(cat $DIR/count 2>/dev/null || echo 0); echo $((n + 1)) > $DIR/count\n"
      "echo ready >&3\n"
      "case $n in\n"
      "0) echo 'the arena is gone'; exit 3;;\n"
      "1) echo '2026-11-23T03:36:37.123Z info mili-worker step done'; kill -9 $$;;\n"
      "esac\n" +
      std::string(kGoodWorker);
  const absl::Status status = Run(kGoodRouter, worker, [](const auto& note, auto& s) {
    if (note == "ready") s.Stop();
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(notes_.all, Contains("lost, 1ms: the arena is gone (exit code 3)"));
  EXPECT_THAT(notes_.all,
              Contains("lost, 2ms: signal 9 (Killed), from outside or by the kernel for "
                       "want of memory"));
}

TEST_F(SupervisorTest, FiveFailuresBeforeTheFirstReadyEndAllWithTheLastLine) {
  const absl::Status status =
      Run(kGoodRouter, "echo loading; echo 'no such tensor: model.norm.weight' >&2; exit 1");
  EXPECT_EQ(status.message(),
            "worker ended 5 times before it was ready: no such tensor: model.norm.weight "
            "(exit code 1)");
  int num_lost = 0;
  for (const std::string& note : notes_.all) num_lost += note.rfind("lost", 0) == 0 ? 1 : 0;
  EXPECT_EQ(num_lost, 4);
  EXPECT_THAT(notes_.all, Contains(HasSubstr("lost, 4ms")));
}

TEST_F(SupervisorTest, AWrongSettingOfTheWorkerIsNotTriedAgain) {
  const absl::Status status = Run(kGoodRouter, "echo '--threads \"x\": no'; exit 2");
  EXPECT_EQ(status.message(),
            "worker ended before it was ready: --threads \"x\": no (exit code 2)");
}

TEST_F(SupervisorTest, ARouterThatCannotBindEndsAllBeforeAWorkerStarts) {
  const absl::Status status =
      Run("echo '2026-11-23T03:36:37.123Z error mili-router port 8000 is in use' >&2; exit 1",
          "touch $DIR/started");
  EXPECT_EQ(status.message(), "router ended: port 8000 is in use (exit code 1)");
  EXPECT_NE(access((dir_ + "/started").c_str(), F_OK), 0);
}

TEST_F(SupervisorTest, ARouterThatDiesEndsAll) {
  const std::string router =
      "echo 'listening http=h:1' >&3\nread line < $DIR/router.fifo; echo 'router: check failed'; "
      "kill -6 "
      "$$";
  const absl::Status status = Run(router, kGoodWorker);
  EXPECT_EQ(status.message(), "router ended: check failed (signal 6 (Aborted))");
}

TEST_F(SupervisorTest, ARouterThatEndsWellStopsAll) {
  const std::string router =
      "echo 'listening http=h:1' >&3\nread line < $DIR/router.fifo; echo drained by request; exit "
      "0";
  const absl::Status status = Run(router, kGoodWorker);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(notes_.all.back(), "worker ended");
}

TEST_F(SupervisorTest, AStopBeforeReadyNeedsNoWorker) {
  const absl::Status status =
      Run(kGoodRouter, "echo up; read line < $DIR/worker.fifo", [](const auto& note, auto& s) {
        if (note == "up") s.Stop();
      });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(SupervisorTest, AProgramThatIsNotThereIsNamed) {
  Supervisor::Options options = options_;
  options.router = {.name = "mili-router", .path = "/nowhere/mili-router", .args = {}, .env = {}};
  Supervisor supervisor(std::move(options), signals_, notes_);
  EXPECT_EQ(supervisor.Run().message(),
            "cannot start /nowhere/mili-router: No such file or directory");
}

TEST_F(SupervisorTest, LongLinesComeInPiecesAndTheLastNeedsNoEnd) {
  const absl::Status status =
      Run("head -c 70000 /dev/zero | tr '\\0' x; printf ' end'; exit 1", "true");
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("x end (exit code 1)"));
  ASSERT_EQ(notes_.all.size(), 2u);
  EXPECT_EQ(notes_.all[0].size() + notes_.all[1].size(), 70004u);
}

TEST_F(SupervisorTest, ChildrenDoNotOutliveIt) {
  std::string pid;
  const std::string worker = "echo pid=$$; " + std::string(kGoodWorker);
  const absl::Status status = Run(kGoodRouter, worker, [&](const auto& note, auto& s) {
    if (note.rfind("pid=", 0) == 0) pid = note.substr(4);
    if (note == "ready") {
      s.Stop();
      s.Stop();
    }
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  ASSERT_FALSE(pid.empty());
  EXPECT_EQ(kill(std::stoi(pid), 0), -1) << "still there, or a zombie";
}

TEST(MessageOfTest, TakesOffTimeAndLevel) {
  EXPECT_EQ(MessageOf("2026-11-23T03:36:37.123Z error mili-worker no file x=1"), "no file x=1");
  EXPECT_EQ(MessageOf("plain text of four words"), "plain text of four words");
  EXPECT_EQ(MessageOf(""), "");
}

}  // namespace
}  // namespace mili
