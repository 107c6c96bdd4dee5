#include "common/formats/gguf_source.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/formats/gguf.h"
#include "common/formats/gguf_config.h"
#include "common/formats/gguf_tokenizer.h"
#include "common/formats/tensor_files.h"
#include "common/formats/tensor_table.h"

namespace mili {
namespace {

constexpr std::string_view kExtension = ".gguf";
constexpr char kRopeFreqs[] = "rope_freqs.weight";
// A split's number has five digits in its name.
constexpr uint32_t kMaxSplits = 99999;

class GgufSource final : public ModelSource {
 public:
  GgufSource(std::string path, ModelConfig config, GgufMetadata metadata, TensorFiles files)
      : path_(std::move(path)),
        config_(std::move(config)),
        metadata_(std::move(metadata)),
        files_(std::move(files)) {}

  const ModelConfig& config() const override { return config_; }
  std::string_view format() const override { return "gguf"; }
  const std::vector<TensorInfo>& tensors() const override { return files_.tensors(); }
  const TensorInfo* Find(std::string_view name) const override { return files_.Find(name); }
  absl::Status ReadRows(const TensorInfo& tensor, uint64_t first_row, uint64_t num_rows,
                        std::span<std::byte> to) const override {
    return files_.ReadRows(tensor, first_row, num_rows, to);
  }
  absl::StatusOr<std::optional<TokenizerBundle>> LoadTokenizer() const override {
    return TokenizerFromGguf(metadata_, path_);
  }
  const std::string& generation_config_json() const override { return no_generation_config_; }

 private:
  const std::string path_;
  const ModelConfig config_;
  const GgufMetadata metadata_;
  const TensorFiles files_;
  const std::string no_generation_config_;
};

absl::StatusOr<GgufFile> ParseFile(const File& file) {
  return ParseGguf(
      [&](uint64_t offset, std::span<std::byte> to) { return file.ReadAt(offset, to); },
      file.size_bytes(), file.path());
}

// All files of a model, parsed.
struct ParsedFiles {
  std::vector<File> files;
  std::vector<GgufFile> parsed;
};

// Reads the other files of a split; the first, which has the metadata, is there already.
absl::Status ReadSplits(const std::string& path, const GgufMetadata& metadata, ParsedFiles& all) {
  const GgufFields fields(metadata, path);
  MILI_ASSIGN_OR_RETURN(const auto count, fields.OptionalUint32("split.count"));
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  const GgufSplitName name = ParseGgufSplitName(std::string_view(path).substr(folder.size()));
  if (count.value_or(1) <= 1 && name.count <= 1) return absl::OkStatus();
  if (count.value_or(1) != name.count) {
    return fields.Wrong("split.count", absl::StrCat("is ", count.value_or(1),
                                                    "; the file's name says ", name.count));
  }
  MILI_ASSIGN_OR_RETURN(const auto number, fields.OptionalUint32("split.no"));
  if (name.number != 1 || number.value_or(0) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is part ", name.number, " of ", name.count, "; open the first part"));
  }
  size_t num_tensors = all.parsed[0].tensors.size();
  for (uint32_t i = 2; i <= name.count; ++i) {
    const std::string part =
        absl::StrFormat("%s%s-%05d-of-%05d.gguf", folder, name.prefix, i, name.count);
    MILI_ASSIGN_OR_RETURN(File file, File::Open(part));
    MILI_ASSIGN_OR_RETURN(GgufFile parsed, ParseFile(file));
    const GgufFields part_fields(parsed.metadata, part);
    MILI_ASSIGN_OR_RETURN(const auto part_number, part_fields.OptionalUint32("split.no"));
    if (part_number && *part_number != i - 1) {
      return part_fields.Wrong("split.no", absl::StrCat("is ", *part_number, "; expected ", i - 1));
    }
    num_tensors += parsed.tensors.size();
    all.files.push_back(std::move(file));
    all.parsed.push_back(std::move(parsed));
  }
  MILI_ASSIGN_OR_RETURN(const auto total, fields.OptionalUint32("split.tensors.count"));
  if (total && *total != num_tensors) {
    return fields.Wrong("split.tensors.count",
                        absl::StrCat("is ", *total, "; the parts have ", num_tensors));
  }
  return absl::OkStatus();
}

absl::Status ReadRopeFreqs(const File& file, const GgufTensor& tensor, ModelConfig& config) {
  const uint64_t num_pairs = config.head_dim / 2;
  if (tensor.dtype != DType::kF32 || tensor.shape != std::vector<uint64_t>{num_pairs}) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.path(), ": tensor ", kRopeFreqs, " has type ", ToAbsl(NameOf(tensor.dtype)),
        ", shape ", ShapeText(tensor.shape), "; expected f32, [", num_pairs, "]"));
  }
  if (config.rope.scaling != RopeConfig::Scaling::kNone) {
    return absl::UnimplementedError(
        absl::StrCat(file.path(), ": has ", kRopeFreqs, " beside a rope scaling; expected one"));
  }
  // head_dim is not validated yet, but the file has had room for the tensor.
  config.rope.freq_factors.resize(num_pairs);
  return file.ReadAt(tensor.offset_bytes,
                     std::as_writable_bytes(std::span(config.rope.freq_factors)));
}

