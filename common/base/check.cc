#include "common/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace mili {

void CheckFailed(const char* file, int line, const char* expression, const char* sentence) {
  std::fprintf(stderr, "%s:%d: check failed: %s: %s\n", file, line, expression, sentence);
  std::abort();
}

}  // namespace mili
