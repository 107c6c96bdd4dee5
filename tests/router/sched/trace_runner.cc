#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>

#include <absl/strings/str_cat.h>

#include "router/sched/scheduler.h"
#include "tests/router/sched/invariants.h"
#include "tests/router/sched/trace.h"
#include "tests/support/puppet_worker.h"

namespace mili::router::testing {
namespace {

using mili::testing::PuppetStream;
using mili::testing::PuppetWorker;
using Failure = std::optional<std::string>;

constexpr uint32_t kNumStopIds = 3;

// What was promised of a choice, and what came.
struct ChoiceLog {
  PuppetStream expected;
  size_t num_tokens = 0;
  size_t num_prompt_logprobs = 0;
  bool is_finished = false;
  bool is_disturbed = false;  // its end was asked for, or failed
};

struct RequestLog {
  RequestPtr request;
  std::vector<ChoiceLog> choices;
};

class Runner {
 public:
  explicit Runner(const Trace& trace)
      : trace_(trace), scheduler_(std::make_unique<Scheduler>(trace.options)) {}

  Failure Do(const Op& op) {
    switch (op.kind) {
      case OpKind::kSubmit:
        return Submit(op);
      case OpKind::kPlan:
        return Plan();
      case OpKind::kDeliver:
        return Deliver(std::nullopt);
      case OpKind::kFailRow:
        return Deliver(op.a);
      case OpKind::kCancel:
      case OpKind::kFinishChoice:
      case OpKind::kAbort:
        return EndSome(op);
      case OpKind::kLose:
        Lose();
        return std::nullopt;
      case OpKind::kOpen:
        Open();
        return std::nullopt;
      case OpKind::kMove:
        Move();
        return std::nullopt;
      case OpKind::kExpire:
        now_ += absl::Milliseconds(op.a % 400);
        scheduler_->Expire(now_, absl::Seconds(1));
        return std::nullopt;
    }
    return "no such op";
  }

  // Events in order against the promises, then the invariants.
  Failure Check() {
    for (const TokenEvent& event : scheduler_->TakeEvents()) {
      if (Failure f = CheckEvent(event); f.has_value()) return f;
    }
    if (Failure f = FindBrokenInvariant(scheduler_->state()); f.has_value()) return f;
    return std::nullopt;
  }

  // Everybody left must come to an end in a bounded number of steps, leaving nothing behind.
  Failure RunToEnd() {
    Open();
    if (Failure f = Check(); f.has_value()) return f;
    size_t num_left = 200 * (live_.size() + 1) * 8;
    while (!scheduler_->is_idle()) {
      if (num_left-- == 0) return "no progress: requests are left that never end";
      if (Failure f = Plan(); f.has_value()) return f;
      if (Failure f = Check(); f.has_value()) return f;
      if (results_.empty()) return "stuck: requests are left, but there is nothing to compute";
      if (Failure f = Deliver(std::nullopt); f.has_value()) return f;
      if (Failure f = Check(); f.has_value()) return f;
    }
    while (!results_.empty()) {
      if (Failure f = Deliver(std::nullopt); f.has_value()) return f;
    }
    if (!live_.empty()) return "a choice never finished";
    const SchedulerState& state = scheduler_->state();
    if (state.pool->num_free() != state.pool->num_total()) return "drained, but pages are held";
    if (state.free_slots.size() != state.num_slots_total()) return "drained, but slots are held";
    if (!state.deadlines.empty()) return "drained, but deadlines are left";
    return Check();
  }

  TraceStats stats() const {
    TraceStats stats = stats_;
    stats.num_preemptions += scheduler_->state().num_preemptions;
    return stats;
  }

 private:
  Failure Submit(const Op& op) {
    std::minstd_rand random(op.a + 1);
    const auto draw = [&](uint32_t below) { return static_cast<uint32_t>(random() % below); };
    auto request = std::make_shared<Request>();
    request->key = RequestKey(++last_key_);
    request->arrival = now_;
    const uint32_t num_prompt = 1 + draw(draw(4) == 0 ? 40 : 10);
    for (uint32_t i = 0; i < num_prompt; ++i) {
      request->prompt_token_ids.push_back(draw(trace_.facts.vocab_size));
    }
    request->max_tokens = draw(8) == 0 ? 0 : 1 + draw(24);
    request->num_choices = draw(4) == 0 ? 1 + draw(3) : 1;
    request->priority = static_cast<int32_t>(draw(3)) - 1;
    request->sampling.seed = op.b;
    if (draw(2) == 0) {
      for (uint32_t i = 0; i < kNumStopIds; ++i) request->stop_token_ids.push_back(i);
      request->sampling.min_tokens = draw(4);
      request->sampling.banned_token_ids = request->stop_token_ids;
    }
    if (request->max_tokens == 0 || draw(6) == 0) request->sampling.num_prompt_logprobs = 0;
    if (draw(4) == 0) request->deadline = now_ + absl::Milliseconds(draw(3000));
    if (draw(4) == 0) request->queue_deadline = now_ + absl::Milliseconds(draw(1000));
    RequestLog log{request, {}};
    for (uint32_t i = 0; i < request->num_choices; ++i) {
      log.choices.emplace_back();
      log.choices.back().expected =
          mili::testing::UndisturbedStream(*request, i, trace_.facts.vocab_size);
    }
    live_.emplace(request->key, std::move(log));
    const absl::Status status = scheduler_->Add(request);
    if (!status.ok()) live_.erase(request->key);
    return std::nullopt;
  }

