// Output: the threads between the scheduler loops and the network. Each call belongs to one of
// them, which owns its detokenisers and stop strings, decides how a choice ends and tells the
// engine. A loop that delivers is never blocked; a slow client's news coalesce in its Call.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "router/api/call.h"
#include "router/loop/engine.h"

namespace mili::router {

class OutputThread;

// Totals of a call that ended, for the log.
struct CallTotals {
  uint32_t num_prompt_tokens = 0;
  uint32_t num_output_tokens = 0;
};

class OutputPool {
 public:
  // Called on an output thread at the terminal status of each call that was adopted.
  using OnFinished =
      std::function<void(const Call& call, const absl::Status& status, const CallTotals& totals)>;

  // `engine` outlives the pool.
  OutputPool(size_t num_threads, Engine* engine, OnFinished on_finished);
  // Ends every call that is left with UNAVAILABLE.
  ~OutputPool();

  // The thread that will own the next call; a TokenSink for Engine::Submit.
  std::shared_ptr<OutputThread> Next();

 private:
  std::vector<std::shared_ptr<OutputThread>> threads_;
  std::atomic<size_t> next_ = 0;
};

// One thread. Posts only; every method is thread-safe.
class OutputThread : public TokenSink {
 public:
  // The call and the requests it became, by prompt; comes before any of their tokens.
  virtual void Adopt(std::shared_ptr<Call> call, std::vector<RequestPtr> requests) = 0;
  // All of them were submitted.
  virtual void Admitted(std::shared_ptr<Call> call) = 0;
  // The call fails: the engine refused requests[num_submitted]; those after it never went there.
  virtual void Refused(std::shared_ptr<Call> call, size_t num_submitted, absl::Status status) = 0;
};

}  // namespace mili::router
