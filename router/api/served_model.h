// ServedModel: all that the api knows of the model behind a group: names, tokenizer, template,
// limits, defaults. Immutable. ModelSlot holds the one in force and swaps it when a worker
// attaches.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "common/base/mutex.h"
#include "common/core/worker_facts.h"
#include "common/text/tokenizer.h"
#include "router/api/generate_spec.h"

namespace mili::router {

// Defaults that a model's generation_config.json states; nothing: neutral.
struct SamplingDefaults {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
};

// From the text of a generation_config.json; other keys are the trainer's business and passed over.
// INVALID_ARGUMENT names a key whose value is out of range. Empty text: no defaults.
absl::StatusOr<SamplingDefaults> ParseSamplingDefaults(std::string_view json);
// As JSON text, only what is set: {"temperature":0.6}.
std::string ToJson(const SamplingDefaults& defaults);

// A conversation as the model's template writes it, as token ids; control text in a turn stays
// text. Thread-safe; INVALID_ARGUMENT with the template's complaint.
using ChatEncoder = std::function<absl::StatusOr<std::vector<TokenId>>(const ChatPrompt&)>;
// How many ids the encoder would give, without making them.
using ChatCounter = std::function<absl::StatusOr<size_t>(const ChatPrompt&)>;

struct ServedModel {
  std::string name;  // what clients call it
  WorkerFacts facts;
  std::shared_ptr<const Tokenizer> tokenizer;  // null: token ids only
  ChatEncoder encode_chat;                     // null: no conversations
  ChatCounter count_chat;                      // null where encode_chat is
  SamplingDefaults defaults;
  absl::Time created;
};

// Thread-safe.
class ModelSlot {
 public:
  void Set(std::shared_ptr<const ServedModel> model) {
    MutexLock lock(mutex_);
    model_ = std::move(model);
  }
  // Null until the first worker is attached.
  std::shared_ptr<const ServedModel> Get() const {
    MutexLock lock(mutex_);
    return model_;
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const ServedModel> model_ MILI_GUARDED_BY(mutex_);
};

}  // namespace mili::router
