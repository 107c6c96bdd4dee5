// config.json up to a zero byte, generation_config.json after it; the whole as
// tokenizer_config.json.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "common/formats/hf_config.h"
#include "common/formats/hf_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(text.find('\0'), text.size());
  const std::string_view generation = zero < text.size() ? text.substr(zero + 1) : "";
  const auto config = mili::ParseHfConfig(text.substr(0, zero), generation);
  if (config.ok() && !mili::Validate(*config).ok()) __builtin_trap();
  mili::TokenizerBundle bundle;
  (void)mili::ApplyTokenizerConfig(text, "fuzz", bundle);
  return 0;
}
