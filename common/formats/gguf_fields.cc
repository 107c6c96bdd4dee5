#include "common/formats/gguf_fields.h"

#include <cmath>
#include <limits>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"

namespace mili {

const GgufValue* GgufFields::Find(const std::string& key) const {
  const auto it = metadata_.find(key);
  return it == metadata_.end() ? nullptr : &it->second;
}

absl::Status GgufFields::Wrong(const std::string& key, std::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(file_), ": ", key, " ", ToAbsl(what)));
}

absl::Status GgufFields::Unsupported(const std::string& key, std::string_view what) const {
  return absl::UnimplementedError(absl::StrCat(ToAbsl(file_), ": ", key, " ", ToAbsl(what)));
}

absl::StatusOr<std::optional<uint32_t>> GgufFields::OptionalUint32(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const uint64_t* whole = std::get_if<uint64_t>(value);
  if (whole == nullptr || *whole > std::numeric_limits<uint32_t>::max()) {
    if (std::holds_alternative<GgufArray>(*value)) {
      return Unsupported(key, "is an array, one value a layer; expected one whole number");
    }
    return Wrong(key, "has another type or size; expected a whole number of at most 32 bits");
  }
  return static_cast<uint32_t>(*whole);
}

absl::StatusOr<std::optional<double>> GgufFields::OptionalDouble(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  double number = 0;
  if (const auto* real = std::get_if<double>(value)) {
    number = *real;
  } else if (const auto* whole = std::get_if<uint64_t>(value)) {
    number = static_cast<double>(*whole);
  } else {
    return Wrong(key, "has another type; expected a number");
  }
  if (!std::isfinite(number)) return Wrong(key, "is not finite; expected a number");
  return number;
}

absl::StatusOr<std::optional<bool>> GgufFields::OptionalBool(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const bool* flag = std::get_if<bool>(value);
  if (flag == nullptr) return Wrong(key, "has another type; expected a bool");
  return *flag;
}

absl::StatusOr<std::optional<std::string>> GgufFields::OptionalString(
    const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const std::string* text = std::get_if<std::string>(value);
  if (text == nullptr) return Wrong(key, "has another type; expected a string");
  return *text;
}

absl::StatusOr<const GgufArray*> GgufFields::OptionalArray(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return nullptr;
  const GgufArray* array = std::get_if<GgufArray>(value);
  if (array == nullptr) return Wrong(key, "has another type; expected an array");
  return array;
}

absl::StatusOr<uint32_t> GgufFields::Uint32(const std::string& key) const {
  MILI_ASSIGN_OR_RETURN(const auto value, OptionalUint32(key));
  if (!value) return Wrong(key, "is missing; expected a whole number");
  return *value;
}

absl::StatusOr<double> GgufFields::Double(const std::string& key) const {
  MILI_ASSIGN_OR_RETURN(const auto value, OptionalDouble(key));
  if (!value) return Wrong(key, "is missing; expected a number");
  return *value;
}

}  // namespace mili
