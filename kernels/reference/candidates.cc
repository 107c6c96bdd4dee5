#include "kernels/reference/candidates.h"

#include <algorithm>
#include <cmath>

namespace mili::kernels {

int64_t CollectTop(const float* logits, int64_t n, int64_t k, float floor, const RowScan& scan,
                   Candidate* out, int64_t capacity) {
  if (k <= 0) return 0;
  constexpr int64_t kBlock = 256;
  // A small buffer, cut back to k when full, raises the floor early: most blocks are then skipped.
  const int64_t limit = std::min(capacity, 2 * k + 256);
  int64_t count = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t size = std::min(kBlock, n - begin);
    if (scan.count_greater(logits + begin, size, floor) == 0) continue;
    for (int64_t i = begin; i < begin + size; ++i) {
      if (!(logits[i] > floor)) continue;
      out[count++] = {logits[i], static_cast<uint32_t>(i), 0};
      if (count < limit || count <= k) continue;
      std::nth_element(out, out + k - 1, out + count, IsBefore);
      count = k;
      floor = out[k - 1].logit;  // an equal one further on has a higher id
    }
  }
  if (count > k) {
    std::nth_element(out, out + k - 1, out + count, IsBefore);
    count = k;
  }
  return count;
}

double Weigh(Candidate* candidates, int64_t n, const SoftmaxWeight& of) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) {
    candidates[i].weight = std::exp((candidates[i].logit - of.max) / of.temperature);
    total += candidates[i].weight;
  }
  return total;
}

int64_t TakeMass(Candidate* candidates, int64_t n, double target) {
  int64_t low = 0;  // the candidates before `low` are taken and weigh `mass`, too little
  int64_t high = n;
  double mass = 0;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    std::nth_element(candidates + low, candidates + middle, candidates + high, IsBefore);
    double upper = 0;
    for (int64_t i = low; i < middle; ++i) upper += candidates[i].weight;
    if (mass + upper >= target) {
      high = middle;
    } else {
      mass += upper;
      low = middle;
    }
  }
  return low + 1;
}

}  // namespace mili::kernels
