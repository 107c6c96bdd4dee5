// GgufFields: typed access to GGUF metadata, every complaint naming file and key. Borrows the
// metadata; immutable; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "common/formats/gguf.h"

namespace mili {

using GgufMetadata = std::map<std::string, GgufValue>;

// Readers of one key; nothing if it is absent, INVALID_ARGUMENT ("file: key: ...") if it has
// another type or is out of range.
class GgufFields {
 public:
  // Borrows both.
  GgufFields(const GgufMetadata& metadata, std::string_view file)
      : metadata_(metadata), file_(file) {}

  const GgufValue* Find(const std::string& key) const;
  absl::StatusOr<std::optional<uint32_t>> OptionalUint32(const std::string& key) const;
  absl::StatusOr<std::optional<double>> OptionalDouble(const std::string& key) const;
  absl::StatusOr<std::optional<bool>> OptionalBool(const std::string& key) const;
  absl::StatusOr<std::optional<std::string>> OptionalString(const std::string& key) const;
  // Null if absent.
  absl::StatusOr<const GgufArray*> OptionalArray(const std::string& key) const;

  absl::StatusOr<uint32_t> Uint32(const std::string& key) const;
  absl::StatusOr<double> Double(const std::string& key) const;

  absl::Status Wrong(const std::string& key, std::string_view what) const;
  absl::Status Unsupported(const std::string& key, std::string_view what) const;

 private:
  const GgufMetadata& metadata_;
  std::string_view file_;
};

}  // namespace mili
