// One blocking client of a running server, as the load generator drives it: sends a request, stamps
// every piece of the answer as it arrives. One thread a client; implementations share nothing.
#pragma once

#include <cstdint>
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
  const absl::Time start_;
  absl::Time last_;
  LoadSample sample_;
};

class LoadClient {
 public:
  virtual ~LoadClient() = default;
  virtual absl::StatusOr<LoadSample> Run(const LoadRequest& request) = 0;
};

// `address` is host:port. The connection is made by the first Run and kept.
std::unique_ptr<LoadClient> NewGrpcLoadClient(const std::string& address);
std::unique_ptr<LoadClient> NewHttpLoadClient(const std::string& address);

}  // namespace mili::bench
