// From a row's statistics to its token. Included by sample.cu.
#pragma once

#include "kernels/cuda/sample/ranked.cuh"
#include "kernels/cuda/sample/row_stats.h"
#include "kernels/cuda/sample/wide_top_p.cuh"

namespace mili::kernels::cuda {

// Philox4x32-10 with counter (position, choice, 0, 0): 53 bits in [0, 1), as
// kernels/reference/philox.h has them.
__device__ __forceinline__ double UniformOf(const SlotSampling& s, int32_t position) {
  uint32_t c[4] = {static_cast<uint32_t>(position), s.choice_idx, 0, 0};
  uint32_t k0 = static_cast<uint32_t>(s.seed);
  uint32_t k1 = static_cast<uint32_t>(s.seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t c1 = c[1];
    const uint32_t c3 = c[3];
    c[0] = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
    c[1] = static_cast<uint32_t>(b);
    c[2] = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c[3] = static_cast<uint32_t>(a);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  const uint64_t bits = (uint64_t{c[0]} << 21) | (c[1] >> 11);
  return static_cast<double>(bits) * 0x1p-53;
}

// The thread's four of a row's maxima; -inf where there is no group.
__device__ __forceinline__ float4 LoadMaxima(const float* maxima, int32_t num_groups) {
  const int32_t first = threadIdx.x * kUnitsPerThread;
  float4 mine = {-Infinity(), -Infinity(), -Infinity(), -Infinity()};
  if (first >= num_groups) return mine;
  mine = *reinterpret_cast<const float4*>(maxima + first);
#pragma unroll
  for (int j = 0; j < kUnitsPerThread; ++j) {
    if (first + j >= num_groups) (&mine.x)[j] = -Infinity();
  }
  return mine;
}

// Keeps them in group_max. With only_infinite as a row has them that does (see RowReader).
__device__ __forceinline__ Extremes KeepMaxima(float4 mine, bool only_infinite,
                                               DrawMemory& memory) {
  __syncthreads();
  bool has_nan = false;
#pragma unroll
  for (int j = 0; j < kUnitsPerThread; ++j) {
    float& max = (&mine.x)[j];
    has_nan |= max != max;
    if (only_infinite) max = max == Infinity() ? 0.0f : -Infinity();
  }
  *reinterpret_cast<float4*>(&memory.group_max[threadIdx.x * kUnitsPerThread]) = mine;
  return BlockExtremes(mine, has_nan, memory);
}

// The lowest id in the group with this key.
__device__ __forceinline__ int32_t FindInGroup(const RowReader& reader, int32_t group, uint32_t key,
                                               DrawMemory& memory) {
  if (threadIdx.x < 32) {
    const float4 x = reader.Edited(group);
    uint32_t id = 0xffffffffu;
#pragma unroll
    for (int j = kLaneIds - 1; j >= 0; --j) {
      if (KeyOf((&x.x)[j]) == key) id = group * kGroup + threadIdx.x * kLaneIds + j;
    }
    id = __reduce_min_sync(~0u, id);
    if (threadIdx.x == 0) memory.found_token = static_cast<int32_t>(id);
  }
  __syncthreads();
  return memory.found_token;
}

// Finds the unit in whose share of unit_mass `target` falls, and leaves in found_rest what is left
// of it there. `before`: mass of the threads before, as ScanUnits has it.
__device__ __forceinline__ int32_t LocateUnit(int32_t num_units, double target, double before,
                                              DrawMemory& memory) {
  int32_t found = kNoLow;
  int32_t last = kNoHigh;  // with a mass
  double rests[kUnitsPerThread];
#pragma unroll
  for (int j = 0; j < kUnitsPerThread; ++j) {
    const int32_t unit = threadIdx.x * kUnitsPerThread + j;
    const double mass = unit < num_units ? memory.unit_mass[unit] : 0.0;
    rests[j] = target - before;
    before += mass;
    if (!(mass > 0)) continue;
    last = unit;
    if (found == kNoLow && before > target) found = unit;
  }
  // If rounding left none that reaches beyond the target, it is the last.
  const Proposed proposed = Propose(found, last, memory);
  const int32_t unit = proposed.lowest != kNoLow ? proposed.lowest : proposed.highest;
#pragma unroll
  for (int j = 0; j < kUnitsPerThread; ++j) {
    if (unit == static_cast<int32_t>(threadIdx.x) * kUnitsPerThread + j) {
      memory.found_rest = rests[j];
    }
  }
  __syncthreads();
  return unit;
}

// Within a unit: the first element at which the running sum exceeds found_rest.
template <bool kEdits>
__device__ __forceinline__ int32_t LocateInUnit(const Source<kEdits>& source, int32_t unit,
                                                const Threshold& threshold, const Weight& weight,
                                                DrawMemory& memory) {
  if (threadIdx.x < 32) {
    const float4 x = source.Load(unit, memory);
    const Passing passing = PassingOf(x, threshold, TiesBefore(unit, threshold, memory));
    double weights[kLaneIds];
    double sum = 0;
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) {
      weights[j] = passing.passes[j] ? weight.Of((&x.x)[j]) : 0.0f;
      sum += weights[j];
    }
    double running = sum;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const double other = __shfl_up_sync(~0u, running, step);
      if (threadIdx.x >= step) running += other;
    }
    running -= sum;
    uint32_t found = 0xffffffffu;
    uint32_t last = 0;
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) {
      running += weights[j];
      if (!(weights[j] > 0)) continue;
      last = threadIdx.x * kLaneIds + j;
      if (found == 0xffffffffu && running > memory.found_rest) found = last;
    }
    found = __reduce_min_sync(~0u, found);
    last = __reduce_max_sync(~0u, last);
    if (threadIdx.x == 0) {
      const uint32_t element = found != 0xffffffffu ? found : last;
      memory.found_token = source.IdOf(unit, static_cast<int32_t>(element), memory);
    }
  }
  __syncthreads();
  return memory.found_token;
}

