// A model in a directory of the Hugging Face layout, with safetensors weights. See ModelSource.
// Immutable once open; any thread.
#pragma once

#include <memory>
#include <string>

#include <absl/status/statusor.h>

#include "common/formats/model_source.h"

namespace mili {

// `directory` has a config.json. As ModelSource::Open.
absl::StatusOr<std::unique_ptr<ModelSource>> OpenHfDirectory(const std::string& directory);

}  // namespace mili
