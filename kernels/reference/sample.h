// Sampling one row and scoring a given token. The algorithm is the same for every table; the passes
// over a whole vocabulary are a RowScan, which fast tables vectorise. Any thread, no state; works
// in the caller's workspace, in time linear in the vocabulary (expected), whatever the parameters.
#pragma once

#include <cstddef>

#include "kernels/params.h"

namespace mili::kernels {

// exp((x - max) / temperature) for x > floor, else 0.
struct SoftmaxWeight {
  float max;          // finite
  float temperature;  // > 0
  float floor;
};

struct RowScan {
  static constexpr int64_t kBlock = 1024;  // most elements of one weights() call

  // The largest of x[0, n), -inf if there is none; sets *has_nan if any is a NaN, and then returns
  // anything.
  float (*max)(const float* x, int64_t n, bool* has_nan);
  // Fills weights[0, n), n <= kBlock, and returns their sum.
  float (*weights)(const float* x, int64_t n, const SoftmaxWeight& of, float* weights);
  // Number of x[i] > value.
  int64_t (*count_greater)(const float* x, int64_t n, float value);
};

SampleOutcome SampleRow(const SampleParams& p, const RowScan& scan);
SampleOutcome ScoreRow(const ScoreParams& p, const RowScan& scan);

namespace reference {

size_t SampleWorkspaceBytes(int64_t vocab_size);
SampleOutcome Sample(const SampleParams& p);
SampleOutcome Score(const ScoreParams& p);

}  // namespace reference
}  // namespace mili::kernels
