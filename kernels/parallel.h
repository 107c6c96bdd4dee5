// ParallelFor: how a kernel gets at threads it does not own. The pool lives in worker/device.
#pragma once

#include <cstdint>

namespace mili::kernels {

class ParallelFor {
 public:
  virtual ~ParallelFor() = default;
  virtual int num_threads() const = 0;
  // Calls task(context, 0) on the caller and, at the same time, task(context, thread_idx) once on
  // every other thread in [1, num_threads()) that comes before the caller's call has returned;
  // returns when all these calls have. A thread whose core is busy elsewhere is not waited for, so
  // the task must end only when no work is left to begin: see ForPieces. Never nested, one caller
  // at a time.
  // What a task reads first should lie in the first kContextBytes of `context`: a thread that comes
  // may call for all of them at once, where it would otherwise wait for one cache line of the
  // caller's after the other.
  virtual void Run(void (*task)(void* context, int thread_idx), void* context) = 0;
  static constexpr int kContextBytes = 512;
};

// Work cut in pieces that threads claim. Each thread has a share, of neighbouring items, and takes
// pieces of it in order, so that the same thread meets the same rows in every step and finds them
// in its cache; who is done with its own share takes what the others have not come to yet. So a
// thread that loses its core for a while costs what it would have done meanwhile, not the wait for
// it. A piece is an eighth of what is left of the share: the last ones are small, and threads end
// within one of them of each other.
template <typename Body>
class alignas(64) Pieces {
 public:
  // `count` items in pieces of a multiple of `granule`.
  Pieces(int64_t count, int64_t granule, int num_threads, const Body& body)
      : body_(body),
        count_(count),
        granule_(granule),
        num_shares_(num_threads < kMaxShares ? num_threads : kMaxShares) {
    for (int i = 0; i < num_shares_; ++i) shares_[i].next = BeginOf(i);
  }

  // Works as thread `thread_idx` until no piece is left to claim.
  void Work(int thread_idx) {
    const int own = thread_idx % num_shares_;
    if constexpr (requires { body_.Arrive(thread_idx, count_); }) {
      if (!body_.Arrive(thread_idx, BeginOf(own) * granule_)) return;
    }
    // Most probably nobody was here before: to look first would be to wait for the line twice.
    Take(own, BeginOf(own), thread_idx);
    for (int i = own + 1; i < num_shares_; ++i) Take(i, NextOf(i), thread_idx);
    for (int i = 0; i < own; ++i) Take(i, NextOf(i), thread_idx);
  }

 private:
  static constexpr int kMaxShares = 64;
  // Compiler's atomics: inline functions of the library must not appear in code for one instruction
  // set. Relaxed, since Run orders what the body writes.
  struct alignas(64) Share {
    int64_t next;  // the first granule that nobody has claimed
  };

  // The first granule of a share; that of the next share is its end.
  int64_t BeginOf(int share) const {
    return (count_ + granule_ - 1) / granule_ * share / num_shares_;
  }
  int64_t NextOf(int share) const {
    return __atomic_load_n(&shares_[share].next, __ATOMIC_RELAXED);
  }

  // `next` is what the share's was, or may be.
  void Take(int share, int64_t next, int thread_idx) {
    const int64_t share_end = BeginOf(share + 1);
    while (next < share_end) {
      const int64_t last = next + (share_end - next + 7) / 8;
      if (!__atomic_compare_exchange_n(&shares_[share].next, &next, last, true, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED)) {
        continue;
      }
      const int64_t end = last * granule_;
      body_(next * granule_, end < count_ ? end : count_, thread_idx);
      next = NextOf(share);
    }
  }

  // What every thread reads, then what one of them writes.
  const Body body_;
  const int64_t count_;
  const int64_t granule_;
  const int num_shares_;
  Share shares_[kMaxShares];
};

// Calls body(begin, end, thread_idx) on disjoint ranges that cover [0, count), each but the last a
// multiple of `granule` long, on whichever threads have time; never twice at once with the same
// thread_idx. Which range meets which thread is not fixed, so it must not change any result. A body
// with a method Arrive(thread_idx, begin) has it called by each thread before it claims its first
// piece, which most probably begins there; false: the thread claims none, which the caller (thread
// 0) must not say.
template <typename Body>
void ForPieces(ParallelFor& pool, int64_t count, int64_t granule, const Body& body) {
  Pieces<Body> pieces(count, granule, pool.num_threads(), body);
  pool.Run(
      [](void* context, int thread_idx) { static_cast<Pieces<Body>*>(context)->Work(thread_idx); },
      &pieces);
}

// A pool of one: the caller.
class SingleThread final : public ParallelFor {
 public:
  int num_threads() const override { return 1; }
  void Run(void (*task)(void*, int), void* context) override { task(context, 0); }
};

}  // namespace mili::kernels
