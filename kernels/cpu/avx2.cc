#include "kernels/cpu/isa_avx2.h"
#include "kernels/cpu/table_inl.h"
#include "kernels/cpu/tables.h"

namespace mili::kernels {

const CpuKernels& Avx2Kernels() {
  static constexpr CpuKernels kTable = MakeTable<Isa>("avx2");
  return kTable;
}

}  // namespace mili::kernels