// A draw in the order of ids; unit_mass is filled, `mass` what it sums to.
template <bool kEdits>
__device__ __forceinline__ int32_t Locate(const Source<kEdits>& source, const Threshold& threshold,
                                          const Weight& weight, double uniform,
                                          const Scanned<double>& mass, DrawMemory& memory) {
  const int32_t unit = LocateUnit(source.num_units, uniform * mass.total, mass.before, memory);
  return LocateInUnit(source, unit, threshold, weight, memory);
}

// Fills unit_mass with the groups' sums, relative to the largest logit.
__device__ __forceinline__ Scanned<double> MassOfGroups(const float* sums, int32_t num_groups,
                                                        const Weight& weight, DrawMemory& memory) {
  const int32_t first = threadIdx.x * kUnitsPerThread;
  double mass = 0;
  if (first < num_groups) {
    const float4 of_groups = *reinterpret_cast<const float4*>(sums + first);
#pragma unroll
    for (int j = 0; j < kUnitsPerThread; ++j) {
      const float max = memory.group_max[first + j];
      const double of_group =
          max == -Infinity() ? 0.0 : static_cast<double>((&of_groups.x)[j]) * weight.Of(max);
      memory.unit_mass[first + j] = of_group;
      mass += of_group;
    }
  }
  return BlockScan<double>(mass, memory);
}

// The lowest key that min_p leaves: weight >= min_p, the largest weight being 1.
__device__ __forceinline__ uint32_t LowestKeyOf(float min_p, const Weight& weight) {
  if (!(min_p > 0)) return kKeyOfMinusInfinity + 1;
  const float log_min_p = static_cast<float>(log(static_cast<double>(fminf(min_p, 1.0f))));
  const float least = __fadd_rn(weight.max, __fmul_rn(weight.temperature, log_min_p));
  return max(KeyOf(fminf(least, weight.max)), kKeyOfMinusInfinity + 1);
}

// A key below which logits cannot matter for top_p: all of them together weigh less than the share
// of `total` that top_p drops.
__device__ __forceinline__ uint32_t LowestKeyOfTopP(float top_p, double total, int32_t num_valid,
                                                    const Weight& weight) {
  const double least = (1.0 - top_p) * total / num_valid * 0.99;
  if (!(least > 0)) return kKeyOfMinusInfinity + 1;
  const double floor = weight.max + weight.temperature * log(least);
  return max(KeyOf(static_cast<float>(floor)), kKeyOfMinusInfinity + 1);
}

