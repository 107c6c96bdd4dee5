// A scheduler with a puppet worker, stepped by hand.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "router/sched/scheduler.h"
#include "tests/router/sched/invariants.h"
#include "tests/support/puppet_worker.h"

namespace mili::router::testing {

class SchedulerTest : public ::testing::Test {
 protected:
  // Opens an epoch with facts_ and options_.
  void Open() {
    if (scheduler_ == nullptr) scheduler_ = std::make_unique<Scheduler>(options_);
    ++epoch_.value;
    puppet_ = std::make_unique<mili::testing::PuppetWorker>(facts_, epoch_);
    scheduler_->OpenEpoch(epoch_, facts_);
  }

  std::shared_ptr<Request> MakeRequest(uint32_t num_prompt, uint32_t max_tokens) {
    auto request = std::make_shared<Request>();
    request->key = RequestKey(++last_key_);
    request->arrival = now_ += absl::Milliseconds(1);
    request->sampling.seed = last_key_;
    for (uint32_t i = 0; i < num_prompt; ++i) {
      request->prompt_token_ids.push_back((last_key_ * 13 + i) % facts_.vocab_size);
    }
    request->max_tokens = max_tokens;
    return request;
  }

  std::shared_ptr<Request> Add(uint32_t num_prompt, uint32_t max_tokens) {
    auto request = MakeRequest(num_prompt, max_tokens);
    EXPECT_TRUE(scheduler_->Add(request).ok());
    return request;
  }

  // Plans a step and computes it; its result waits for Deliver.
  std::optional<StepPlan> Plan() {
    std::optional<StepPlan> plan = scheduler_->Next(now_);
    if (plan.has_value()) {
      absl::StatusOr<StepResult> result = puppet_->Execute(*plan);
      EXPECT_TRUE(result.ok()) << result.status();
      if (result.ok()) results_.push_back(*std::move(result));
    }
    EXPECT_EQ(FindBrokenInvariant(scheduler_->state()), std::nullopt);
    return plan;
  }

  std::vector<TokenEvent> Deliver() {
    StepResult result = std::move(results_.front());
    results_.pop_front();
    EXPECT_TRUE(scheduler_->Apply(std::move(result), now_).ok());
    EXPECT_EQ(FindBrokenInvariant(scheduler_->state()), std::nullopt);
    return scheduler_->TakeEvents();
  }

  // Plans and delivers until nothing is left; all events.
  std::vector<TokenEvent> RunToEnd() {
    std::vector<TokenEvent> all;
    for (int i = 0; i < 10'000 && !(scheduler_->is_idle() && results_.empty()); ++i) {
      while (Plan().has_value()) {
      }
      if (results_.empty()) {
        ADD_FAILURE() << "stuck";
        break;
      }
      for (TokenEvent& event : Deliver()) all.push_back(std::move(event));
    }
    return all;
  }

  static std::vector<TokenId> TokensOf(const std::vector<TokenEvent>& events, RequestKey key,
                                       uint32_t choice_idx = 0) {
    std::vector<TokenId> tokens;
    for (const TokenEvent& event : events) {
      if (event.request != key || event.choice_idx != choice_idx) continue;
      for (const SampledToken& token : event.tokens) tokens.push_back(token.id);
    }
    return tokens;
  }

  static std::optional<Finish> FinishOf(const std::vector<TokenEvent>& events, RequestKey key,
                                        uint32_t choice_idx = 0) {
    for (const TokenEvent& event : events) {
      if (event.request == key && event.choice_idx == choice_idx && event.finish.has_value()) {
        return event.finish;
      }
    }
    return std::nullopt;
  }

  void Lose() {
    scheduler_->LoseEpoch(now_);
    results_.clear();
  }

  WorkerFacts facts_ = mili::testing::PuppetFacts();
  SchedulerOptions options_;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  Epoch epoch_;
  uint64_t last_key_ = 0;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<mili::testing::PuppetWorker> puppet_;
  std::deque<StepResult> results_;
};

}  // namespace mili::router::testing
