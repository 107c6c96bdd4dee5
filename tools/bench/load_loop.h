// LoadLoop: some connections to a running server, driven by one thread, as the load generator needs
// them: a thread for each would cost the machine more than the server that it measures, since every
// token would wake another one. Stamps every piece of an answer as it arrives. One thread; loops
// share nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "common/base/ids.h"

namespace mili::bench {

// Greedy, end tokens ignored, so that every run computes the same.
struct LoadRequest {
  std::vector<TokenId> prompt_token_ids;
  uint32_t max_tokens = 16;
};

// When tokens came, measured from just before the request was sent.
struct LoadSample {
  absl::Duration first_token;               // TTFT
  std::vector<absl::Duration> inter_token;  // between pieces, shared evenly by a piece's tokens
  absl::Duration total;                     // to the end of the stream
  uint32_t num_tokens = 0;
};

// Collects the stamps of one answer.
class SampleClock {
 public:
  explicit SampleClock(absl::Time start) : start_(start), last_(start) {}
  // `num_tokens` tokens arrived now.
  void OnTokens(uint32_t num_tokens, absl::Time now);
  LoadSample Finish(absl::Time now);

 private:
  absl::Time start_;
  absl::Time last_;
  LoadSample sample_;
};

class LoadLoop {
 public:
  using Done = std::function<void(absl::StatusOr<LoadSample>)>;

  virtual ~LoadLoop() = default;
  // Sends a request over connection `client_idx`, which has none under way; it is made by the first
  // one and kept. `done` is called by Run, also with what went wrong, and may call Start.
  virtual void Start(uint32_t client_idx, const LoadRequest& request, Done done) = 0;
  // Returns when no request is under way.
  virtual void Run() = 0;
};

// `address` is host:port.
std::unique_ptr<LoadLoop> NewGrpcLoadLoop(const std::string& address, uint32_t num_clients);
std::unique_ptr<LoadLoop> NewHttpLoadLoop(const std::string& address, uint32_t num_clients);

}  // namespace mili::bench
