#include "kernels/cuda/attention/varlen_hopper.cuh"

namespace mili::kernels::cuda {

template <>
cudaError_t LaunchVarlenHopper<F16, 128>(const VarlenArgs& args, const CUtensorMap& map,
                                         int32_t max_ctas, bool pdl, cudaStream_t stream) {
  return LaunchVarlenHopperHere<F16, 128>(args, map, max_ctas, pdl, stream);
}

}  // namespace mili::kernels::cuda
