// TokenizerBundle: all about text that a model comes with, in one form whatever file it came from.
// As in worker.proto; common/formats makes it, common/text and router/text read it.
#pragma once

#include <string>

namespace mili {

struct TokenizerBundle {
  // The text of tokenizer.json; for GGUF one that says the same.
  std::string tokenizer_json;
  std::string chat_template;  // empty: none
  std::string bos_token;      // text; empty: none
  std::string eos_token;
  std::string pad_token;
  std::string unk_token;
};

}  // namespace mili
