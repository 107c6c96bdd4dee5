#include "kernels/cpu/kernels.h"

#include <cstring>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "kernels/cpu/tables.h"

namespace mili::kernels {
namespace {

struct Choice {
  const char* name;
  bool (*can_run)();
  const CpuKernels& (*table)();
};

// Best first. The compiler's check of a CPU includes that the operating system saves its registers.
constexpr Choice kChoices[] = {
#if defined(__x86_64__)
    {"avx512_bf16",
     [] { return FindCpuKernels("avx512_vnni") && __builtin_cpu_supports("avx512bf16"); },
     Avx512Bf16Kernels},
    {"avx512_vnni",
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vnni") && FindCpuKernels("avx2");
     },
     Avx512VnniKernels},
    {"avx_vnni", [] { return FindCpuKernels("avx2") && __builtin_cpu_supports("avxvnni"); },
     AvxVnniKernels},
    {"avx2",
     [] {
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("f16c");
     },
     Avx2Kernels},
#elif defined(__aarch64__) && defined(__linux__)
    {"neon_dot", [] { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }, NeonDotKernels},
#endif
    {"portable", [] { return true; }, PortableKernels},
};

}  // namespace

const CpuKernels* FindCpuKernels(const char* name) {
  for (const Choice& choice : kChoices) {
    if (std::strcmp(name, choice.name) == 0) return choice.can_run() ? &choice.table() : nullptr;
  }
  return nullptr;
}

const CpuKernels& BestCpuKernels() {
  for (const Choice& choice : kChoices) {
    if (choice.can_run()) return choice.table();
  }
  return PortableKernels();
}

std::string RunnableCpuKernels() {
  std::string names;
  for (const Choice& choice : kChoices) {
    if (choice.can_run()) names += (names.empty() ? "" : " ") + std::string(choice.name);
  }
  return names;
}

}  // namespace mili::kernels
