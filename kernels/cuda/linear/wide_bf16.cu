#include "kernels/cuda/linear/wide_kernel.cuh"

namespace mili::kernels::cuda {

WideKernel WideBf16(int tokens, int groups) { return WideInstance<Bf16, Bf16>(tokens, groups); }

}  // namespace mili::kernels::cuda
