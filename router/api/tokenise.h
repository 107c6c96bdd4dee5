// Tokenise: a prompt of any kind becomes token ids. Pure; run on the text pool, since a long text
// takes milliseconds.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include <absl/status/statusor.h>

#include "router/api/served_model.h"

namespace mili::router {

// Text: special tokens in it are recognised, and what the tokenizer adds (BOS) is added unless
// `add_special_tokens` is false. A conversation: nothing is added beyond what its template writes
// unless `add_special_tokens` is true. INVALID_ARGUMENT names the field.
absl::StatusOr<std::vector<TokenId>> Tokenise(const Prompt& prompt, const ServedModel& model,
                                              std::optional<bool> add_special_tokens);

// The number of tokens that Tokenise would give, of a text or a conversation so long for the
// model's context that it will hardly fit: to be refused it needs no list of ids. None: it is not
// that long, or Tokenise will refuse it.
std::optional<size_t> CountLongText(const Prompt& prompt, const ServedModel& model,
                                    std::optional<bool> add_special_tokens);

}  // namespace mili::router
