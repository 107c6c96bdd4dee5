#include "worker/model/cuda/weight_layout.h"

namespace mili::worker {

WeightLayout::WeightLayout(const ModelSource& source, bool is_fp8) {
  for (uint32_t i = 0; i < source.config().num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const std::string attention = layer + "self_attn.";
    for (const std::string& name :
         {layer + "input_layernorm.weight", layer + "post_attention_layernorm.weight",
          attention + "q_norm.weight", attention + "k_norm.weight"}) {
      Put(source, {{name}}, /*is_fp8=*/false);
    }
    for (const char* part : {"weight", "bias"}) {
      Put(source,
          {{attention + "q_proj." + part},
           {attention + "k_proj." + part},
           {attention + "v_proj." + part}},
          is_fp8 && part[0] == 'w');
    }
    Put(source, {{attention + "o_proj.weight"}}, is_fp8);
    Put(source, {{layer + "mlp.gate_proj.weight", true}, {layer + "mlp.up_proj.weight", true}},
        is_fp8);
    Put(source, {{layer + "mlp.down_proj.weight"}}, is_fp8);
  }
  for (const char* name : {"model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"}) {
    Put(source, {{name}}, /*is_fp8=*/false);
  }
}

const TensorPlace* WeightLayout::Find(const std::string& name) const {
  const auto found = idxs_.find(name);
  return found == idxs_.end() ? nullptr : &places_[found->second];
}

void WeightLayout::Put(const ModelSource& source, const std::vector<Part>& parts, bool is_fp8) {
  const uint64_t begin = Align();
  uint64_t first_row = 0;  // of the part, among all rows of the piece
  uint64_t num_rows = 0;
  const size_t first_place = places_.size();
  for (const Part& part : parts) {
    const TensorInfo* tensor = source.Find(part.name);
    if (tensor == nullptr) continue;
    // A vector is one row, and a piece of vectors has one row after the other in the same way.
    const uint64_t row_bytes = tensor->num_cols() * (is_fp8 ? 1 : 2);
    const bool is_vector = tensor->shape.size() < 2;
    idxs_[part.name] = places_.size();
    places_.push_back({.tensor = tensor,
                       .offset_bytes = is_vector ? size_bytes_ : begin + first_row * row_bytes,
                       .is_interleaved = part.is_interleaved,
                       .is_fp8 = is_fp8,
                       .scales_offset_bytes = first_row * sizeof(float)});
    size_bytes_ += tensor->num_rows() * row_bytes;
    num_rows += tensor->num_rows();
    first_row = part.is_interleaved ? first_row + kInterleavedRows : num_rows;
  }
  if (!is_fp8 || num_rows == 0) return;
  const uint64_t scales = Align();
  for (size_t i = first_place; i < places_.size(); ++i) places_[i].scales_offset_bytes += scales;
  size_bytes_ += num_rows * sizeof(float);
}

}  // namespace mili::worker
