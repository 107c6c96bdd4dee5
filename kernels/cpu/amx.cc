#include "kernels/cpu/isa_amx.h"
#include "kernels/cpu/table_inl.h"
#include "kernels/cpu/tables.h"

namespace mili::kernels {

const CpuKernels& AmxKernels() {
  static constexpr CpuKernels kTable = MakeTable<IsaAmx>("amx");
  return kTable;
}

}  // namespace mili::kernels
