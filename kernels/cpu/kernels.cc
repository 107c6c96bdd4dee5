#include "kernels/cpu/kernels.h"

#include <cstring>

#include "kernels/reference/kernels.h"

namespace mili::kernels {
namespace {

CpuKernels PortableTable() {
  CpuKernels table = ReferenceKernels();
  table.name = "portable";
  table.kv_dtype = DType::kBF16;
  return table;
}

}  // namespace

const CpuKernels& BestCpuKernels() {
  static const CpuKernels kTable = PortableTable();
  return kTable;
}

const CpuKernels* FindCpuKernels(const char* name) {
  return std::strcmp(name, "portable") == 0 ? &BestCpuKernels() : nullptr;
}

const char* RunnableCpuKernels() { return "portable"; }

}  // namespace mili::kernels
