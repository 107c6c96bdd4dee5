// EngineDriver: drives a worker's engine with random but sound plans: chunks of any size, any mix
// of rows, restarts from prompt + produced, two steps in flight. Whatever it does, a sequence's
// tokens must be the same. For tests; one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "common/base/mailbox.h"
#include "common/base/status_macros.h"
#include "worker/engine/engine.h"

namespace mili::worker {

struct DriverRequest {
  std::vector<TokenId> prompt;
  uint32_t max_tokens = 1;
  SamplingParams sampling;
};

struct DriverResult {
  std::vector<SampledToken> tokens;
  std::vector<SampledToken> prompt_logprobs;

  std::vector<TokenId> ids() const {
    std::vector<TokenId> ids;
    for (const SampledToken& token : tokens) ids.push_back(token.id);
    return ids;
  }
};

class EngineDriver {
 public:
  struct Options {
    uint64_t seed = 0;
    uint32_t max_chunk = UINT32_MAX;  // of a prompt; the size is drawn from 1 to this
    double skip_probability = 0;      // that a ready sequence sits a step out
    double restart_probability = 0;   // that a running one is preempted before a step
    uint32_t max_side_by_side = UINT32_MAX;
  };
  EngineDriver(Engine* engine, const SlotTable::Limits& limits, Options options)
      : engine_(engine), limits_(limits), options_(options), random_(options.seed) {
    for (uint32_t i = 0; i < limits.num_pages; ++i) free_pages_.push_back(PageId(i));
    for (uint32_t i = 0; i < limits.num_slots; ++i) free_slots_.push_back(SlotId(i));
    // Any page may follow any other.
    std::shuffle(free_pages_.begin(), free_pages_.end(), random_);
  }

  // All requests to their end; results in the order of the requests.
  absl::StatusOr<std::vector<DriverResult>> Run(const std::vector<DriverRequest>& requests) {
    epoch_ = Epoch(engine_->last_epoch().value + 1);
    MILI_RETURN_IF_ERROR(engine_->Attach(epoch_, inbox_));
    sequences_.clear();
    for (const DriverRequest& request : requests) {
      Sequence sequence;
      sequence.request = &request;
      sequence.known = request.prompt;
      sequences_.push_back(std::move(sequence));
    }
    absl::Status status = Loop();
    engine_->Detach(epoch_);
    MILI_RETURN_IF_ERROR(status);
    std::vector<DriverResult> results;
    for (Sequence& sequence : sequences_) results.push_back(std::move(sequence.result));
    return results;
  }

 private:
  struct Sequence {
    const DriverRequest* request = nullptr;
    DriverResult result;
    std::vector<TokenId> known;  // prompt + what was produced before the last start
    std::optional<SlotId> slot;
    std::vector<PageId> pages;
    uint32_t num_computed = 0;
    uint32_t num_planned = 0;  // tokens sampled or in flight since the last start
    uint32_t num_in_flight = 0;
    bool wants_restart = false;

    uint32_t left() const {
      return request->max_tokens - static_cast<uint32_t>(result.tokens.size());
    }
  };
  class Inbox final : public ResultSink {
   public:
    void OnResult(StepResult result) override { news.Post(std::move(result)); }
    void OnRefused(absl::Status status) override { news.Post(std::move(status)); }
    Mailbox<absl::StatusOr<StepResult>> news{0};
  };

  bool Chance(double probability) {
    return probability > 0 && std::uniform_real_distribution<>()(random_) < probability;
  }

  absl::Status Loop() {
    uint64_t step_id = 0;
    uint32_t in_flight = 0;
    for (;;) {
      StepPlan plan;
      plan.epoch = epoch_;
      Fill(&plan);
      const bool is_empty = plan.step.empty() && plan.release.empty();
      if (!is_empty) {
        plan.step_id = StepId(++step_id);
        for (const SeqStep& step : plan.step) by_slot(step.slot).num_in_flight++;
        planned_.push_back(plan.step);
        MILI_RETURN_IF_ERROR(engine_->Post(std::move(plan)));
        ++in_flight;
      }
      if (in_flight == 0 && std::all_of(sequences_.begin(), sequences_.end(),
                                        [](auto& s) { return s.left() == 0 && !s.slot; })) {
        return absl::OkStatus();
      }
      if (in_flight == 2 || (is_empty && in_flight > 0)) {
        MILI_RETURN_IF_ERROR(Take());
        --in_flight;
      }
    }
  }

  Sequence& by_slot(SlotId slot) {
    return *std::find_if(sequences_.begin(), sequences_.end(),
                         [&](auto& s) { return s.slot && *s.slot == slot; });
  }

