#include "worker/ops/ops.h"

#include <cmath>

#include <absl/strings/str_cat.h>

#include "common/base/strings.h"

namespace mili::worker {
namespace {

using kernels::Matrix;

constexpr int64_t kMaxTop = 1024;

// The first condition that does not hold decides what is said.
class Checker {
 public:
  explicit Checker(const char* op) : op_(op) {}

  template <typename... Facts>
  Checker& Require(bool condition, const char* rule, const Facts&... facts) {
    if (!condition && status_.ok()) {
      status_ = absl::InternalError(absl::StrCat(op_, ": ", rule, " does not hold: ", facts...));
    }
    return *this;
  }

  Checker& RequireMatrix(const Compute& compute, const Matrix& matrix, const char* name) {
    const DTypeTraits traits = TraitsOf(matrix.dtype);
    const bool wants_packed =
        compute.kernels->packed_bytes(matrix.dtype, matrix.rows, matrix.cols) != 0;
    Require(matrix.is_packed == wants_packed, "a matrix lies as the kernels want it", name, " ",
            ToAbsl(traits.name), " for ", compute.kernels->name);
    return Require(matrix.data != nullptr && matrix.rows > 0 && matrix.cols > 0 &&
                       traits.block_bytes > 0 && matrix.cols % traits.block_elements == 0,
                   "a matrix has data and whole blocks", name, " ", ToAbsl(traits.name), " [",
                   matrix.rows, ", ", matrix.cols, "]");
  }

  Checker& RequireKv(const kernels::KvLayer& kv, int64_t num_kv_heads, int64_t head_dim) {
    return Require(
        kv.k != nullptr && kv.v != nullptr &&
            (kv.dtype == DType::kBF16 || kv.dtype == DType::kF32) && kv.page_size_tokens > 0 &&
            kv.head_stride >= kv.page_size_tokens * head_dim &&
            kv.page_stride >= kv.head_stride * num_kv_heads,
        "KV pages hold every head", ToAbsl(NameOf(kv.dtype)), " page stride ", kv.page_stride,
        ", head stride ", kv.head_stride, ", ", num_kv_heads, " heads of ", head_dim);
  }

  Checker& RequireHeads(int64_t num_heads, int64_t num_kv_heads, int64_t head_dim) {
    return Require(num_heads > 0 && num_kv_heads > 0 && num_heads % num_kv_heads == 0 &&
                       head_dim > 0 && head_dim % 2 == 0 && head_dim <= kernels::kMaxHeadDim,
                   "heads divide evenly", num_heads, " heads, ", num_kv_heads, " KV heads of ",
                   head_dim);
  }

  Checker& RequireNorm(const kernels::AddRmsNormParams& params) {
    return Require(params.residual != nullptr && params.weight != nullptr &&
                       params.out != nullptr && params.out != params.residual,
                   "residual, weight and a separate output exist", "shape [", params.num_tokens,
                   ", ", params.hidden_size, "]")
        .Require(params.num_tokens > 0 && params.hidden_size > 0 && params.eps > 0,
                 "sizes and eps are positive", "shape [", params.num_tokens, ", ",
                 params.hidden_size, "], eps ", params.eps);
  }

  Checker& RequirePrepare(const kernels::QkvPrepareParams& params) {
    return RequireHeads(params.num_heads, params.num_kv_heads, params.head_dim)
        .RequireKv(params.kv, params.num_kv_heads, params.head_dim)
        .Require(params.q != nullptr && params.k != nullptr && params.v != nullptr &&
                     params.rope_cos != nullptr && params.rope_sin != nullptr &&
                     params.positions != nullptr && params.slot_map != nullptr &&
                     params.num_tokens > 0,
                 "every input exists", params.num_tokens, " tokens")
        .Require(params.q_stride >= params.num_heads * params.head_dim &&
                     params.kv_stride >= params.num_kv_heads * params.head_dim,
                 "strides hold every head", "q stride ", params.q_stride, ", kv stride ",
                 params.kv_stride)
        .Require((params.q_norm == nullptr) == (params.k_norm == nullptr),
                 "q and k are both normalised or neither is", params.num_heads, " heads");
  }

  const absl::Status& status() const { return status_; }

