#include "common/formats/gguf.h"

#include <algorithm>
#include <set>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/formats/gguf_cursor.h"

namespace mili {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxKeyValues = uint64_t{1} << 14;
constexpr uint64_t kMaxTensors = uint64_t{1} << 16;
constexpr uint64_t kMaxTensorNameBytes = 64;
constexpr uint32_t kMaxDims = 4;

absl::Status ReadMetadata(GgufCursor& cursor, uint64_t count, GgufFile& parsed) {
  for (uint64_t i = 0; i < count; ++i) {
    MILI_ASSIGN_OR_RETURN(std::string key, cursor.String(kMaxKeyBytes, "a metadata key"));
    const std::string shown = key.substr(0, 100);
    MILI_ASSIGN_OR_RETURN(GgufValue value, cursor.Value(shown));
    if (!parsed.metadata.emplace(std::move(key), std::move(value)).second) {
      return cursor.Bad(absl::StrCat("the key ", shown, " occurs twice"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Alignment(const GgufCursor& cursor, const GgufFile& parsed) {
  const auto it = parsed.metadata.find("general.alignment");
  if (it == parsed.metadata.end()) return uint64_t{32};
  const uint64_t* value = std::get_if<uint64_t>(&it->second);
  if (value == nullptr || *value == 0 || *value % 8 != 0 || *value > (1u << 20)) {
    return cursor.Bad("general.alignment: expected a multiple of 8, at most 1 MiB");
  }
  return *value;
}

// A tensor's line of the table; offset_bytes still counts from the data section.
absl::StatusOr<GgufTensor> ReadTensor(GgufCursor& cursor) {
  GgufTensor tensor;
  MILI_ASSIGN_OR_RETURN(tensor.name, cursor.String(kMaxTensorNameBytes, "a tensor's name"));
  const std::string who = absl::StrCat("tensor ", tensor.name);
  MILI_ASSIGN_OR_RETURN(const uint32_t num_dims, cursor.Number<uint32_t>(who));
  if (num_dims == 0 || num_dims > kMaxDims) {
    return cursor.Bad(absl::StrCat(who, " has ", num_dims, " dimensions; expected 1 to 4"));
  }
  uint64_t num_elements = 1;
  for (uint32_t i = 0; i < num_dims; ++i) {
    MILI_ASSIGN_OR_RETURN(const uint64_t dim, cursor.Number<uint64_t>(who));
    if (dim == 0 || __builtin_mul_overflow(num_elements, dim, &num_elements)) {
      return cursor.Bad(absl::StrCat(who, " has a dimension of ", dim,
                                     "; expected a positive one, the product under 2^64"));
    }
    tensor.shape.insert(tensor.shape.begin(), dim);
  }
  MILI_ASSIGN_OR_RETURN(const uint32_t type, cursor.Number<uint32_t>(who));
  const absl::StatusOr<DType> dtype = DTypeOfGguf(type);
  if (!dtype.ok()) {
    return absl::UnimplementedError(
        absl::StrCat(ToAbsl(cursor.file()), ": ", who, ": ", dtype.status().message()));
  }
  tensor.dtype = *dtype;
  const DTypeTraits traits = TraitsOf(tensor.dtype);
  if (tensor.shape.back() % traits.block_elements != 0) {
    return cursor.Bad(absl::StrCat(who, " has rows of ", tensor.shape.back(), " elements; type ",
                                   ToAbsl(traits.name), " needs a multiple of ",
                                   traits.block_elements));
  }
  if (__builtin_mul_overflow(num_elements / traits.block_elements, traits.block_bytes,
                             &tensor.size_bytes)) {
    return cursor.Bad(absl::StrCat(who, " is larger than 2^64 bytes"));
  }
  MILI_ASSIGN_OR_RETURN(tensor.offset_bytes, cursor.Number<uint64_t>(who));
  return tensor;
}

// Places the tensors in the file and refuses any that leave it or lie on another.
absl::Status PlaceTensors(const GgufCursor& cursor, uint64_t alignment, uint64_t file_bytes,
                          std::vector<GgufTensor>& tensors) {
  const uint64_t data_begin = (cursor.position() + alignment - 1) / alignment * alignment;
  const uint64_t data_bytes = file_bytes > data_begin ? file_bytes - data_begin : 0;
  std::vector<std::pair<uint64_t, const GgufTensor*>> by_place;
  std::set<std::string_view> names;
  for (GgufTensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      return cursor.Bad(absl::StrCat("tensor ", tensor.name, " occurs twice"));
    }
    if (tensor.offset_bytes % alignment != 0) {
      return cursor.Bad(absl::StrCat("tensor ", tensor.name, " is at offset ", tensor.offset_bytes,
                                     "; expected a multiple of ", alignment));
    }
    if (tensor.offset_bytes > data_bytes || tensor.size_bytes > data_bytes - tensor.offset_bytes) {
      return cursor.Bad(absl::StrCat("tensor ", tensor.name, " takes ", tensor.size_bytes,
                                     " bytes at offset ", tensor.offset_bytes,
                                     " of the data; the file has ", data_bytes,
                                     " there: is it complete?"));
    }
    tensor.offset_bytes += data_begin;
    by_place.emplace_back(tensor.offset_bytes, &tensor);
  }
  std::sort(by_place.begin(), by_place.end());
  for (size_t i = 1; i < by_place.size(); ++i) {
    const GgufTensor& before = *by_place[i - 1].second;
    if (before.offset_bytes + before.size_bytes > by_place[i].first) {
      return cursor.Bad(
          absl::StrCat("tensors ", before.name, " and ", by_place[i].second->name, " overlap"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GgufFile> ParseGguf(const GgufReadAt& read_at, uint64_t file_bytes,
                                   std::string_view file) {
  GgufCursor cursor(read_at, file_bytes, file);
  MILI_ASSIGN_OR_RETURN(const uint32_t magic, cursor.Number<uint32_t>("the magic number"));
  if (magic != kMagic) {
    return cursor.Bad(
        "is no GGUF file (it does not begin with \"GGUF\"); give one, or a directory with "
        "safetensors files");
  }
  MILI_ASSIGN_OR_RETURN(const uint32_t version, cursor.Number<uint32_t>("the version"));
  if (version != 2 && version != 3) {
    return absl::UnimplementedError(
        absl::StrCat(ToAbsl(file), ": GGUF version ", version, "; expected 2 or 3",
                     (version & 0xffff) == 0 ? " (a big-endian file?)" : ""));
  }
  MILI_ASSIGN_OR_RETURN(const uint64_t num_tensors, cursor.Number<uint64_t>("the tensor count"));
  MILI_ASSIGN_OR_RETURN(const uint64_t num_kvs, cursor.Number<uint64_t>("the metadata count"));
  if (num_tensors > kMaxTensors || num_kvs > kMaxKeyValues) {
    return cursor.Bad(absl::StrCat("claims ", num_tensors, " tensors and ", num_kvs,
                                   " metadata; at most ", kMaxTensors, " and ", kMaxKeyValues,
                                   " allowed"));
  }
  GgufFile parsed;
  MILI_RETURN_IF_ERROR(ReadMetadata(cursor, num_kvs, parsed));
  MILI_ASSIGN_OR_RETURN(const uint64_t alignment, Alignment(cursor, parsed));
  for (uint64_t i = 0; i < num_tensors; ++i) {
    MILI_ASSIGN_OR_RETURN(GgufTensor tensor, ReadTensor(cursor));
    parsed.tensors.push_back(std::move(tensor));
  }
  MILI_RETURN_IF_ERROR(PlaceTensors(cursor, alignment, file_bytes, parsed.tensors));
  return parsed;
}

}  // namespace mili
