#include "common/formats/safetensors.h"

#include <algorithm>
#include <optional>
#include <span>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/formats/json.h"

namespace mili {
namespace {

using nlohmann::json;

constexpr size_t kMaxTensors = 1u << 16;
constexpr size_t kMaxDims = 8;
constexpr size_t kMaxNameBytes = 1024;

absl::Status Bad(std::string_view file, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(file), ": ", what));
}

std::optional<uint64_t> BytesPerElement(std::string_view dtype) {
  for (const auto& [name, bytes] : {
           std::pair<std::string_view, uint64_t>{"F64", 8},
           {"F32", 4},
           {"F16", 2},
           {"BF16", 2},
           {"I64", 8},
           {"I32", 4},
           {"I16", 2},
           {"I8", 1},
           {"U64", 8},
           {"U32", 4},
           {"U16", 2},
           {"U8", 1},
           {"BOOL", 1},
           {"F8_E4M3", 1},
           {"F8_E5M2", 1},
       }) {
    if (name == dtype) return bytes;
  }
  return std::nullopt;
}

// The numbers of an array, if it holds nothing but whole numbers and at most `max` of them.
std::optional<std::vector<uint64_t>> WholeNumbers(const json& array, size_t max) {
  if (!array.is_array() || array.size() > max) return std::nullopt;
  std::vector<uint64_t> numbers;
  for (const json& value : array) {
    if (!value.is_number_unsigned()) return std::nullopt;
    numbers.push_back(value.get<uint64_t>());
  }
  return numbers;
}

absl::StatusOr<SafetensorsEntry> ParseEntry(const std::string& name, const json& value,
                                            uint64_t data_bytes, std::string_view file) {
  const std::string who = absl::StrCat("tensor ", name.substr(0, 200));
  if (name.empty() || name.size() > kMaxNameBytes) {
    return Bad(file, absl::StrCat(who, ": the name has ", name.size(), " bytes; expected 1 to ",
                                  kMaxNameBytes));
  }
  if (!value.is_object()) return Bad(file, absl::StrCat(who, ": expected an object"));
  const JsonFields fields(value, file);
  SafetensorsEntry entry;
  entry.name = name;
  const json* dtype = fields.Find("dtype");
  if (dtype == nullptr || !dtype->is_string()) {
    return Bad(file, absl::StrCat(who, ": expected a dtype, such as \"BF16\""));
  }
  entry.dtype = dtype->get<std::string>();
  const std::optional<uint64_t> element_bytes = BytesPerElement(entry.dtype);
  if (!element_bytes) {
    return Bad(file, absl::StrCat(who, ": unknown dtype ", Describe(*dtype)));
  }
  const json* shape_json = fields.Find("shape");
  auto shape = shape_json ? WholeNumbers(*shape_json, kMaxDims) : std::nullopt;
  if (!shape) {
    return Bad(file,
               absl::StrCat(who, ": expected a shape of at most ", kMaxDims, " whole numbers"));
  }
  const json* offsets_json = fields.Find("data_offsets");
  auto offsets = offsets_json ? WholeNumbers(*offsets_json, 2) : std::nullopt;
  if (!offsets || offsets->size() != 2 || (*offsets)[0] > (*offsets)[1]) {
    return Bad(file, absl::StrCat(who, ": expected data_offsets [begin, end]"));
  }
  entry.shape = *std::move(shape);
  entry.begin = (*offsets)[0];
  entry.end = (*offsets)[1];
  if (entry.end > data_bytes) {
    return Bad(file, absl::StrCat(who, ": ends at byte ", entry.end, " of the data; the file has ",
                                  data_bytes));
  }
  uint64_t bytes = *element_bytes;
  for (const uint64_t dim : entry.shape) {
    if (__builtin_mul_overflow(bytes, dim, &bytes)) {
      return Bad(file, absl::StrCat(who, ": the product of the shape overflows"));
    }
  }
  if (bytes != entry.end - entry.begin) {
    return Bad(file, absl::StrCat(who, ": has ", entry.end - entry.begin,
                                  " bytes; its shape and dtype take ", bytes));
  }
  return entry;
}

