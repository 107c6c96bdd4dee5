// Frontend: the way from a GenerateSpec to running requests, the same for every API: validated,
// admitted, tokenised on the text pool, submitted. Thread-safe; never blocks its callers.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "common/base/clock.h"
#include "common/obs/log.h"
#include "router/api/call.h"
#include "router/api/generate_spec.h"
#include "router/api/output.h"
#include "router/api/text_pool.h"
#include "router/api/validate.h"
#include "router/loop/engine.h"

namespace mili::router {

enum class LogRequests { kNone, kMeta, kFull };

class Frontend {
 public:
  struct Options {
    RequestLimits limits = {};
    LogRequests log_requests = LogRequests::kNone;
    size_t num_text_threads = 2;
    size_t num_output_threads = 1;
    size_t max_num_text_jobs = 4096;
    uint64_t seed = 0;  // where seeds and ids that clients leave out come from
  };
  // What is pointed to outlives the frontend.
  Frontend(Options options, Engine* engine, const ModelSlot* model, Logger* logger, Clock* clock);
  ~Frontend();

  // Validates and admits on the caller's thread; OK means that the call's news will come, by
  // `wake`, up to a terminal status. `wake` is never called from within Start.
  absl::StatusOr<std::shared_ptr<Call>> Start(GenerateSpec spec, std::function<void()> wake);
  // The client is gone: ends its work.
  void Abandon(const std::shared_ptr<Call>& call);

  // The model in force; UNAVAILABLE with the reason while there is none.
  absl::StatusOr<std::shared_ptr<const ServedModel>> Model() const;

  // Runs `job` on the text pool; RESOURCE_EXHAUSTED if it is full.
  absl::Status RunText(std::function<void()> job);

  const RequestLimits& limits() const { return options_.limits; }

 private:
  struct Tickets;
  // On the text pool.
  void TokeniseAndSubmit(const std::shared_ptr<Call>& call,
                         std::vector<std::unique_ptr<Ticket>> tickets);
  absl::StatusOr<std::vector<RequestPtr>> MakeRequests(
      Call& call, std::vector<std::unique_ptr<Ticket>> tickets);
  absl::StatusOr<std::vector<std::unique_ptr<Ticket>>> Admit(const ValidSpec& spec);
  uint64_t NextRandom();
  void LogFinished(const Call& call, const absl::Status& status, const CallTotals& totals);

  const Options options_;
  Engine* const engine_;
  const ModelSlot* const model_;
  Logger* const logger_;
  Clock* const clock_;
  std::atomic<uint64_t> next_key_ = 1;
  std::atomic<uint64_t> random_state_;
  OutputPool output_;
  TextPool text_pool_;  // last: its jobs use all of the above
};

}  // namespace mili::router