// What draws from the candidates that Draw found.
struct Candidates {
  uint32_t lowest;  // keys
  uint32_t highest;
  int32_t top_k;  // 0: off
  float top_p;
  double total_mass;  // of the row; 0: not known
};

// From more candidates than threads. Not inlined: most rows do without.
template <bool kEdits>
__device__ __noinline__ int32_t DrawFromMany(Source<kEdits> source, Candidates candidates,
                                             Weight weight, double uniform, DrawMemory& memory) {
  const bool has_sums = candidates.total_mass > 0;
  if (has_sums && !source.is_list()) {
    const int32_t num_groups = (memory.reader.vocab_size + kGroup - 1) / kGroup;
    const Source<kEdits> row = {Values::kRow, num_groups, 0};
    const WideTopP wide = FindWideTopP(row, candidates.top_p, candidates.total_mass,
                                       candidates.lowest, weight, memory);
    if (wide.found) return Locate(row, wide.threshold, weight, uniform, wide.mass, memory);
  }
  const uint32_t highest = candidates.highest;
  Threshold threshold = {candidates.lowest, Threshold::kAll};
  if (candidates.top_k > 0) {
    threshold = Select<false>(source, threshold, highest, candidates.top_k, weight, memory);
    CountTies(source, threshold, memory);
  }
  Scanned<double> mass = {0, candidates.total_mass};
  if (!has_sums) mass = SumMass(source, threshold, weight, memory);
  if (candidates.top_p < 1) {
    const uint64_t need = __double2ull_ru(candidates.top_p * mass.total * kFixedOne);
    threshold = Select<true>(source, threshold, highest, max(need, uint64_t{1}), weight, memory);
    CountTies(source, threshold, memory);
    mass = SumMass(source, threshold, weight, memory);
  }
  return Locate(source, threshold, weight, uniform, mass, memory);
}

// A token of a row with temperature above 0; group_max is filled.
template <bool kEdits>
__device__ __forceinline__ int32_t Draw(const SlotSampling& s, const float* sums,
                                        const Extremes& extremes, double uniform,
                                        DrawMemory& memory) {
  const RowReader& reader = memory.reader;
  const int32_t num_groups = (reader.vocab_size + kGroup - 1) / kGroup;
  const uint32_t highest = extremes.highest;
  const Weight weight = {ValueOf(highest), s.temperature};
  const bool has_top_k = s.top_k > 0 && s.top_k < reader.num_valid;
  const bool has_sums = NeedsSums(s, reader.num_valid) && !reader.only_infinite;
  uint32_t lowest = LowestKeyOf(s.min_p, weight);
  double total_mass = 0;
  if (has_sums) {
    const Scanned<double> mass = MassOfGroups(sums, num_groups, weight, memory);
    if (!(s.top_p < 1)) {
      const Source<kEdits> row = {Values::kRow, num_groups, 0};
      return Locate(row, {lowest, Threshold::kAll}, weight, uniform, mass, memory);
    }
    total_mass = mass.total;
    lowest = max(lowest, LowestKeyOfTopP(s.top_p, mass.total, reader.num_valid, weight));
  } else if (has_top_k) {
    lowest = BoundOfLargest(s.top_k, num_groups, lowest, extremes, memory);
  }
  lowest = min(lowest, highest);
  const Source<kEdits> source = Gather<kEdits>(Values::kGroups, num_groups, lowest, memory);
  if (source.is_list() && source.count <= kDrawThreads) {
    return DrawRanked(source.count, has_top_k ? s.top_k : source.count, s.top_p, total_mass, weight,
                      uniform, memory);
  }
  return DrawFromMany(source, {lowest, highest, has_top_k ? s.top_k : 0, s.top_p, total_mass},
                      weight, uniform, memory);
}

// The same for a row with edits. Not inlined: it would take registers from rows without.
__device__ __noinline__ int32_t DrawEdited(const SlotSampling& s, const float* sums,
                                           Extremes extremes, double uniform, DrawMemory& memory) {
  return Draw<true>(s, sums, extremes, uniform, memory);
}

}  // namespace mili::kernels::cuda
