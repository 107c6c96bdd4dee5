#include "router/model_loader.h"

#include <fstream>
#include <sstream>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/formats/model_source.h"
#include "router/dispatch/grpc_group_client.h"
#include "router/text/chat_template.h"
#include "router/text/prompt_encoder.h"

namespace mili::router {
namespace {

absl::StatusOr<std::string> ReadFile(const std::string& path, const char* flag) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return absl::NotFoundError(absl::StrCat(flag, ": cannot read ", path));
  }
  return text.str();
}

// Long enough for an answer, short enough to notice that the router ends.
constexpr absl::Duration kFetchTimeout = absl::Seconds(1);
constexpr absl::Duration kFetchPause = absl::Milliseconds(200);

// Nothing: the model has no tokenizer.
absl::StatusOr<std::optional<TokenizerBundle>> LoadBundle(const Settings& settings, StopLatch* stop,
                                                          Logger* log) {
  if (!settings.model.empty()) {
    MILI_ASSIGN_OR_RETURN(const auto source, ModelSource::Open(settings.model));
    return source->LoadTokenizer();
  }
  std::string last_reason;
  for (size_t i = 0;; ++i) {
    const std::string& worker = settings.workers[i % settings.workers.size()];
    auto bundle = FetchTokenizer(worker, kFetchTimeout);
    if (bundle.ok()) return std::optional<TokenizerBundle>(*std::move(bundle));
    if (absl::IsNotFound(bundle.status())) return std::optional<TokenizerBundle>();
    if (absl::IsDataLoss(bundle.status())) return bundle.status();
    // Still loading, not there yet, or about to be started again.
    const std::string reason = worker + ": " + std::string(bundle.status().message());
    if (!absl::IsDeadlineExceeded(bundle.status()) && reason != last_reason) {
      log->Warning("no tokenizer from a worker yet", {{"reason", reason}});
      last_reason = reason;
    }
    if (stop->WaitFor(kFetchPause)) return absl::CancelledError("the router is ending");
  }
}

// Renders with the template, then tokenises so that control text in turns stays text. Holds the
// tokenizer that the encoder borrows.
class ChatText {
 public:
  ChatText(std::shared_ptr<const Tokenizer> tokenizer,
           std::unique_ptr<const ChatTemplate> chat_template)
      : tokenizer_(std::move(tokenizer)),
        template_(std::move(chat_template)),
        encoder_(*tokenizer_) {}

  absl::StatusOr<std::vector<TokenId>> Encode(const ChatPrompt& chat) const {
    MILI_ASSIGN_OR_RETURN(const RenderedPrompt prompt, Render(chat));
    return encoder_.Encode(prompt);
  }
  absl::StatusOr<size_t> Count(const ChatPrompt& chat) const {
    MILI_ASSIGN_OR_RETURN(const RenderedPrompt prompt, Render(chat));
    return encoder_.Count(prompt);
  }

 private:
  absl::StatusOr<RenderedPrompt> Render(const ChatPrompt& chat) const {
    std::vector<ChatMessage> messages;
    for (const ChatTurn& turn : chat.turns) messages.push_back({turn.role, turn.content, {}});
    return template_->Render(messages, {.add_generation_prompt = chat.add_generation_prompt,
                                        .enable_thinking = chat.enable_thinking,
                                        .now = {}});
  }

  const std::shared_ptr<const Tokenizer> tokenizer_;
  const std::unique_ptr<const ChatTemplate> template_;
  const PromptEncoder encoder_;
};

}  // namespace

bool StopLatch::WaitFor(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(mutex_);
  while (!stopped_) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(mutex_, left);
  }
  return true;
}

absl::StatusOr<TextAssets> LoadTextAssets(const Settings& settings, StopLatch* stop, Logger* log) {
  TextAssets assets;
  MILI_ASSIGN_OR_RETURN(std::optional<TokenizerBundle> bundle, LoadBundle(settings, stop, log));
  if (!bundle.has_value()) return assets;
  MILI_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer,
                        Tokenizer::FromJson(bundle->tokenizer_json));
  assets.tokenizer = std::move(tokenizer);
  if (!settings.chat_template.empty()) {
    MILI_ASSIGN_OR_RETURN(bundle->chat_template,
                          ReadFile(settings.chat_template, "--chat-template"));
  }
  auto chat_template = ChatTemplate::Create(*bundle);
  if (chat_template.ok()) {
    const auto chat = std::make_shared<const ChatText>(assets.tokenizer, *std::move(chat_template));
    assets.encode_chat = [chat](const ChatPrompt& prompt) { return chat->Encode(prompt); };
    assets.count_chat = [chat](const ChatPrompt& prompt) { return chat->Count(prompt); };
  } else if (!settings.chat_template.empty()) {
    return chat_template.status();
  } else {
    // A template outside of what is understood costs conversations, not the model.
    assets.no_chat_reason = std::string(chat_template.status().message());
  }
  return assets;
}

absl::StatusOr<std::shared_ptr<const ServedModel>> MakeServedModel(const Settings& settings,
                                                                   const TextAssets& assets,
                                                                   const WorkerFacts& facts,
                                                                   absl::Time now) {
  auto model = std::make_shared<ServedModel>();
  model->name = settings.served_model_name.empty() ? facts.model_name : settings.served_model_name;
  model->facts = facts;
  model->tokenizer = assets.tokenizer;
  model->encode_chat = assets.encode_chat;
  model->count_chat = assets.count_chat;
  model->created = now;
  std::string config;
  if (settings.generation_config == "auto") {
    config = facts.generation_config_json;
  } else if (settings.generation_config != "none") {
    MILI_ASSIGN_OR_RETURN(config, ReadFile(settings.generation_config, "--generation-config"));
  }
  MILI_ASSIGN_OR_RETURN(model->defaults, ParseSamplingDefaults(config));
  return model;
}

}  // namespace mili::router
