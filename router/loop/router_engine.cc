#include "router/loop/router_engine.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/check.h"
#include "common/base/mutex.h"
#include "router/loop/admission.h"
#include "router/loop/request_board.h"
#include "router/loop/scheduler_loop.h"
#include "router/sched/error_details.h"

namespace mili::router {

struct RouterEngine::State final : LoopNeighbours {
  State(EngineOptions engine_options, std::vector<std::unique_ptr<GroupClient>> clients,
        SchedulerProbe* probe, Clock* clock)
      : options(std::move(engine_options)),
        admission(std::make_shared<router::Admission>(
            AdmissionLimits{options.max_num_queued_reqs, options.max_num_queued_tokens}, clock)),
        board(clients.size()) {
    MILI_CHECK(!clients.empty(), "a router has a worker");
    LoopOptions loop_options;
    loop_options.scheduler = options.scheduler;
    loop_options.step_timeout = options.step_timeout;
    for (std::unique_ptr<GroupClient>& client : clients) {
      loops.push_back(std::make_unique<SchedulerLoop>(loops.size(), loop_options, std::move(client),
                                                      this, &board, probe, clock));
    }
  }

  absl::Status CheckModel(const WorkerFacts& facts) override {
    MutexLock lock(model_mutex);
    if (!model.has_value()) {
      model = facts;
      return absl::OkStatus();
    }
    if (model->model_digest == facts.model_digest &&
        model->tokenizer_digest == facts.tokenizer_digest &&
        model->vocab_size == facts.vocab_size) {
      return absl::OkStatus();
    }
    return absl::FailedPreconditionError(absl::StrCat(
        "the worker serves another model (", facts.model_name, ", digest ", facts.model_digest,
        ") than this router (", model->model_name, ", digest ", model->model_digest, ")"));
  }

  SchedulerLoop* FindReadyPeer(size_t group_idx) override {
    SchedulerLoop* best = nullptr;
    for (const auto& loop : loops) {
      if (loop->group_idx() == group_idx || !loop->is_ready()) continue;
      if (best == nullptr || Load(*loop) < Load(*best)) best = loop.get();
    }
    return best;
  }

  void OnReady(size_t group_idx) override {
    for (const auto& loop : loops) {
      if (loop->group_idx() != group_idx) loop->Post(PeerReadyEvent{});
    }
  }

  void Forward(size_t group_idx, RequestKey key, RouterEvent event) override {
    const std::optional<size_t> home = board.GroupOf(key);
    if (home.has_value() && *home != group_idx) loops[*home]->Post(std::move(event));
  }

  absl::Duration RetryAfter() override { return admission->RetryAfter(NumSlots()); }

  void Log(const std::string& line) override {
    if (options.log) options.log(line);
  }

  uint32_t NumSlots() const {
    return std::accumulate(loops.begin(), loops.end(), 0u,
                           [](uint32_t sum, const auto& loop) { return sum + loop->num_slots(); });
  }

  // Requests for each slot.
  double Load(const SchedulerLoop& loop) const {
    return board.num_active_at(loop.group_idx()) / static_cast<double>(loop.num_slots() + 1);
  }

