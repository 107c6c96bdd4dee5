// Which kernel runs a call: the one that was timed to be the fastest for its shape, else the one
// that an H100 showed to be. Owns the table of what was timed; knows nothing of cublasLt. One
// thread.
#pragma once

#include <vector>

#include "kernels/cuda/linear/algo_table.h"
#include "kernels/cuda/linear/gated.h"
#include "kernels/cuda/linear/linear.h"
#include "kernels/cuda/linear/skinny.h"
#include "kernels/cuda/linear/wide.h"

namespace mili::kernels::cuda {

MatmulShape ShapeOf(const LinearParams& params);

// The cut that an entry for the wide kernel holds, and the groups of one for the gated kernel.
WideCut CutOf(const AlgoTable::Entry& entry);
int32_t GroupsOf(const AlgoTable::Entry& entry);

class KernelChoice {
 public:
  // Own kernels run on Hopper alone.
  KernelChoice(bool is_hopper, const SkinnyDevice& device)
      : is_hopper_(is_hopper), device_(device) {}

  bool TakesSkinny(const LinearParams& params) const;
  bool TakesWide(const LinearParams& params) const;
  bool TakesGated(const LinearParams& params) const;
  static bool TakesLibrary(const LinearParams& params);

  // False if no kernel takes the call. An entry for the library without an algorithm stands for its
  // own first choice.
  bool Choose(const LinearParams& params, AlgoTable::Entry* choice) const;

  // Whether a call with silu_mul beats the product and a kernel for SiLU after it.
  bool IsFasterFused(const LinearParams& fused) const;

  // What is worth timing beside the library.
  std::vector<AlgoTable::Entry> OwnCandidates(const LinearParams& params) const;

  AlgoTable& tuned() { return tuned_; }
  const AlgoTable& tuned() const { return tuned_; }

 private:
  bool is_hopper_;
  SkinnyDevice device_;
  AlgoTable tuned_;
};

}  // namespace mili::kernels::cuda