bool IsPermuted(const ModelConfig& config, std::string_view canonical) {
  return config.architecture == Architecture::kLlama &&
         (canonical.find(".q_proj.") != std::string_view::npos ||
          canonical.find(".k_proj.") != std::string_view::npos);
}

// Collects the tensors of all files under their canonical names.
absl::StatusOr<std::vector<TensorInfo>> CollectTensors(const ParsedFiles& all,
                                                       ModelConfig& config) {
  std::vector<TensorInfo> found;
  std::unordered_map<std::string, uint32_t> seen_in;
  for (uint32_t idx = 0; idx < all.parsed.size(); ++idx) {
    const std::string& path = all.files[idx].path();
    for (const GgufTensor& tensor : all.parsed[idx].tensors) {
      if (!seen_in.emplace(tensor.name, idx).second) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ": tensor ", tensor.name, " is in another part as well"));
      }
      if (tensor.name == kRopeFreqs) {
        MILI_RETURN_IF_ERROR(ReadRopeFreqs(all.files[idx], tensor, config));
        continue;
      }
      std::optional<std::string> name = CanonicalName(tensor.name);
      if (!name) {
        return absl::InvalidArgumentError(absl::StrCat(
            path, ": unknown tensor ", tensor.name, " of shape ", ShapeText(tensor.shape),
            "; architecture ", ToAbsl(NameOf(config.architecture)), " has none of this name"));
      }
      const uint32_t head_dim = IsPermuted(config, *name) ? config.head_dim : 0;
      found.push_back({.name = *std::move(name),
                       .name_in_file = tensor.name,
                       .dtype = tensor.dtype,
                       .shape = tensor.shape,
                       .size_bytes = tensor.size_bytes,
                       .file_idx = idx,
                       .offset_bytes = tensor.offset_bytes,
                       .permuted_head_dim = head_dim});
    }
  }
  return found;
}

}  // namespace

GgufSplitName ParseGgufSplitName(std::string_view file_name) {
  if (file_name.ends_with(kExtension)) file_name.remove_suffix(kExtension.size());
  GgufSplitName whole{.prefix = std::string(file_name)};
  constexpr std::string_view kForm = "-00000-of-00000";
  if (file_name.size() <= kForm.size()) return whole;
  const std::string_view tail = file_name.substr(file_name.size() - kForm.size());
  uint32_t numbers[2] = {0, 0};
  for (size_t i = 0, which = 0; i < kForm.size(); ++i) {
    if (kForm[i] != '0') {
      if (tail[i] != kForm[i]) return whole;
      which = i > 0 ? 1 : 0;
      continue;
    }
    if (tail[i] < '0' || tail[i] > '9') return whole;
    numbers[which] = numbers[which] * 10 + static_cast<uint32_t>(tail[i] - '0');
  }
  if (numbers[0] < 1 || numbers[0] > numbers[1] || numbers[1] > kMaxSplits) return whole;
  return {.prefix = std::string(file_name.substr(0, file_name.size() - kForm.size())),
          .number = numbers[0],
          .count = numbers[1]};
}

absl::StatusOr<std::unique_ptr<ModelSource>> OpenGguf(const std::string& path) {
  ParsedFiles all;
  MILI_ASSIGN_OR_RETURN(File first, File::Open(path));
  MILI_ASSIGN_OR_RETURN(GgufFile parsed, ParseFile(first));
  GgufMetadata metadata = std::move(parsed.metadata);
  all.files.push_back(std::move(first));
  all.parsed.push_back(std::move(parsed));
  MILI_RETURN_IF_ERROR(ReadSplits(path, metadata, all));
  std::vector<GgufTensor> tensors;
  for (const GgufFile& part : all.parsed) {
    tensors.insert(tensors.end(), part.tensors.begin(), part.tensors.end());
  }
  MILI_ASSIGN_OR_RETURN(ModelConfig config, ConfigFromGguf(metadata, tensors, path));
  config.name = ParseGgufSplitName(std::string_view(path).substr(path.rfind('/') + 1)).prefix;
  MILI_ASSIGN_OR_RETURN(std::vector<TensorInfo> found, CollectTensors(all, config));
  if (absl::Status status = Validate(config); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
  }
  MILI_ASSIGN_OR_RETURN(std::vector<TensorInfo> matched,
                        MatchTensors(config, std::move(found), path));
  return std::make_unique<GgufSource>(path, std::move(config), std::move(metadata),
                                      TensorFiles(std::move(all.files), std::move(matched)));
}

}  // namespace mili
