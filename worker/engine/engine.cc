#include "worker/engine/engine.h"

#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

namespace mili::worker {
namespace {

// A router keeps a handful of steps in flight; this many waiting is a broken peer.
constexpr size_t kMaxQueuedPlans = 256;

}  // namespace

Engine::Engine(Options options, Backend* backend)
    : options_(std::move(options)),
      backend_(backend),
      slots_(options_.limits),
      memory_(options_.limits.num_slots),
      last_end_(absl::Now()),
      messages_(kMaxQueuedPlans),
      deliveries_(0) {
  for (Staged& staged : staged_) {
    staged.batch.Reserve(options_.limits.num_slots, options_.limits.max_num_batched_tokens,
                         options_.limits.max_pages_per_seq());
  }
  tasks_.reserve(options_.limits.num_slots);
  task_rows_.reserve(options_.limits.num_slots);
  result_thread_ = std::thread([this] { ResultMain(); });
  engine_thread_ = std::thread([this] { EngineMain(); });
}

Engine::~Engine() {
  messages_.Close();
  engine_thread_.join();
  stream_.Synchronize();
  deliveries_.Close();
  result_thread_.join();
}

absl::Status Engine::Attach(Epoch epoch, std::shared_ptr<ResultSink> sink) {
  MutexLock lock(mutex_);
  if (!shutdown_reason_.ok()) return shutdown_reason_;
  if (open_epoch_ != Epoch()) {
    return absl::FailedPreconditionError(
        absl::StrCat("another router is attached (epoch ", open_epoch_.value, ")"));
  }
  if (epoch <= last_epoch_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "epoch is ", epoch.value, "; expected more than the last one, ", last_epoch_.value));
  }
  open_epoch_ = last_epoch_ = epoch;
  open_sink_ = sink;
  live_epoch_ = epoch.value;
  messages_.Post(Opened{epoch, std::move(sink)});
  return absl::OkStatus();
}

absl::Status Engine::Post(StepPlan plan) {
  MutexLock lock(mutex_);
  if (plan.epoch != open_epoch_ || plan.epoch == Epoch()) {
    return absl::FailedPreconditionError(absl::StrCat("plan is of epoch ", plan.epoch.value,
                                                      "; the open one is ", open_epoch_.value));
  }
  if (!messages_.TryPost(Message(std::move(plan)))) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", kMaxQueuedPlans, " plans wait to be computed"));
  }
  return absl::OkStatus();
}

void Engine::Detach(Epoch epoch) {
  MutexLock lock(mutex_);
  if (open_epoch_ != epoch || epoch == Epoch()) return;
  open_epoch_ = Epoch();
  open_sink_ = nullptr;
  live_epoch_ = 0;
  messages_.Post(Closed{});
}

void Engine::Shutdown(absl::Status reason) {
  std::shared_ptr<ResultSink> sink;
  {
    MutexLock lock(mutex_);
    shutdown_reason_ = reason;
    sink = open_sink_;
  }
  if (sink != nullptr) sink->OnRefused(std::move(reason));  // it may call Detach
}

Epoch Engine::last_epoch() const {
  MutexLock lock(mutex_);
  return last_epoch_;
}

void Engine::EngineMain() {
  while (std::optional<Message> message = messages_.Take()) {
    if (Opened* opened = std::get_if<Opened>(&*message)) {
      session_ = std::move(*opened);
      slots_.Clear();
    } else if (StepPlan* plan = std::get_if<StepPlan>(&*message)) {
      if (session_.sink != nullptr) Submit(std::move(*plan));
    } else {
      session_ = {};
      slots_.Clear();
    }
  }
  session_ = {};
}

void Engine::Submit(StepPlan plan) {
  Staged& staged = staged_[next_staged_];
  next_staged_ = (next_staged_ + 1) % staged_.size();
  staged.free.Wait();
  if (absl::Status status = slots_.Apply(std::move(plan), &staged.batch); !status.ok()) {
    session_.sink->OnRefused(std::move(status));
    session_.sink = nullptr;
    uint64_t refused = staged.batch.epoch.value;
    live_epoch_.compare_exchange_strong(refused, 0);  // unless a new one is open already
    return;
  }
  staged.free.Clear();
  staged.sink = session_.sink;
  stream_.Enqueue([this, &staged] { RunStep(staged); });
}

void Engine::RunStep(Staged& staged) {
  StepBatch& batch = staged.batch;
  if (live_epoch_.load() == batch.epoch.value) {
    StepResult result;
    result.epoch = batch.epoch;
    result.step_id = batch.step_id;
    const absl::Time start = absl::Now();
    result.idle = start - last_end_;
    Compute(batch, &result);
    last_end_ = absl::Now();
    result.compute = last_end_ - start;
    if (options_.on_step) {
      options_.on_step({result.compute, result.idle, batch.num_tokens(), batch.num_rows()});
    }
    deliveries_.Post({std::move(staged.sink), std::move(result)});
  }
  staged.sink = nullptr;
  staged.free.Set();
}

void Engine::Compute(StepBatch& batch, StepResult* result) {
  for (SlotReset& reset : batch.resets) memory_.Reset(std::move(reset));
  for (const uint32_t row : batch.fed_rows) {
    batch.token_ids[batch.cu_seqlens[row]] = memory_.last_token(batch.slots[row]);
  }
  tasks_.clear();
  task_rows_.clear();
  std::vector<RowResult>& rows = result->rows;
  rows.resize(batch.num_rows());
  for (uint32_t row = 0; row < batch.num_rows(); ++row) rows[row].slot = batch.slots[row];
  for (const SampleRow& sample : batch.samples) {
    const SlotId slot = batch.slots[sample.row_idx];
    if (!memory_.failure(slot).ok()) continue;
    tasks_.push_back(memory_.TaskOf(sample, slot));
    task_rows_.push_back(sample);
  }
  sampled_.assign(tasks_.size(), {});
  scored_.assign(batch.scores.size(), {});
  const absl::Status step_status = backend_->Execute(batch, tasks_, sampled_, scored_);

  for (size_t i = 0; i < scored_.size(); ++i) {
    RowResult& row = rows[batch.scores[i].row_idx];
    if (!step_status.ok()) scored_[i].status = step_status;
    if (scored_[i].status.ok()) {
      row.prompt_logprobs.push_back(std::move(scored_[i].token));
    } else if (row.status.ok()) {
      row.status = scored_[i].status;
      memory_.Record(row.slot, scored_[i]);
    }
  }
  for (size_t i = 0; i < sampled_.size(); ++i) {
    RowResult& row = rows[task_rows_[i].row_idx];
    if (!step_status.ok()) sampled_[i].status = step_status;
    memory_.Record(row.slot, sampled_[i]);
    if (sampled_[i].status.ok()) row.tokens.push_back(std::move(sampled_[i].token));
  }
  for (RowResult& row : rows) {
    if (!step_status.ok()) memory_.Record(row.slot, {step_status, {}});
    row.status = memory_.failure(row.slot);
    if (row.status.ok()) continue;
    row.tokens.clear();
    row.prompt_logprobs.clear();
  }
  std::erase_if(rows, [](const RowResult& row) {
    return row.tokens.empty() && row.prompt_logprobs.empty() && row.status.ok();
  });
}

void Engine::ResultMain() {
  while (std::optional<Delivery> delivery = deliveries_.Take()) {
    delivery->sink->OnResult(std::move(delivery->result));
  }
}

}  // namespace mili::worker
