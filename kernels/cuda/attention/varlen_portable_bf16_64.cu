#include "kernels/cuda/attention/varlen_portable.cuh"

namespace mili::kernels::cuda {

template <>
cudaError_t LaunchVarlenPortable<Bf16, 64>(const VarlenArgs& args, bool pdl, cudaStream_t stream) {
  return LaunchVarlenPortableHere<Bf16, 64>(args, pdl, stream);
}

}  // namespace mili::kernels::cuda
