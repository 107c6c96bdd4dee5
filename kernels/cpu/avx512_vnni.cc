#include "kernels/cpu/isa_avx512.h"
#include "kernels/cpu/table_inl.h"
#include "kernels/cpu/tables.h"

namespace mili::kernels {

const CpuKernels& Avx512VnniKernels() {
  static constexpr CpuKernels kTable = MakeTable<Isa>("avx512_vnni");
  return kTable;
}

}  // namespace mili::kernels
