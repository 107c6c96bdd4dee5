#include "kernels/cpu/isa_avx2.h"
#include "kernels/cpu/table_inl.h"
#include "kernels/cpu/tables.h"

namespace mili::kernels {

const CpuKernels& AvxVnniKernels() {
  static constexpr CpuKernels kTable = MakeTable<Isa>("avx_vnni");
  return kTable;
}

}  // namespace mili::kernels
