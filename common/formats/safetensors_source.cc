#include "common/formats/safetensors_source.h"

#include <filesystem>
#include <map>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/formats/file.h"
#include "common/formats/hf_config.h"
#include "common/formats/hf_tokenizer.h"
#include "common/formats/safetensors.h"
#include "common/formats/tensor_files.h"
#include "common/formats/tensor_table.h"

namespace mili {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{4} << 20;
constexpr uint64_t kMaxIndexBytes = uint64_t{16} << 20;
constexpr char kSingle[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

class SafetensorsSource final : public ModelSource {
 public:
  SafetensorsSource(std::string directory, ModelConfig config, std::string generation_config,
                    TensorFiles files)
      : directory_(std::move(directory)),
        config_(std::move(config)),
        generation_config_(std::move(generation_config)),
        files_(std::move(files)) {}

  const ModelConfig& config() const override { return config_; }
  std::string_view format() const override { return "safetensors"; }
  const std::vector<TensorInfo>& tensors() const override { return files_.tensors(); }
  const TensorInfo* Find(std::string_view name) const override { return files_.Find(name); }
  absl::Status ReadRows(const TensorInfo& tensor, uint64_t first_row, uint64_t num_rows,
                        std::span<std::byte> to) const override {
    return files_.ReadRows(tensor, first_row, num_rows, to);
  }
  absl::StatusOr<std::optional<TokenizerBundle>> LoadTokenizer() const override {
    return LoadHfTokenizer(directory_);
  }
  const std::string& generation_config_json() const override { return generation_config_; }

 private:
  const std::string directory_;
  const ModelConfig config_;
  const std::string generation_config_;
  const TensorFiles files_;
};

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

// The last component of the path, of its canonical form if it is "." or the like.
std::string NameOfDirectory(const std::string& directory) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::canonical(directory, error);
  return (error ? std::filesystem::path(directory) : path).filename().string();
}

// Extra tensors that change nothing: RoPE's frequencies, which older files carry along, and the
// head's own copy of a tied embedding.
bool IsHarmless(const ModelConfig& config, const std::string& name) {
  return absl::EndsWith(name, ".rotary_emb.inv_freq") ||
         (config.tie_word_embeddings && name == "lm_head.weight");
}

absl::StatusOr<DType> DTypeOf(const SafetensorsEntry& entry, const std::string& path) {
  if (entry.dtype == "F32") return DType::kF32;
  if (entry.dtype == "F16") return DType::kF16;
  if (entry.dtype == "BF16") return DType::kBF16;
  return absl::UnimplementedError(absl::StrCat(path, ": tensor ", entry.name, " has dtype ",
                                               entry.dtype, "; expected F32, F16 or BF16"));
}

absl::Status AppendTensors(const ModelConfig& config, const SafetensorsFile& parsed,
                           const std::string& path, uint32_t file_idx,
                           std::vector<TensorInfo>& found) {
  for (const SafetensorsEntry& entry : parsed.entries) {
    if (IsHarmless(config, entry.name)) continue;
    MILI_ASSIGN_OR_RETURN(const DType dtype, DTypeOf(entry, path));
    found.push_back({.name = entry.name,
                     .name_in_file = entry.name,
                     .dtype = dtype,
                     .shape = entry.shape,
                     .size_bytes = entry.end - entry.begin,
                     .file_idx = file_idx,
                     .offset_bytes = parsed.data_offset_bytes + entry.begin});
  }
  return absl::OkStatus();
}

// Every tensor of a shard must be where the index says, and every one that it names there.
absl::Status CheckAgainstIndex(const std::map<std::string, std::string>& shard_of,
                               const std::string& shard, const SafetensorsFile& parsed,
                               const std::string& directory) {
  size_t num_expected = 0;
  for (const auto& [name, file] : shard_of) num_expected += file == shard ? 1 : 0;
  std::map<std::string_view, bool> present;
  for (const SafetensorsEntry& entry : parsed.entries) {
    present[entry.name] = true;
    const auto it = shard_of.find(entry.name);
    if (it == shard_of.end() || it->second != shard) {
      return absl::InvalidArgumentError(absl::StrCat(
          directory, ": tensor ", entry.name, " is in ", shard, ", but ", kIndex,
          it == shard_of.end() ? " does not name it" : absl::StrCat(" says ", it->second)));
    }
  }
  if (present.size() == num_expected) return absl::OkStatus();
  for (const auto& [name, file] : shard_of) {
    if (file == shard && !present.contains(name)) {
      return absl::InvalidArgumentError(absl::StrCat(directory, ": ", kIndex, " says that tensor ",
                                                     name, " is in ", shard, ", which lacks it"));
    }
  }
  return absl::OkStatus();
}

struct Weights {
  std::vector<File> files;
  std::vector<TensorInfo> tensors;
};

absl::StatusOr<Weights> OpenSingle(const ModelConfig& config, const std::string& path) {
  Weights weights;
  MILI_ASSIGN_OR_RETURN(File file, File::Open(path));
  MILI_ASSIGN_OR_RETURN(const SafetensorsFile parsed, ReadSafetensorsHeader(file));
  MILI_RETURN_IF_ERROR(AppendTensors(config, parsed, path, 0, weights.tensors));
  weights.files.push_back(std::move(file));
  return weights;
}

absl::StatusOr<Weights> OpenShards(const ModelConfig& config, const std::string& directory) {
  const std::string index_path = absl::StrCat(directory, "/", kIndex);
  MILI_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(index_path, kMaxIndexBytes));
  MILI_ASSIGN_OR_RETURN(const auto shard_of, ParseSafetensorsIndex(text, index_path));
  std::map<std::string, uint32_t> shards;
  for (const auto& [name, shard] : shard_of) shards.emplace(shard, 0);
  Weights weights;
  for (auto& [shard, idx] : shards) {
    const std::string path = absl::StrCat(directory, "/", shard);
    MILI_ASSIGN_OR_RETURN(File file, File::Open(path));
    MILI_ASSIGN_OR_RETURN(const SafetensorsFile parsed, ReadSafetensorsHeader(file));
    MILI_RETURN_IF_ERROR(CheckAgainstIndex(shard_of, shard, parsed, directory));
    MILI_RETURN_IF_ERROR(AppendTensors(
        config, parsed, path, static_cast<uint32_t>(weights.files.size()), weights.tensors));
    weights.files.push_back(std::move(file));
  }
  return weights;
}

