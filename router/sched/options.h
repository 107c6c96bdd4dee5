// SchedulerOptions: what an operator decides about scheduling; the rest comes from the worker.
#pragma once

#include <cstdint>

namespace mili::router {

struct SchedulerOptions {
  enum class Policy {
    kFcfs,      // in order of arrival; Request::priority is ignored
    kPriority,  // by Request::priority, lower first, then by arrival
  };
  Policy policy = Policy::kFcfs;
  // Steps submitted before the oldest of them must have been answered; at least 1.
  uint32_t run_ahead_depth = 2;
  // Most sequences in slots; 0 or more than the worker has: as many as it has.
  uint32_t max_num_seqs = 0;
  // Most tokens of one step; 0 or more than the worker takes: as many as it takes.
  uint32_t max_num_batched_tokens = 0;
};

}  // namespace mili::router
