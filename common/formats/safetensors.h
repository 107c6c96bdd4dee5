// The safetensors format: header and shard index, from bytes to checked tables. Reads no file and
// no weights; everything in the bytes is hostile. Stateless; any thread.
// Source: https://huggingface.co/docs/safetensors, "Format".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "common/formats/file.h"

namespace mili {

// The longest header that the format allows.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;            // as in the file: "BF16", "I64"; one that the format knows
  std::vector<uint64_t> shape;  // row-major; may be empty (one element) or hold zeros
  uint64_t begin = 0;           // bytes [begin, end) of the data that follows the header
  uint64_t end = 0;
};

// `header` is the JSON text; `data_bytes` what follows it in the file. Entries come in order of
// name. INVALID_ARGUMENT unless every size fits its shape and dtype and the tensors cover the data
// without gap or overlap. `file` is for messages.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(std::string_view header,
                                                                     uint64_t data_bytes,
                                                                     std::string_view file);

struct SafetensorsFile {
  std::vector<SafetensorsEntry> entries;
  uint64_t data_offset_bytes = 0;
};

// As ParseSafetensorsHeader, on an open file; DATA_LOSS if it cannot be read.
absl::StatusOr<SafetensorsFile> ReadSafetensorsHeader(const File& file);

// The shard of each tensor, by tensor name, of a model.safetensors.index.json. A shard's name is a
// plain file name: no '/', no "..".
absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view text,
                                                                         std::string_view file);

}  // namespace mili
