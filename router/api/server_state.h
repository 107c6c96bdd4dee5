// ServerState: what the server says of itself: alive, healthy, ready, draining, its settings.
// Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/time/time.h>

#include "router/loop/engine.h"

namespace mili::router {

class ServerState {
 public:
  struct Facts {
    absl::Time started;
    std::vector<std::pair<std::string, std::string>> settings;  // name -> value, secrets masked
    std::function<void()> drain;                                // begins the end; returns at once
  };
  // `engine` outlives the state.
  ServerState(Engine* engine, Facts facts) : engine_(engine), facts_(std::move(facts)) {}

  // OK if a worker can serve and no step is overdue; UNAVAILABLE with the reason.
  absl::Status Health() const;
  // OK if traffic should come: healthy, a real token came out, not draining.
  absl::Status Ready() const;

  void SetDraining() { draining_ = true; }
  bool draining() const { return draining_; }
  // Asks for what SIGTERM asks for.
  void Drain() const { facts_.drain(); }

  Engine& engine() const { return *engine_; }
  const Facts& facts() const { return facts_; }

 private:
  Engine* const engine_;
  const Facts facts_;
  std::atomic<bool> draining_ = false;
};

}  // namespace mili::router
