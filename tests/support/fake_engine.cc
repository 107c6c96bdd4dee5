#include "tests/support/fake_engine.h"

#include <algorithm>
#include <utility>

namespace mili::router {
namespace {

class FakeTicket final : public Ticket {
 public:
  explicit FakeTicket(std::shared_ptr<std::atomic<size_t>> count) : count_(std::move(count)) {
    ++*count_;
  }
  ~FakeTicket() override { --*count_; }

 private:
  std::shared_ptr<std::atomic<size_t>> count_;
};

}  // namespace

FakeEngine::FakeEngine()
    : thread_([this] {
        while (auto job = jobs_.Take()) (*job)();
      }) {
  group.is_ready = true;
  group.has_produced_token = true;
}

FakeEngine::~FakeEngine() {
  jobs_.Close();
  thread_.join();
}

void FakeEngine::Deliver(TokenEvent event) {
  std::shared_ptr<TokenSink> sink;
  {
    MutexLock lock(mutex_);
    const auto it = live_.find(event.request);
    if (it == live_.end() || it->second.finished[event.choice_idx]) return;
    sink = it->second.sink;
    if (event.finish.has_value()) {
      it->second.finished[event.choice_idx] = true;
      const auto& all = it->second.finished;
      if (std::count(all.begin(), all.end(), false) == 0) live_.erase(it);
      changed_.NotifyAll();
    }
  }
  std::vector<TokenEvent> events;
  events.push_back(std::move(event));
  sink->OnTokens(std::move(events));
}

void FakeEngine::Send(TokenEvent event) {
  jobs_.Post([this, event = std::move(event)] { Deliver(event); });
}

void FakeEngine::Play(const RequestPtr& request) {
  const auto token_of = [&request](TokenId id) {
    SampledToken token{.id = id, .logprob = -0.5f, .rank = 1, .top = {}};
    const uint32_t top = request->sampling.num_logprobs.value_or(0);
    for (uint32_t i = 0; i < top; ++i) token.top.push_back({id + i, -0.5f - i});
    return token;
  };
  for (uint32_t choice = 0; choice < request->num_choices; ++choice) {
    TokenEvent last{.request = request->key, .choice_idx = choice};
    last.finish = Finish{.status = {}, .reason = FinishReason::kLength, .matched_token_id = {}};
    if (choice == 0 && request->sampling.num_prompt_logprobs.has_value()) {
      for (size_t i = 1; i < request->prompt_token_ids.size(); ++i) {
        last.prompt_logprobs.push_back(token_of(request->prompt_token_ids[i]));
      }
    }
    const uint32_t num_tokens =
        std::min<uint32_t>(request->max_tokens, static_cast<uint32_t>(script.size()));
    for (uint32_t i = 0; i < num_tokens; ++i) {
      TokenEvent event{.request = request->key, .choice_idx = choice};
      event.prompt_logprobs = std::exchange(last.prompt_logprobs, {});
      event.tokens.push_back(token_of(static_cast<unsigned char>(script[i])));
      Deliver(std::move(event));
    }
    Deliver(std::move(last));
  }
}

RequestPtr FakeEngine::WaitForRequest(size_t n) {
  MutexLock lock(mutex_);
  while (requests_.size() <= n) changed_.Wait(mutex_);
  return requests_[n];
}

std::vector<std::pair<RequestKey, absl::Status>> FakeEngine::WaitForCancels(size_t n) {
  MutexLock lock(mutex_);
  while (cancels_.size() < n) changed_.Wait(mutex_);
  return cancels_;
}

std::vector<std::pair<RequestKey, uint32_t>> FakeEngine::finished_choices() const {
  MutexLock lock(mutex_);
  return finished_choices_;
}

Engine::Admission FakeEngine::Admit(uint64_t, uint32_t) {
  if (!admit_refusal.ok()) return {nullptr, {admit_refusal, admit_retry_after}};
  return {std::make_unique<FakeTicket>(num_tickets_), {}};
}

absl::Status FakeEngine::Submit(RequestPtr request, std::shared_ptr<TokenSink> sink) {
  if (!submit_refusal.ok()) return submit_refusal;
  {
    MutexLock lock(mutex_);
    live_[request->key] = {std::move(sink), std::vector<bool>(request->num_choices, false)};
    requests_.push_back(request);
    changed_.NotifyAll();
  }
  if (!hold) jobs_.Post([this, request] { Play(request); });
  return absl::OkStatus();
}

void FakeEngine::EndAll(RequestKey key, const Finish& finish) {
  size_t num_choices = 0;
  {
    MutexLock lock(mutex_);
    const auto it = live_.find(key);
    if (it != live_.end()) num_choices = it->second.finished.size();
  }
  for (uint32_t i = 0; i < num_choices; ++i) {
    TokenEvent event{.request = key, .choice_idx = i};
    event.finish = finish;
    Send(std::move(event));
  }
}

void FakeEngine::Cancel(RequestKey key, absl::Status reason) {
  {
    MutexLock lock(mutex_);
    cancels_.emplace_back(key, reason);
    changed_.NotifyAll();
  }
  EndAll(key, {.status = std::move(reason), .reason = {}, .matched_token_id = {}});
}

void FakeEngine::FinishChoice(RequestKey key, uint32_t choice_idx) {
  {
    MutexLock lock(mutex_);
    finished_choices_.emplace_back(key, choice_idx);
  }
  TokenEvent event{.request = key, .choice_idx = choice_idx};
  event.finish = Finish{};
  Send(std::move(event));
}

uint32_t FakeEngine::Abort(const std::vector<std::string>& request_ids) {
  std::vector<RequestKey> keys;
  {
    MutexLock lock(mutex_);
    for (const RequestPtr& request : requests_) {
      const bool named = std::count(request_ids.begin(), request_ids.end(), request->request_id);
      if (named && live_.contains(request->key)) keys.push_back(request->key);
    }
  }
  for (const RequestKey key : keys) {
    EndAll(key, {.status = {}, .reason = FinishReason::kAbort, .matched_token_id = {}});
  }
  return static_cast<uint32_t>(keys.size());
}

std::optional<RequestStatus> FakeEngine::Find(const std::string& request_id) const {
  MutexLock lock(mutex_);
  for (const RequestPtr& request : requests_) {
    if (request->request_id != request_id) continue;
    RequestStatus status;
    status.state = live_.contains(request->key) ? RequestStatus::State::kRunning
                                                : RequestStatus::State::kFinished;
    status.num_prompt_tokens = static_cast<uint32_t>(request->prompt_token_ids.size());
    status.arrived = request->arrival;
    return status;
  }
  return std::nullopt;
}

std::vector<GroupSnapshot> FakeEngine::Groups() const { return {group}; }

uint32_t FakeEngine::num_active_requests() const {
  MutexLock lock(mutex_);
  return static_cast<uint32_t>(live_.size());
}

void FakeEngine::Drain(std::function<void()> on_drained) {
  admit_refusal = absl::UnavailableError("draining");
  on_drained();
}

}  // namespace mili::router
