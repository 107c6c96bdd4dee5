#include "router/api/served_model.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "common/wire/status_wire.h"

namespace mili::router {
namespace {

using Json = nlohmann::json;

// Reads `key` as a number in [min, max]; absent and null are nothing.
absl::Status ReadNumber(const Json& json, const char* key, double min, double max,
                        std::optional<double>* value) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return absl::OkStatus();
  const std::string field = std::string("generation_config.") + key;
  if (!it->is_number()) return BadField(field, "must be a number, found " + it->dump());
  const double found = it->get<double>();
  if (!(found >= min && found <= max)) {
    return BadField(field, "is " + it->dump() + ", out of range; correct the file or pass " +
                               "--generation-config none");
  }
  *value = found;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SamplingDefaults> ParseSamplingDefaults(std::string_view text) {
  SamplingDefaults defaults;
  if (text.empty()) return defaults;
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError("generation_config is no JSON object");
  }
  const std::vector<absl::Status> outcomes = {
      ReadNumber(json, "temperature", 0, 100, &defaults.temperature),
      ReadNumber(json, "top_p", 1e-6, 1, &defaults.top_p),
      ReadNumber(json, "min_p", 0, 1, &defaults.min_p),
      ReadNumber(json, "repetition_penalty", 1e-6, 1e6, &defaults.repetition_penalty)};
  for (const absl::Status& outcome : outcomes) {
    if (!outcome.ok()) return outcome;
  }
  std::optional<double> top_k;
  if (absl::Status s = ReadNumber(json, "top_k", -1, 1 << 30, &top_k); !s.ok()) return s;
  if (top_k.has_value()) defaults.top_k = static_cast<int64_t>(std::llround(*top_k));
  return defaults;
}

std::string ToJson(const SamplingDefaults& defaults) {
  Json json = Json::object();
  if (defaults.temperature) json["temperature"] = *defaults.temperature;
  if (defaults.top_p) json["top_p"] = *defaults.top_p;
  if (defaults.top_k) json["top_k"] = *defaults.top_k;
  if (defaults.min_p) json["min_p"] = *defaults.min_p;
  if (defaults.repetition_penalty) json["repetition_penalty"] = *defaults.repetition_penalty;
  return json.dump();
}

}  // namespace mili::router