absl::StatusOr<Weights> OpenWeights(const ModelConfig& config, const std::string& directory) {
  const std::string single = absl::StrCat(directory, "/", kSingle);
  // Where a directory has both, the single file is whole by itself, as transformers takes it.
  if (Exists(single)) return OpenSingle(config, single);
  if (Exists(absl::StrCat(directory, "/", kIndex))) return OpenShards(config, directory);
  return absl::NotFoundError(absl::StrCat(directory, ": has neither ", kSingle, " nor ", kIndex));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelSource>> OpenHfDirectory(const std::string& directory) {
  MILI_ASSIGN_OR_RETURN(const std::string config_text,
                        ReadTextFile(directory + "/config.json", kMaxConfigBytes));
  std::string generation_config;
  const std::string generation_path = directory + "/generation_config.json";
  if (Exists(generation_path)) {
    MILI_ASSIGN_OR_RETURN(generation_config, ReadTextFile(generation_path, kMaxConfigBytes));
  }
  absl::StatusOr<ModelConfig> config = ParseHfConfig(config_text, generation_config);
  if (!config.ok()) {
    return absl::Status(config.status().code(),
                        absl::StrCat(directory, "/", config.status().message()));
  }
  config->name = NameOfDirectory(directory);
  MILI_ASSIGN_OR_RETURN(Weights weights, OpenWeights(*config, directory));
  MILI_ASSIGN_OR_RETURN(std::vector<TensorInfo> matched,
                        MatchTensors(*config, std::move(weights.tensors), directory));
  return std::make_unique<SafetensorsSource>(
      directory, *std::move(config), std::move(generation_config),
      TensorFiles(std::move(weights.files), std::move(matched)));
}

}  // namespace mili
