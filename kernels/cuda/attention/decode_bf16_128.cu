#include "kernels/cuda/attention/decode.cuh"

namespace mili::kernels::cuda {

template <>
cudaError_t LaunchDecode<Bf16, 128, 1>(const DecodeArgs& args, const DecodeGrid& grid, bool pdl,
                                       cudaStream_t stream) {
  return LaunchDecodeHere<Bf16, 128, 1>(args, grid, pdl, stream);
}

template <>
cudaError_t LaunchDecode<Bf16, 128, 2>(const DecodeArgs& args, const DecodeGrid& grid, bool pdl,
                                       cudaStream_t stream) {
  return LaunchDecodeHere<Bf16, 128, 2>(args, grid, pdl, stream);
}

}  // namespace mili::kernels::cuda
