// LoadTotals: what all clients of the load generator saw together, and how it is printed. Any
// thread adds; printing is for when all have ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/time/time.h>

#include "common/base/mutex.h"
#include "tools/bench/device_totals.h"
#include "tools/bench/load_loop.h"

namespace mili::bench {

class LoadTotals {
 public:
  void Add(const LoadSample& sample);
  void AddError(const absl::Status& status);

  struct Run {
    uint32_t concurrency = 0;
    uint32_t num_requests = 0;
    absl::Duration elapsed;
    std::optional<DeviceTotals> device;  // what that did meanwhile
  };
  // One JSON object, or a line or two for people, on stdout; errors on stderr. False if there are
  // any.
  bool Print(const Run& run, bool as_json);

 private:
  Mutex mutex_;
  uint64_t num_tokens_ MILI_GUARDED_BY(mutex_) = 0;
  std::vector<double> first_token_ms_ MILI_GUARDED_BY(mutex_);
  std::vector<double> inter_token_ms_ MILI_GUARDED_BY(mutex_);
  std::vector<double> total_ms_ MILI_GUARDED_BY(mutex_);
  std::vector<std::string> errors_ MILI_GUARDED_BY(mutex_);
};

}  // namespace mili::bench
