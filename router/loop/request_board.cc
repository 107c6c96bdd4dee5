#include "router/loop/request_board.h"

#include <numeric>

namespace mili::router {
namespace {

constexpr absl::Duration kKeptAfterEnd = absl::Minutes(1);
constexpr size_t kMaxKept = 10'000;

RequestStatus::State StateOf(RequestProgress::State state) {
  switch (state) {
    case RequestProgress::State::kWaiting:
      return RequestStatus::State::kWaiting;
    case RequestProgress::State::kRunning:
      return RequestStatus::State::kRunning;
    case RequestProgress::State::kRestarting:
      return RequestStatus::State::kRestarting;
    case RequestProgress::State::kFinished:
      return RequestStatus::State::kFinished;
  }
  return RequestStatus::State::kWaiting;
}

bool IsFinished(const RequestStatus& status) { return status.finished.has_value(); }

}  // namespace

void RequestBoard::Add(const Request& request, size_t group_idx) {
  Row row;
  row.request_id = request.request_id;
  row.group_idx = group_idx;
  row.status.num_prompt_tokens = static_cast<uint32_t>(request.prompt_token_ids.size());
  row.status.arrived = request.arrival;
  MutexLock lock(mutex_);
  keys_.emplace(row.request_id, request.key);
  rows_.insert_or_assign(request.key, std::move(row));
  ++num_active_by_group_[group_idx];
}

void RequestBoard::Remove(RequestKey key) {
  MutexLock lock(mutex_);
  const auto it = rows_.find(key);
  if (it == rows_.end() || IsFinished(it->second.status)) return;
  --num_active_by_group_[it->second.group_idx];
  Forget(key);
}

void RequestBoard::SetGroup(RequestKey key, size_t group_idx) {
  MutexLock lock(mutex_);
  const auto it = rows_.find(key);
  if (it == rows_.end() || IsFinished(it->second.status)) return;
  --num_active_by_group_[it->second.group_idx];
  it->second.group_idx = group_idx;
  ++num_active_by_group_[group_idx];
}

void RequestBoard::Update(const std::vector<RequestProgress>& news) {
  if (news.empty()) return;
  MutexLock lock(mutex_);
  for (const RequestProgress& progress : news) {
    const auto it = rows_.find(progress.key);
    if (it == rows_.end() || IsFinished(it->second.status)) continue;
    RequestStatus& status = it->second.status;
    status.state = StateOf(progress.state);
    status.num_output_tokens = progress.num_output_tokens;
    status.num_preemptions = progress.num_preemptions;
    status.num_lost_batches = progress.num_lost_batches;
    status.started = progress.started;
    status.first_token = progress.first_token;
  }
}

void RequestBoard::Finish(const std::vector<std::pair<RequestKey, std::string>>& outcomes,
                          absl::Time now) {
  if (outcomes.empty()) return;
  MutexLock lock(mutex_);
  for (const auto& [key, outcome] : outcomes) {
    const auto it = rows_.find(key);
    if (it == rows_.end() || IsFinished(it->second.status)) continue;
    it->second.status.state = RequestStatus::State::kFinished;
    it->second.status.finished = now;
    it->second.status.outcome = outcome;
    --num_active_by_group_[it->second.group_idx];
    finished_.emplace_back(now, key);
  }
  while (!finished_.empty() &&
         (finished_.size() > kMaxKept || finished_.front().first + kKeptAfterEnd < now)) {
    Forget(finished_.front().second);
    finished_.pop_front();
  }
}

void RequestBoard::Forget(RequestKey key) {
  const auto it = rows_.find(key);
  if (it == rows_.end()) return;
  const auto [begin, end] = keys_.equal_range(it->second.request_id);
  for (auto entry = begin; entry != end; ++entry) {
    if (entry->second == key) {
      keys_.erase(entry);
      break;
    }
  }
  rows_.erase(it);
}

std::optional<RequestBoard::Entry> RequestBoard::Find(const std::string& request_id) const {
  MutexLock lock(mutex_);
  std::optional<RequestKey> newest;
  const auto [begin, end] = keys_.equal_range(request_id);
  for (auto it = begin; it != end; ++it) {
    if (!newest.has_value() || *newest < it->second) newest = it->second;
  }
  if (!newest.has_value()) return std::nullopt;
  const Row& row = rows_.at(*newest);
  return Entry{*newest, row.group_idx, row.status};
}

std::vector<RequestKey> RequestBoard::ActiveKeys(const std::string& request_id) const {
  MutexLock lock(mutex_);
  std::vector<RequestKey> keys;
  const auto [begin, end] = keys_.equal_range(request_id);
  for (auto it = begin; it != end; ++it) {
    if (!IsFinished(rows_.at(it->second).status)) keys.push_back(it->second);
  }
  return keys;
}

std::optional<size_t> RequestBoard::GroupOf(RequestKey key) const {
  MutexLock lock(mutex_);
  const auto it = rows_.find(key);
  if (it == rows_.end() || IsFinished(it->second.status)) return std::nullopt;
  return it->second.group_idx;
}

uint32_t RequestBoard::num_active() const {
  MutexLock lock(mutex_);
  return std::accumulate(num_active_by_group_.begin(), num_active_by_group_.end(), 0u);
}

uint32_t RequestBoard::num_active_at(size_t group_idx) const {
  MutexLock lock(mutex_);
  return num_active_by_group_[group_idx];
}

}  // namespace mili::router