absl::Status CheckCover(const std::vector<SafetensorsEntry>& entries, uint64_t data_bytes,
                        std::string_view file) {
  std::vector<const SafetensorsEntry*> by_place;
  for (const SafetensorsEntry& entry : entries) by_place.push_back(&entry);
  std::sort(by_place.begin(), by_place.end(), [](const auto* a, const auto* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  uint64_t covered = 0;
  for (const SafetensorsEntry* entry : by_place) {
    if (entry->begin != covered) {
      return Bad(file,
                 absl::StrCat("tensor ", entry->name, ": begins at byte ", entry->begin,
                              entry->begin < covered ? " inside another tensor" : " after a hole",
                              "; expected ", covered));
    }
    covered = entry->end;
  }
  if (covered != data_bytes) {
    return Bad(file, absl::StrCat("the tensors take ", covered, " bytes; the file has ", data_bytes,
                                  " after its header"));
  }
  return absl::OkStatus();
}

absl::Status CheckMetadata(const json& metadata, std::string_view file) {
  if (!metadata.is_object()) return Bad(file, "__metadata__ is no object");
  for (const auto& [key, value] : metadata.items()) {
    if (!value.is_string()) {
      return Bad(file, absl::StrCat("__metadata__.", key.substr(0, 100), " is no string"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(std::string_view header,
                                                                     uint64_t data_bytes,
                                                                     std::string_view file) {
  if (header.empty() || header[0] != '{') return Bad(file, "the header does not begin with '{'");
  MILI_ASSIGN_OR_RETURN(const json table, ParseJsonObject(header, file, {.max_depth = 4}));
  if (table.size() > kMaxTensors) {
    return Bad(file, absl::StrCat(table.size(), " tensors; at most ", kMaxTensors, " expected"));
  }
  std::vector<SafetensorsEntry> entries;
  entries.reserve(table.size());
  for (const auto& [name, value] : table.items()) {
    if (name == "__metadata__") {
      MILI_RETURN_IF_ERROR(CheckMetadata(value, file));
      continue;
    }
    MILI_ASSIGN_OR_RETURN(SafetensorsEntry entry, ParseEntry(name, value, data_bytes, file));
    entries.push_back(std::move(entry));
  }
  MILI_RETURN_IF_ERROR(CheckCover(entries, data_bytes, file));
  return entries;
}

absl::StatusOr<SafetensorsFile> ReadSafetensorsHeader(const File& file) {
  constexpr uint64_t kLengthBytes = 8;
  if (file.size_bytes() < kLengthBytes) {
    return Bad(file.path(), absl::StrCat("has ", file.size_bytes(),
                                         " bytes; a safetensors file has at least 8"));
  }
  std::byte raw[kLengthBytes];
  MILI_RETURN_IF_ERROR(file.ReadAt(0, raw));
  uint64_t header_bytes = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i) {
    header_bytes = header_bytes << 8 | std::to_integer<uint64_t>(raw[i]);
  }
  const uint64_t left = file.size_bytes() - kLengthBytes;
  if (header_bytes > left || header_bytes > kMaxSafetensorsHeaderBytes) {
    return Bad(file.path(),
               absl::StrCat("its header claims ", header_bytes, " bytes; the file has ", left,
                            " more, and at most ", kMaxSafetensorsHeaderBytes, " are allowed"));
  }
  std::string header(header_bytes, '\0');
  MILI_RETURN_IF_ERROR(file.ReadAt(kLengthBytes, std::as_writable_bytes(std::span(header))));
  SafetensorsFile parsed{.entries = {}, .data_offset_bytes = kLengthBytes + header_bytes};
  MILI_ASSIGN_OR_RETURN(parsed.entries,
                        ParseSafetensorsHeader(header, left - header_bytes, file.path()));
  return parsed;
}

absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view text,
                                                                         std::string_view file) {
  MILI_ASSIGN_OR_RETURN(const json index, ParseJsonObject(text, file));
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object() || weight_map->empty()) {
    return Bad(file, "weight_map is missing; expected tensor names and their files");
  }
  if (weight_map->size() > kMaxTensors) {
    return Bad(file,
               absl::StrCat(weight_map->size(), " tensors; at most ", kMaxTensors, " expected"));
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, value] : weight_map->items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : "";
    const bool plain = !shard.empty() && shard.size() <= 255 &&
                       shard.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos &&
                       shard.find("..") == std::string::npos;
    if (!plain) {
      return Bad(file, absl::StrCat("tensor ", name.substr(0, 200), " is in ", Describe(value),
                                    "; expected a plain file name"));
    }
    shard_of.emplace(name, shard);
  }
  return shard_of;
}

}  // namespace mili
