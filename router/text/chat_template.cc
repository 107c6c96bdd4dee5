#include "router/text/chat_template.h"

#include <utility>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "common/base/status_macros.h"
#include "router/text/jinja/interpreter.h"
#include "router/text/jinja/parser.h"

namespace mili::router {
namespace {

using jinja::Text;
using jinja::Value;

absl::StatusOr<Value> ToValue(const ChatMessage& message) {
  const auto user_text = [](const std::string& text) { return Value::Of(Text(text, true)); };
  std::vector<std::pair<Value, Value>> entries;
  entries.emplace_back(Value::Of(std::string("role")), user_text(message.role));
  entries.emplace_back(Value::Of(std::string("content")), user_text(message.content));
  if (message.reasoning_content.has_value()) {
    entries.emplace_back(Value::Of(std::string("reasoning_content")),
                         user_text(*message.reasoning_content));
  }
  return Value::MakeDict(std::move(entries));
}

class JinjaChatTemplate final : public ChatTemplate {
 public:
  JinjaChatTemplate(jinja::Block block, const TokenizerBundle& bundle)
      : block_(std::move(block)),
        special_tokens_{{"bos_token", bundle.bos_token},
                        {"eos_token", bundle.eos_token},
                        {"pad_token", bundle.pad_token},
                        {"unk_token", bundle.unk_token}} {}

  absl::StatusOr<RenderedPrompt> Render(const std::vector<ChatMessage>& messages,
                                        const RenderOptions& options) const override {
    jinja::Limits limits;
    std::vector<Value> values;
    for (const ChatMessage& message : messages) {
      MILI_ASSIGN_OR_RETURN(Value value, ToValue(message));
      values.push_back(std::move(value));
      // A longer conversation may cost more, in proportion.
      limits.max_bytes += 64 * static_cast<int64_t>(message.content.size());
      limits.max_steps += 64 * static_cast<int64_t>(message.content.size());
    }
    MILI_ASSIGN_OR_RETURN(Value list, Value::MakeList(std::move(values)));

    jinja::Interpreter interpreter(limits, options.now.value_or(absl::Now()));
    interpreter.SetVariable("messages", std::move(list));
    // transformers passes both as None where there are none.
    interpreter.SetVariable("tools", Value());
    interpreter.SetVariable("documents", Value());
    interpreter.SetVariable("add_generation_prompt", Value::Of(options.add_generation_prompt));
    if (options.enable_thinking.has_value()) {
      interpreter.SetVariable("enable_thinking", Value::Of(*options.enable_thinking));
    }
    for (const auto& [name, text] : special_tokens_) {
      if (!text.empty()) interpreter.SetVariable(name, Value::Of(text));
    }
    MILI_ASSIGN_OR_RETURN(const Text text, interpreter.Run(block_));
    RenderedPrompt prompt;
    prompt.text = text.bytes();
    for (const auto& span : text.user_spans()) prompt.user_spans.push_back({span.begin, span.end});
    return prompt;
  }

 private:
  const jinja::Block block_;
  const std::vector<std::pair<std::string, std::string>> special_tokens_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Create(const TokenizerBundle& bundle) {
  if (bundle.chat_template.empty()) {
    return absl::NotFoundError("the model has no chat template; send text or token ids instead");
  }
  MILI_ASSIGN_OR_RETURN(jinja::Block block, jinja::ParseTemplate(bundle.chat_template));
  return std::make_unique<JinjaChatTemplate>(std::move(block), bundle);
}

}  // namespace mili::router