 private:
  const char* op_;
  absl::Status status_;
};

}  // namespace

absl::Status Embed(const Compute& compute, const kernels::EmbedParams& params) {
  Checker check("Embed");
  check.RequireMatrix(compute, params.table, "table")
      .Require(params.num_tokens > 0 && params.token_ids != nullptr && params.out != nullptr,
               "there are tokens and an output", params.num_tokens, " tokens");
  if (!check.status().ok()) return check.status();
  for (int64_t i = 0; i < params.num_tokens; ++i) {
    check.Require(params.token_ids[i] < params.table.rows, "token ids are rows of the table", "id ",
                  params.token_ids[i], " of ", params.table.rows);
  }
  if (!check.status().ok()) return check.status();
  compute.kernels->embed(params, *compute.pool);
  return absl::OkStatus();
}

absl::Status AddRmsNorm(const Compute& compute, const kernels::AddRmsNormParams& params) {
  Checker check("AddRmsNorm");
  check.RequireNorm(params);
  if (!check.status().ok()) return check.status();
  compute.kernels->add_rms_norm(params, *compute.pool);
  return absl::OkStatus();
}

absl::Status Linear(const Compute& compute, const kernels::LinearParams& params) {
  Checker check("Linear");
  check
      .Require(params.x != nullptr && params.workspace != nullptr && params.num_tokens > 0 &&
                   params.in_features > 0,
               "there is an input and a workspace", "x [", params.num_tokens, ", ",
               params.in_features, "]")
      .Require(params.num_parts >= 1 && params.num_parts <= kernels::LinearParams::kMaxParts,
               "there are 1 to 3 parts", params.num_parts);
  if (params.norm != nullptr) {
    const kernels::AddRmsNormParams& norm = *params.norm;
    check.RequireNorm(norm).Require(norm.out == params.x && norm.num_tokens == params.num_tokens &&
                                        norm.hidden_size == params.in_features,
                                    "x is the norm's output", "norm [", norm.num_tokens, ", ",
                                    norm.hidden_size, "], x [", params.num_tokens, ", ",
                                    params.in_features, "]");
  }
  if (params.silu_mul) {
    const int64_t rows = params.parts[0].weight.rows;
    check.Require(params.num_parts == 2 && params.parts[1].weight.rows == rows &&
                      params.parts[0].y_stride == rows && params.parts[1].y_stride == rows,
                  "gate and up are two parts of one shape", params.num_parts, " parts, ", rows,
                  " and ", params.parts[1].weight.rows, " rows");
  }
  if (!check.status().ok()) return check.status();
  for (int i = 0; i < params.num_parts; ++i) {
    const kernels::LinearPart& part = params.parts[i];
    check.RequireMatrix(compute, part.weight, "weight")
        .Require(part.weight.cols == params.in_features, "the weight takes what x has", "weight ",
                 ToAbsl(NameOf(part.weight.dtype)), " [", part.weight.rows, ", ", part.weight.cols,
                 "], x [", params.num_tokens, ", ", params.in_features, "]")
        .Require(part.y != nullptr && part.y_stride >= part.weight.rows, "the output holds a row",
                 "stride ", part.y_stride, ", rows of ", part.weight.rows);
  }
  if (!check.status().ok()) return check.status();
  compute.kernels->linear(params, *compute.pool);
  return absl::OkStatus();
}

absl::Status QkvPrepare(const Compute& compute, const kernels::QkvPrepareParams& params) {
  Checker check("QkvPrepare");
  check.RequirePrepare(params);
  if (!check.status().ok()) return check.status();
  compute.kernels->qkv_prepare(params, *compute.pool);
  return absl::OkStatus();
}

absl::Status PagedAttention(const Compute& compute, const kernels::PagedAttentionParams& params) {
  Checker check("PagedAttention");
  if (params.prepare != nullptr) {
    const kernels::QkvPrepareParams& prepare = *params.prepare;
    check.RequirePrepare(prepare).Require(
        prepare.q == params.q && prepare.q_stride == params.q_stride &&
            prepare.num_heads == params.num_heads && prepare.num_kv_heads == params.num_kv_heads &&
            prepare.head_dim == params.head_dim && prepare.kv.k == params.kv.k &&
            prepare.kv.v == params.kv.v,
        "what is prepared is attended to", prepare.num_heads, " and ", params.num_heads, " heads");
  }
  check.RequireHeads(params.num_heads, params.num_kv_heads, params.head_dim)
      .RequireKv(params.kv, params.num_kv_heads, params.head_dim)
      .Require(params.q != nullptr && params.out != nullptr && params.cu_seqlens != nullptr &&
                   params.context_lens != nullptr && params.page_table != nullptr &&
                   params.num_seqs > 0 && params.scale > 0,
               "every input exists", params.num_seqs, " sequences")
      .Require(params.q_stride >= params.num_heads * params.head_dim, "the stride holds every head",
               "q stride ", params.q_stride);
  if (!check.status().ok()) return check.status();
  check.Require(
      params.prepare == nullptr || params.prepare->num_tokens == params.cu_seqlens[params.num_seqs],
      "every new token is prepared", params.cu_seqlens[params.num_seqs], " tokens");
  for (int64_t s = 0; s < params.num_seqs; ++s) {
    const int64_t num_new = params.cu_seqlens[s + 1] - params.cu_seqlens[s];
    check
        .Require(num_new > 0 && params.context_lens[s] >= num_new,
                 "the new tokens are the last of the context", "sequence ", s, ": ", num_new,
                 " new of ", params.context_lens[s])
        .Require(params.context_lens[s] <= params.page_table_stride * params.kv.page_size_tokens,
                 "the page table covers the context", "sequence ", s, ": ", params.context_lens[s],
                 " tokens, ", params.page_table_stride, " pages");
  }
  if (!check.status().ok()) return check.status();
  compute.kernels->paged_attention(params, *compute.pool);
  return absl::OkStatus();
}

absl::Status SiluMul(const Compute& compute, const kernels::SiluMulParams& params) {
  Checker check("SiluMul");
  check.Require(params.gate != nullptr && params.up != nullptr && params.out != nullptr &&
                    params.num_tokens > 0 && params.size > 0,
                "gate, up and an output exist", "shape [", params.num_tokens, ", ", params.size,
                "]");
  if (!check.status().ok()) return check.status();
  compute.kernels->silu_mul(params, *compute.pool);
  return absl::OkStatus();
}

absl::Status Sample(const Compute& compute, const kernels::SampleParams& params,
                    kernels::SampleOutcome* outcome) {
  Checker check("Sample");
  check
      .Require(params.logits != nullptr && params.workspace != nullptr && params.vocab_size > 0,
               "there are logits and a workspace", params.vocab_size, " logits")
      .Require(params.num_valid_tokens > 0 && params.num_valid_tokens <= params.vocab_size,
               "valid tokens lie in the vocabulary", params.num_valid_tokens, " of ",
               params.vocab_size)
      .Require(params.num_top >= 0 && params.num_top <= kMaxTop &&
                   params.num_top <= params.vocab_size &&
                   (params.num_top == 0 || params.top != nullptr),
               "top alternatives have a place", params.num_top);
  if (!check.status().ok()) return check.status();
  *outcome = compute.kernels->sample(params);
  return absl::OkStatus();
}

absl::Status Score(const Compute& compute, const kernels::ScoreParams& params,
                   kernels::SampleOutcome* outcome) {
  Checker check("Score");
  check
      .Require(params.logits != nullptr && params.token_id < params.vocab_size,
               "the token lies in the vocabulary", params.token_id, " of ", params.vocab_size)
      .Require(params.num_top >= 0 && params.num_top <= kMaxTop &&
                   params.num_top <= params.vocab_size &&
                   (params.num_top == 0 || params.top != nullptr),
               "top alternatives have a place", params.num_top);
  if (!check.status().ok()) return check.status();
  *outcome = compute.kernels->score(params);
  return absl::OkStatus();
}

void RopeTable(const float* inv_freq, const uint32_t* positions, int64_t num_tokens,
               int64_t num_pairs, float* cos, float* sin, kernels::ParallelFor& pool) {
  const auto rows = [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < num_pairs; ++i) {
        const float angle = static_cast<float>(positions[t]) * inv_freq[i];
        cos[t * num_pairs + i] = std::cos(angle);
        sin[t * num_pairs + i] = std::sin(angle);
      }
    }
  };
  constexpr int64_t kTokensWorthThreads = 16;
  if (num_tokens < kTokensWorthThreads) return rows(0, num_tokens, 0);
  kernels::ForPieces(pool, num_tokens, 1, rows);
}

}  // namespace mili::worker
