// ModelLoader: makes the ServedModel: text assets from --model or a worker, facts from a worker,
// defaults from generation_config.json. Blocks; runs on a thread of its own at start.
#pragma once

#include <memory>
#include <string>

#include <absl/status/statusor.h>

#include "common/base/mutex.h"
#include "common/core/tokenizer_bundle.h"
#include "router/api/served_model.h"
#include "router/settings.h"

namespace mili::router {

// All about text that the model comes with.
struct TextAssets {
  std::shared_ptr<const Tokenizer> tokenizer;  // null: token ids only
  ChatEncoder encode_chat;                     // null: no conversations
  ChatCounter count_chat;                      // null where encode_chat is
  std::string no_chat_reason;                  // why, if there is a tokenizer
};

// Tells a thread that waits to give up. Thread-safe.
class StopLatch {
 public:
  void Stop() {
    MutexLock lock(mutex_);
    stopped_ = true;
    changed_.NotifyAll();
  }
  // Waits for Stop, `timeout` at most; whether it was called.
  bool WaitFor(absl::Duration timeout);

 private:
  Mutex mutex_;
  CondVar changed_;
  bool stopped_ MILI_GUARDED_BY(mutex_) = false;
};

// From settings.model if given, else from the first worker that has loaded its model: tries them in
// turn until one answers or `stop` says to give up (CANCELLED, within about a second). `log` gets a
// line when a worker gives a new reason. An error names the file or worker and what is wrong with
// it.
absl::StatusOr<TextAssets> LoadTextAssets(const Settings& settings, StopLatch* stop, Logger* log);

// Puts together what is known once a worker is attached. INVALID_ARGUMENT: a generation_config out
// of range; NOT_FOUND: the file that --generation-config names.
absl::StatusOr<std::shared_ptr<const ServedModel>> MakeServedModel(const Settings& settings,
                                                                   const TextAssets& assets,
                                                                   const WorkerFacts& facts,
                                                                   absl::Time now);

}  // namespace mili::router
