// The clock as a parameter, so that tests move time by hand.
#pragma once

#include <absl/time/clock.h>
#include <absl/time/time.h>

namespace mili {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() = 0;
};

class RealClock final : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
};

}  // namespace mili
