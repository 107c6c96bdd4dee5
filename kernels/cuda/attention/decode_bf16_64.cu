#include "kernels/cuda/attention/decode.cuh"

namespace mili::kernels::cuda {

template <>
cudaError_t LaunchDecode<Bf16, 64, 1>(const DecodeArgs& args, int32_t num_ctas, bool pdl,
                                      cudaStream_t stream) {
  return LaunchDecodeHere<Bf16, 64, 1>(args, num_ctas, pdl, stream);
}

template <>
cudaError_t LaunchDecode<Bf16, 64, 2>(const DecodeArgs& args, int32_t num_ctas, bool pdl,
                                      cudaStream_t stream) {
  return LaunchDecodeHere<Bf16, 64, 2>(args, num_ctas, pdl, stream);
}

}  // namespace mili::kernels::cuda
