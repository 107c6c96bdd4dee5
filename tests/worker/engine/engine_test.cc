#include "worker/engine/engine.h"

#include <sched.h>

#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/mailbox.h"
#include "tests/support/fake_backend.h"

namespace mili::worker {
namespace {

using ::testing::HasSubstr;

constexpr SlotTable::Limits kLimits = {.num_slots = 4,
                                       .num_pages = 32,
                                       .page_size_tokens = 4,
                                       .max_num_batched_tokens = 16,
                                       .max_model_len = 40,
                                       .vocab_size = 1000};

// Collects what the engine says; waits without polling.
class Collector final : public ResultSink {
 public:
  void OnResult(StepResult result) override { results.Post(std::move(result)); }
  void OnRefused(absl::Status status) override { refusals.Post(std::move(status)); }

  Mailbox<StepResult> results{0};
  Mailbox<absl::Status> refusals{0};
};

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() { Open({}); }

  void Open(FakeBackend::Options options) {
    engine_.reset();
    options.vocab_size = kLimits.vocab_size;
    options.num_pages = kLimits.num_pages;
    options.page_size_tokens = kLimits.page_size_tokens;
    backend_ = std::make_unique<FakeBackend>(std::move(options));
    engine_ =
        std::make_unique<Engine>(Engine::Options{.limits = kLimits, .on_step = {}}, backend_.get());
    sink_ = std::make_shared<Collector>();
  }

  // A plan of the open epoch; step ids count up by themselves.
  StepPlan Plan() {
    StepPlan plan;
    plan.epoch = epoch_;
    plan.step_id = StepId(++last_step_);
    return plan;
  }
  static SeqStart Start(uint32_t slot, std::vector<TokenId> tokens, uint32_t first_page,
                        uint32_t num_pages, uint64_t seed = 7) {
    SeqStart start;
    start.slot = SlotId(slot);
    start.num_prompt_tokens = static_cast<uint32_t>(tokens.size());
    start.token_ids = std::move(tokens);
    for (uint32_t i = 0; i < num_pages; ++i) start.pages.push_back(PageId(first_page + i));
    start.sampling.seed = seed;
    return start;
  }
  static SeqStep Known(uint32_t slot, uint32_t num_tokens, bool sample) {
    return {SlotId(slot), num_tokens, {}, TokenSource::kKnown, sample};
  }
  static SeqStep Next(uint32_t slot, std::vector<PageId> pages = {}) {
    return {SlotId(slot), 1, std::move(pages), TokenSource::kLastSampled, true};
  }
  void Attach() {
    epoch_ = Epoch(engine_->last_epoch().value + 1);
    last_step_ = 0;
    ASSERT_TRUE(engine_->Attach(epoch_, sink_).ok());
  }
  void Post(StepPlan plan) {
    const absl::Status status = engine_->Post(std::move(plan));
    ASSERT_TRUE(status.ok()) << status;
  }

