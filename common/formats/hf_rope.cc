#include "common/formats/hf_rope.h"

#include <optional>
#include <string>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "common/base/status_macros.h"
#include "common/formats/json.h"

namespace mili {
namespace {

using nlohmann::json;

constexpr char kFile[] = "config.json";

absl::Status ParseScaling(const JsonFields& fields, RopeConfig& rope) {
  MILI_ASSIGN_OR_RETURN(std::optional<std::string> type, fields.OptionalString("rope_type"));
  if (!type) {
    MILI_ASSIGN_OR_RETURN(type, fields.OptionalString("type"));
  }
  if (!type || *type == "default") return absl::OkStatus();
  if (*type == "linear") {
    rope.scaling = RopeConfig::Scaling::kLinear;
    MILI_ASSIGN_OR_RETURN(rope.factor, fields.Double("factor"));
    return absl::OkStatus();
  }
  if (*type == "llama3") {
    rope.scaling = RopeConfig::Scaling::kLlama3;
    MILI_ASSIGN_OR_RETURN(rope.factor, fields.Double("factor"));
    MILI_ASSIGN_OR_RETURN(rope.low_freq_factor, fields.Double("low_freq_factor"));
    MILI_ASSIGN_OR_RETURN(rope.high_freq_factor, fields.Double("high_freq_factor"));
    MILI_ASSIGN_OR_RETURN(rope.original_max_position,
                          fields.Uint32("original_max_position_embeddings"));
    return absl::OkStatus();
  }
  return absl::UnimplementedError(absl::StrCat(kFile, ": rope_type is \"", type->substr(0, 80),
                                               "\"; supported are default, linear and llama3"));
}

}  // namespace

absl::StatusOr<RopeConfig> ParseHfRope(const json& config) {
  const JsonFields fields(config, kFile);
  RopeConfig rope;
  MILI_ASSIGN_OR_RETURN(const std::optional<double> theta, fields.OptionalDouble("rope_theta"));
  if (theta) rope.theta = *theta;
  MILI_ASSIGN_OR_RETURN(const std::optional<double> partial,
                        fields.OptionalDouble("partial_rotary_factor"));
  if (partial && *partial != 1.0) {
    return absl::UnimplementedError(
        absl::StrCat(kFile, ": partial_rotary_factor is ", *partial, "; only 1 is supported"));
  }
  for (const char* field : {"rope_parameters", "rope_scaling"}) {
    const json* nested = fields.Find(field);
    if (nested == nullptr) continue;
    if (!nested->is_object()) return fields.Wrong(field, "an object");
    const std::string prefix = absl::StrCat(field, ".");
    const JsonFields inner(*nested, kFile, prefix);
    MILI_ASSIGN_OR_RETURN(const std::optional<double> inner_theta,
                          inner.OptionalDouble("rope_theta"));
    if (inner_theta) rope.theta = *inner_theta;
    MILI_ASSIGN_OR_RETURN(const std::optional<double> inner_partial,
                          inner.OptionalDouble("partial_rotary_factor"));
    if (inner_partial && *inner_partial != 1.0) {
      return absl::UnimplementedError(absl::StrCat(kFile, ": ", prefix, "partial_rotary_factor is ",
                                                   *inner_partial, "; only 1 is supported"));
    }
    MILI_RETURN_IF_ERROR(ParseScaling(inner, rope));
    break;  // rope_parameters replaces rope_scaling where a file has both
  }
  return rope;
}

}  // namespace mili
