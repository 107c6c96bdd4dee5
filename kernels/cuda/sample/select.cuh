// Finding the threshold that keeps the k largest candidates, or the fewest that reach a mass: a
// histogram over the keys in question, then over those of the bin that holds the border, until
// nothing is open. Counts and masses are integers, so the order of the atomics does not matter.
// Device code only.
#pragma once

#include "kernels/cuda/sample/candidates.cuh"

namespace mili::kernels::cuda {

// The keys in question and how they fall into bins.
struct BinRange {
  uint32_t lowest;
  uint32_t highest;
  uint32_t shift;

  __device__ __forceinline__ BinRange(uint32_t low, uint32_t high) : lowest(low), highest(high) {
    const uint32_t range = high - low;
    shift = range < kBins ? 0 : 32 - __clz(range) - 9;
    static_assert(kBins == 1 << 9);
  }
  __device__ __forceinline__ bool Has(uint32_t key) const {
    return key >= lowest && key <= highest;
  }
};

template <bool kByMass>
__device__ __forceinline__ void FillBins(const Source& source, const BinRange& range,
                                         const Weight& weight, DrawMemory& memory) {
  __syncthreads();
  memory.bin_count[threadIdx.x] = 0;
  if constexpr (kByMass) {
    for (int d = 0; d < kMassDigits; ++d) memory.bin_mass[d][threadIdx.x] = 0;
  }
  __syncthreads();
  ForEachUnit(source, [&](int32_t, const float4& x) {
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) {
      const uint32_t key = KeyOf((&x.x)[j]);
      if (!range.Has(key)) continue;
      const uint32_t bin = (key - range.lowest) >> range.shift;
      atomicAdd(&memory.bin_count[bin], 1);
      if constexpr (kByMass) {
        const uint64_t mass = weight.Fixed((&x.x)[j]);
        atomicAdd(&memory.bin_mass[0][bin], static_cast<uint32_t>(mass & 0xfff));
        atomicAdd(&memory.bin_mass[1][bin], static_cast<uint32_t>(mass >> 12 & 0xfff));
        atomicAdd(&memory.bin_mass[2][bin], static_cast<uint32_t>(mass >> 24));
      }
    }
  });
  __syncthreads();
}

template <bool kByMass>
__device__ __forceinline__ uint64_t AmountIn(uint32_t bin, const DrawMemory& memory) {
  if constexpr (!kByMass) return memory.bin_count[bin];
  return memory.bin_mass[0][bin] + (uint64_t{memory.bin_mass[1][bin]} << 12) +
         (uint64_t{memory.bin_mass[2][bin]} << 24);
}

// Narrows `prior` to the fewest first candidates of which there are `need` (need > 0), or whose
// mass reaches need / kFixedOne. All of `prior` if they do not suffice. `highest`: no key is above.
template <bool kByMass>
__device__ __forceinline__ Threshold Select(const Source& source, Threshold prior, uint32_t highest,
                                            uint64_t need, const Weight& weight,
                                            DrawMemory& memory) {
  BinRange range(prior.key, highest);
  Threshold found;
  while (true) {
    FillBins<kByMass>(source, range, weight, memory);
    const uint32_t bin = kBins - 1 - threadIdx.x;  // best first
    const uint64_t amount = AmountIn<kByMass>(bin, memory);
    const Scanned<uint64_t> scanned = BlockScan<uint64_t>(amount, memory);
    if (scanned.total < need) return prior;  // only in the first round
    if (scanned.before < need && need <= scanned.before + amount) {
      memory.found_bin = bin;
      memory.found_count = memory.bin_count[bin];
      memory.found_before = scanned.before;
    }
    __syncthreads();
    const uint32_t low = range.lowest + (memory.found_bin << range.shift);
    const uint32_t count = memory.found_count;
    need -= memory.found_before;
    found = {low, Threshold::kAll};
    if (count == 1 || (!kByMass && need == count)) break;
    if (range.shift == 0) {
      const uint64_t each = kByMass ? weight.Fixed(ValueOf(low)) : 1;
      const uint64_t ties = (need + each - 1) / each;
      if (ties < count) found.ties = static_cast<uint32_t>(ties);
      break;
    }
    range = BinRange(low, min(range.highest, low + ((1u << range.shift) - 1)));
  }
  if (found.key == prior.key) found.ties = min(found.ties, prior.ties);
  return found;
}

}  // namespace mili::kernels::cuda
