#include "kernels/cuda/linear/wide_kernel.cuh"

namespace mili::kernels::cuda {

WideKernel WideF16Fp8(int tokens, int groups) { return WideInstance<E4m3, F16>(tokens, groups); }

}  // namespace mili::kernels::cuda
