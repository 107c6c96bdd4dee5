// The table of one instruction set, out of the templates.
#pragma once

#include "kernels/cpu/attention_inl.h"
#include "kernels/cpu/linear_inl.h"
#include "kernels/cpu/row_ops_inl.h"
#include "kernels/cpu/row_scan_inl.h"
#include "kernels/params.h"

namespace mili::kernels {
namespace {

template <typename Isa>
constexpr Bf16Layout kBf16Layout = KindOf<Isa>(DType::kBF16) == WeightKind::kWords
                                       ? Bf16Layout::kWords
                                       : Bf16Layout::kPairs;

template <typename Isa>
size_t PackedBytesOf(DType dtype, int64_t rows, int64_t cols) {
  return PackedBytes(kBf16Layout<Isa>, dtype, rows, cols);
}

template <typename Isa>
void PackRowsOf(DType dtype, const std::byte* rows, int64_t num_rows, int64_t cols, std::byte* to) {
  PackRows(kBf16Layout<Isa>, dtype, rows, num_rows, cols, to);
}

template <typename Isa>
void EmbedOf(const EmbedParams& p, ParallelFor& pool) {
  EmbedPacked(kBf16Layout<Isa>, p, pool);  // copies a few rows: nothing to gain
}

template <typename Isa>
constexpr CpuKernels MakeTable(const char* name) {
  return {
      .name = name,
      .kv_dtype = DType::kBF16,
      .packed_bytes = PackedBytesOf<Isa>,
      .pack = PackRowsOf<Isa>,
      .embed = EmbedOf<Isa>,
      .add_rms_norm = AddRmsNorm<Isa>,
      .linear_workspace_bytes = LinearWorkspaceBytes<Isa>,
      .linear = Linear<Isa>,
      .qkv_prepare = QkvPrepare<Isa>,
      .paged_attention = PagedAttention<Isa>,
      .silu_mul = SiluMul<Isa>,
      .sample_workspace_bytes = reference::SampleWorkspaceBytes,
      .sample = Sample<Isa>,
      .score = Score<Isa>,
  };
}

}  // namespace
}  // namespace mili::kernels
