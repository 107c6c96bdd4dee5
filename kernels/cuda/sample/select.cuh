// Finding the threshold that keeps the k largest candidates, or the fewest that reach a mass: a
// histogram over the keys in question, then over those of the bin that holds the border, until
// nothing is open. Counts and masses are integers, so the order of the atomics does not matter.
// Device code only.
#pragma once

#include <type_traits>

#include "kernels/cuda/sample/gather.cuh"

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

template <bool kByMass, bool kEdits>
__device__ __forceinline__ void FillBins(const Source<kEdits>& source, const BinRange& range,
                                         const Weight& weight, DrawMemory& memory) {
  __syncthreads();
  memory.bin_count[threadIdx.x] = 0;
  if constexpr (kByMass) {
    for (int d = 0; d < kMassDigits; ++d) memory.bin_mass[d][threadIdx.x] = 0;
  }
  __syncthreads();
  ForEachUnit(source, memory, [&](int32_t, const float4& x) {
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
__device__ __forceinline__ auto AmountIn(uint32_t bin, const DrawMemory& memory) {
  if constexpr (!kByMass) {
    return memory.bin_count[bin];
  } else {
    return memory.bin_mass[0][bin] + (uint64_t{memory.bin_mass[1][bin]} << 12) +
           (uint64_t{memory.bin_mass[2][bin]} << 24);
  }
}

// Where the border is: the bin, what lies before it and in it. All of it lies before if found is
// false.
template <typename Amount>
struct Border {
  bool found;
  uint32_t low;  // lowest key of the bin
  uint32_t count;
  Amount before;
};

template <bool kByMass, typename Amount>
__device__ __forceinline__ Border<Amount> FindBorder(const BinRange& range, Amount need,
                                                     DrawMemory& memory) {
  const uint32_t bin = kBins - 1 - threadIdx.x;  // best first
  const Amount amount = AmountIn<kByMass>(bin, memory);
  const Scanned<Amount> scanned = BlockScan<Amount>(amount, memory);
  if (scanned.total < need) return {false, range.lowest, 0, scanned.total};
  if (scanned.before < need && need <= scanned.before + amount) {
    memory.found_bin = bin;
    memory.found_count = memory.bin_count[bin];
    memory.found_before = scanned.before;
  }
  __syncthreads();
  return {true, range.lowest + (memory.found_bin << range.shift), memory.found_count,
          static_cast<Amount>(memory.found_before)};
}

// Narrows `prior` to the fewest first candidates of which there are `need` (need > 0), or whose
// mass reaches need / kFixedOne. All of `prior` if they do not suffice. `highest`: no key is above.
// A source outside of the list may leave some of its candidates there.
template <bool kByMass, bool kEdits>
__device__ __forceinline__ Threshold Select(Source<kEdits> source, Threshold prior,
                                            uint32_t highest, uint64_t need, const Weight& weight,
                                            DrawMemory& memory) {
  using Amount = std::conditional_t<kByMass, uint64_t, uint32_t>;
  BinRange range(prior.key, highest);
  auto left = static_cast<Amount>(need);
  Threshold found;
  while (true) {
    FillBins<kByMass>(source, range, weight, memory);
    const Border<Amount> border = FindBorder<kByMass>(range, left, memory);
    if (!border.found) return prior;  // only in the first round
    left -= border.before;
    found = {border.low, Threshold::kAll};
    if (border.count == 1 || (!kByMass && left == border.count)) break;
    if (range.shift == 0) {
      const uint64_t each = kByMass ? weight.Fixed(ValueOf(border.low)) : 1;
      const uint64_t ties = (left + each - 1) / each;
      if (ties < border.count) found.ties = static_cast<uint32_t>(ties);
      break;
    }
    range = BinRange(border.low, min(range.highest, border.low + ((1u << range.shift) - 1)));
    if (!source.is_list() && border.count <= kMaxListed) {
      const int32_t count = ListCandidates(source, range.lowest, range.highest, memory);
      source = ListOf<kEdits>(Values::kListed, count);
    }
  }
  if (found.key == prior.key) found.ties = min(found.ties, prior.ties);
  return found;
}

// A key that at least k elements of the row reach, since the largest of k groups do, and not many
// more groups; `floor` if there are not so many above it.
__device__ __forceinline__ uint32_t BoundOfLargest(int32_t k, int32_t num_groups, uint32_t floor,
                                                   const Extremes& extremes, DrawMemory& memory) {
  constexpr uint32_t kFewMore = 32;
  if (k > num_groups || extremes.lowest > extremes.highest) return floor;
  const Source<false> maxima = ListOf<false>(Values::kMaxima, num_groups);
  BinRange range(max(floor, extremes.lowest), extremes.highest);
  auto left = static_cast<uint32_t>(k);
  while (true) {
    FillBins<false>(maxima, range, {}, memory);
    const Border<uint32_t> border = FindBorder<false>(range, left, memory);
    if (!border.found) return floor;
    left -= border.before;
    if (range.shift == 0 || border.count <= left + kFewMore) return border.low;
    range = BinRange(border.low, min(range.highest, border.low + ((1u << range.shift) - 1)));
  }
}

}  // namespace mili::kernels::cuda
