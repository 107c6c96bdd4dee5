// The one pass over all logits. Included by sample.cu.
#pragma once

#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/sample/row_reader.cuh"
#include "kernels/cuda/sample/row_stats.h"

namespace mili::kernels::cuda {

inline constexpr int kScanWarps = 8;

// What a row of the scan asks for.
struct ScanRow {
  bool wants_raw;
  float inverse_temperature;  // 0: no sums
};

// Sums are needed by who draws from the whole vocabulary, or from top_p's share of it.
__device__ __forceinline__ bool NeedsSums(const SlotSampling& s, int32_t num_valid) {
  const bool has_top_k = s.top_k > 0 && s.top_k < num_valid;
  return s.temperature > 0 && !has_top_k && !(s.min_p > 0);
}

// Finite, however small the temperature: 0 times it must be 0.
__device__ __forceinline__ float InverseOf(float temperature) {
  return fminf(1.0f / temperature, 3e38f);
}

__device__ __forceinline__ float WarpMax(const float4& x) {
  const float largest = fmaxf(fmaxf(x.x, x.y), fmaxf(x.z, x.w));
  return ValueOf(__reduce_max_sync(~0u, KeyOf(largest)));
}

// Sum of exp((x - max) * factor) over the group; -inf contributes nothing.
__device__ __forceinline__ float WarpExpSum(const float4& x, float max, float factor) {
  if (max == -Infinity()) return 0;
  float sum = expf((x.x - max) * factor) + expf((x.y - max) * factor) +
              (expf((x.z - max) * factor) + expf((x.w - max) * factor));
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  return sum;
}

__device__ __forceinline__ float WarpCountInfinite(const float4& x) {
  const int count =
      (x.x == Infinity()) + (x.y == Infinity()) + (x.z == Infinity()) + (x.w == Infinity());
  return static_cast<float>(__reduce_add_sync(~0u, static_cast<unsigned>(count)));
}

__device__ __forceinline__ void ScanGroup(const RowReader& reader, const ScanRow& row,
                                          const RowStats& stats, int64_t at, int32_t group,
                                          const float4& raw) {
  const bool is_nan = raw.x != raw.x || raw.y != raw.y || raw.z != raw.z || raw.w != raw.w;
  const bool has_nan = __any_sync(~0u, is_nan);
  const bool is_writer = threadIdx.x % 32 == 0;
  if (row.wants_raw) {
    const float max = WarpMax(raw);
    const float sum = max == Infinity() ? WarpCountInfinite(raw) : WarpExpSum(raw, max, 1.0f);
    if (is_writer) {
      stats.raw_max[at] = max;
      stats.raw_sum[at] = sum;
    }
  }
  const float4 edited = reader.Edit(raw, group);
  const float max = WarpMax(edited);
  if (is_writer) stats.max[at] = has_nan ? __int_as_float(0x7fffffff) : max;
  if (row.inverse_temperature > 0) {
    const float sum = WarpExpSum(edited, max, row.inverse_temperature);
    if (is_writer) stats.sum[at] = sum;
  }
}

// Groups [first, end) of a row by one warp.
__device__ __forceinline__ void ScanGroups(const RowReader& reader, const ScanRow& row,
                                           const RowStats& stats, int64_t row_idx, int32_t first,
                                           int32_t end) {
  constexpr int kAhead = 4;  // loads in flight
  for (int32_t group = first; group < end; group += kAhead) {
    float4 raw[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (group + j < end) raw[j] = reader.Raw(group + j, -Infinity());
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (group + j < end) {
        ScanGroup(reader, row, stats, row_idx * stats.stride + group + j, group + j, raw[j]);
      }
    }
  }
}

// Block (x, row); each warp takes groups_per_warp neighbouring groups.
__global__ void __launch_bounds__(kScanWarps * 32)
    SampleScanKernel(const SampleParams p, const RowStats stats, int32_t groups_per_warp) {
  WaitForProducers();
  LetDependentsStart();
  const int64_t row_idx = blockIdx.y;
  const int32_t slot = p.row_slots[row_idx];
  if (slot < 0) return;
  const SlotSampling& s = p.slots[slot];
  const RowReader reader = {p.logits + row_idx * p.logits_stride, p.vocab_size, p.num_valid_tokens,
                            p.positions[row_idx], HasEdits(s) ? &s : nullptr};
  const ScanRow row = {s.num_top >= 0,
                       NeedsSums(s, p.num_valid_tokens) ? InverseOf(s.temperature) : 0.0f};
  const int32_t num_groups = (p.vocab_size + kGroup - 1) / kGroup;
  const int32_t warp = static_cast<int32_t>(blockIdx.x * kScanWarps + threadIdx.x / 32);
  const int32_t first = warp * groups_per_warp;
  ScanGroups(reader, row, stats, row_idx, first, min(first + groups_per_warp, num_groups));
}

__global__ void __launch_bounds__(kScanWarps * 32)
    ScoreScanKernel(const ScoreParams p, const RowStats stats, int32_t groups_per_warp) {
  WaitForProducers();
  LetDependentsStart();
  const int64_t row_idx = blockIdx.y;
  if (p.targets[row_idx] < 0) return;
  const RowReader reader = {p.logits + row_idx * p.logits_stride, p.vocab_size, p.vocab_size, 0,
                            nullptr};
  const int32_t num_groups = (p.vocab_size + kGroup - 1) / kGroup;
  const int32_t warp = static_cast<int32_t>(blockIdx.x * kScanWarps + threadIdx.x / 32);
  const int32_t first = warp * groups_per_warp;
  ScanGroups(reader, {true, 0.0f}, stats, row_idx, first, min(first + groups_per_warp, num_groups));
}

}  // namespace mili::kernels::cuda
