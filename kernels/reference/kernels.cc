#include "kernels/reference/kernels.h"

#include "kernels/reference/activation.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/embed.h"
#include "kernels/reference/linear.h"
#include "kernels/reference/norm.h"
#include "kernels/reference/qkv_prepare.h"
#include "kernels/reference/sample.h"

namespace mili::kernels {

const CpuKernels& ReferenceKernels() {
  static constexpr CpuKernels kTable = {
      .name = "reference",
      .kv_dtype = DType::kF32,
      .packed_bytes = [](DType, int64_t, int64_t) -> size_t { return 0; },
      .embed = reference::Embed,
      .add_rms_norm = reference::AddRmsNorm,
      .linear_workspace_bytes = reference::LinearWorkspaceBytes,
      .linear = reference::Linear,
      .qkv_prepare = reference::QkvPrepare,
      .paged_attention = reference::PagedAttention,
      .silu_mul = reference::SiluMul,
      .sample_workspace_bytes = reference::SampleWorkspaceBytes,
      .sample = reference::Sample,
      .score = reference::Score,
  };
  return kTable;
}

}  // namespace mili::kernels