  Failure Plan() {
    std::optional<StepPlan> plan = scheduler_->Next(now_);
    if (!plan.has_value()) return std::nullopt;
    ++stats_.num_steps;
    if (Failure f = CheckPagesAreFresh(*plan); f.has_value()) return f;
    absl::StatusOr<StepResult> result = puppet_->Execute(*plan);
    if (!result.ok()) return absl::StrCat("the worker refused: ", result.status().message());
    results_.push_back(*std::move(result));
    return std::nullopt;
  }

  // No plan may hand out a page that an unanswered step names.
  Failure CheckPagesAreFresh(const StepPlan& plan) {
    for (SlotId slot : plan.release) tables_.erase(slot);
    std::set<PageId> taken;
    for (const SeqStart& start : plan.start) {
      taken.insert(start.pages.begin(), start.pages.end());
      tables_[start.slot].insert(start.pages.begin(), start.pages.end());
    }
    for (const SeqStep& step : plan.step) {
      taken.insert(step.new_pages.begin(), step.new_pages.end());
      tables_[step.slot].insert(step.new_pages.begin(), step.new_pages.end());
    }
    for (const auto& [id, named] : named_) {
      for (PageId page : taken) {
        if (named.count(page) > 0) {
          return absl::StrCat("page ", page.value, " goes to a sequence while step ", id.value,
                              " names it");
        }
      }
    }
    std::set<PageId>& named = named_[plan.step_id];
    for (const SeqStep& step : plan.step) {
      named.insert(tables_[step.slot].begin(), tables_[step.slot].end());
    }
    return std::nullopt;
  }

  Failure Deliver(std::optional<uint32_t> failed_row) {
    if (results_.empty()) return std::nullopt;
    StepResult result = std::move(results_.front());
    results_.pop_front();
    named_.erase(result.step_id);
    if (failed_row.has_value() && !result.rows.empty()) {
      RowResult& row = result.rows[*failed_row % result.rows.size()];
      row.tokens.clear();
      row.prompt_logprobs.clear();
      row.status = absl::InternalError("logits are NaN");
    }
    const absl::Status status = scheduler_->Apply(std::move(result), now_);
    if (!status.ok()) return absl::StrCat("the result was refused: ", status.message());
    return std::nullopt;
  }

  Failure EndSome(const Op& op) {
    if (live_.empty()) return std::nullopt;
    auto it = live_.begin();
    std::advance(it, op.a % live_.size());
    RequestLog& log = it->second;
    const uint32_t choice_idx = op.b % log.request->num_choices;
    for (ChoiceLog& choice : log.choices) {
      const bool is_meant = op.kind != OpKind::kFinishChoice || &choice == &log.choices[choice_idx];
      if (is_meant) choice.is_disturbed = true;
    }
    const RequestKey key = it->first;
    bool found = true;
    if (op.kind == OpKind::kCancel) found = scheduler_->Cancel(key, absl::CancelledError("gone"));
    if (op.kind == OpKind::kAbort) found = scheduler_->Abort(key);
    if (op.kind == OpKind::kFinishChoice) found = scheduler_->FinishChoice(key, choice_idx);
    if (!found) return "a live request is unknown";
    return std::nullopt;
  }

  void Lose() {
    scheduler_->LoseEpoch(now_);
    results_.clear();
    named_.clear();
    tables_.clear();
  }

  void Open() {
    if (scheduler_->state().is_open()) return;
    ++epoch_.value;
    puppet_ = std::make_unique<PuppetWorker>(trace_.facts, epoch_);
    scheduler_->OpenEpoch(epoch_, trace_.facts);
  }

  void Move() {
    if (scheduler_->state().is_open()) return;
    auto next = std::make_unique<Scheduler>(trace_.options);
    for (auto& record : scheduler_->TakeRequests()) next->Adopt(std::move(record));
    stats_.num_preemptions += scheduler_->state().num_preemptions;
    scheduler_ = std::move(next);
  }

