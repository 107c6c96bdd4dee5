#include "kernels/cpu/isa_neon.h"
#include "kernels/cpu/table_inl.h"
#include "kernels/cpu/tables.h"

namespace mili::kernels {

const CpuKernels& NeonDotKernels() {
  static constexpr CpuKernels kTable = MakeTable<Isa>("neon_dot");
  return kTable;
}

}  // namespace mili::kernels
