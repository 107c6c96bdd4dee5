#include "common/formats/model_source.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include "common/base/sha256.h"
#include "common/base/strings.h"
#include "common/formats/gguf_source.h"
#include "common/formats/safetensors_source.h"

namespace mili {
namespace {

namespace fs = std::filesystem;

// A directory that is no model often holds one: say which file to name.
std::string HintOfGgufIn(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".gguf") names.push_back(it->path().filename().string());
  }
  if (names.empty()) return "";
  return absl::StrCat("; to serve a GGUF file name it: ", directory, "/",
                      *std::min_element(names.begin(), names.end()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelSource>> ModelSource::Open(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    return absl::NotFoundError(absl::StrCat(
        path, ": no such file or directory; expected a GGUF file or a model directory"));
  }
  if (!fs::is_directory(status)) {
    if (fs::path(path).extension() == ".safetensors") {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": name the directory, which has the config.json, not this file"));
    }
    return OpenGguf(path);
  }
  std::string directory = path;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  if (!fs::exists(directory + "/config.json", error)) {
    return absl::NotFoundError(
        absl::StrCat(directory, ": has no config.json", HintOfGgufIn(directory)));
  }
  return OpenHfDirectory(directory);
}

uint64_t ModelSource::weights_bytes() const {
  uint64_t bytes = 0;
  for (const TensorInfo& tensor : tensors()) bytes += tensor.size_bytes;
  return bytes;
}

uint64_t ModelSource::num_parameters() const {
  uint64_t count = 0;
  for (const TensorInfo& tensor : tensors()) count += tensor.num_rows() * tensor.num_cols();
  return count;
}

std::string ModelSource::Digest() const {
  const ModelConfig& c = config();
  const RopeConfig& rope = c.rope;
  // The name is left out: it is the path's, which differs between machines.
  Sha256 hash;
  hash.Update(absl::StrCat(ToAbsl(NameOf(c.architecture)), " ", c.num_layers, " ", c.hidden_size,
                           " ", c.intermediate_size, " ", c.num_heads, " ", c.num_kv_heads, " ",
                           c.head_dim, " ", c.vocab_size, " ", c.max_position, " "));
  hash.Update(absl::StrFormat("%a %d %d %d %a %d %a %a %a %d\n", c.rms_norm_eps,
                              c.tie_word_embeddings, c.attention_bias, c.qk_norm, rope.theta,
                              static_cast<int>(rope.scaling), rope.factor, rope.low_freq_factor,
                              rope.high_freq_factor, rope.original_max_position));
  for (const float factor : rope.freq_factors) hash.Update(absl::StrFormat("%a ", factor));
  hash.Update(absl::StrCat("\n", absl::StrJoin(c.eos_token_ids, ","), "\n"));
  for (const TensorInfo& tensor : tensors()) {
    hash.Update(absl::StrCat(tensor.name, " ", ToAbsl(NameOf(tensor.dtype)), " ",
                             absl::StrJoin(tensor.shape, ","), "\n"));
  }
  return hash.FinishHex();
}

}  // namespace mili
