#include "kernels/cpu/kernels.h"

#include <cstring>

#include "kernels/cpu/tables.h"

namespace mili::kernels {
namespace {

// The compiler's check includes that the operating system saves the wide registers.
#if defined(__x86_64__)
bool HasAvx512Vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("fma");
}

bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
#else
bool HasAvx512Vnni() { return false; }
bool HasAvx2() { return false; }
#endif

}  // namespace

const CpuKernels* FindCpuKernels(const char* name) {
#if defined(__x86_64__)
  if (std::strcmp(name, "avx512_vnni") == 0)
    return HasAvx512Vnni() ? &Avx512VnniKernels() : nullptr;
  if (std::strcmp(name, "avx2") == 0) return HasAvx2() ? &Avx2Kernels() : nullptr;
#endif
  return std::strcmp(name, "portable") == 0 ? &PortableKernels() : nullptr;
}

const CpuKernels& BestCpuKernels() {
  for (const char* name : {"avx512_vnni", "avx2"}) {
    if (const CpuKernels* table = FindCpuKernels(name); table != nullptr) return *table;
  }
  return PortableKernels();
}

const char* RunnableCpuKernels() {
  if (HasAvx512Vnni()) return "avx512_vnni avx2 portable";
  return HasAvx2() ? "avx2 portable" : "portable";
}

}  // namespace mili::kernels
