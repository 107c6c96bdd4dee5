#include "worker/model/cuda/weight_layout.h"

namespace mili::worker {
namespace {

constexpr uint64_t kElementBytes = 2;

}  // namespace

WeightLayout::WeightLayout(const ModelSource& source) {
  for (uint32_t i = 0; i < source.config().num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const std::string attention = layer + "self_attn.";
    for (const char* name : {"input_layernorm", "post_attention_layernorm"}) {
      Begin();
      Put(source, layer + name + ".weight");
    }
    for (const char* name : {"q_norm", "k_norm"}) {
      Begin();
      Put(source, attention + name + ".weight");
    }
    for (const char* part : {"weight", "bias"}) {
      Begin();
      for (const char* name : {"q_proj.", "k_proj.", "v_proj."}) {
        Put(source, attention + name + part);
      }
    }
    Begin();
    Put(source, attention + "o_proj.weight");
    Begin();
    Put(source, layer + "mlp.gate_proj.weight", true);
    Put(source, layer + "mlp.up_proj.weight", true);
    Begin();
    Put(source, layer + "mlp.down_proj.weight");
  }
  for (const char* name : {"model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"}) {
    Begin();
    Put(source, name);
  }
}

const uint64_t* WeightLayout::Find(const std::string& name) const {
  const auto place = offsets_.find(name);
  return place == offsets_.end() ? nullptr : &place->second;
}

void WeightLayout::Begin() { size_bytes_ = (size_bytes_ + 255) / 256 * 256; }

void WeightLayout::Put(const ModelSource& source, const std::string& name, bool is_interleaved) {
  const TensorInfo* tensor = source.Find(name);
  if (tensor == nullptr) return;
  const uint64_t row_bytes = tensor->num_cols() * kElementBytes;
  uint64_t offset = size_bytes_;
  // Gate comes first and leaves gaps; up fills them.
  const bool is_up = is_interleaved && name.find(".up_proj.") != std::string::npos;
  if (is_up) offset -= tensor->num_rows() * row_bytes - kInterleavedRows * row_bytes;
  places_.push_back({tensor, offset, is_interleaved});
  offsets_[name] = offset;
  size_bytes_ += tensor->num_rows() * row_bytes;
}

}  // namespace mili::worker
