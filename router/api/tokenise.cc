#include "router/api/tokenise.h"

#include "common/base/status_macros.h"
#include "common/wire/status_wire.h"

namespace mili::router {
namespace {

EncodeOptions OptionsOf(std::optional<bool> add_special_tokens) {
  return {.add_special_tokens = add_special_tokens.value_or(true), .parse_special = true};
}

// Of no text: what the tokenizer adds.
constexpr EncodeOptions kAdded = {.add_special_tokens = true, .parse_special = true};

size_t SizeInBytes(const Prompt& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) return text->size();
  size_t size = 0;
  if (const auto* chat = std::get_if<ChatPrompt>(&prompt)) {
    for (const ChatTurn& turn : chat->turns) size += turn.content.size();
  }
  return size;
}

}  // namespace

std::optional<size_t> CountLongText(const Prompt& prompt, const ServedModel& model,
                                    std::optional<bool> add_special_tokens) {
  constexpr size_t kLongBytes = 16;  // a token of the context; texts have three to five
  if (model.tokenizer == nullptr) return std::nullopt;
  if (SizeInBytes(prompt) / kLongBytes <= model.facts.max_model_len) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    return model.tokenizer->Count(*text, OptionsOf(add_special_tokens));
  }
  if (model.count_chat == nullptr) return std::nullopt;
  const absl::StatusOr<size_t> count = model.count_chat(std::get<ChatPrompt>(prompt));
  if (!count.ok()) return std::nullopt;
  return *count + (add_special_tokens.value_or(false) ? model.tokenizer->Count("", kAdded) : 0);
}

absl::StatusOr<std::vector<TokenId>> Tokenise(const Prompt& prompt, const ServedModel& model,
                                              std::optional<bool> add_special_tokens) {
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) return *ids;
  if (model.tokenizer == nullptr) {
    return BadField("prompt", "this model comes without a tokenizer; send token ids");
  }
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    return model.tokenizer->Encode(*text, OptionsOf(add_special_tokens));
  }
  if (model.encode_chat == nullptr) {
    return BadField("messages", "this model comes without a chat template; send text");
  }
  MILI_ASSIGN_OR_RETURN(std::vector<TokenId> ids, model.encode_chat(std::get<ChatPrompt>(prompt)));
  if (add_special_tokens.value_or(false)) {
    const std::vector<TokenId> added = model.tokenizer->Encode("", kAdded);
    ids.insert(ids.begin(), added.begin(), added.end());
  }
  return ids;
}

}  // namespace mili::router
