// Candidates of a sampling row: the k largest logits of a row, and the smallest set of them that
// holds a share of the mass, both without sorting the row. Ties go to the lower id.
// Any thread; works in the caller's buffer.
#pragma once

#include <cstdint>

#include "kernels/reference/sample.h"

namespace mili::kernels {

struct Candidate {
  float logit;
  uint32_t token_id;
  float weight;  // set by Weigh
};

inline bool IsBefore(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token_id < b.token_id);
}

// Puts the `k` first candidates (by IsBefore) with a logit above `floor` into out, in no particular
// order, and returns how many there are. `capacity` >= min(n, 2 * k + 256).
int64_t CollectTop(const float* logits, int64_t n, int64_t k, float floor, const RowScan& scan,
                   Candidate* out, int64_t capacity);

// Sets every weight and returns the total, summed in the order of the array.
double Weigh(Candidate* candidates, int64_t n, const SoftmaxWeight& of);

// Moves the shortest run of first candidates whose weights reach `target` to the front, unsorted,
// and returns its length: at least 1, n if all of them do not reach it. n >= 1.
int64_t TakeMass(Candidate* candidates, int64_t n, double target);

}  // namespace mili::kernels
