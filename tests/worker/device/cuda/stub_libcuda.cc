// A driver, libcuda.so.1, that cannot be used in the way that the environment says: STUB_INIT is
// what cuInit returns, STUB_VERSION the driver's version, STUB_COUNT the number of GPUs. All else
// is refused.
#include <cstdlib>
#include <cstring>

namespace {

int Number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

// CUDA_ERROR_NO_DEVICE of cuda.h.
int Refuse() { return 100; }

int GetCount(int* count) {
  *count = Number("STUB_COUNT", 1);
  return 0;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return Number("STUB_INIT", 0); }

int cuDriverGetVersion(int* version) {
  *version = Number("STUB_VERSION", 13000);
  return 0;
}

int cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, int* status) {
  const auto is = [&](const char* other) { return std::strcmp(name, other) == 0; };
  if (status != nullptr) *status = 0;
  *function = is("cuInit")               ? reinterpret_cast<void*>(cuInit)
              : is("cuDriverGetVersion") ? reinterpret_cast<void*>(cuDriverGetVersion)
              : is("cuGetProcAddress")   ? reinterpret_cast<void*>(cuGetProcAddress_v2)
              : is("cuDeviceGetCount")   ? reinterpret_cast<void*>(GetCount)
                                         : reinterpret_cast<void*>(Refuse);
  return 0;
}

}  // extern "C"
