// Delivery: who hears of which request, and what the metrics hear of it. Belongs to one scheduler
// loop and its thread. It decides nothing.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <absl/time/time.h>

#include "common/core/request.h"
#include "router/loop/probe.h"
#include "router/loop/token_sink.h"
#include "router/sched/sequence.h"

namespace mili::router {

// One request as its loop sees it; moves with the request between groups.
struct Recipient {
  std::shared_ptr<TokenSink> sink;
  absl::Time arrival;
  uint32_t num_prompt_tokens = 0;
  uint32_t num_unfinished = 0;
  uint32_t num_generated = 0;
  bool is_start_told = false;
  bool is_first_token_told = false;
  std::vector<absl::Time> last_token;  // [num_choices]
  // "stop", "length", "abort" or "error", as metrics name it, and as people read it.
  const char* finished_reason = "";
  std::string outcome;
};

class Delivery {
 public:
  // `probe` may be null.
  explicit Delivery(SchedulerProbe* probe) : probe_(probe) {}

  void Add(const Request& request, std::shared_ptr<TokenSink> sink);
  void Adopt(RequestKey key, Recipient recipient) {
    recipients_.insert_or_assign(key, std::move(recipient));
  }
  Recipient Take(RequestKey key);

  // Requests that ended among the events, with their outcome.
  using Outcomes = std::vector<std::pair<RequestKey, std::string>>;

  // Tells the probe what the events and the news mean, and collects the events for Send.
  Outcomes Account(std::vector<TokenEvent> events, const std::vector<RequestProgress>& news,
                   absl::Time now);
  // Hands over what was collected: one call for each sink.
  void Send();

 private:
  struct Batch {
    std::shared_ptr<TokenSink> sink;
    std::vector<TokenEvent> events;
  };

  void CountTokens(const TokenEvent& event, Recipient& recipient, absl::Time now);
  void CountFinish(const TokenEvent& event, Recipient& recipient, absl::Time now);

  SchedulerProbe* const probe_;
  std::unordered_map<RequestKey, Recipient> recipients_;
  std::vector<Batch> batches_;
};

}  // namespace mili::router
