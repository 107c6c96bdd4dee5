#include "router/loop/admission.h"

#include <algorithm>
#include <utility>

namespace mili::router {

class Admission::Place final : public Ticket {
 public:
  Place(std::shared_ptr<Admission> admission, uint64_t num_tokens, uint32_t num_choices)
      : admission_(std::move(admission)), num_tokens_(num_tokens), num_choices_(num_choices) {}
  ~Place() override { admission_->Return(num_tokens_, num_choices_); }

  void Weigh(uint64_t num_tokens) {
    MutexLock lock(admission_->mutex_);
    admission_->num_tokens_ += num_tokens - num_tokens_;  // modulo 2^64, as it must be
    num_tokens_ = num_tokens;
  }

 private:
  const std::shared_ptr<Admission> admission_;
  uint64_t num_tokens_;
  const uint32_t num_choices_;
};

std::unique_ptr<Ticket> Admission::TryTake(uint64_t num_bytes, uint32_t num_choices,
                                           uint32_t num_slots) {
  const uint64_t num_tokens = num_bytes / 4 + 1;
  {
    MutexLock lock(mutex_);
    if (is_closed_) return nullptr;
    const uint64_t max_num_seqs = uint64_t{limits_.max_num_queued_seqs} + num_slots;
    const uint64_t max_num_tokens = limits_.max_num_queued_tokens;
    if (num_tickets_ > 0) {
      if (num_seqs_ + num_choices > max_num_seqs) return nullptr;
      if (max_num_tokens > 0 && num_tokens_ + num_tokens > max_num_tokens) return nullptr;
    }
    ++num_tickets_;
    num_seqs_ += num_choices;
    num_tokens_ += num_tokens;
  }
  return std::make_unique<Place>(shared_from_this(), num_tokens, num_choices);
}

void Admission::Weigh(Ticket& ticket, uint64_t num_tokens) {
  if (auto* place = dynamic_cast<Place*>(&ticket); place != nullptr) place->Weigh(num_tokens);
}

void Admission::Return(uint64_t num_tokens, uint32_t num_choices) {
  std::vector<std::function<void()>> on_empty;
  {
    MutexLock lock(mutex_);
    --num_tickets_;
    num_seqs_ -= num_choices;
    num_tokens_ -= num_tokens;
    if (is_closed_) {
      if (num_tickets_ == 0) on_empty.swap(on_empty_);
    } else {
      const absl::Time now = clock_->Now();
      if (last_return_ != absl::InfinitePast()) {
        const absl::Duration interval = (now - last_return_) / std::max(num_choices, 1u);
        interval_ = interval_ * 0.9 + interval * 0.1;
      }
      last_return_ = now;
    }
  }
  for (const auto& call : on_empty) call();
}

absl::Duration Admission::RetryAfter(uint32_t num_slots) const {
  MutexLock lock(mutex_);
  const double num_queued = num_seqs_ > num_slots ? static_cast<double>(num_seqs_ - num_slots) : 0;
  return std::clamp(interval_ * num_queued, absl::Seconds(1), absl::Seconds(60));
}

void Admission::Close(std::function<void()> on_empty) {
  {
    MutexLock lock(mutex_);
    is_closed_ = true;
    if (num_tickets_ > 0) {
      if (on_empty) on_empty_.push_back(std::move(on_empty));
      return;
    }
  }
  if (on_empty) on_empty();
}

bool Admission::is_closed() const {
  MutexLock lock(mutex_);
  return is_closed_;
}

uint32_t Admission::num_tickets() const {
  MutexLock lock(mutex_);
  return num_tickets_;
}

}  // namespace mili::router