  Epoch epoch_;
  uint64_t last_step_ = 0;
  std::unique_ptr<FakeBackend> backend_;
  std::unique_ptr<Engine> engine_;
  std::shared_ptr<Collector> sink_;
};

TEST_F(EngineTest, AnswersPromptAndDecodesInOrder) {
  Attach();
  StepPlan plan = Plan();
  plan.start = {Start(1, {10, 11, 12, 13, 14}, 3, 2)};
  plan.step = {Known(1, 5, true)};
  Post(plan);
  // Planned before the first result is known.
  for (int i = 0; i < 3; ++i) {
    plan = Plan();
    plan.step = {Next(1)};
    Post(plan);
  }
  for (uint32_t i = 0; i < 4; ++i) {
    const StepResult result = *sink_->results.Take();
    EXPECT_EQ(result.epoch, epoch_);
    EXPECT_EQ(result.step_id, StepId(i + 1));
    ASSERT_EQ(result.rows.size(), 1u);
    EXPECT_EQ(result.rows[0].slot, SlotId(1));
    EXPECT_TRUE(result.rows[0].status.ok()) << result.rows[0].status;
    ASSERT_EQ(result.rows[0].tokens.size(), 1u);
    EXPECT_EQ(result.rows[0].tokens[0].id, FakeToken(7, 0, 5 + i, 1000));
  }
}

TEST_F(EngineTest, AChunkThatDoesNotSampleHasNoRow) {
  Attach();
  StepPlan plan = Plan();
  plan.start = {Start(0, {10, 11, 12, 13, 14}, 0, 2)};
  plan.step = {Known(0, 3, false)};
  Post(plan);
  plan = Plan();
  plan.step = {Known(0, 2, true)};
  Post(plan);
  EXPECT_TRUE(sink_->results.Take()->rows.empty());
  const StepResult result = *sink_->results.Take();
  ASSERT_EQ(result.rows.size(), 1u);
  EXPECT_EQ(result.rows[0].tokens[0].id, FakeToken(7, 0, 5, 1000));
}

TEST_F(EngineTest, ScoresThePromptTokenAfterEachComputedOne) {
  Attach();
  StepPlan plan = Plan();
  plan.start = {Start(0, {10, 11, 12, 13, 14}, 0, 2)};
  plan.start[0].num_prompt_tokens = 4;  // 14 was produced before a restart
  plan.start[0].sampling.num_prompt_logprobs = 2;
  plan.step = {Known(0, 2, false)};
  Post(plan);
  plan = Plan();
  plan.step = {Known(0, 3, true)};
  Post(plan);
  std::vector<TokenId> scored;
  for (int i = 0; i < 2; ++i) {
    const StepResult result = *sink_->results.Take();
    ASSERT_EQ(result.rows.size(), 1u);
    for (const SampledToken& token : result.rows[0].prompt_logprobs) {
      scored.push_back(token.id);
      EXPECT_EQ(token.top.size(), 2u);
    }
  }
  EXPECT_EQ(scored, (std::vector<TokenId>{11, 12, 13}));
}

TEST_F(EngineTest, ANanRowFailsAloneAndForGood) {
  Open({.before_step = {}, .is_nan = [](uint32_t position) { return position == 3; }});
  Attach();
  StepPlan plan = Plan();
  plan.start = {Start(0, {10, 11, 12}, 0, 2), Start(1, {10, 11}, 2, 2)};
  plan.step = {Known(0, 3, true), Known(1, 2, true)};
  Post(plan);
  plan = Plan();  // a ghost row of the failed sequence
  plan.step = {Next(0)};
  Post(plan);
  plan = Plan();  // the slot serves again
  plan.release = {SlotId(0)};
  plan.start = {Start(0, {10}, 0, 2)};
  plan.step = {Known(0, 1, true)};
  Post(plan);

  StepResult result = *sink_->results.Take();
  ASSERT_EQ(result.rows.size(), 2u);
  EXPECT_EQ(result.rows[0].status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(result.rows[0].tokens.empty());
  EXPECT_TRUE(result.rows[1].status.ok());
  EXPECT_EQ(result.rows[1].tokens.size(), 1u);
  result = *sink_->results.Take();
  ASSERT_EQ(result.rows.size(), 1u);
  EXPECT_EQ(result.rows[0].status.code(), absl::StatusCode::kInternal);
  result = *sink_->results.Take();
  ASSERT_EQ(result.rows.size(), 1u);
  EXPECT_TRUE(result.rows[0].status.ok());
}

TEST_F(EngineTest, ABrokenPlanEndsTheEpochAndNothingElse) {
  Attach();
  StepPlan plan = Plan();
  plan.step = {Next(2)};
  Post(plan);
  const absl::Status refusal = *sink_->refusals.Take();
  EXPECT_EQ(refusal.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refusal.message()), HasSubstr("slot 2"));
  engine_->Detach(epoch_);
  Attach();
  plan = Plan();
  plan.start = {Start(2, {10}, 0, 1)};
  plan.step = {Known(2, 1, true)};
  Post(plan);
  EXPECT_EQ(sink_->results.Take()->rows.size(), 1u);
}

TEST_F(EngineTest, ServesOneRouterAtATimeAndNewerEpochsOnly) {
  Attach();
  EXPECT_EQ(engine_->Attach(Epoch(9), sink_).code(), absl::StatusCode::kFailedPrecondition);
  engine_->Detach(Epoch(77));  // not the open one: nothing happens
  EXPECT_EQ(engine_->Attach(Epoch(9), sink_).code(), absl::StatusCode::kFailedPrecondition);
  engine_->Detach(epoch_);
  EXPECT_EQ(engine_->Attach(epoch_, sink_).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(engine_->Attach(Epoch(9), sink_).ok());
  EXPECT_EQ(engine_->last_epoch(), Epoch(9));
}

TEST_F(EngineTest, RefusesAPlanOfAnotherEpoch) {
  StepPlan plan = Plan();
  EXPECT_EQ(engine_->Post(plan).code(), absl::StatusCode::kFailedPrecondition);  // none is open
  Attach();
  plan = Plan();
  plan.epoch = Epoch(5);
  EXPECT_EQ(engine_->Post(plan).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EngineTest, DropsEverySlotWhenTheRouterLeavesMidStep) {
  Event entered;
  Event leave;
  bool is_first = true;  // executor thread only
  Open({.before_step =
            [&](const StepBatch&) {
              if (!is_first) return;
              is_first = false;
              entered.Set();
              leave.Wait();
            },
        .is_nan = {}});
  Attach();
  StepPlan plan = Plan();
  plan.start = {Start(0, {10, 11}, 0, 2)};
  plan.step = {Known(0, 2, true)};
  Post(plan);
  plan = Plan();
  plan.step = {Next(0)};
  Post(plan);
  entered.Wait();
  engine_->Detach(epoch_);
  const std::shared_ptr<Collector> old_sink = sink_;
  sink_ = std::make_shared<Collector>();
  Attach();  // while the old step still computes
  plan = Plan();
  plan.start = {Start(0, {20, 21, 22}, 0, 2, 8)};  // slot and pages are free again
  plan.step = {Known(0, 3, true)};
  Post(plan);
  leave.Set();
  const StepResult result = *sink_->results.Take();
  EXPECT_EQ(result.epoch, epoch_);
  ASSERT_EQ(result.rows.size(), 1u);
  EXPECT_EQ(result.rows[0].tokens[0].id, FakeToken(8, 0, 3, 1000));
  // The first step of the old epoch had begun and was delivered; the second never ran.
  EXPECT_EQ(old_sink->results.Take()->step_id, StepId(1));
  EXPECT_FALSE(old_sink->results.Take(absl::InfinitePast()).has_value());
}

TEST_F(EngineTest, DeliversOnAnotherCpuThanTheExecutors) {
  const int executor_cpu = sched_getcpu();
  Mailbox<cpu_set_t> masks{0};
  engine_ = std::make_unique<Engine>(
      Engine::Options{.limits = kLimits,
                      .on_step =
                          [&](const StepStats&) {
                            cpu_set_t mask;
                            CPU_ZERO(&mask);
                            EXPECT_EQ(sched_getaffinity(0, sizeof(mask), &mask), 0);
                            masks.Post(mask);
                          },
                      .executor_cpu = executor_cpu},
      backend_.get());
  Attach();
  Post(Plan());
  const cpu_set_t mask = *masks.Take();
  if (CPU_COUNT(&mask) == 1 && CPU_ISSET(executor_cpu, &mask)) GTEST_SKIP() << "one CPU";
  EXPECT_FALSE(CPU_ISSET(executor_cpu, &mask));
}

// A device that fails at its third step, and at all after it.
class FailingRunner final : public StepRunner {
 public:
  void Launch(Step& step, const std::atomic<uint64_t>&) override {
    step.is_computed = true;
    step.result = {};
    step.result.step_id = step.batch.step_id;
  }
  absl::Status Finish(Step& step) override {
    if (step.batch.step_id < StepId(3)) return absl::OkStatus();
    return absl::InternalError("the GPU fell off the bus");
  }
};

TEST_F(EngineTest, SaysOnceThatTheDeviceIsLostAndAnswersNothingAfter) {
  std::atomic<int> num_lost{0};
  Mailbox<absl::Status> causes{0};
  engine_ = std::make_unique<Engine>(Engine::Options{.limits = kLimits,
                                                     .on_device_lost =
                                                         [&](const absl::Status& cause) {
                                                           ++num_lost;
                                                           causes.Post(cause);
                                                         }},
                                     std::make_unique<FailingRunner>());
  epoch_ = Epoch(1);
  ASSERT_TRUE(engine_->Attach(epoch_, sink_).ok());
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(engine_->Post(Plan()).ok());
  EXPECT_EQ(causes.Take()->message(), "the GPU fell off the bus");
  EXPECT_EQ(sink_->refusals.Take()->message(), "the GPU fell off the bus");
  EXPECT_EQ(engine_->Attach(Epoch(epoch_.value + 1), sink_).message(), "the GPU fell off the bus");
  engine_.reset();  // what is under way ends
  EXPECT_EQ(num_lost, 1);
  EXPECT_EQ(sink_->results.Take()->step_id, StepId(1));
  EXPECT_EQ(sink_->results.Take()->step_id, StepId(2));
  sink_->results.Close();
  EXPECT_FALSE(sink_->results.Take().has_value());
}

TEST_F(EngineTest, ChunksBatchesAndRestartsChangeNoToken) {
  // Four sequences in one batch, each chunked its own way, against the function itself.
  Attach();
  std::map<uint32_t, std::vector<TokenId>> got;
  StepPlan plan = Plan();
  for (uint32_t s = 0; s < 4; ++s) {
    plan.start.push_back(Start(s, {10 + s, 20 + s, 30 + s, 40 + s}, 8 * s, 8, 100 + s));
  }
  for (uint32_t s = 0; s < 4; ++s) plan.step.push_back(Known(s, s + 1, s == 3));
  Post(plan);
  plan = Plan();
  for (uint32_t s = 0; s < 3; ++s) plan.step.push_back(Known(s, 3 - s, true));
  plan.step.push_back(Next(3));
  Post(plan);
  for (int i = 0; i < 20; ++i) {
    plan = Plan();
    for (uint32_t s = 0; s < 4; ++s) plan.step.push_back(Next(s));
    Post(plan);
  }
  for (int i = 0; i < 22; ++i) {
    const StepResult result = *sink_->results.Take();
    for (const RowResult& row : result.rows) {
      EXPECT_TRUE(row.status.ok()) << row.status;
      for (const SampledToken& token : row.tokens) got[row.slot.value].push_back(token.id);
    }
  }
  for (uint32_t s = 0; s < 4; ++s) {
    ASSERT_EQ(got[s].size(), s == 3 ? 22u : 21u);
    for (uint32_t i = 0; i < got[s].size(); ++i) {
      EXPECT_EQ(got[s][i], FakeToken(100 + s, 0, 4 + i, 1000));
    }
  }
}

}  // namespace
}  // namespace mili::worker
