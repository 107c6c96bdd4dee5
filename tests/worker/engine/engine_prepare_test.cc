// What the engine has its runner prepare, and when.
#include <string>

#include <gtest/gtest.h>

#include "common/base/mailbox.h"
#include "worker/engine/engine.h"

namespace mili::worker {
namespace {

using Log = Mailbox<std::string>;

class Sink final : public ResultSink {
 public:
  void OnResult(StepResult) override { has_result.Set(); }
  void OnRefused(absl::Status) override {}
  Event has_result;
};

// Has two things to prepare. The first takes until `has_plan`, a step until `may_finish`.
class PreparingRunner final : public StepRunner {
 public:
  struct Course {
    Event has_plan, may_finish;
    Log log{0};
  };
  explicit PreparingRunner(Course* course) : course_(*course) {}
  void Launch(Step& step, const std::atomic<uint64_t>&) override {
    step.is_computed = true;
    course_.log.Post("launch");
  }
  absl::Status Finish(Step&) override {
    course_.log.Post("finish");
    course_.may_finish.Wait();
    return absl::OkStatus();
  }
  bool PrepareAhead() override {
    course_.log.Post("prepare");
    course_.has_plan.Wait();
    return --left_ > 0;
  }

 private:
  Course& course_;
  int left_ = 2;
};

class EnginePrepareTest : public ::testing::Test {
 protected:
  void Open(absl::Duration quiet_time) {
    engine_ = std::make_unique<Engine>(Engine::Options{.limits = {.num_slots = 1,
                                                                  .num_pages = 1,
                                                                  .page_size_tokens = 16,
                                                                  .max_num_batched_tokens = 16,
                                                                  .max_model_len = 16,
                                                                  .vocab_size = 10},
                                                       .quiet_time = quiet_time},
                                       std::make_unique<PreparingRunner>(&course_));
  }
  void PostPlan() {
    ASSERT_TRUE(engine_->Attach(Epoch(1), sink_).ok());
    StepPlan plan;
    plan.epoch = Epoch(1);
    plan.step_id = StepId(1);
    ASSERT_TRUE(engine_->Post(std::move(plan)).ok());
  }
  // Once the engine has ended.
  void ExpectNothingElse() {
    engine_.reset();
    course_.log.Close();
    EXPECT_FALSE(course_.log.Take().has_value());
  }

  PreparingRunner::Course course_;
  std::shared_ptr<Sink> sink_ = std::make_shared<Sink>();
  std::unique_ptr<Engine> engine_;
};

TEST_F(EnginePrepareTest, PreparesWhileNothingIsInFlightUntilNothingIsLeft) {
  Open(absl::ZeroDuration());
  EXPECT_EQ(course_.log.Take(), "prepare");
  PostPlan();
  course_.has_plan.Set();
  EXPECT_EQ(course_.log.Take(), "launch");
  EXPECT_EQ(course_.log.Take(), "finish");
  course_.may_finish.Set();
  EXPECT_EQ(course_.log.Take(), "prepare");
  ExpectNothingElse();
}

TEST_F(EnginePrepareTest, PreparesNothingBeforeItIsQuiet) {
  course_.has_plan.Set();
  course_.may_finish.Set();
  Open(absl::InfiniteDuration());
  PostPlan();
  sink_->has_result.Wait();
  EXPECT_EQ(course_.log.Take(), "launch");
  EXPECT_EQ(course_.log.Take(), "finish");
  ExpectNothingElse();
}

}  // namespace
}  // namespace mili::worker
