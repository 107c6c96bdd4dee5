#include "kernels/cuda/linear/skinny_kernel.cuh"

namespace mili::kernels::cuda {

SkinnyKernel SkinnyBf16(int token_groups, int row_groups) {
  return SkinnyInstance<Weights16<Bf16>>(token_groups, row_groups);
}

}  // namespace mili::kernels::cuda
