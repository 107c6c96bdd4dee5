// JSON of model files: parsed under limits, read field by field, every complaint naming file and
// field. Includes only the forward declarations of the JSON library, which is slow to compile.
// Stateless; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <nlohmann/json_fwd.hpp>

namespace mili {

struct JsonLimits {
  size_t max_depth = 32;
  // Keys and values together: what a file costs in memory is bounded before it is built.
  size_t max_nodes = 1u << 20;
};

// `file` is for messages only. INVALID_ARGUMENT if the text is no JSON object, breaks a limit, or
// has a key twice in one object.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view file,
                                               const JsonLimits& limits = {});

// A value as it stands in messages: its JSON text, cut short.
std::string Describe(const nlohmann::json& value);

// The fields of one JSON object. Null counts as absent. Borrows object and file name.
// Every reader returns INVALID_ARGUMENT if the field has another type or is out of range.
class JsonFields {
 public:
  // `prefix` stands before field names in messages ("rope_scaling.").
  JsonFields(const nlohmann::json& object, std::string_view file, std::string_view prefix = "")
      : object_(object), file_(file), prefix_(prefix) {}

  bool Has(const char* field) const { return Find(field) != nullptr; }
  // Null if absent.
  const nlohmann::json* Find(const char* field) const;

  absl::StatusOr<std::optional<uint32_t>> OptionalUint32(const char* field) const;
  absl::StatusOr<std::optional<double>> OptionalDouble(const char* field) const;
  absl::StatusOr<std::optional<std::string>> OptionalString(const char* field) const;
  // Absent or null: nothing.
  absl::StatusOr<std::optional<bool>> OptionalBool(const char* field) const;

  // INVALID_ARGUMENT if absent too.
  absl::StatusOr<uint32_t> Uint32(const char* field) const;
  absl::StatusOr<double> Double(const char* field) const;

  // "config.json: hidden_size is "x"; expected a whole number".
  absl::Status Wrong(const char* field, std::string_view expected) const;
  absl::Status Missing(const char* field, std::string_view expected) const;

 private:
  const nlohmann::json& object_;
  std::string_view file_;
  std::string_view prefix_;
};

}  // namespace mili
