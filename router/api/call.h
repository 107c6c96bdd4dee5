// Call: one API call on its way: what was asked, the requests it became, and the news that wait for
// the network side. Shared by the network side, the text pool and one output thread; thread-safe.
// News coalesce while the client reads slowly, so what waits is bounded by what was asked for, and
// nobody is ever blocked.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>

#include "common/base/mutex.h"
#include "common/core/request.h"
#include "router/api/choice_output.h"
#include "router/api/served_model.h"
#include "router/api/validate.h"

namespace mili::router {

// What became of one prompt of the call.
struct PromptOutcome {
  std::vector<TokenId> token_ids;
  // Of token_ids[1..], if asked for; complete before News::started.
  std::vector<SampledToken> logprobs;
};

class Call {
 public:
  // What can be told to the client now.
  struct News {
    bool started = false;             // prompts() may be read; every delta comes after it
    std::vector<ChoiceDelta> deltas;  // at most one a choice, in order of arrival
    bool done = false;                // nothing comes after this
    absl::Status status;              // if done
  };

  // `wake` is called whenever Take may have something new: on any thread, holding no lock. A call
  // that was under way when Detach returned may still arrive, so `wake` captures weakly.
  Call(ValidSpec spec, std::shared_ptr<const ServedModel> model, std::function<void()> wake);

  const ValidSpec& spec() const { return spec_; }
  const ServedModel& model() const { return *model_; }
  // Constant once News::started was seen.
  const std::vector<PromptOutcome>& prompts() const { return prompts_; }

  // For the network side ------------------------------------------------------------------------
  // Removes and returns what waits, about `max_bytes` of it at most (at least one delta).
  News Take(size_t max_bytes);
  // Where the call stands, without taking anything.
  struct Standing {
    bool started = false;
    bool finished = false;
    absl::Status status;  // if finished
  };
  Standing standing() const;
  // The client is gone: what still comes is dropped.
  void Detach();
  bool detached() const;

  // For the text pool and the output thread -----------------------------------------------------
  // Before Start; first on the text pool, then on the output thread.
  std::vector<PromptOutcome>& mutable_prompts() { return prompts_; }
  void Start();
  // True: the network side is to be told, by Wake, when there is nothing more to push at the
  // moment.
  [[nodiscard]] bool Push(ChoiceDelta delta);
  void Wake() const;
  // The terminal status, once; later ones are dropped. OK implies Start.
  void Finish(absl::Status status);

  // The engine's names of the call's requests, as far as they were submitted.
  void AddKey(RequestKey key);
  std::vector<RequestKey> keys() const;

 private:
  const ValidSpec spec_;
  const std::shared_ptr<const ServedModel> model_;
  std::vector<PromptOutcome> prompts_;
  mutable Mutex mutex_;
  std::function<void()> wake_ MILI_GUARDED_BY(mutex_);
  bool started_ MILI_GUARDED_BY(mutex_) = false;
  bool detached_ MILI_GUARDED_BY(mutex_) = false;
  bool finished_ MILI_GUARDED_BY(mutex_) = false;
  absl::Status status_ MILI_GUARDED_BY(mutex_);
  // One place a choice (prompt_idx * n + choice_idx); `order_` holds those with news.
  std::vector<std::unique_ptr<ChoiceDelta>> waiting_ MILI_GUARDED_BY(mutex_);
  std::deque<size_t> order_ MILI_GUARDED_BY(mutex_);
  std::vector<RequestKey> keys_ MILI_GUARDED_BY(mutex_);
};

}  // namespace mili::router
