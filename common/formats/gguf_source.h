// A model in one GGUF file or in a split of several. See ModelSource. Immutable once open; any
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <absl/status/statusor.h>

#include "common/formats/model_source.h"

namespace mili {

// `path` is the file, or the first file of a split. As ModelSource::Open.
absl::StatusOr<std::unique_ptr<ModelSource>> OpenGguf(const std::string& path);

// The number and count in a name of the form "x-00002-of-00003.gguf".
struct GgufSplitName {
  std::string prefix;  // "x"
  uint32_t number = 1;
  uint32_t count = 1;
};
// Count 1 and the name without ".gguf" as prefix if the name is of no such form.
GgufSplitName ParseGgufSplitName(std::string_view file_name);

}  // namespace mili
