// PollerHold: leaves one thread to gRPC's callback API on a machine of few CPUs. gRPC 1.51 waits
// for its sockets with half as many threads as there are CPUs, two at least. The one that hears of
// an event hands the waiting to another before it works, and the end of every write wakes one more:
// three changes of thread where a lone poller needs one. Where compute threads want every CPU,
// these changes cost more than the messages. The others are held in a callback for this object's
// life, so no callback of the process may ever block. Lives on the main thread and outlives every
// server and channel of the callback API.
#pragma once

#include <memory>

namespace mili {

class PollerHold {
 public:
  // The most CPUs on which a second poller costs more than it brings.
  static constexpr int kMaxCpus = 4;

  // Above kMaxCpus nothing is held; nor if gRPC turns out to have no thread to spare.
  explicit PollerHold(int num_cpus = NumUsableCpus());
  ~PollerHold();
  PollerHold(const PollerHold&) = delete;
  PollerHold& operator=(const PollerHold&) = delete;

  // In the affinity mask of this process.
  static int NumUsableCpus();

  int num_held() const;

 private:
  class Latch;
  std::unique_ptr<Latch> latch_;  // null: nothing is held
};

}  // namespace mili
