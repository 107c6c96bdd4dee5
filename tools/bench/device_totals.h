// What a worker's device has done since it started, as its /metrics page says. Read before and
// after a load, it shows what each step took and how long the device waited between two.
#pragma once

#include <string>

#include <absl/status/statusor.h>

namespace mili::bench {

struct DeviceTotals {
  double num_steps = 0;
  double num_tokens = 0;  // computed: of prompts, and those fed back
  double compute_s = 0;
  double idle_s = 0;  // without a step, also when nobody asked for one
};

DeviceTotals operator-(const DeviceTotals& a, const DeviceTotals& b);

// From http://`address`/metrics, host:port. UNAVAILABLE: no answer; INTERNAL: not a worker's.
absl::StatusOr<DeviceTotals> ReadDeviceTotals(const std::string& address);

}  // namespace mili::bench
