#include "kernels/cpu/isa_portable.h"
#include "kernels/cpu/table_inl.h"
#include "kernels/cpu/tables.h"

namespace mili::kernels {

const CpuKernels& PortableKernels() {
  static constexpr CpuKernels kTable = MakeTable<Isa>("portable");
  return kTable;
}

}  // namespace mili::kernels
