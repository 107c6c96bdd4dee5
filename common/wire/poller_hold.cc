#include "common/wire/poller_hold.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <vector>

#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include "common/base/mutex.h"

namespace mili {
namespace {

// Longer than any callback of a process that is just starting takes.
constexpr absl::Duration kPatience = absl::Seconds(1);

// As CallbackAlternativeCQ counts in gRPC's src/cpp/common/completion_queue_cc.cc, of all CPUs that
// the machine has.
int NumPollers() { return std::clamp(static_cast<int>(sysconf(_SC_NPROCESSORS_CONF)) / 2, 2, 16); }

}  // namespace

// What the callbacks share; ends on the thread that made it, since gRPC 1.51 dies if the last
// reference to a channel goes on a poller.
class PollerHold::Latch {
 public:
  Latch() : channel_(grpc::CreateChannel("unix:none", grpc::InsecureChannelCredentials())) {}

  // Holds `num_pollers`; false if then none is left to call back.
  bool Hold(int num_pollers) {
    for (int i = 0; i < num_pollers; ++i) {
      CallBack([this] { Stay(); });
    }
    CallBack([this] { Pass(); });
    MutexLock lock(mutex_);
    const absl::Time deadline = absl::Now() + kPatience;
    while (num_inside_ < num_pollers || !has_passed_) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return false;
      changed_.WaitFor(mutex_, left);
    }
    return true;
  }

  // Lets them go; returns when every callback was called.
  void Release() {
    MutexLock lock(mutex_);
    is_released_ = true;
    changed_.NotifyAll();
    while (num_over_ < calls_.size()) changed_.Wait(mutex_);
  }

  int num_inside() {
    MutexLock lock(mutex_);
    return num_inside_;
  }

 private:
  struct Call {
    grpc::ClientContext context;
    const grpc::Slice nothing;
    grpc::ByteBuffer request{&nothing, 1};
    grpc::ByteBuffer response;
  };

  // Calls back on a poller: a call that is out of time before it starts.
  void CallBack(std::function<void()> callback) {
    Call& call = *calls_.emplace_back(std::make_unique<Call>());
    call.context.set_deadline(std::chrono::system_clock::now() - std::chrono::seconds(1));
    grpc::GenericStub(channel_).UnaryCall(
        &call.context, "/mili/none", {}, &call.request, &call.response,
        [callback = std::move(callback)](const grpc::Status&) { callback(); });
  }

  void Stay() {
    MutexLock lock(mutex_);
    ++num_inside_;
    changed_.NotifyAll();
    while (!is_released_) changed_.Wait(mutex_);
    --num_inside_;
    ++num_over_;
    changed_.NotifyAll();
  }
  void Pass() {
    MutexLock lock(mutex_);
    has_passed_ = true;
    ++num_over_;
    changed_.NotifyAll();
  }

  const std::shared_ptr<grpc::Channel> channel_;
  std::vector<std::unique_ptr<Call>> calls_;
  Mutex mutex_;
  CondVar changed_;
  int num_inside_ MILI_GUARDED_BY(mutex_) = 0;
  size_t num_over_ MILI_GUARDED_BY(mutex_) = 0;
  bool has_passed_ MILI_GUARDED_BY(mutex_) = false;
  bool is_released_ MILI_GUARDED_BY(mutex_) = false;
};

int PollerHold::NumUsableCpus() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  // It fails where the machine has more CPUs than the mask has places.
  return sched_getaffinity(0, sizeof(mask), &mask) == 0 ? CPU_COUNT(&mask) : CPU_SETSIZE;
}

PollerHold::PollerHold(int num_cpus) {
  if (num_cpus > kMaxCpus) return;
  latch_ = std::make_unique<Latch>();
  if (latch_->Hold(NumPollers() - 1)) return;
  latch_->Release();
  latch_.reset();
}

PollerHold::~PollerHold() {
  if (latch_ != nullptr) latch_->Release();
}

int PollerHold::num_held() const { return latch_ == nullptr ? 0 : latch_->num_inside(); }

}  // namespace mili
