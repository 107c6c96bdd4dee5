// The tensors that a model must have, from its config, and the check of what a file offers against
// them. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "common/core/model_config.h"
#include "common/formats/model_source.h"

namespace mili {

struct ExpectedTensor {
  std::string name;             // canonical
  std::vector<uint64_t> shape;  // row-major
};

// In the order of the forward pass. The config is valid.
std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config);

// Puts `found` into that order. INVALID_ARGUMENT, naming the tensor, what was found and what was
// expected, if one is missing, unknown or of another shape; UNIMPLEMENTED if a norm or bias is
// quantised. `model` is the path, for messages; found names are unique.
absl::StatusOr<std::vector<TensorInfo>> MatchTensors(const ModelConfig& config,
                                                     std::vector<TensorInfo> found,
                                                     std::string_view model);

// "[2, 3]".
std::string ShapeText(const std::vector<uint64_t>& shape);

}  // namespace mili
