// The tokenizers of tests/data/tokenizers, and what Hugging Face tokenizers makes of texts with
// them. For tests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/text/tokenizer.h"

namespace mili::text {

// The names of the folders: one for each model family.
const std::vector<std::string>& TestTokenizerNames();

std::string ReadFileOrDie(const std::string& path);

// Ends the test program if the file is missing or refused.
std::unique_ptr<Tokenizer> LoadTestTokenizer(const std::string& name);

struct Golden {
  std::string text;
  EncodeOptions options;
  std::vector<TokenId> ids;
  std::string decoded;  // of ids, special tokens included
  std::string skipped;  // of ids, special tokens left out
};

std::vector<Golden> ReadGoldens(const std::string& name);

}  // namespace mili::text
