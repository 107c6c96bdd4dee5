#include "worker/program/self_check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "kernels/reference/kernels.h"
#include "worker/ops/ops.h"
#include "worker/program/load.h"

namespace mili::worker {
namespace {

using kernels::CpuKernels;

constexpr int64_t kTokens = 5;
constexpr int64_t kIn = 512;
constexpr int64_t kOut = 77;  // no multiple of any register

class Checks {
 public:
  Checks(const CpuKernels& table, kernels::ParallelFor& pool)
      : chosen_{&table, &pool}, reference_{&kernels::ReferenceKernels(), &pool} {}

  absl::Status Run() {
    for (const DType dtype :
         {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
          DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
      MILI_RETURN_IF_ERROR(CheckEmbed(dtype));
      MILI_RETURN_IF_ERROR(CheckLinear(dtype));
    }
    MILI_RETURN_IF_ERROR(CheckNorm());
    MILI_RETURN_IF_ERROR(CheckSilu());
    for (const int64_t head_dim : {64, 128}) MILI_RETURN_IF_ERROR(CheckAttention(head_dim));
    MILI_RETURN_IF_ERROR(CheckSample());
    if (num_failed_ == 0) return absl::OkStatus();
    return absl::InternalError(absl::StrCat(num_failed_, " of ", num_checks_,
                                            " kernel checks failed on ", chosen_.kernels->name));
  }

 private:
  std::vector<float> Normal(size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  // A matrix of this type with values of about unit size. Quantised blocks are random bits with
  // their fp16 scales set by hand, so that no quantiser is needed.
  std::vector<std::byte> RandomMatrix(DType dtype, int64_t rows, int64_t cols) {
    const size_t bytes = RowBytes(dtype, static_cast<size_t>(cols)) * static_cast<size_t>(rows);
    std::vector<std::byte> data(bytes);
    if (!IsQuantized(dtype)) {
      const std::vector<float> values = Normal(static_cast<size_t>(rows * cols));
      for (size_t i = 0; i < values.size(); ++i) StoreFloat(dtype, values[i], data.data(), i);
      return data;
    }
    for (std::byte& byte : data) byte = static_cast<std::byte>(random_());
    const size_t block_bytes = TraitsOf(dtype).block_bytes;
    // Where the block's fp16 scales stand: Q6_K keeps its own at the end, the others in front.
    const bool has_two = dtype == DType::kQ4_1 || dtype == DType::kQ5_1 || dtype == DType::kQ4_K ||
                         dtype == DType::kQ5_K;
    const size_t first = dtype == DType::kQ6_K ? block_bytes - 2 : 0;
    for (size_t block = 0; block < bytes; block += block_bytes) {
      for (size_t i = 0; i < (has_two ? 2u : 1u); ++i) {
        const uint16_t scale = 0x1800 | (random_() & 0x3ff);  // fp16, 2^-9 to 2^-8
        std::memcpy(data.data() + block + first + 2 * i, &scale, 2);
      }
    }
    return data;
  }

  // `rows` in the layout that the kernels want, in `memory`.
  static absl::StatusOr<kernels::Matrix> LaidOut(const Compute& compute,
                                                 const kernels::Matrix& stored,
                                                 DeviceMemory* memory) {
    const CpuKernels& table = *compute.kernels;
    const size_t bytes = table.packed_bytes(stored.dtype, stored.rows, stored.cols);
    if (bytes == 0) return stored;
    MILI_ASSIGN_OR_RETURN(
        *memory, DeviceMemory::Allocate(bytes, DeviceMemory::Pages::kSmall, "the self-check"));
    table.pack(stored.dtype, stored.data, stored.rows, stored.cols, memory->data());
    return kernels::Matrix{stored.dtype, memory->data(), stored.rows, stored.cols, true};
  }

  static void StoreFloat(DType dtype, float value, std::byte* data, size_t i) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (dtype == DType::kF32) {
      std::memcpy(data + 4 * i, &bits, 4);
      return;
    }
    uint16_t half = static_cast<uint16_t>(bits >> 16);  // bf16, cut
    if (dtype == DType::kF16) {
      const int exponent = static_cast<int>((bits >> 23) & 255) - 112;
      half = static_cast<uint16_t>((bits >> 16) & 0x8000);
      if (exponent > 0) half |= static_cast<uint16_t>(exponent << 10 | ((bits >> 13) & 0x3ff));
    }
    std::memcpy(data + 2 * i, &half, 2);
  }

  // The largest difference, as a share of the reference's root mean square.
  void Compare(const std::string& what, const std::vector<float>& got,
               const std::vector<float>& expected, double tolerance) {
    double largest = 0;
    double squares = 0;
    bool is_finite = true;
    for (size_t i = 0; i < expected.size(); ++i) {
      is_finite = is_finite && std::isfinite(got[i]);
      largest = std::max(largest, std::abs(double{got[i]} - expected[i]));
      squares += double{expected[i]} * expected[i];
    }
    const double share =
        largest / std::sqrt(squares / static_cast<double>(expected.size()) + 1e-30);
    Tell(what, is_finite && share <= tolerance,
         absl::StrCat("largest difference ", share, " of the rms, allowed ", tolerance));
  }

  void Tell(const std::string& what, bool is_ok, const std::string& detail) {
    ++num_checks_;
    num_failed_ += is_ok ? 0 : 1;
    std::printf("%-4s  %-24s  %s\n", is_ok ? "ok" : "fail", what.c_str(), detail.c_str());
  }

  absl::Status CheckEmbed(DType dtype) {
    const std::vector<std::byte> table = RandomMatrix(dtype, kOut, kIn);
    const uint32_t ids[kTokens] = {0, 76, 3, 3, 41};
    std::vector<float> out[2];
    for (int i = 0; i < 2; ++i) {
      out[i].resize(kTokens * kIn);
      const Compute& compute = i == 0 ? chosen_ : reference_;
      DeviceMemory memory;
      MILI_ASSIGN_OR_RETURN(const kernels::Matrix laid_out,
                            LaidOut(compute, {dtype, table.data(), kOut, kIn}, &memory));
      MILI_RETURN_IF_ERROR(Embed(compute, {laid_out, ids, kTokens, out[i].data()}));
    }
    Compare(absl::StrCat("embed ", std::string(NameOf(dtype))), out[0], out[1], 1e-5);
    return absl::OkStatus();
  }

  absl::Status CheckLinear(DType dtype) {
    const std::vector<std::byte> weight = RandomMatrix(dtype, kOut, kIn);
    const std::vector<float> bias = Normal(kOut);
    const std::vector<float> x = Normal(kTokens * kIn);
    std::vector<float> y[2];
    for (int i = 0; i < 2; ++i) {
      const Compute& compute = i == 0 ? chosen_ : reference_;
      y[i].resize(kTokens * kOut);
      const size_t workspace_bytes = compute.kernels->linear_workspace_bytes(kTokens, kIn);
      MILI_ASSIGN_OR_RETURN(DeviceMemory workspace,
                            DeviceMemory::Allocate(workspace_bytes + 1, DeviceMemory::Pages::kSmall,
                                                   "the self-check"));
      DeviceMemory memory;
      MILI_ASSIGN_OR_RETURN(const kernels::Matrix laid_out,
                            LaidOut(compute, {dtype, weight.data(), kOut, kIn}, &memory));
      kernels::LinearParams params;
      params.x = x.data();
      params.num_tokens = kTokens;
      params.in_features = kIn;
      params.parts[0] = {laid_out, bias.data(), y[i].data(), kOut};
      params.num_parts = 1;
      params.workspace = workspace.data();
      MILI_RETURN_IF_ERROR(Linear(compute, params));
    }
    // Quantised weights meet int8 activations: half a step of 127 on each of 512 products.
    Compare(absl::StrCat("linear ", std::string(NameOf(dtype))), y[0], y[1],
            IsQuantized(dtype) ? 5e-2 : 1e-2);
    return absl::OkStatus();
  }

  absl::Status CheckNorm() {
    const std::vector<float> delta = Normal(kTokens * kIn);
    const std::vector<float> weight = Normal(kIn);
    const std::vector<float> residual = Normal(kTokens * kIn);
    std::vector<float> out[2];
    for (int i = 0; i < 2; ++i) {
      std::vector<float> sum = residual;
      out[i].resize(kTokens * kIn);
      MILI_RETURN_IF_ERROR(AddRmsNorm(
          i == 0 ? chosen_ : reference_,
          {sum.data(), delta.data(), weight.data(), 1e-5f, kTokens, kIn, out[i].data()}));
    }
    Compare("add_rms_norm", out[0], out[1], 1e-4);
    return absl::OkStatus();
  }

  absl::Status CheckSilu() {
    const std::vector<float> gate = Normal(kTokens * kIn);
    const std::vector<float> up = Normal(kTokens * kIn);
    std::vector<float> out[2];
    for (int i = 0; i < 2; ++i) {
      out[i].resize(kTokens * kIn);
      MILI_RETURN_IF_ERROR(SiluMul(i == 0 ? chosen_ : reference_,
                                   {gate.data(), up.data(), kTokens, kIn, out[i].data()}));
    }
    Compare("silu_mul", out[0], out[1], 1e-4);
    return absl::OkStatus();
  }

  // A prompt of 37 tokens over scattered pages: QK-norm, RoPE, KV write, attention.
  absl::Status CheckAttention(int64_t head_dim) {
    constexpr int64_t kNew = 37;
    constexpr int64_t kHeads = 6;
    constexpr int64_t kKvHeads = 2;
    constexpr int64_t kPage = 16;
    const uint32_t pages[] = {5, 0, 3};
    const std::vector<float> q = Normal(kNew * kHeads * head_dim);
    const std::vector<float> k = Normal(kNew * kKvHeads * head_dim);
    const std::vector<float> v = Normal(kNew * kKvHeads * head_dim);
    const std::vector<float> norm = Normal(head_dim);
    std::vector<float> cos(kNew * head_dim / 2);
    std::vector<float> sin(kNew * head_dim / 2);
    std::vector<uint32_t> positions(kNew);
    std::vector<int64_t> slot_map(kNew);
    for (int64_t t = 0; t < kNew; ++t) {
      positions[t] = static_cast<uint32_t>(t);
      slot_map[t] = pages[t / kPage] * kPage + t % kPage;
      for (int64_t i = 0; i < head_dim / 2; ++i) {
        cos[t * head_dim / 2 + i] = std::cos(0.1f * static_cast<float>(t * (i + 1)));
        sin[t * head_dim / 2 + i] = std::sin(0.1f * static_cast<float>(t * (i + 1)));
      }
    }
    const int64_t cu_seqlens[] = {0, kNew};
    const int64_t context_lens[] = {kNew};
    std::vector<float> out[2];
    for (int i = 0; i < 2; ++i) {
      const Compute& compute = i == 0 ? chosen_ : reference_;
      const KvSpec spec = {1, kKvHeads, static_cast<uint32_t>(head_dim), kPage,
                           compute.kernels->kv_dtype};
      MILI_ASSIGN_OR_RETURN(const KvArena arena, KvArena::Allocate(spec, 6));
      std::vector<float> q_copy = q;
      std::vector<float> k_copy = k;
      out[i].resize(q.size());
      MILI_RETURN_IF_ERROR(QkvPrepare(
          compute, {q_copy.data(), k_copy.data(), v.data(), kHeads * head_dim, kKvHeads * head_dim,
                    norm.data(), norm.data(), 1e-6f, cos.data(), sin.data(), positions.data(),
                    slot_map.data(), kNew, kHeads, kKvHeads, head_dim, arena.Layer(0)}));
      MILI_RETURN_IF_ERROR(PagedAttention(
          compute, {q_copy.data(), kHeads * head_dim, out[i].data(), cu_seqlens, context_lens,
                    pages, 3, 1, kHeads, kKvHeads, head_dim,
                    1.0f / std::sqrt(static_cast<float>(head_dim)), arena.Layer(0)}));
    }
    // bf16 keys under a softmax: 2^-9 relative on scores of a few units.
    Compare(absl::StrCat("attention d", head_dim), out[0], out[1], 5e-2);
    return absl::OkStatus();
  }

  absl::Status CheckSample() {
    constexpr int64_t kVocab = 5003;
    bool is_same = true;
    for (uint32_t position = 0; position < 64; ++position) {
      const std::vector<float> logits = Normal(kVocab);
      kernels::SampleOutcome outcome[2];
      for (int i = 0; i < 2; ++i) {
        const Compute& compute = i == 0 ? chosen_ : reference_;
        std::vector<float> row = logits;
        MILI_ASSIGN_OR_RETURN(
            DeviceMemory workspace,
            DeviceMemory::Allocate(compute.kernels->sample_workspace_bytes(kVocab),
                                   DeviceMemory::Pages::kSmall, "the self-check"));
        kernels::SampleParams params;
        params.logits = row.data();
        params.vocab_size = kVocab;
        params.num_valid_tokens = kVocab;
        params.temperature = position % 2 == 0 ? 0.0f : 0.8f;
        params.top_k = 50;
        params.seed = 42;
        params.position = position;
        params.workspace = workspace.data();
        MILI_RETURN_IF_ERROR(Sample(compute, params, &outcome[i]));
      }
      is_same = is_same && outcome[0].token_id == outcome[1].token_id;
    }
    Tell("sample", is_same, "64 rows, greedy and drawn");
    return absl::OkStatus();
  }

  const Compute chosen_;
  const Compute reference_;
  std::mt19937 random_{20240601};
  int num_checks_ = 0;
  int num_failed_ = 0;
};

}  // namespace

absl::Status RunSelfCheck(const Settings& settings) {
  MILI_ASSIGN_OR_RETURN(const Device device, OpenDevice(settings));
  std::printf("%s\n", device.description.c_str());
  return Checks(*device.kernels, *device.pool).Run();
}

}  // namespace mili::worker
