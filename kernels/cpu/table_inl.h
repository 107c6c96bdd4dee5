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
constexpr CpuKernels MakeTable(const char* name) {
  return {
      .name = name,
      .kv_dtype = DType::kBF16,
      .packed_bytes = PackedBytesOf<Isa>,
      .pack = PackRows,
      .embed = EmbedPacked,  // copies a few rows: nothing to gain
      .add_rms_norm = AddRmsNorm<Isa>,
      .linear_workspace_bytes = LinearWorkspaceBytes,
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
