#include "worker/device/cpu_pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "common/base/check.h"

namespace mili::worker {
namespace {

// Longer than the gap between two kernels of a step, shorter than what a reader of `top` notices.
constexpr std::chrono::microseconds kSpinTime(20);

// Between two moments at which a computing thread gives way: short against a step, long against
// the price of it.
constexpr std::chrono::microseconds kPace(50);

void FutexWait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr,
          nullptr, 0);
}

void FutexWakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, 0x7fffffff, nullptr,
          nullptr, 0);
}

// The calling thread. A CPU that was taken from the process meanwhile is no error: it runs
// elsewhere.
void StayOn(int cpu) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  CPU_SET(cpu, &mask);
  (void)sched_setaffinity(0, sizeof(mask), &mask);
}

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// The loop may be over and `context` gone: nothing is read.
void CallFor(const void* context) {
  for (int i = 0; i < kernels::ParallelFor::kContextBytes; i += 64) {
    __builtin_prefetch(static_cast<const char*>(context) + i);
  }
}

// Lets whatever else waits for this CPU run now: the threads that carry plans and tokens are
// short, and once a compute thread has the CPU the kernel may make them wait for a whole tick
// (4 ms at 250 Hz), longer than a step. Costs a fraction of a microsecond when nothing waits.
void GiveWay() { sched_yield(); }

// True as soon as `done()`; false after the spin time.
template <typename Done>
bool Spin(Done done) {
  if (done()) return true;
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      Pause();
      if (done()) return true;
    }
    GiveWay();
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace

void CpuPool::Pace::Pass() {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < kPace) return;
  last_ = now;
  GiveWay();
}

CpuPool::CpuPool(int num_threads, std::vector<int> cpus)
    : num_threads_(num_threads), cpus_(std::move(cpus)) {
  MILI_CHECK(num_threads >= 1 && num_threads <= kMaxThreads, "a pool has at least its caller");
  MILI_CHECK(cpus_.empty() || cpus_.size() == static_cast<size_t>(num_threads),
             "every thread has a CPU, or none");
  helpers_.reserve(num_threads - 1);
  for (int i = 1; i < num_threads; ++i) helpers_.emplace_back([this, i] { HelperMain(i); });
}

CpuPool::~CpuPool() {
  stopping_.store(true);
  state_.fetch_add(kLoop);
  FutexWakeAll(state_);
  for (std::thread& helper : helpers_) helper.join();
}

void CpuPool::Run(void (*task)(void*, int), void* context) {
  if (num_threads_ == 1) return task(context, 0);
  if (!cpus_.empty() && caller_ != std::this_thread::get_id()) {
    caller_ = std::this_thread::get_id();
    StayOn(cpus_[0]);
  }
  caller_pace_.Pass();
  task_ = task;
  context_.store(context, std::memory_order_relaxed);
  // Opens the next loop. Sequentially consistent, as are the helpers' accesses: a helper that goes
  // to sleep either is counted here or sees the new state.
  state_.store((state_.load(std::memory_order_relaxed) & ~kClosed) + kLoop);
  if (num_sleeping_.load() > 0) FutexWakeAll(state_);
  task(context, 0);
  state_.fetch_or(kClosed);  // whoever has not come is not needed any more
  const auto is_empty = [this] {
    return (state_.load(std::memory_order_acquire) & (kClosed - 1)) == 0;
  };
  if (Spin(is_empty)) return;
  caller_sleeps_.store(true);
  for (uint32_t state = state_.load(); (state & (kClosed - 1)) != 0; state = state_.load()) {
    FutexWait(state_, state);
  }
  caller_sleeps_.store(false);
}

bool CpuPool::Enter(uint32_t* seen) {
  uint32_t state = state_.load(std::memory_order_acquire);
  while ((state & kClosed) == 0) {
    if (!state_.compare_exchange_weak(state, state + kInside)) continue;
    *seen = state / kLoop;
    return true;
  }
  *seen = state / kLoop;
  return false;
}

void CpuPool::HelperMain(int thread_idx) {
  if (!cpus_.empty()) StayOn(cpus_[thread_idx]);
  uint32_t seen = 0;  // the loop entered or missed last
  Pace pace;
  for (;;) {
    const auto moved = [this, seen] {
      return state_.load(std::memory_order_acquire) / kLoop != seen;
    };
    if (!Spin(moved)) {
      num_sleeping_.fetch_add(1);
      for (uint32_t state = state_.load(); state / kLoop == seen; state = state_.load()) {
        FutexWait(state_, state);
      }
      num_sleeping_.fetch_sub(1);
    }
    if (stopping_.load()) return;
    CallFor(context_.load(std::memory_order_relaxed));
    pace.Pass();  // outside of a loop, where nobody waits for it
    if (!Enter(&seen)) {
      if (stopping_.load()) return;  // what it missed may have been the call to stop
      continue;
    }
    task_(context_.load(std::memory_order_relaxed), thread_idx);
    if ((state_.fetch_sub(kInside) & (kClosed - 1)) == 1 && caller_sleeps_.load()) {
      FutexWakeAll(state_);
    }
  }
}

}  // namespace mili::worker
