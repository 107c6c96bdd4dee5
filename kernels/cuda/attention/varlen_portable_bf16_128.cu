#include "kernels/cuda/attention/varlen_portable.cuh"

namespace mili::kernels::cuda {

template <>
cudaError_t LaunchVarlenPortable<Bf16, 128>(const VarlenArgs& args, int32_t num_tiles, bool pdl,
                                            cudaStream_t stream) {
  return LaunchVarlenPortableHere<Bf16, 128>(args, num_tiles, pdl, stream);
}

}  // namespace mili::kernels::cuda
