#include "router/api/call.h"

#include <iterator>
#include <utility>

namespace mili::router {
namespace {

// Roughly what a delta takes on the wire, in either format.
size_t EstimateBytes(const ChoiceDelta& delta) {
  size_t bytes = 256 + delta.text.size();
  for (const OutputToken& token : delta.tokens) bytes += 64 + 64 * token.token.top.size();
  return bytes;
}

void Append(ChoiceDelta next, ChoiceDelta* to) {
  to->text += next.text;
  std::move(next.tokens.begin(), next.tokens.end(), std::back_inserter(to->tokens));
  to->end = std::move(next.end);
}

}  // namespace

Call::Call(ValidSpec spec, std::shared_ptr<const ServedModel> model, std::function<void()> wake)
    : spec_(std::move(spec)),
      model_(std::move(model)),
      prompts_(spec_.prompts.size()),
      wake_(std::move(wake)),
      waiting_(spec_.prompts.size() * spec_.num_choices) {}

Call::News Call::Take(size_t max_bytes) {
  MutexLock lock(mutex_);
  News news;
  news.started = started_;
  size_t bytes = 0;
  while (started_ && !order_.empty()) {
    std::unique_ptr<ChoiceDelta>& delta = waiting_[order_.front()];
    const size_t size = EstimateBytes(*delta);
    if (!news.deltas.empty() && bytes + size > max_bytes) return news;
    bytes += size;
    news.deltas.push_back(std::move(*delta));
    delta.reset();
    order_.pop_front();
  }
  news.done = finished_;
  news.status = status_;
  return news;
}

Call::Standing Call::standing() const {
  MutexLock lock(mutex_);
  return {started_, finished_, status_};
}

void Call::Detach() {
  MutexLock lock(mutex_);
  detached_ = true;
  wake_ = nullptr;
  order_.clear();
  for (auto& delta : waiting_) delta.reset();
}

bool Call::detached() const {
  MutexLock lock(mutex_);
  return detached_;
}

void Call::Start() {
  {
    MutexLock lock(mutex_);
    started_ = true;
  }
  Wake();
}

bool Call::Push(ChoiceDelta delta) {
  // An event may bring nothing to show: text held back, ids not asked for.
  if (delta.text.empty() && delta.tokens.empty() && !delta.end.has_value()) return false;
  {
    MutexLock lock(mutex_);
    if (detached_ || finished_) return false;
    const size_t idx = size_t{delta.prompt_idx} * spec_.num_choices + delta.choice_idx;
    if (waiting_[idx] != nullptr) {
      Append(std::move(delta), waiting_[idx].get());
    } else {
      waiting_[idx] = std::make_unique<ChoiceDelta>(std::move(delta));
      order_.push_back(idx);
    }
  }
  // Without a stream nobody looks before the end.
  return spec_.stream;
}

void Call::Finish(absl::Status status) {
  {
    MutexLock lock(mutex_);
    if (finished_) return;
    finished_ = true;
    started_ = started_ || status.ok();
    status_ = std::move(status);
  }
  Wake();
}

void Call::AddKey(RequestKey key) {
  MutexLock lock(mutex_);
  keys_.push_back(key);
}

std::vector<RequestKey> Call::keys() const {
  MutexLock lock(mutex_);
  return keys_;
}

void Call::Wake() const {
  std::function<void()> wake;
  {
    MutexLock lock(mutex_);
    wake = wake_;
  }
  if (wake) wake();
}

}  // namespace mili::router
