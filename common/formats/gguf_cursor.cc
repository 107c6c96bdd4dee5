#include "common/formats/gguf_cursor.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/strings.h"

namespace mili {
namespace {

constexpr uint64_t kMaxHeadBytes = uint64_t{1} << 28;
constexpr uint64_t kMaxStringBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxArrayCount = uint64_t{1} << 24;
constexpr int kMaxArrayDepth = 4;
constexpr size_t kBufferBytes = size_t{1} << 18;

// Bytes of one value in the file; 0 if they are not fixed.
uint64_t BytesOf(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

template <typename T>
T Load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

GgufValue NumberFrom(GgufType type, const char* from) {
  const auto whole = [](int64_t value) -> GgufValue {
    if (value < 0) return value;
    return static_cast<uint64_t>(value);
  };
  switch (type) {
    case GgufType::kUint8:
      return uint64_t{Load<uint8_t>(from)};
    case GgufType::kInt8:
      return whole(Load<int8_t>(from));
    case GgufType::kUint16:
      return uint64_t{Load<uint16_t>(from)};
    case GgufType::kInt16:
      return whole(Load<int16_t>(from));
    case GgufType::kUint32:
      return uint64_t{Load<uint32_t>(from)};
    case GgufType::kInt32:
      return whole(Load<int32_t>(from));
    case GgufType::kFloat32:
      return double{Load<float>(from)};
    case GgufType::kUint64:
      return Load<uint64_t>(from);
    case GgufType::kInt64:
      return whole(Load<int64_t>(from));
    case GgufType::kFloat64:
      return Load<double>(from);
    default:
      return Load<uint8_t>(from) != 0;
  }
}

}  // namespace

std::optional<int64_t> GgufArray::IntegerAt(uint64_t idx) const {
  const uint64_t width = BytesOf(type);
  if (width == 0 || idx >= count) return std::nullopt;
  const GgufValue value = NumberFrom(type, raw.data() + idx * width);
  if (const auto* negative = std::get_if<int64_t>(&value)) return *negative;
  const auto* whole = std::get_if<uint64_t>(&value);
  if (whole == nullptr || *whole > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<int64_t>(*whole);
}

uint64_t GgufCursor::left() const { return std::min(file_bytes_, kMaxHeadBytes) - position_; }

absl::Status GgufCursor::Bad(const std::string& what) const {
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(file_), ": ", what));
}

absl::Status GgufCursor::Read(char* to, uint64_t num_bytes, std::string_view what) {
  if (num_bytes > left()) {
    return Bad(absl::StrCat(ToAbsl(what), " needs ", num_bytes, " bytes at byte ", position_, "; ",
                            left(), " are left"));
  }
  while (num_bytes > 0) {
    if (position_ < buffer_begin_ || position_ >= buffer_begin_ + buffer_.size()) {
      buffer_.resize(std::min<uint64_t>(kBufferBytes, file_bytes_ - position_));
      buffer_begin_ = position_;
      MILI_RETURN_IF_ERROR(read_at_(position_, std::as_writable_bytes(std::span(buffer_))));
    }
    const uint64_t at = position_ - buffer_begin_;
    const uint64_t now = std::min<uint64_t>(num_bytes, buffer_.size() - at);
    std::memcpy(to, buffer_.data() + at, now);
    to += now;
    position_ += now;
    num_bytes -= now;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> GgufCursor::String(uint64_t max_bytes, std::string_view what) {
  MILI_ASSIGN_OR_RETURN(const uint64_t size, Number<uint64_t>(what));
  if (size > max_bytes || size > left()) {
    return Bad(absl::StrCat(ToAbsl(what), " claims ", size, " bytes; at most ", max_bytes,
                            " allowed, ", left(), " left in the file"));
  }
  std::string text(size, '\0');
  MILI_RETURN_IF_ERROR(Read(text.data(), size, what));
  return text;
}

absl::StatusOr<GgufType> GgufCursor::Type(std::string_view key) {
  MILI_ASSIGN_OR_RETURN(const uint32_t type, Number<uint32_t>(key));
  if (type > static_cast<uint32_t>(GgufType::kFloat64)) {
    return Bad(absl::StrCat(ToAbsl(key), " has value type ", type, "; expected 0 to 12"));
  }
  return static_cast<GgufType>(type);
}

absl::StatusOr<GgufArray> GgufCursor::Array(std::string_view key, int depth) {
  if (depth > kMaxArrayDepth) {
    return Bad(absl::StrCat(ToAbsl(key), " nests arrays deeper than ", kMaxArrayDepth));
  }
  GgufArray array;
  MILI_ASSIGN_OR_RETURN(array.type, Type(key));
  MILI_ASSIGN_OR_RETURN(array.count, Number<uint64_t>(key));
  // The least that an element takes in the file: a string its length, an array type and count.
  const uint64_t fixed = BytesOf(array.type);
  const uint64_t least = fixed != 0 ? fixed : array.type == GgufType::kString ? 8 : 12;
  if (array.count > kMaxArrayCount || array.count > left() / least) {
    return Bad(absl::StrCat(ToAbsl(key), " claims ", array.count, " elements; at most ",
                            kMaxArrayCount, " allowed, ", left(), " bytes left in the file"));
  }
  if (fixed != 0) {
    array.raw.resize(array.count * fixed);
    MILI_RETURN_IF_ERROR(Read(array.raw.data(), array.raw.size(), key));
    return array;
  }
  for (uint64_t i = 0; i < array.count; ++i) {
    if (array.type == GgufType::kString) {
      MILI_ASSIGN_OR_RETURN(std::string text, String(kMaxStringBytes, key));
      array.strings.push_back(std::move(text));
    } else {
      MILI_RETURN_IF_ERROR(Array(key, depth + 1).status());
    }
  }
  return array;
}

absl::StatusOr<GgufValue> GgufCursor::Value(std::string_view key) {
  MILI_ASSIGN_OR_RETURN(const GgufType type, Type(key));
  if (type == GgufType::kString) return String(kMaxStringBytes, key);
  if (type == GgufType::kArray) return Array(key, 1);
  std::array<char, 8> raw;
  MILI_RETURN_IF_ERROR(Read(raw.data(), BytesOf(type), key));
  return NumberFrom(type, raw.data());
}

}  // namespace mili
