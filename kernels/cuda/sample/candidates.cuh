// The candidates of a row in units of 128, one a warp, and what is asked of them: the threshold
// that keeps the k largest or a share of the mass, sums, a draw. By order of (logit descending, id
// ascending), without sorting. All functions are called by the whole block. Device code only.
#pragma once

#include "kernels/cuda/sample/draw_memory.cuh"

namespace mili::kernels::cuda {

// exp((x - max) / temperature), at most 1.
struct Weight {
  float max;
  float temperature;
  __device__ __forceinline__ float Of(float x) const { return expf((x - max) / temperature); }
  // In units of 2^-36, so that sums do not depend on their order.
  __device__ __forceinline__ uint64_t Fixed(float x) const {
    return __float2ull_rn(Of(x) * 0x1p36f);
  }
};
inline constexpr double kFixedOne = 0x1p36;

// What passes: keys above `key`, and the first `ties`, by id, of those equal to it.
struct Threshold {
  static constexpr uint32_t kAll = 0xffffffffu;
  uint32_t key;
  uint32_t ties;
};

enum class Values : int32_t {
  kListed,     // memory.listed, with ids
  kMaxima,     // memory.group_max
  kGroups,     // those of memory.groups, edited
  kRawGroups,  // the same, not edited
  kRow,        // all groups, edited
};

// Values in the order of ids, in units of 128. All of it lies in shared memory, so that a function
// takes it without a stack. Code for rows without edits is faster.
template <bool kEdits>
struct Source {
  Values values;
  int32_t num_units;
  int32_t count;  // of kListed and kMaxima

  __device__ __forceinline__ bool is_list() const {
    return values == Values::kListed || values == Values::kMaxima;
  }
  __device__ __forceinline__ int32_t GroupOf(int32_t unit, const DrawMemory& memory) const {
    return values == Values::kRow ? unit : memory.groups[unit];
  }
  // Absent elements are NaN, whose key is 0.
  __device__ __forceinline__ float4 Load(int32_t unit, const DrawMemory& memory) const {
    const float absent = __int_as_float(0x7fffffff);
    const RowReader& reader = memory.reader;
    if (!is_list()) {
      const int32_t group = GroupOf(unit, memory);
      if (values == Values::kRawGroups) return reader.Raw(group, absent);
      return kEdits ? reader.Edited(group) : reader.Cut(reader.Raw(group, -Infinity()), group);
    }
    const float* list = values == Values::kListed ? memory.listed : memory.group_max;
    const int32_t first = unit * kGroup + static_cast<int32_t>(threadIdx.x % 32) * kLaneIds;
    float4 x;
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) (&x.x)[j] = first + j < count ? list[first + j] : absent;
    return x;
  }
  __device__ __forceinline__ int32_t IdOf(int32_t unit, int32_t element,
                                          const DrawMemory& memory) const {
    return values == Values::kListed ? memory.listed_ids[unit * kGroup + element]
                                     : GroupOf(unit, memory) * kGroup + element;
  }
};

// The first `count` of kListed or kMaxima.
template <bool kEdits>
__device__ __forceinline__ Source<kEdits> ListOf(Values values, int32_t count) {
  return {values, (count + kGroup - 1) / kGroup, count};
}

// Calls body(unit, values) for every unit, a warp each.
template <typename Body, bool kEdits>
__device__ __forceinline__ void ForEachUnit(const Source<kEdits>& source, const DrawMemory& memory,
                                            Body&& body) {
  constexpr int kAhead = kEdits ? 2 : 4;
  for (int32_t unit = threadIdx.x / 32; unit < source.num_units; unit += kDrawWarps * kAhead) {
    float4 x[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (unit + j * kDrawWarps < source.num_units)
        x[j] = source.Load(unit + j * kDrawWarps, memory);
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (unit + j * kDrawWarps < source.num_units) body(unit + j * kDrawWarps, x[j]);
    }
  }
}

