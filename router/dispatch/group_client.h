// GroupClient: a worker group as its scheduler loop sees it. The gRPC form lives beside this file;
// tests drive the loop with a puppet.
#pragma once

#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "common/base/ids.h"
#include "common/core/step_plan.h"
#include "common/core/worker_facts.h"

namespace mili::router {

// Implemented by the loop; called on any thread, must not block. For one epoch: OnAttached, then
// any number of OnResult in the order of step_id, then OnLost once.
class GroupListener {
 public:
  virtual ~GroupListener() = default;
  // Loading goes on; for logs and /health.
  virtual void OnProgress(uint64_t loaded_bytes, uint64_t total_bytes) = 0;
  virtual void OnAttached(Epoch epoch, const WorkerFacts& facts) = 0;
  virtual void OnResult(StepResult result) = 0;
  // The group cannot be reached (any more). The client goes on trying by itself, with back-off, and
  // opens a new epoch when it can.
  virtual void OnLost(Epoch epoch, absl::Status reason) = 0;
};

class GroupClient {
 public:
  virtual ~GroupClient() = default;
  // Begins to connect, describe and attach, again and again until Stop. Calls `listener` from its
  // own threads.
  virtual void Start(GroupListener* listener) = 0;
  // Sends a plan to every rank of the open epoch; a plan of another epoch is dropped. Never blocks.
  virtual void Send(StepPlan plan) = 0;
  // Asks for the next result: each is held back until it is asked for, the first one not. Asking
  // twice is asking once. Not before OnResult was called with the last one: asked for sooner, the
  // next could come on another thread ahead of it. A read that waits when a message comes makes
  // gRPC answer it with a window update of its own; one that begins after the next plan has been
  // sent travels beside that plan.
  virtual void ReadOn() = 0;
  // Gives up the open epoch (a step is overdue); OnLost follows with `reason`.
  virtual void Abandon(absl::Status reason) = 0;
  // Ends the stream; returns when the listener will not be called any more.
  virtual void Stop() = 0;
  virtual std::vector<std::string> addresses() const = 0;
};

}  // namespace mili::router
