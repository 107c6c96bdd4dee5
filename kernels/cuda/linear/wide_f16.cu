#include "kernels/cuda/linear/wide_kernel.cuh"

namespace mili::kernels::cuda {

WideKernel WideF16(int tokens, int groups) { return WideInstance<F16, F16>(tokens, groups); }

}  // namespace mili::kernels::cuda
