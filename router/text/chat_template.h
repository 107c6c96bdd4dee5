// ChatTemplate: a model's own chat template, run by the sandboxed Jinja core in router/text/jinja.
// Immutable once made; Render is thread-safe. It never reads files, the network or the environment,
// and its work is bounded whatever the template says.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "common/core/tokenizer_bundle.h"

namespace mili::router {

struct ChatMessage {
  std::string role;
  std::string content;
  // What an assistant turn thought, where the client keeps it apart from the content.
  std::optional<std::string> reasoning_content;
};

struct RenderOptions {
  // End the prompt with the opening of an assistant turn.
  bool add_generation_prompt = true;
  // Undefined in the template if unset, as transformers leaves it.
  std::optional<bool> enable_thinking;
  // What strftime_now sees; unset: the time of the call. Local time zone.
  std::optional<absl::Time> now;
};

// Bytes [begin, end) of a text.
struct TextSpan {
  size_t begin = 0;
  size_t end = 0;
  friend bool operator==(const TextSpan&, const TextSpan&) = default;
};

struct RenderedPrompt {
  std::string text;
  // The bytes that came from messages, sorted, not touching each other. Control text in them is
  // text; PromptEncoder recognises special tokens only outside.
  std::vector<TextSpan> user_spans;
};

class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // Parses bundle.chat_template. NOT_FOUND: the model has none. INVALID_ARGUMENT: no valid template
  // (line and what was expected). UNIMPLEMENTED: a construct outside the core, named with its line.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Create(const TokenizerBundle& bundle);

  // INVALID_ARGUMENT: the template raised an exception (its words are the message), cannot handle
  // this conversation, or passed a limit (steps, bytes, nesting).
  virtual absl::StatusOr<RenderedPrompt> Render(const std::vector<ChatMessage>& messages,
                                                const RenderOptions& options) const = 0;
};

}  // namespace mili::router
