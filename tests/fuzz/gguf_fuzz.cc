// A GGUF head, and if it parses the config and the tokenizer that its metadata mean.
#include <cstdint>
#include <cstring>
#include <span>

#include "common/formats/gguf.h"
#include "common/formats/gguf_config.h"
#include "common/formats/gguf_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto read_at = [&](uint64_t offset, std::span<std::byte> to) {
    if (offset > size || to.size() > size - offset) __builtin_trap();
    std::memcpy(to.data(), data + offset, to.size());
    return absl::OkStatus();
  };
  const auto file = mili::ParseGguf(read_at, size, "fuzz");
  if (!file.ok()) return 0;
  for (const mili::GgufTensor& tensor : file->tensors) {
    if (tensor.offset_bytes + tensor.size_bytes > size) __builtin_trap();
    (void)mili::CanonicalName(tensor.name);
  }
  if (const auto config = mili::ConfigFromGguf(file->metadata, file->tensors, "fuzz");
      config.ok()) {
    (void)mili::Validate(*config);
  }
  (void)mili::TokenizerFromGguf(file->metadata, "fuzz");
  return 0;
}
