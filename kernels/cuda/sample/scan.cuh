// The one pass over all logits. Included by sample.cu.
#pragma once

#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/sample/best_token.cuh"
#include "kernels/cuda/sample/row_stats.h"

namespace mili::kernels::cuda {

inline constexpr int kScanWarps = 8;
inline constexpr int kScanBatch = 4;  // groups that a warp loads at once

// What a row of the scan asks for.
struct ScanRow {
  bool wants_raw;
  float factor;  // weights are 2^((logit - max) * factor); 0: no sums
};

// Sums are needed by who draws from the whole vocabulary, or from top_p's share of it.
__device__ __forceinline__ bool NeedsSums(const SlotSampling& s, int32_t num_valid) {
  const bool has_top_k = s.top_k > 0 && s.top_k < num_valid;
  return s.temperature > 0 && !has_top_k && !(s.min_p > 0);
}

inline constexpr float kLog2E = 1.44269504f;

// Finite, however small the temperature: 0 times it must be 0.
__device__ __forceinline__ float FactorOf(float temperature) {
  return fminf(kLog2E / temperature, 3e38f);
}

// The largest of the group; NaN if any is.
__device__ __forceinline__ float WarpMax(const float4& x) {
  const float mine = MaxOrNan(MaxOrNan(x.x, x.y), MaxOrNan(x.z, x.w));
  const uint32_t key = __reduce_max_sync(~0u, mine != mine ? 0xffffffffu : KeyOf(mine));
  return key == 0xffffffffu ? __uint_as_float(0x7fffffffu) : ValueOf(key);
}

__device__ __forceinline__ float ExpSum(const float4& x, float max, float factor) {
  return (exp2f((x.x - max) * factor) + exp2f((x.y - max) * factor)) +
         (exp2f((x.z - max) * factor) + exp2f((x.w - max) * factor));
}

// Sum of the weights of the group; -inf contributes nothing.
__device__ __forceinline__ float WarpExpSum(const float4& x, float max, float factor) {
  if (max == -Infinity()) return 0;
  float sum = ExpSum(x, max, factor);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  return sum;
}

// Sums four values over the warp; lane 8 i gets that of values[i].
__device__ __forceinline__ float WarpSumFour(const float (&values)[kScanBatch]) {
  const uint32_t lane = threadIdx.x % 32;
  const bool upper = (lane & 16) != 0;
  const float first =
      (upper ? values[2] : values[0]) + __shfl_xor_sync(~0u, upper ? values[0] : values[2], 16);
  const float second =
      (upper ? values[3] : values[1]) + __shfl_xor_sync(~0u, upper ? values[1] : values[3], 16);
  const bool odd = (lane & 8) != 0;
  float sum = (odd ? second : first) + __shfl_xor_sync(~0u, odd ? first : second, 8);
#pragma unroll
  for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  return sum;
}

__device__ __forceinline__ float WarpCountInfinite(const float4& x) {
  const int count =
      (x.x == Infinity()) + (x.y == Infinity()) + (x.z == Infinity()) + (x.w == Infinity());
  return static_cast<float>(__reduce_add_sync(~0u, static_cast<unsigned>(count)));
}

// Any group of any row.
__device__ __forceinline__ void ScanGroup(const RowReader& reader, const ScanRow& row,
                                          const RowStats& stats, int64_t at, int32_t group,
                                          const float4& raw, ushort4 counts) {
  const float raw_max = WarpMax(raw);
  const bool is_writer = threadIdx.x % 32 == 0;
  if (row.wants_raw) {
    const float sum =
        raw_max == Infinity() ? WarpCountInfinite(raw) : WarpExpSum(raw, raw_max, kLog2E);
    if (is_writer) {
      stats.raw_max[at] = raw_max;
      stats.raw_sum[at] = sum;
    }
  }
  const float4 edited = reader.Edit(raw, counts, group);
  const float max = WarpMax(edited);
  if (is_writer) stats.max[at] = raw_max != raw_max ? raw_max : max;
  if (row.factor > 0) {
    const float sum = WarpExpSum(edited, max, row.factor);
    if (is_writer) stats.sum[at] = sum;
  }
}

// The next groups of a row, as many as are before `end`.
struct ScanAhead {
  float4 logits[kScanBatch];

  __device__ __forceinline__ void Load(const float* row, int32_t first, int32_t end) {
    const auto* vecs = reinterpret_cast<const float4*>(row) + threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < kScanBatch; ++j) {
      if (first + j < end) logits[j] = vecs[(first + j) * 32];
    }
  }
};

