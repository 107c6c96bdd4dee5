// GgufCursor: reads the head of a GGUF file in order: numbers, strings, metadata values. Checks
// every claimed size against the bytes that are left before it allocates. For ParseGguf only; one
// thread.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "common/base/status_macros.h"
#include "common/formats/gguf.h"

namespace mili {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies in the file");

class GgufCursor {
 public:
  // Borrows read_at and the file's name, which is for messages.
  GgufCursor(const GgufReadAt& read_at, uint64_t file_bytes, std::string_view file)
      : read_at_(read_at), file_bytes_(file_bytes), file_(file) {}

  std::string_view file() const { return file_; }
  uint64_t position() const { return position_; }
  // Bytes that may still be read: to the end of the file or of the longest head allowed.
  uint64_t left() const;

  // INVALID_ARGUMENT: "file: what".
  absl::Status Bad(const std::string& what) const;

  // `what` names in messages what is being read.
  absl::Status Read(char* to, uint64_t num_bytes, std::string_view what);
  absl::StatusOr<std::string> String(uint64_t max_bytes, std::string_view what);
  template <typename T>
  absl::StatusOr<T> Number(std::string_view what) {
    std::array<char, sizeof(T)> raw;
    MILI_RETURN_IF_ERROR(Read(raw.data(), raw.size(), what));
    T value;
    std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }
  // A metadata value with the type that stands before it.
  absl::StatusOr<GgufValue> Value(std::string_view key);

 private:
  absl::StatusOr<GgufType> Type(std::string_view key);
  absl::StatusOr<GgufArray> Array(std::string_view key, int depth);

  const GgufReadAt& read_at_;
  const uint64_t file_bytes_;
  const std::string_view file_;
  uint64_t position_ = 0;
  uint64_t buffer_begin_ = 0;
  std::string buffer_;
};

}  // namespace mili
