#include "worker/engine/engine.h"

#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "worker/device/cpu_topology.h"
#include "worker/engine/cpu_runner.h"

namespace mili::worker {
namespace {

// A router keeps a handful of steps in flight; this many waiting is a broken peer.
constexpr size_t kMaxQueuedPlans = 256;

}  // namespace

Engine::Engine(Options options, Backend* backend)
    : Engine(options, std::make_unique<CpuRunner>(backend, options.limits.num_slots)) {}

Engine::Engine(Options options, std::unique_ptr<StepRunner> runner)
    : options_(std::move(options)),
      runner_(std::move(runner)),
      slots_(options_.limits),
      messages_(kMaxQueuedPlans),
      launched_(0) {
  for (uint32_t i = 0; i < staged_.size(); ++i) {
    staged_[i].step.index = i;
    staged_[i].step.batch.Reserve(options_.limits.num_slots, options_.limits.max_num_batched_tokens,
                                  options_.limits.max_pages_per_seq());
  }
  result_thread_ = std::thread([this] { ResultMain(); });
  engine_thread_ = std::thread([this] { EngineMain(); });
}

Engine::~Engine() {
  messages_.Close();
  engine_thread_.join();
  launched_.Close();
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
  if (options_.executor_cpu.has_value()) KeepOff(*options_.executor_cpu);
  while (std::optional<Message> message = NextMessage()) {
    if (Opened* opened = std::get_if<Opened>(&*message)) {
      session_ = std::move(*opened);
      slots_.Clear();
    } else if (StepPlan* plan = std::get_if<StepPlan>(&*message)) {
      if (session_.sink != nullptr) Submit(std::move(*plan));
    } else if (std::holds_alternative<Closed>(*message)) {
      session_ = {};
      slots_.Clear();
    }
  }
  session_ = {};
}

std::optional<Engine::Message> Engine::NextMessage() {
  absl::Time deadline = absl::Now() + options_.quiet_time;
  while (prepares_ahead_ && num_in_flight_ == 0) {
    if (std::optional<Message> message = messages_.Take(deadline)) return message;
    if (messages_.closed()) break;
    prepares_ahead_ = runner_->PrepareAhead();
    deadline = absl::InfinitePast();
  }
  return messages_.Take();
}

void Engine::Submit(StepPlan plan) {
  Staged& staged = staged_[next_staged_];
  next_staged_ = (next_staged_ + 1) % staged_.size();
  staged.free.Wait();
  if (absl::Status status = slots_.Apply(std::move(plan), &staged.step.batch); !status.ok()) {
    session_.sink->OnRefused(std::move(status));
    session_.sink = nullptr;
    uint64_t refused = staged.step.batch.epoch.value;
    live_epoch_.compare_exchange_strong(refused, 0);  // unless a new one is open already
    return;
  }
  staged.free.Clear();
  staged.sink = session_.sink;
  ++num_in_flight_;
  runner_->Launch(staged.step, live_epoch_);
  launched_.Post(&staged);
}

void Engine::ResultMain() {
  if (options_.executor_cpu.has_value()) KeepOff(*options_.executor_cpu);
  bool is_lost = false;
  while (std::optional<Staged*> next = launched_.Take()) {
    Staged& staged = **next;
    const StepBatch& batch = staged.step.batch;
    const absl::Status device = runner_->Finish(staged.step);
    const StepStats stats = {staged.step.result.compute, staged.step.result.idle,
                             batch.num_tokens(), batch.num_rows()};
    const bool is_computed = staged.step.is_computed;
    StepResult result = std::move(staged.step.result);
    const std::shared_ptr<ResultSink> sink = std::move(staged.sink);
    staged.free.Set();
    if (--num_in_flight_ == 0 && prepares_ahead_) messages_.Post(Idle{});
    if (!device.ok() && !is_lost) {
      is_lost = true;
      if (options_.on_device_lost) options_.on_device_lost(device);
      Shutdown(device);
    } else if (device.ok() && is_computed) {
      if (options_.on_step) options_.on_step(stats);
      sink->OnResult(std::move(result));
    }
  }
}

}  // namespace mili::worker
