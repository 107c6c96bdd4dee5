// From a row's statistics to its token. Included by sample.cu.
#pragma once

#include "kernels/cuda/sample/gather.cuh"
#include "kernels/cuda/sample/row_stats.h"
#include "kernels/cuda/sample/scan.cuh"

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

// The largest of group_max as key << 32 | ~group, the first such group.
__device__ __forceinline__ uint64_t LargestGroup(int32_t num_groups, DrawMemory& memory) {
  uint64_t best = 0;
  for (int32_t group = threadIdx.x; group < num_groups; group += kDrawThreads) {
    best =
        max(best, uint64_t{KeyOf(memory.group_max[group])} << 32 | ~static_cast<uint32_t>(group));
  }
  return BlockMaxOf(best, memory);
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

// The unit in whose share of unit_mass `target` falls, and what is left of it there.
__device__ __forceinline__ void LocateUnit(int32_t num_units, double target, double before,
                                           DrawMemory& memory) {
  __syncthreads();
  if (threadIdx.x == 0) memory.found_unit = -1;
  const int32_t first = threadIdx.x * kUnitsPerThread;
  int32_t found = -1;
  int32_t last = -1;  // with a mass
  double found_rest = 0;
  double last_rest = 0;
  for (int j = 0; j < kUnitsPerThread && first + j < num_units; ++j) {
    const double mass = memory.unit_mass[first + j];
    if (mass > 0) {
      last = first + j;
      last_rest = target - before;
      if (found < 0 && before + mass > target) {
        found = last;
        found_rest = last_rest;
      }
    }
    before += mass;
  }
  // The first unit that reaches beyond the target; if rounding left none, the last with a mass.
  const uint64_t first_found = BlockMaxOf(found >= 0 ? ~static_cast<uint32_t>(found) : 0, memory);
  const uint64_t last_of_all = BlockMaxOf(static_cast<uint64_t>(last + 1), memory);
  const int32_t unit = first_found != 0 ? static_cast<int32_t>(~static_cast<uint32_t>(first_found))
                                        : static_cast<int32_t>(last_of_all) - 1;
  if (unit >= 0 && unit / kUnitsPerThread == static_cast<int32_t>(threadIdx.x)) {
    memory.found_unit = unit;
    memory.found_rest = first_found != 0 ? found_rest : last_rest;
  }
  __syncthreads();
}

// Within the found unit: the first element at which the running sum exceeds the rest.
__device__ __forceinline__ int32_t LocateInUnit(const Source& source, const Threshold& threshold,
                                                const Weight& weight, DrawMemory& memory) {
  if (threadIdx.x < 32) {
    const int32_t unit = memory.found_unit;
    const float4 x = source.Load(unit);
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
      memory.found_token = source.IdOf(unit, static_cast<int32_t>(element));
    }
  }
  __syncthreads();
  return memory.found_token;
}

// A draw in the order of ids; unit_mass is filled.
__device__ __forceinline__ int32_t Locate(const Source& source, const Threshold& threshold,
                                          const Weight& weight, double uniform,
                                          DrawMemory& memory) {
  const Scanned<double> scanned = ScanUnits<double>(memory.unit_mass, source.num_units, memory);
  LocateUnit(source.num_units, uniform * scanned.total, scanned.before, memory);
  return LocateInUnit(source, threshold, weight, memory);
}

// Fills unit_mass with the groups' sums, relative to the largest logit. Returns the total.
__device__ __forceinline__ double MassOfGroups(const float* sums, int32_t num_groups,
                                               const Weight& weight, DrawMemory& memory) {
  __syncthreads();
  for (int32_t group = threadIdx.x; group < num_groups; group += kDrawThreads) {
    const float max = memory.group_max[group];
    memory.unit_mass[group] =
        max == -Infinity() ? 0.0 : static_cast<double>(sums[group]) * weight.Of(max);
  }
  __syncthreads();
  return ScanUnits<double>(memory.unit_mass, num_groups, memory).total;
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

// A token of a row with temperature above 0; group_max is filled, `highest` its largest key.
__device__ __forceinline__ int32_t Draw(const SlotSampling& s, const RowReader& reader,
                                        const float* sums, int32_t num_groups, uint32_t highest,
                                        double uniform, DrawMemory& memory) {
  const Weight weight = {ValueOf(highest), s.temperature};
  const bool has_top_k = s.top_k > 0 && s.top_k < reader.num_valid;
  const bool has_top_p = s.top_p < 1;
  const bool has_sums = NeedsSums(s, reader.num_valid) && !reader.only_infinite;
  uint32_t lowest = LowestKeyOf(s.min_p, weight);
  double total = 0;
  if (has_sums) {
    total = MassOfGroups(sums, num_groups, weight, memory);
    if (!has_top_p) {
      const Source all = {&reader, nullptr, nullptr, nullptr, 0, num_groups, false};
      return Locate(all, {lowest, Threshold::kAll}, weight, uniform, memory);
    }
    lowest = max(lowest, LowestKeyOfTopP(s.top_p, total, reader.num_valid, weight));
  } else if (has_top_k) {
    lowest = BoundOfLargest(s.top_k, num_groups, lowest, highest, memory);
  }
  lowest = min(lowest, highest);
  const Source source = Gather(reader, false, num_groups, lowest, memory);
  Threshold threshold = {lowest, Threshold::kAll};
  if (has_top_k) {
    threshold = Select<false>(source, threshold, highest, s.top_k, weight, memory);
    CountTies(source, threshold, memory);
  }
  if (!has_sums) total = SumMass(source, threshold, weight, memory);
  if (has_top_p) {
    const uint64_t need = __double2ull_ru(s.top_p * total * kFixedOne);
    threshold = Select<true>(source, threshold, highest, max(need, uint64_t{1}), weight, memory);
    CountTies(source, threshold, memory);
    SumMass(source, threshold, weight, memory);
  }
  return Locate(source, threshold, weight, uniform, memory);
}

}  // namespace mili::kernels::cuda
