// Traces: a random life of one scheduler as data, so that a failing one can be shortened. An op
// carries its own random numbers and means something in any state; a trace stays valid without any
// of its ops.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/core/worker_facts.h"
#include "router/sched/options.h"

namespace mili::router::testing {

enum class OpKind : uint8_t {
  kSubmit,
  kPlan,     // plan a step; the puppet computes it at once, its result waits
  kDeliver,  // apply the oldest result that waits
  kCancel,
  kFinishChoice,
  kAbort,
  kFailRow,  // deliver the oldest result with one row failed
  kLose,     // lose the epoch
  kOpen,     // open the next, if none is open
  kMove,     // hand all requests to a new scheduler, if no epoch is open
  kExpire,   // move the clock and expire
};

struct Op {
  OpKind kind;
  uint32_t a;
  uint32_t b;
};

struct Trace {
  SchedulerOptions options;
  WorkerFacts facts;
  std::vector<Op> ops;
};

struct TraceStats {
  uint64_t num_steps = 0;
  uint64_t num_preemptions = 0;
  uint64_t num_finished = 0;
  uint64_t num_lost_twice = 0;
  uint64_t num_expired = 0;
  uint64_t num_tokens = 0;
};

Trace RandomTrace(uint64_t seed, size_t num_ops);

// Runs the trace, then lets all that is left come to its end. What went wrong first, with the
// number of the op; nothing if every invariant held.
std::optional<std::string> RunTrace(const Trace& trace, TraceStats* stats = nullptr);

// Leaves out ops as long as the trace still fails.
Trace Shorten(Trace trace);

std::string ToString(const Trace& trace);

}  // namespace mili::router::testing
