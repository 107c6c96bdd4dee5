#include "worker/model/layer_ops.h"

#include "common/base/status_macros.h"

namespace mili::worker {

absl::Status RunLayers(LayerOps& ops, uint32_t num_layers) {
  MILI_RETURN_IF_ERROR(ops.Embed());
  for (uint32_t i = 0; i < num_layers; ++i) {
    MILI_RETURN_IF_ERROR(ops.InputNorm(i));
    MILI_RETURN_IF_ERROR(ops.Qkv(i));
    MILI_RETURN_IF_ERROR(ops.QkvPrepare(i));
    MILI_RETURN_IF_ERROR(ops.Attention(i));
    if (i + 1 == num_layers) {
      if (!ops.HasOutputs()) break;
      MILI_RETURN_IF_ERROR(ops.KeepOutputs());
    }
    MILI_RETURN_IF_ERROR(ops.AttentionOutput(i));
    MILI_RETURN_IF_ERROR(ops.MlpNorm(i));
    MILI_RETURN_IF_ERROR(ops.GateUp(i));
    MILI_RETURN_IF_ERROR(ops.SiluMul(i));
    MILI_RETURN_IF_ERROR(ops.Down(i));
  }
  return absl::OkStatus();
}

}  // namespace mili::worker