// Whole groups of a row without edits and logprobs: the next ones, of which `ahead` has the first,
// are on their way while these are worked on.
template <bool kSums>
__device__ __forceinline__ void ScanPlainGroups(const float* logits, float factor,
                                                const RowStats& stats, int64_t row_at,
                                                int32_t first, int32_t end, ScanAhead& ahead) {
  const uint32_t lane = threadIdx.x % 32;
  for (int32_t group = first; group < end; group += kScanBatch) {
    const ScanAhead now = ahead;
    ahead.Load(logits, group + kScanBatch, end);
    float max[kScanBatch];
    float sums[kScanBatch];
#pragma unroll
    for (int j = 0; j < kScanBatch; ++j) {
      max[j] = WarpMax(now.logits[j]);
      if constexpr (kSums) {
        sums[j] = max[j] == -Infinity() ? 0.0f : ExpSum(now.logits[j], max[j], factor);
      }
    }
    const uint32_t mine = lane / 8;
    const bool writes = lane % 8 == 0 && group + static_cast<int32_t>(mine) < end;
    const int64_t at = row_at + group + mine;
    const float max_of_mine =
        mine < 2 ? (mine == 0 ? max[0] : max[1]) : (mine == 2 ? max[2] : max[3]);
    if (writes) stats.max[at] = max_of_mine;
    if constexpr (kSums) {
      const float sum = WarpSumFour(sums);
      if (writes) stats.sum[at] = sum;
    }
  }
}

// Groups [first, end) of a row by one warp.
__device__ __forceinline__ void ScanGroups(const RowReader& reader, const ScanRow& row,
                                           const RowStats& stats, int64_t row_at, int32_t first,
                                           int32_t end, ScanAhead& ahead) {
  if (reader.edits == nullptr && !row.wants_raw) {
    const int32_t end_of_whole = min(end, reader.num_valid / kGroup);
    if (row.factor > 0) {
      ScanPlainGroups<true>(reader.logits, row.factor, stats, row_at, first, end_of_whole, ahead);
    } else {
      ScanPlainGroups<false>(reader.logits, 0, stats, row_at, first, end_of_whole, ahead);
    }
    first = max(first, end_of_whole);
  }
  constexpr int kEditBatch = 2;
  for (int32_t group = first; group < end; group += kEditBatch) {
    float4 raw[kEditBatch];
    ushort4 counts[kEditBatch];
#pragma unroll
    for (int j = 0; j < kEditBatch; ++j) {
      if (group + j < end) raw[j] = reader.Raw(group + j, -Infinity());
      if (group + j < end) counts[j] = reader.Counts(group + j);
    }
#pragma unroll
    for (int j = 0; j < kEditBatch; ++j) {
      if (group + j < end) {
        ScanGroup(reader, row, stats, row_at + group + j, group + j, raw[j], counts[j]);
      }
    }
  }
}

// The part of a row that a warp scans: block (x, row), groups_per_warp neighbouring groups a warp.
struct ScanPart {
  const float* logits;  // of the row
  int32_t first;        // groups
  int32_t end;

  __device__ __forceinline__ ScanPart(const float* all, int64_t stride, int32_t vocab_size,
                                      int32_t groups_per_warp) {
    logits = all + blockIdx.y * stride;
    const int32_t num_groups = (vocab_size + kGroup - 1) / kGroup;
    first = static_cast<int32_t>(blockIdx.x * kScanWarps + threadIdx.x / 32) * groups_per_warp;
    end = min(first + groups_per_warp, num_groups);
  }
};

__global__ void __launch_bounds__(kScanWarps * 32, 4)
    SampleScanKernel(const SampleParams p, const RowStats stats, int32_t groups_per_warp) {
  const ScanPart part(p.logits, p.logits_stride, p.vocab_size, groups_per_warp);
  WaitForProducers();
  LetDependentsStart();
  ScanAhead ahead;  // underway while the row's parameters are read
  if (p.best == nullptr) {
    ahead.Load(part.logits, part.first, min(part.end, p.vocab_size / kGroup));
  }
  const int32_t slot = p.row_slots[blockIdx.y];
  if (slot < 0) return;
  const SlotSampling& s = p.slots[slot];
  if (p.best != nullptr) {
    if (IsPlainGreedy(s)) return;  // it may have no logits
    ahead.Load(part.logits, part.first, min(part.end, p.vocab_size / kGroup));
  }
  const RowReader reader = {part.logits, p.vocab_size, p.num_valid_tokens, p.positions[blockIdx.y],
                            HasEdits(s) ? &s : nullptr};
  const ScanRow row = {s.num_top >= 0,
                       NeedsSums(s, p.num_valid_tokens) ? FactorOf(s.temperature) : 0.0f};
  ScanGroups(reader, row, stats, static_cast<int64_t>(blockIdx.y) * stats.stride, part.first,
             part.end, ahead);
}

__global__ void __launch_bounds__(kScanWarps * 32, 4)
    ScoreScanKernel(const ScoreParams p, const RowStats stats, int32_t groups_per_warp) {
  const ScanPart part(p.logits, p.logits_stride, p.vocab_size, groups_per_warp);
  WaitForProducers();
  LetDependentsStart();
  if (p.targets[blockIdx.y] < 0) return;
  const RowReader reader = {part.logits, p.vocab_size, p.vocab_size, 0, nullptr};
  ScanAhead ahead = {};
  ScanGroups(reader, {true, 0.0f}, stats, static_cast<int64_t>(blockIdx.y) * stats.stride,
             part.first, part.end, ahead);
}

}  // namespace mili::kernels::cuda
