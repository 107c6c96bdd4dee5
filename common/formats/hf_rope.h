// The rotary part of config.json: rope_theta with rope_scaling, or the newer rope_parameters.
// Stateless; any thread.
#pragma once

#include <absl/status/statusor.h>
#include <nlohmann/json_fwd.hpp>

#include "common/core/model_config.h"

namespace mili {

// UNIMPLEMENTED for a rope_type other than default, linear and llama3, by name.
absl::StatusOr<RopeConfig> ParseHfRope(const nlohmann::json& config);

}  // namespace mili
