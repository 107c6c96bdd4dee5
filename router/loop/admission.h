// Admission: the places behind the door. Thread-safe. A ticket may outlive the engine, so tickets
// share the ledger.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <absl/time/time.h>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/core/request.h"

namespace mili::router {

struct AdmissionLimits {
  uint32_t max_num_queued_seqs = 1024;
  uint64_t max_num_queued_tokens = 0;  // 0: no limit
};

class Admission : public std::enable_shared_from_this<Admission> {
 public:
  Admission(AdmissionLimits limits, Clock* clock) : limits_(limits), clock_(clock) {}

  // Room for `num_choices` sequences and num_bytes / 4 tokens, where `num_slots` sequences are not
  // queued; null if there is none. An empty house takes anything once.
  std::unique_ptr<Ticket> TryTake(uint64_t num_bytes, uint32_t num_choices, uint32_t num_slots);
  // What the ticket really weighs is known once the request is tokenised.
  static void Weigh(Ticket& ticket, uint64_t num_tokens);

  // How long the queue of now takes to clear at the pace of the latest returns; 1 to 60 s.
  absl::Duration RetryAfter(uint32_t num_slots) const;
  // From now on nothing is taken; `on_empty` (may be null) is called once no ticket is out, on the
  // thread that returns the last. May be called again.
  void Close(std::function<void()> on_empty);
  bool is_closed() const;
  uint32_t num_tickets() const;

 private:
  class Place;
  void Return(uint64_t num_tokens, uint32_t num_choices);

  const AdmissionLimits limits_;
  Clock* const clock_;  // not touched once closed, so that tickets may outlive it
  mutable Mutex mutex_;
  uint32_t num_tickets_ MILI_GUARDED_BY(mutex_) = 0;
  uint64_t num_seqs_ MILI_GUARDED_BY(mutex_) = 0;
  uint64_t num_tokens_ MILI_GUARDED_BY(mutex_) = 0;
  bool is_closed_ MILI_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> on_empty_ MILI_GUARDED_BY(mutex_);
  absl::Time last_return_ MILI_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Duration interval_ MILI_GUARDED_BY(mutex_);  // between returns of a sequence, smoothed
};

}  // namespace mili::router
