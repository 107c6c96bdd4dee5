#include "kernels/cuda/attention/decode.cuh"

namespace mili::kernels::cuda {

template <>
cudaError_t LaunchDecode<F16, 128, 1>(const DecodeArgs& args, int32_t num_ctas, bool pdl,
                                      cudaStream_t stream) {
  return LaunchDecodeHere<F16, 128, 1>(args, num_ctas, pdl, stream);
}

template <>
cudaError_t LaunchDecode<F16, 128, 2>(const DecodeArgs& args, int32_t num_ctas, bool pdl,
                                      cudaStream_t stream) {
  return LaunchDecodeHere<F16, 128, 2>(args, num_ctas, pdl, stream);
}

}  // namespace mili::kernels::cuda
