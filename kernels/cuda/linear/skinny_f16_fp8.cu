#include "kernels/cuda/linear/skinny_kernel.cuh"

namespace mili::kernels::cuda {

SkinnyKernel SkinnyF16Fp8(int token_groups, int row_groups) {
  return SkinnyInstance<WeightsFp8<F16>>(token_groups, row_groups);
}

}  // namespace mili::kernels::cuda
