// StepWatch: since when the oldest step in flight has been unanswered, and whether that is too
// long. Belongs to one scheduler loop; pure, the time comes in.
//
// A step of n tokens may take limit x (1 + n / 128): a full prompt chunk on a slow processor is no
// sick worker. kPatience after that the loop gives the epoch up.
#pragma once

#include <cstdint>
#include <deque>

#include <absl/time/time.h>

namespace mili::router {

class StepWatch {
 public:
  static constexpr absl::Duration kPatience = absl::Seconds(15);

  explicit StepWatch(absl::Duration limit) : limit_(limit) {}

  void OnSent(uint32_t num_tokens, absl::Time now) {
    if (num_tokens_.empty()) oldest_since_ = now;
    num_tokens_.push_back(num_tokens);
  }
  // The oldest step was answered; the worker now computes the next.
  void OnAnswered(absl::Time now) {
    if (!num_tokens_.empty()) num_tokens_.pop_front();
    oldest_since_ = now;
  }
  void Clear() { num_tokens_.clear(); }

  bool IsOverdue(absl::Time now) const { return now >= overdue_at(); }
  bool IsHopeless(absl::Time now) const { return now >= overdue_at() + kPatience; }

  // When the answer to one of the two questions above changes next; infinite without a step.
  absl::Time next_change(absl::Time now) const {
    return IsOverdue(now) ? overdue_at() + kPatience : overdue_at();
  }

 private:
  absl::Time overdue_at() const {
    if (num_tokens_.empty()) return absl::InfiniteFuture();
    return oldest_since_ + limit_ * (1 + num_tokens_.front() / 128.0);
  }

  const absl::Duration limit_;
  absl::Time oldest_since_;
  std::deque<uint32_t> num_tokens_;  // of each step in flight, oldest first
};

}  // namespace mili::router