  // Ready groups first, then those that may come back; each by load.
  std::vector<SchedulerLoop*> Candidates() const {
    std::vector<std::pair<std::pair<bool, double>, SchedulerLoop*>> ranked;
    for (const auto& loop : loops) {
      if (loop->num_slots() == 0) continue;  // never attached
      ranked.push_back({{!loop->is_ready(), Load(*loop)}, loop.get()});
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<SchedulerLoop*> candidates;
    for (const auto& [rank, loop] : ranked) candidates.push_back(loop);
    return candidates;
  }

  void PostTo(RequestKey key, RouterEvent event) {
    const std::optional<size_t> home = board.GroupOf(key);
    if (home.has_value()) loops[*home]->Post(std::move(event));
  }

  const EngineOptions options;
  const std::shared_ptr<router::Admission> admission;
  RequestBoard board;
  std::vector<std::unique_ptr<SchedulerLoop>> loops;
  bool is_running = false;  // written by Start and Stop alone
  Mutex model_mutex;
  std::optional<WorkerFacts> model MILI_GUARDED_BY(model_mutex);  // the first attached
};

RouterEngine::RouterEngine(EngineOptions options, std::vector<std::unique_ptr<GroupClient>> clients,
                           SchedulerProbe* probe, Clock* clock)
    : state_(std::make_unique<State>(std::move(options), std::move(clients), probe, clock)) {}

RouterEngine::~RouterEngine() { Stop(); }

void RouterEngine::Start() {
  state_->is_running = true;
  for (const auto& loop : state_->loops) loop->Start();
}

void RouterEngine::Stop() {
  state_->admission->Close(nullptr);
  if (!std::exchange(state_->is_running, false)) return;
  for (const auto& loop : state_->loops) loop->StopClient();
  for (const auto& loop : state_->loops) loop->Join();
  for (const auto& loop : state_->loops) loop->FailLeftovers();
}

Engine::Admission RouterEngine::Admit(uint64_t num_bytes, uint32_t num_choices) {
  Admission answer;
  if (state_->admission->is_closed()) {
    answer.refusal = {absl::UnavailableError("the server is shutting down"), absl::Seconds(1)};
  } else if (state_->NumSlots() == 0) {  // no worker was ever attached
    const std::string reason = state_->loops.front()->Snapshot().not_ready_reason;
    answer.refusal = {absl::UnavailableError(absl::StrCat("no worker is ready: ", reason)),
                      absl::Seconds(1)};
  } else {
    const uint32_t num_slots = state_->NumSlots();
    answer.ticket = state_->admission->TryTake(num_bytes, num_choices, num_slots);
    if (answer.ticket == nullptr) {
      answer.refusal = {absl::ResourceExhaustedError("the queue is full"),
                        state_->admission->RetryAfter(num_slots)};
    }
  }
  if (answer.ticket == nullptr) {
    answer.refusal.status = WithRetryDelay(answer.refusal.status, answer.refusal.retry_after);
  }
  return answer;
}

absl::Status RouterEngine::Submit(RequestPtr request, std::shared_ptr<TokenSink> sink) {
  if (request->prompt_token_ids.empty()) return absl::InvalidArgumentError("prompt: is empty");
  if (request->num_choices == 0) return absl::InvalidArgumentError("n: must be at least 1");
  absl::Status refusal =
      WithRetryDelay(absl::UnavailableError("no worker is ready"), absl::Seconds(1));
  for (SchedulerLoop* loop : state_->Candidates()) {
    const GroupSnapshot snapshot = loop->Snapshot();
    if (snapshot.facts == nullptr) continue;
    refusal = CheckFits(state_->options.scheduler, *snapshot.facts, *request);
    if (!refusal.ok()) continue;
    if (request->ticket != nullptr) {
      router::Admission::Weigh(*request->ticket, request->prompt_token_ids.size());
    }
    state_->board.Add(*request, loop->group_idx());
    if (loop->TryPost(SubmitEvent{request, sink})) return absl::OkStatus();
    state_->board.Remove(request->key);
    refusal =
        WithRetryDelay(absl::ResourceExhaustedError("the queue is full"), state_->RetryAfter());
  }
  return refusal;
}

void RouterEngine::Cancel(RequestKey key, absl::Status reason) {
  state_->PostTo(key, CancelEvent{key, std::move(reason)});
}

void RouterEngine::FinishChoice(RequestKey key, uint32_t choice_idx) {
  state_->PostTo(key, FinishChoiceEvent{key, choice_idx});
}

uint32_t RouterEngine::Abort(const std::vector<std::string>& request_ids) {
  uint32_t num_found = 0;
  for (const std::string& request_id : request_ids) {
    for (RequestKey key : state_->board.ActiveKeys(request_id)) {
      ++num_found;
      state_->PostTo(key, AbortEvent{key});
    }
  }
  return num_found;
}

std::optional<RequestStatus> RouterEngine::Find(const std::string& request_id) const {
  std::optional<RequestBoard::Entry> entry = state_->board.Find(request_id);
  if (!entry.has_value()) return std::nullopt;
  entry->status.queue_place = state_->loops[entry->group_idx]->QueuePlace(entry->key);
  return entry->status;
}

std::vector<GroupSnapshot> RouterEngine::Groups() const {
  std::vector<GroupSnapshot> snapshots;
  for (const auto& loop : state_->loops) snapshots.push_back(loop->Snapshot());
  return snapshots;
}

uint32_t RouterEngine::num_active_requests() const { return state_->board.num_active(); }

void RouterEngine::Drain(std::function<void()> on_drained) {
  state_->admission->Close(std::move(on_drained));
}

}  // namespace mili::router
