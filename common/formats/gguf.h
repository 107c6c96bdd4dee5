// The GGUF format, versions 2 and 3, little-endian: metadata and tensor table, from bytes to
// checked values. Reads no weights; everything in the bytes is hostile. Stateless; any thread.
// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "common/base/dtype.h"

namespace mili {

// Types of metadata values; the numbers are the format's.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// An array of strings or of numbers; one of arrays is read over and keeps its count alone.
struct GgufArray {
  GgufType type = GgufType::kUint8;
  uint64_t count = 0;
  std::vector<std::string> strings;
  std::string raw;  // numbers and bools as in the file, little-endian

  // An element of an array of whole numbers; nothing if it holds others. idx < count.
  std::optional<int64_t> IntegerAt(uint64_t idx) const;
};

// Whole numbers of every width become uint64_t, or int64_t if negative.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray>;

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> shape;  // row-major: the reverse of the file's order
  DType dtype = DType::kF32;
  uint64_t size_bytes = 0;
  uint64_t offset_bytes = 0;  // from the start of the file
};

struct GgufFile {
  std::map<std::string, GgufValue> metadata;
  std::vector<GgufTensor> tensors;  // in the file's order
};

// Fills `to` with the bytes from `offset` on; called with ranges inside the file only.
using GgufReadAt = std::function<absl::Status(uint64_t offset, std::span<std::byte> to)>;

// Parses the head of a file of `file_bytes` bytes, named `file` in messages. INVALID_ARGUMENT if it
// breaks the format or a limit, or if a tensor lies outside the file or on another; UNIMPLEMENTED
// for versions and tensor types that are not supported, by name; else what read_at returns.
absl::StatusOr<GgufFile> ParseGguf(const GgufReadAt& read_at, uint64_t file_bytes,
                                   std::string_view file);

// The type of a tensor by its number in the file; UNIMPLEMENTED, with the type's name, if it is not
// supported.
absl::StatusOr<DType> DTypeOfGguf(uint32_t type);

}  // namespace mili
