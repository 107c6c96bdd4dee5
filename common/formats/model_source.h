// ModelSource: an opened model, whatever its format: config, tensor table, text assets. Reads
// nothing of the weights until asked. Everything in the files is hostile: sizes are checked before
// use. Thread-safe after Open.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "common/base/dtype.h"
#include "common/core/model_config.h"
#include "common/core/tokenizer_bundle.h"

namespace mili {

// A tensor of the model under its canonical name, which is Hugging Face's:
//   model.embed_tokens.weight, model.norm.weight, lm_head.weight (absent when tied),
//   model.layers.N.{input_layernorm,post_attention_layernorm}.weight,
//   model.layers.N.self_attn.{q,k,v,o}_proj.weight, .{q,k,v}_proj.bias, .{q,k}_norm.weight,
//   model.layers.N.mlp.{gate,up,down}_proj.weight
struct TensorInfo {
  std::string name;
  std::string name_in_file;
  DType dtype = DType::kF32;
  std::vector<uint64_t> shape;  // row-major: [out, in] or [size]
  uint64_t size_bytes = 0;
  uint32_t file_idx = 0;
  uint64_t offset_bytes = 0;  // from the start of the file
  // Rows are stored in GGUF's interleaved order of q and k of arch llama; ReadRows undoes it.
  uint32_t permuted_head_dim = 0;  // 0: not permuted

  uint64_t num_rows() const { return shape.size() == 2 ? shape[0] : 1; }
  uint64_t num_cols() const { return shape.empty() ? 1 : shape.back(); }
};

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  // `path` is a GGUF file (or the first of a split), a safetensors directory of the Hugging Face
  // layout. NOT_FOUND, INVALID_ARGUMENT or UNIMPLEMENTED, in one line that names the file and, for
  // a tensor, what was found and what was expected. The returned source has every tensor that the
  // architecture needs with the right shape, and no unknown ones.
  static absl::StatusOr<std::unique_ptr<ModelSource>> Open(const std::string& path);

  virtual const ModelConfig& config() const = 0;
  // "gguf" or "safetensors".
  virtual std::string_view format() const = 0;
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  // Null if there is none.
  virtual const TensorInfo* Find(std::string_view name) const = 0;
  // Copies rows [first_row, first_row + num_rows) in canonical order, still in the tensor's dtype.
  // `to` is exactly num_rows rows long. DATA_LOSS if the file shrank or cannot be read.
  // Thread-safe.
  virtual absl::Status ReadRows(const TensorInfo& tensor, uint64_t first_row, uint64_t num_rows,
                                std::span<std::byte> to) const = 0;
  // Nothing if the model comes without a tokenizer; an error if it has one that is not supported.
  virtual absl::StatusOr<std::optional<TokenizerBundle>> LoadTokenizer() const = 0;
  // The text of generation_config.json; empty if there is none.
  virtual const std::string& generation_config_json() const = 0;

  uint64_t weights_bytes() const;
  uint64_t num_parameters() const;
  // Digest of config and tensor table, hex.
  std::string Digest() const;
};

}  // namespace mili
