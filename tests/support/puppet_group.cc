#include "tests/support/puppet_group.h"

#include <limits>
#include <utility>

namespace mili::router::testing {

PuppetGroup::PuppetGroup(WorkerFacts facts, bool is_dead, std::string address)
    : address_(std::move(address)),
      is_dead_at_start_(is_dead),
      commands_(std::numeric_limits<size_t>::max()),
      facts_(std::move(facts)) {}

PuppetGroup::~PuppetGroup() { Stop(); }

void PuppetGroup::Start(GroupListener* listener) {
  listener_ = listener;
  thread_ = std::thread([this] { Run(); });
}

void PuppetGroup::Send(StepPlan plan) { commands_.Post(std::move(plan)); }
void PuppetGroup::Abandon(absl::Status reason) { commands_.Post(Killed{std::move(reason), true}); }
void PuppetGroup::Kill() { commands_.Post(Killed{absl::UnavailableError("killed"), false}); }
void PuppetGroup::Revive() { commands_.Post(Revived{}); }
void PuppetGroup::Revive(WorkerFacts facts) { commands_.Post(Revived{std::move(facts)}); }
void PuppetGroup::HoldResults() { commands_.Post(Held{true}); }
void PuppetGroup::ReleaseResults() { commands_.Post(Held{false}); }

void PuppetGroup::ReadOn() {
  MutexLock lock(mutex_);
  if (++num_asked_ > num_told_) {
    complaints_.emplace_back("asked for the next result without having heard one");
  }
}

void PuppetGroup::Stop() {
  if (!thread_.joinable()) return;
  commands_.Post(Stopped{});
  thread_.join();
}

std::vector<std::string> PuppetGroup::complaints() const {
  MutexLock lock(mutex_);
  return complaints_;
}

void PuppetGroup::Run() {
  if (!is_dead_at_start_) Attach();
  while (!is_stopped_) {
    std::optional<Command> command = commands_.Take();
    if (!command.has_value()) return;
    std::visit([this](auto& c) { Do(std::move(c)); }, *command);
  }
}

void PuppetGroup::Attach() {
  ++epoch_.value;
  worker_ = std::make_unique<mili::testing::PuppetWorker>(facts_, epoch_);
  listener_->OnAttached(epoch_, facts_);
}

void PuppetGroup::Tell(StepResult result) {
  {
    MutexLock lock(mutex_);
    ++num_told_;
  }
  listener_->OnResult(std::move(result));
}

void PuppetGroup::Do(StepPlan plan) {
  if (worker_ == nullptr || plan.epoch != epoch_) return;
  absl::StatusOr<StepResult> result = worker_->Execute(plan);
  if (!result.ok()) {
    {
      MutexLock lock(mutex_);
      complaints_.emplace_back(result.status().message());
    }
    Do(Killed{result.status(), false});
    return;
  }
  if (holds_) {
    held_.push_back(*std::move(result));
  } else {
    Tell(*std::move(result));
  }
}

void PuppetGroup::Do(Killed command) {
  held_.clear();
  // Moved: the counts of a status that two threads share are invisible to ThreadSanitizer.
  if (std::exchange(worker_, nullptr) != nullptr) {
    listener_->OnLost(epoch_, std::move(command.reason));
  }
  if (command.attaches_again) Attach();
}

void PuppetGroup::Do(Revived command) {
  if (command.facts.has_value()) facts_ = *std::move(command.facts);
  if (worker_ == nullptr) Attach();
}

void PuppetGroup::Do(Held command) {
  holds_ = command.holds;
  while (!holds_ && !held_.empty()) {
    Tell(std::move(held_.front()));
    held_.pop_front();
  }
}

}  // namespace mili::router::testing