  Failure CheckEvent(const TokenEvent& event) {
    const auto it = live_.find(event.request);
    if (it == live_.end()) return "news of a request that has ended";
    RequestLog& log = it->second;
    if (event.choice_idx >= log.choices.size()) return "news of a choice that does not exist";
    ChoiceLog& choice = log.choices[event.choice_idx];
    if (choice.is_finished) return "news of a choice that has finished";
    if (Failure f = CheckPromptLogprobs(event, *log.request, choice); f.has_value()) return f;
    for (const SampledToken& token : event.tokens) {
      if (choice.num_tokens >= choice.expected.tokens.size()) return "more tokens than promised";
      if (token.id != choice.expected.tokens[choice.num_tokens]) {
        return absl::StrCat("request ", event.request.value, ": token ", choice.num_tokens, " is ",
                            token.id, ", undisturbed ", choice.expected.tokens[choice.num_tokens]);
      }
      ++choice.num_tokens;
      ++stats_.num_tokens;
    }
    if (!event.finish.has_value()) return std::nullopt;
    choice.is_finished = true;
    if (Failure f = CheckFinish(event, log, choice); f.has_value()) return f;
    const bool all = std::all_of(log.choices.begin(), log.choices.end(),
                                 [](const ChoiceLog& c) { return c.is_finished; });
    if (all) live_.erase(it);
    return std::nullopt;
  }

  Failure CheckPromptLogprobs(const TokenEvent& event, const Request& request, ChoiceLog& choice) {
    if (event.prompt_logprobs.empty()) return std::nullopt;
    if (event.choice_idx != 0) return "prompt logprobs of another choice than the first";
    if (choice.num_tokens > 0) return "prompt logprobs after a token";
    for (const SampledToken& scored : event.prompt_logprobs) {
      const size_t position = ++choice.num_prompt_logprobs;
      if (position >= request.prompt_token_ids.size()) return "too many prompt logprobs";
      uint64_t digest = mili::testing::kEmptyDigest;
      for (size_t i = 0; i < position; ++i) {
        digest = mili::testing::ExtendDigest(digest, request.prompt_token_ids[i]);
      }
      const TokenId id = request.prompt_token_ids[position];
      if (scored.id != id || scored.logprob != mili::testing::PuppetPromptLogprob(digest, id)) {
        return absl::StrCat("prompt logprob of position ", position, " is another's");
      }
    }
    return std::nullopt;
  }

  Failure CheckFinish(const TokenEvent& event, const RequestLog& log, const ChoiceLog& choice) {
    const Finish& finish = *event.finish;
    ++stats_.num_finished;
    if (!finish.status.ok()) {
      if (absl::IsDeadlineExceeded(finish.status) || absl::IsUnavailable(finish.status)) {
        ++stats_.num_expired;
        return std::nullopt;
      }
      if (finish.status.message() == "logits are NaN") return std::nullopt;
      if (absl::IsInternal(finish.status)) {
        ++stats_.num_lost_twice;
        return std::nullopt;
      }
      if (absl::IsInvalidArgument(finish.status) && !Fits(*log.request)) return std::nullopt;
      if (absl::IsCancelled(finish.status) && choice.is_disturbed) return std::nullopt;
      return absl::StrCat("failed for no reason: ", finish.status.ToString());
    }
    if (choice.is_disturbed) return std::nullopt;
    if (choice.num_tokens != choice.expected.tokens.size()) return "ended before its end";
    if (finish.reason != choice.expected.reason) return "ended for another reason";
    const bool is_scored = log.request->sampling.num_prompt_logprobs.has_value();
    if (event.choice_idx == 0 && is_scored &&
        choice.num_prompt_logprobs + 1 != log.request->prompt_token_ids.size()) {
      return "ended without all its prompt logprobs";
    }
    return std::nullopt;
  }

  // A request that came while no epoch was open is measured when one opens.
  bool Fits(const Request& request) const {
    const size_t num_tokens = request.prompt_token_ids.size() + request.max_tokens;
    return num_tokens <= trace_.facts.max_model_len &&
           num_tokens - 1 <= size_t{trace_.facts.num_pages} * trace_.facts.page_size_tokens;
  }

  const Trace& trace_;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  Epoch epoch_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<PuppetWorker> puppet_;
  std::deque<StepResult> results_;
  std::map<SlotId, std::set<PageId>> tables_;
  std::map<StepId, std::set<PageId>> named_;  // by steps not answered
  std::map<RequestKey, RequestLog> live_;
  uint64_t last_key_ = 0;
  TraceStats stats_;
};

}  // namespace

std::optional<std::string> RunTrace(const Trace& trace, TraceStats* stats) {
  Runner runner(trace);
  const auto at = [](const std::string& where, const std::string& what) {
    return absl::StrCat(where, ": ", what);
  };
  for (size_t i = 0; i < trace.ops.size(); ++i) {
    Failure failure = runner.Do(trace.ops[i]);
    if (!failure.has_value()) failure = runner.Check();
    if (failure.has_value()) return at(absl::StrCat("op ", i), *failure);
  }
  if (Failure failure = runner.RunToEnd(); failure.has_value()) return at("at the end", *failure);
  if (stats != nullptr) *stats = runner.stats();
  return std::nullopt;
}

}  // namespace mili::router::testing
