#include "kernels/cpu/isa_avx512.h"
#include "kernels/cpu/table_inl.h"
#include "kernels/cpu/tables.h"

namespace mili::kernels {

const CpuKernels& Avx512Bf16Kernels() {
  static constexpr CpuKernels kTable = MakeTable<Isa>("avx512_bf16");
  return kTable;
}

}  // namespace mili::kernels
