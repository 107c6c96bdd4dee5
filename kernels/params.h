// The parameters of every CPU kernel, and the table through which ops/ calls them. The reference
// and the fast kernels take the same structs, so a test compares any two tables.
//
// All activations are fp32, rows contiguous unless a stride (in elements) says otherwise. Kernels
// allocate nothing, keep no state and never fail: ops/ has checked every shape. A row's numbers do
// not depend on the other rows of the call, nor on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/base/dtype.h"
#include "kernels/parallel.h"

namespace mili::kernels {

// Largest head_dim of qkv_prepare and paged_attention; ops/ refuses more.
inline constexpr int64_t kMaxHeadDim = 256;

// Packed matrices are laid out in groups of this many rows.
inline constexpr int64_t kPackedRows = 16;

// A weight matrix: `rows` output features of `cols` input features each.
struct Matrix {
  DType dtype = DType::kF32;
  const std::byte* data = nullptr;  // [rows] rows of RowBytes(dtype, cols), contiguous
  int64_t rows = 0;
  int64_t cols = 0;        // a multiple of the dtype's block
  bool is_packed = false;  // data is what CpuKernels::pack made of the rows, 64-aligned
};

// out[t] = table[token_ids[t]], dequantised.
struct EmbedParams {
  Matrix table;                         // [vocab_size, hidden_size]
  const uint32_t* token_ids = nullptr;  // [num_tokens], each < table.rows
  int64_t num_tokens = 0;
  float* out = nullptr;  // [num_tokens, hidden_size]
};

// residual += delta (unless delta is null); out = residual / rms(residual) * weight, where
// rms(v) = sqrt(mean(v^2) + eps). out may not alias residual.
struct AddRmsNormParams {
  float* residual = nullptr;      // [num_tokens, hidden_size]
  const float* delta = nullptr;   // [num_tokens, hidden_size] or null
  const float* weight = nullptr;  // [hidden_size]
  float eps = 1e-5f;
  int64_t num_tokens = 0;
  int64_t hidden_size = 0;
  float* out = nullptr;  // [num_tokens, hidden_size]
};

// One output of a Linear: y = x W^T + bias.
struct LinearPart {
  Matrix weight;                // [rows, in_features]
  const float* bias = nullptr;  // [rows] or null
  float* y = nullptr;           // [num_tokens, rows], row stride y_stride
  int64_t y_stride = 0;
};

// How the weights of one token are read, each of which it meets once; the results are the same.
enum class OneTokenStream : uint8_t {
  kOfCpu,  // as the CPU is fastest
  kPlain,  // as many tokens' are
  kOnce,   // called for as what is read once
  kTwo,    // two vectors of rows in turn
};

// Several matrices applied to the same x (q, k, v; gate, up), so that x is prepared once.
struct LinearParams {
  static constexpr int kMaxParts = 3;
  const float* x = nullptr;  // [num_tokens, in_features]
  // Not null: x is its `out`, and is computed first, in the pass that prepares x.
  const AddRmsNormParams* norm = nullptr;
  // Two parts of one shape, gate and up, each with y_stride = rows: silu(gate) * up goes to the
  // first part's y, what the second part's y holds afterwards is not said.
  bool silu_mul = false;
  // For tests and benchmarks. Tables of instruction sets that know one way only go that way.
  OneTokenStream one_token = OneTokenStream::kOfCpu;
  int64_t num_tokens = 0;
  int64_t in_features = 0;
  LinearPart parts[kMaxParts];
  int num_parts = 0;
  std::byte* workspace = nullptr;  // linear_workspace_bytes(num_tokens, in_features), 64-aligned
};

// The KV pages of one layer. Element (page, token, head, d) of K is at
// k + page * page_stride + head * head_stride + token * head_dim + d, and the same for V.
struct KvLayer {
  DType dtype = DType::kBF16;  // kBF16 or kF32
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  int64_t page_stride = 0;  // in elements
  int64_t head_stride = 0;  // in elements
  int64_t page_size_tokens = 16;
};

// For each token: per-head RMS norm of q and k (if q_norm), rotary embedding of q and k at its
// position, then k and v are written to the KV slot slot_map[t] = page * page_size + token in page.
// q stays in place, rotated. Half-split RoPE: with c, s = cos, sin of position * inv_freq[i],
// (a, b) = (v[i], v[i + D/2]) becomes (a c - b s, b c + a s).
struct QkvPrepareParams {
  float* q = nullptr;        // [num_tokens, num_heads, head_dim], token stride q_stride
  float* k = nullptr;        // [num_tokens, num_kv_heads, head_dim], token stride kv_stride
  const float* v = nullptr;  // [num_tokens, num_kv_heads, head_dim], token stride kv_stride
  int64_t q_stride = 0;
  int64_t kv_stride = 0;
  const float* q_norm = nullptr;  // [head_dim] or null
  const float* k_norm = nullptr;  // [head_dim] or null
  float eps = 1e-6f;
  const float* rope_cos = nullptr;      // [max positions, head_dim / 2]
  const float* rope_sin = nullptr;      // [max positions, head_dim / 2]
  const uint32_t* positions = nullptr;  // [num_tokens]
  const int64_t* slot_map = nullptr;    // [num_tokens]
  int64_t num_tokens = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  KvLayer kv;
};

// Causal attention of each sequence's new tokens over its pages. Sequence s owns rows
// cu_seqlens[s] .. cu_seqlens[s+1] of q; they are its last tokens, and its context is
// context_lens[s] tokens long including them. Head h reads KV head h / (num_heads / num_kv_heads).
// Scores are q.k * scale; the softmax is accumulated over positions in order, page by page.
struct PagedAttentionParams {
  const float* q = nullptr;  // [num_tokens, num_heads, head_dim], token stride q_stride
  int64_t q_stride = 0;
  float* out = nullptr;                   // [num_tokens, num_heads, head_dim], contiguous
  const int64_t* cu_seqlens = nullptr;    // [num_seqs + 1]
  const int64_t* context_lens = nullptr;  // [num_seqs]
  const uint32_t* page_table = nullptr;   // [num_seqs, page_table_stride]
  int64_t page_table_stride = 0;
  int64_t num_seqs = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 0;
  KvLayer kv;
  // Not null: done first, in the same pass; its q, heads and pages are these.
  const QkvPrepareParams* prepare = nullptr;
};

// out = silu(gate) * up, silu(x) = x / (1 + exp(-x)). out may alias gate.
struct SiluMulParams {
  const float* gate = nullptr;  // [num_tokens, size]
  const float* up = nullptr;    // [num_tokens, size]
  int64_t num_tokens = 0;
  int64_t size = 0;
  float* out = nullptr;  // [num_tokens, size]
};

// How often a token stands in a sequence.
struct TokenCount {
  uint32_t token_id = 0;
  uint32_t num_in_output = 0;  // 0: in the prompt only
};

struct TokenBias {
  uint32_t token_id = 0;
  float bias = 0;
};

struct TokenLogprob {
  uint32_t token_id = 0;
  float logprob = 0;
};

// One row to sample. The logits are consumed (changed in place).
// Order: logprobs of the raw logits; then banned ids and padding (ids >= num_valid_tokens) to -inf,
// logit_bias, repetition, presence and frequency penalty, temperature, min_p, top_k, top_p. Greedy
// (temperature 0) takes the largest, the lowest id on ties. Otherwise the draw is Philox4x32-10
// with key (seed) and counter (position, choice_idx, draw), so equal logits give equal tokens
// anywhere.
struct SampleParams {
  float* logits = nullptr;  // [vocab_size]
  int64_t vocab_size = 0;
  int64_t num_valid_tokens = 0;  // ids the tokenizer knows; the rest is padding
  float temperature = 1;
  float top_p = 1;
  int64_t top_k = 0;
  float min_p = 0;
  uint64_t seed = 0;
  uint32_t choice_idx = 0;
  uint32_t position = 0;  // of the token to sample, in the sequence
  float presence_penalty = 0;
  float frequency_penalty = 0;
  float repetition_penalty = 1;
  const TokenCount* counts = nullptr;  // [num_counts], each token of the sequence once
  int64_t num_counts = 0;
  const TokenBias* biases = nullptr;  // [num_biases]
  int64_t num_biases = 0;
  const uint32_t* banned = nullptr;  // [num_banned]
  int64_t num_banned = 0;
  bool want_logprobs = false;
  int64_t num_top = 0;             // at most 1024 and vocab_size
  TokenLogprob* top = nullptr;     // [num_top], filled if want_logprobs
  std::byte* workspace = nullptr;  // sample_workspace_bytes(vocab_size), 64-aligned
};

struct SampleOutcome {
  uint32_t token_id = 0;
  float logprob = 0;        // of token_id, if want_logprobs
  uint32_t rank = 0;        // 1 + number of larger logits, if want_logprobs
  bool has_nan = false;     // logits held a NaN: nothing else is set
  bool all_masked = false;  // no token was left to sample: nothing else is set
};

// Logprob, rank and top of a given token under raw logits, e.g. of a prompt token.
struct ScoreParams {
  const float* logits = nullptr;  // [vocab_size]
  int64_t vocab_size = 0;
  uint32_t token_id = 0;
  int64_t num_top = 0;          // at most 1024 and vocab_size
  TokenLogprob* top = nullptr;  // [num_top]
};

// One implementation of all kernels. Tables are constants; choose one at start.
struct CpuKernels {
  const char* name;  // "reference", or a name that FindCpuKernels (kernels/cpu/kernels.h) knows
  DType kv_dtype;    // kF32 for the reference, else kBF16
  // Bytes of a matrix in the layout that embed and linear want; 0: as stored.
  size_t (*packed_bytes)(DType, int64_t rows, int64_t cols);
  // Lays out num_rows rows, the first of them a multiple of kPackedRows of the matrix's, at `to`,
  // which is packed_bytes(dtype, first row, cols) into the matrix. `rows` needs no alignment. Null
  // if packed_bytes is always 0.
  void (*pack)(DType, const std::byte* rows, int64_t num_rows, int64_t cols,
               std::byte* to) = nullptr;
  void (*embed)(const EmbedParams&, ParallelFor&);
  void (*add_rms_norm)(const AddRmsNormParams&, ParallelFor&);
  size_t (*linear_workspace_bytes)(int64_t num_tokens, int64_t in_features);
  void (*linear)(const LinearParams&, ParallelFor&);
  void (*qkv_prepare)(const QkvPrepareParams&, ParallelFor&);
  void (*paged_attention)(const PagedAttentionParams&, ParallelFor&);
  void (*silu_mul)(const SiluMulParams&, ParallelFor&);
  size_t (*sample_workspace_bytes)(int64_t vocab_size);
  SampleOutcome (*sample)(const SampleParams&);  // one row, one thread; rows may run side by side
  SampleOutcome (*score)(const ScoreParams&);    // token_id, logprob, rank, has_nan
};

}  // namespace mili::kernels
