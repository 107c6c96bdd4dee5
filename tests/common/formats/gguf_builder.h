// Builds GGUF files byte by byte, right or wrong in any field.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "common/formats/gguf.h"

namespace mili::testing {

class GgufBuilder {
 public:
  explicit GgufBuilder(uint32_t version = 3) : version_(version) {}

  GgufBuilder& Uint32(std::string_view key, uint32_t value) {
    return Key(key, GgufType::kUint32).Raw(kv_, value);
  }
  GgufBuilder& Uint64(std::string_view key, uint64_t value) {
    return Key(key, GgufType::kUint64).Raw(kv_, value);
  }
  GgufBuilder& Float32(std::string_view key, float value) {
    return Key(key, GgufType::kFloat32).Raw(kv_, value);
  }
  GgufBuilder& Bool(std::string_view key, bool value) {
    return Key(key, GgufType::kBool).Raw(kv_, static_cast<uint8_t>(value));
  }
  GgufBuilder& String(std::string_view key, std::string_view value) {
    return Key(key, GgufType::kString).Text(kv_, value);
  }
  GgufBuilder& Strings(std::string_view key, const std::vector<std::string>& values) {
    Key(key, GgufType::kArray).Raw(kv_, GgufType::kString).Raw(kv_, uint64_t{values.size()});
    for (const std::string& value : values) Text(kv_, value);
    return *this;
  }
  GgufBuilder& Int32s(std::string_view key, const std::vector<int32_t>& values) {
    Key(key, GgufType::kArray).Raw(kv_, GgufType::kInt32).Raw(kv_, uint64_t{values.size()});
    for (const int32_t value : values) Raw(kv_, value);
    return *this;
  }
  // A key with a type of any number and a value of any bytes.
  GgufBuilder& Any(std::string_view key, uint32_t type, std::string_view value) {
    Key(key, static_cast<GgufType>(type));
    kv_ += value;
    return *this;
  }

  // `dims` in the file's order, fastest first; the data are `data_bytes` zeros.
  GgufBuilder& Tensor(std::string_view name, std::initializer_list<uint64_t> dims, uint32_t type,
                      uint64_t data_bytes) {
    data_.resize((data_.size() + 31) / 32 * 32);
    TensorAt(name, dims, type, data_.size());
    data_.resize(data_.size() + data_bytes);
    return *this;
  }
  GgufBuilder& F32(std::string_view name, std::initializer_list<uint64_t> dims) {
    uint64_t bytes = 4;
    for (const uint64_t dim : dims) bytes *= dim;
    return Tensor(name, dims, 0, bytes);
  }
  // A line of the tensor table without data.
  GgufBuilder& TensorAt(std::string_view name, std::initializer_list<uint64_t> dims, uint32_t type,
                        uint64_t offset) {
    ++num_tensors_;
    Text(table_, name).Raw(table_, static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) Raw(table_, dim);
    return Raw(table_, type).Raw(table_, offset);
  }

  GgufBuilder& ClaimTensors(uint64_t count) {
    num_tensors_ = count;
    return *this;
  }
  GgufBuilder& ClaimKeyValues(uint64_t count) {
    num_kvs_ = count;
    return *this;
  }

  std::string Build() {
    std::string head = "GGUF";
    Raw(head, version_).Raw(head, num_tensors_).Raw(head, num_kvs_);
    head += kv_;
    head += table_;
    if (!data_.empty()) head.resize((head.size() + 31) / 32 * 32);
    return head + data_;
  }

 private:
  template <typename T>
  GgufBuilder& Raw(std::string& to, T value) {
    to.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  GgufBuilder& Text(std::string& to, std::string_view text) {
    Raw(to, uint64_t{text.size()});
    to += text;
    return *this;
  }
  GgufBuilder& Key(std::string_view key, GgufType type) {
    ++num_kvs_;
    return Text(kv_, key).Raw(kv_, type);
  }

  const uint32_t version_;
  uint64_t num_tensors_ = 0;
  uint64_t num_kvs_ = 0;
  std::string kv_;
  std::string table_;
  std::string data_;
};

// A whole model: arch "llama", hidden 8, 1 layer, 2 heads of 4, 1 of them for keys, MLP 12,
// vocabulary 6, tied. Without the tensor `but`, if one is named.
inline GgufBuilder TinyLlama(uint32_t version = 3, std::string_view but = "") {
  GgufBuilder file(version);
  file.String("general.architecture", "llama")
      .Uint32("llama.block_count", 1)
      .Uint64("llama.context_length", 64)
      .Uint32("llama.embedding_length", 8)
      .Uint32("llama.feed_forward_length", 12)
      .Uint32("llama.attention.head_count", 2)
      .Uint32("llama.attention.head_count_kv", 1)
      .Float32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  const auto add = [&](std::string_view name, std::initializer_list<uint64_t> dims) {
    if (name != but) file.F32(name, dims);
  };
  add("token_embd.weight", {8, 6});
  add("output_norm.weight", {8});
  add("blk.0.attn_norm.weight", {8});
  add("blk.0.attn_q.weight", {8, 8});
  add("blk.0.attn_k.weight", {8, 4});
  add("blk.0.attn_v.weight", {8, 4});
  add("blk.0.attn_output.weight", {8, 8});
  add("blk.0.ffn_norm.weight", {8});
  add("blk.0.ffn_gate.weight", {8, 12});
  add("blk.0.ffn_up.weight", {8, 12});
  add("blk.0.ffn_down.weight", {12, 8});
  return file;
}

// ParseGguf on bytes in memory.
inline absl::StatusOr<GgufFile> ParseGgufBytes(std::string_view bytes) {
  return ParseGguf(
      [&](uint64_t offset, std::span<std::byte> to) {
        if (offset > bytes.size() || to.size() > bytes.size() - offset) {
          return absl::InternalError("read past the end");
        }
        std::memcpy(to.data(), bytes.data() + offset, to.size());
        return absl::OkStatus();
      },
      bytes.size(), "test.gguf");
}

}  // namespace mili::testing