// Which of the lane's elements pass. `ties_before`: candidates at the threshold in units before.
struct Passing {
  bool passes[kLaneIds];
};
__device__ __forceinline__ Passing PassingOf(const float4& x, const Threshold& threshold,
                                             uint32_t ties_before) {
  Passing result;
  uint32_t is_tie[kLaneIds];
#pragma unroll
  for (int j = 0; j < kLaneIds; ++j) {
    const uint32_t key = KeyOf((&x.x)[j]);
    result.passes[j] = key >= threshold.key;
    is_tie[j] = key == threshold.key;
  }
  if (threshold.ties == Threshold::kAll) return result;
  const uint32_t mine = is_tie[0] + is_tie[1] + is_tie[2] + is_tie[3];
  uint32_t rank = mine;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const uint32_t other = __shfl_up_sync(~0u, rank, step);
    if (threadIdx.x % 32 >= step) rank += other;
  }
  rank += ties_before - mine;
#pragma unroll
  for (int j = 0; j < kLaneIds; ++j) {
    if (is_tie[j] != 0) result.passes[j] = rank++ < threshold.ties;
  }
  return result;
}

// Prefix sums over units: each thread has kUnitsPerThread neighbouring ones.
template <typename T, typename Stored>
__device__ __forceinline__ Scanned<T> ScanUnits(const Stored* units, int32_t num_units,
                                                DrawMemory& memory) {
  T sum = 0;
  for (int j = 0; j < kUnitsPerThread; ++j) {
    const int32_t unit = threadIdx.x * kUnitsPerThread + j;
    if (unit < num_units) sum += units[unit];
  }
  return BlockScan<T>(sum, memory);
}

// Fills unit_ties, if the threshold needs them.
template <bool kEdits>
__device__ __forceinline__ void CountTies(const Source<kEdits>& source, const Threshold& threshold,
                                          DrawMemory& memory) {
  if (threshold.ties == Threshold::kAll) return;
  __syncthreads();
  ForEachUnit(source, memory, [&](int32_t unit, const float4& x) {
    uint32_t ties = 0;
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) ties += KeyOf((&x.x)[j]) == threshold.key;
    ties = __reduce_add_sync(~0u, ties);
    if (threadIdx.x % 32 == 0) memory.unit_ties[unit] = ties;
  });
  __syncthreads();
  uint32_t before = ScanUnits<uint32_t>(memory.unit_ties, source.num_units, memory).before;
  for (int j = 0; j < kUnitsPerThread; ++j) {
    const int32_t unit = threadIdx.x * kUnitsPerThread + j;
    if (unit >= source.num_units) break;
    const uint32_t ties = memory.unit_ties[unit];
    memory.unit_ties[unit] = before;
    before += ties;
  }
  __syncthreads();
}

__device__ __forceinline__ uint32_t TiesBefore(int32_t unit, const Threshold& threshold,
                                               const DrawMemory& memory) {
  return threshold.ties == Threshold::kAll ? 0 : memory.unit_ties[unit];
}

// Fills unit_mass with the weights of what passes; unit_ties must be there. Returns their sums.
template <bool kEdits>
__device__ __forceinline__ Scanned<double> SumMass(const Source<kEdits>& source,
                                                   const Threshold& threshold, const Weight& weight,
                                                   DrawMemory& memory) {
  __syncthreads();
  ForEachUnit(source, memory, [&](int32_t unit, const float4& x) {
    const Passing passing = PassingOf(x, threshold, TiesBefore(unit, threshold, memory));
    double mass = 0;
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) {
      if (passing.passes[j]) mass += weight.Of((&x.x)[j]);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) mass += __shfl_xor_sync(~0u, mass, step);
    if (threadIdx.x % 32 == 0) memory.unit_mass[unit] = mass;
  });
  __syncthreads();
  return ScanUnits<double>(memory.unit_mass, source.num_units, memory);
}

}  // namespace mili::kernels::cuda
