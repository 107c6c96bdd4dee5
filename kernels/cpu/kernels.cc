#include "kernels/cpu/kernels.h"

#include <cstring>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include "kernels/cpu/tables.h"

namespace mili::kernels {
namespace {

#if defined(__x86_64__)
// Whether the CPU has tiles of BF16 and the operating system lets this process use them. Asking
// Linux for them (arch_prctl, ARCH_REQ_XCOMP_PERM for the state of number 18) covers all threads.
bool HasAmx() {
  unsigned eax, ebx, ecx, edx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  if ((edx & kBf16) == 0 || (edx & kTile) == 0) return false;
#if defined(__linux__)
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
  return false;
#endif
}
#endif

struct Choice {
  const char* name;
  bool (*can_run)();
  const CpuKernels& (*table)();
};

// Best first. The compiler's check of a CPU includes that the operating system saves its registers.
constexpr Choice kChoices[] = {
#if defined(__x86_64__)
    {"amx", [] { return FindCpuKernels("avx512_vnni") && HasAmx(); }, AmxKernels},
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