  void Fill(StepPlan* plan) {
    uint32_t budget = limits_.max_num_batched_tokens;
    uint32_t running = 0;
    for (Sequence& s : sequences_) running += s.slot ? 1 : 0;
    for (Sequence& s : sequences_) {
      if (s.slot && s.num_in_flight == 0 && (s.left() == 0 || s.wants_restart)) Release(s, plan);
    }
    for (Sequence& s : sequences_) {
      if (budget == 0) break;
      if (!s.slot) {
        if (s.left() == 0 || free_slots_.empty() || running >= options_.max_side_by_side) continue;
        if (free_pages_.size() < limits_.max_pages_per_seq()) continue;
        Start(s, plan);
        ++running;
      }
      if (s.wants_restart || Chance(options_.skip_probability)) continue;
      if (s.num_computed > 0 && Chance(options_.restart_probability)) {
        s.wants_restart = true;
        continue;
      }
      Step(s, plan, &budget);
    }
  }

  void Release(Sequence& s, StepPlan* plan) {
    plan->release.push_back(*s.slot);
    free_slots_.push_back(*s.slot);
    free_pages_.insert(free_pages_.begin(), s.pages.begin(), s.pages.end());
    s.slot.reset();
    s.pages.clear();
    s.wants_restart = false;
    s.known = s.request->prompt;
    for (const SampledToken& token : s.result.tokens) s.known.push_back(token.id);
  }

  void Start(Sequence& s, StepPlan* plan) {
    SeqStart start;
    start.slot = free_slots_.back();
    free_slots_.pop_back();
    start.token_ids = s.known;
    start.num_prompt_tokens = static_cast<uint32_t>(s.request->prompt.size());
    start.sampling = s.request->sampling;
    s.slot = start.slot;
    s.num_computed = 0;
    s.num_planned = 0;
    // Some pages now, the rest as it grows.
    TakePages(s, 1 + static_cast<uint32_t>(random_() % 2), &start.pages);
    s.result.prompt_logprobs.clear();  // scored again
    plan->start.push_back(std::move(start));
  }

  void TakePages(Sequence& s, uint32_t count, std::vector<PageId>* to) {
    for (; count > 0 && s.pages.size() < limits_.max_pages_per_seq(); --count) {
      to->push_back(free_pages_.back());
      s.pages.push_back(free_pages_.back());
      free_pages_.pop_back();
    }
  }

  void Step(Sequence& s, StepPlan* plan, uint32_t* budget) {
    SeqStep step;
    step.slot = *s.slot;
    const uint32_t num_known = static_cast<uint32_t>(s.known.size());
    if (s.num_computed < num_known) {
      const uint32_t left = num_known - s.num_computed;
      const uint32_t most = std::min({left, *budget, options_.max_chunk});
      step.num_tokens =
          options_.max_chunk == UINT32_MAX ? most : 1 + static_cast<uint32_t>(random_() % most);
      step.sample = step.num_tokens == left;
    } else {
      // What is in flight counts: the end by max_tokens is known ahead.
      const uint32_t produced = static_cast<uint32_t>(num_known - s.request->prompt.size());
      if (produced + s.num_planned >= s.request->max_tokens) return;
      step.source = TokenSource::kLastSampled;
      step.sample = true;
    }
    const uint32_t end = s.num_computed + step.num_tokens;
    while (s.pages.size() * limits_.page_size_tokens < end) TakePages(s, 1, &step.new_pages);
    s.num_computed = end;
    s.num_planned += step.sample ? 1 : 0;
    *budget -= step.num_tokens;
    plan->step.push_back(std::move(step));
  }

  absl::Status Take() {
    absl::StatusOr<StepResult> result = *inbox_->news.Take();
    MILI_RETURN_IF_ERROR(result.status());
    for (RowResult& row : result->rows) {
      MILI_RETURN_IF_ERROR(row.status);
      Sequence& s = by_slot(row.slot);
      for (SampledToken& token : row.tokens) s.result.tokens.push_back(std::move(token));
      for (SampledToken& token : row.prompt_logprobs) {
        s.result.prompt_logprobs.push_back(std::move(token));
      }
    }
    for (const SeqStep& step : planned_.front()) by_slot(step.slot).num_in_flight--;
    planned_.erase(planned_.begin());
    return absl::OkStatus();
  }

  Engine* const engine_;
  const SlotTable::Limits limits_;
  const Options options_;
  std::mt19937_64 random_;
  const std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  Epoch epoch_;
  std::vector<Sequence> sequences_;
  std::vector<PageId> free_pages_;
  std::vector<SlotId> free_slots_;
  std::vector<std::vector<SeqStep>> planned_;
};

}  // namespace mili::worker
