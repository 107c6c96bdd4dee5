#include <algorithm>

#include "kernels/cuda/sample/logprobs.cuh"
#include "kernels/cuda/sample/sample.h"
#include "kernels/cuda/sample/scan.cuh"

namespace mili::kernels::cuda {
namespace {

// The row's token; flags say why there is none.
__device__ __forceinline__ SampledRow SampleRow(const SlotSampling& s, const float* sums,
                                                const float4& maxima, DrawMemory& memory) {
  SampledRow row;
  Extremes extremes = KeepMaxima(maxima, false, memory);
  if (extremes.has_nan) {
    row.flags = kSampledNan;
    return row;
  }
  if (extremes.highest <= kKeyOfMinusInfinity) {
    row.flags = kSampledMasked;
    return row;
  }
  RowReader& reader = memory.reader;
  if (s.temperature == 0) {
    row.token_id = FindInGroup(reader, extremes.group, extremes.highest, memory);
    return row;
  }
  if (ValueOf(extremes.highest) == Infinity()) {
    if (threadIdx.x == 0) reader.only_infinite = true;
    extremes = KeepMaxima(maxima, true, memory);
  }
  const double uniform = UniformOf(s, reader.position);
  row.token_id = reader.edits != nullptr ? DrawEdited(s, sums, extremes, uniform, memory)
                                         : Draw<false>(s, sums, extremes, uniform, memory);
  return row;
}

// The token of a row that is greedy alone, from what the head found. By the first warp.
__device__ __forceinline__ SampledRow TakeBest(const uint64_t* parts, int32_t num_parts) {
  uint64_t best = 0;
  for (int32_t i = threadIdx.x % 32; i < num_parts; i += 32) best = max(best, parts[i]);
  const uint32_t key = __reduce_max_sync(~0u, BestKey(best));
  const uint32_t low = BestKey(best) == key ? static_cast<uint32_t>(best) : 0;
  best = uint64_t{key} << 32 | __reduce_max_sync(~0u, low);
  SampledRow row;
  if (key == kBestIsNan) {
    row.flags = kSampledNan;
  } else if (key <= kKeyOfMinusInfinity) {
    row.flags = kSampledMasked;
  } else {
    row.token_id = BestId(best);
  }
  return row;
}

// What the slot remembers of the row.
__device__ __forceinline__ void Remember(const SampleParams& p, const SlotSampling& s, int32_t slot,
                                         int32_t token_id) {
  p.last_tokens[slot] = max(token_id, 0);
  if (token_id < 0 || s.counts == nullptr) return;
  const uint32_t count = s.counts[token_id];
  s.counts[token_id] = static_cast<uint16_t>(count == 0 ? 2 : min(count + 1, 65535u));
}

// One block a row and SM, which has the registers for all it does.
__global__ void __launch_bounds__(kDrawThreads, 1)
    SampleDrawKernel(const SampleParams p, const RowStats stats) {
  extern __shared__ __align__(16) unsigned char bytes[];
  DrawMemory& memory = *reinterpret_cast<DrawMemory*>(bytes);
  WaitForProducers();
  LetDependentsStart();
  const int32_t num_groups = (p.vocab_size + kGroup - 1) / kGroup;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * stats.stride;
  const float4 maxima = LoadMaxima(stats.max + at, num_groups);  // while the parameters are read
  const int32_t slot = p.row_slots[blockIdx.x];
  SampledRow* const out = p.out_at != nullptr ? *p.out_at : p.out;
  if (slot < 0) return;
  const SlotSampling& s = p.slots[slot];
  if (p.best != nullptr && IsPlainGreedy(s)) {
    if (threadIdx.x >= 32) return;
    const SampledRow row =
        TakeBest(p.best + static_cast<int64_t>(blockIdx.x) * p.num_best, p.num_best);
    if (threadIdx.x != 0) return;
    out[blockIdx.x] = row;
    Remember(p, s, slot, row.token_id);
    return;
  }
  if (threadIdx.x == 0) {
    memory.reader = {p.logits + blockIdx.x * p.logits_stride, p.vocab_size, p.num_valid_tokens,
                     p.positions[blockIdx.x], HasEdits(s) ? &s : nullptr};
  }
  SampledRow row = SampleRow(s, stats.sum + at, maxima, memory);
  if (row.token_id >= 0 && s.num_top >= 0) {
    const int32_t num_top = min(min(s.num_top, p.max_top), p.vocab_size);
    FillLogprobs(stats.raw_max + at, stats.raw_sum + at, num_top,
                 p.top + static_cast<int64_t>(blockIdx.x) * p.max_top, &row, memory);
  }
  if (threadIdx.x != 0) return;
  out[blockIdx.x] = row;
  Remember(p, s, slot, row.token_id);
}

__global__ void __launch_bounds__(kDrawThreads, 1)
    ScoreKernel(const ScoreParams p, const RowStats stats) {
  extern __shared__ __align__(16) unsigned char bytes[];
  DrawMemory& memory = *reinterpret_cast<DrawMemory*>(bytes);
  WaitForProducers();
  LetDependentsStart();
  const int32_t target = p.targets[blockIdx.x];
  if (target < 0) return;
  if (threadIdx.x == 0) {
    memory.reader = {p.logits + blockIdx.x * p.logits_stride, p.vocab_size, p.vocab_size, 0,
                     nullptr};
  }
  const int32_t num_groups = (p.vocab_size + kGroup - 1) / kGroup;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * stats.stride;
  SampledRow row;
  const float4 maxima = LoadMaxima(stats.max + at, num_groups);
  if (KeepMaxima(maxima, false, memory).has_nan) {
    row.flags = kSampledNan;
  } else {
    row.token_id = target;
    const int32_t num_top = min(min(p.num_top[blockIdx.x], p.max_top), p.vocab_size);
    FillLogprobs(stats.raw_max + at, stats.raw_sum + at, num_top,
                 p.top + static_cast<int64_t>(blockIdx.x) * p.max_top, &row, memory);
  }
  if (threadIdx.x == 0) p.out[blockIdx.x] = row;
}

__global__ void FillCountsKernel(FillCountsParams p) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= p.num_entries) return;
  const int32_t id = p.token_ids[i];
  if (id >= 0 && id < p.vocab_size) p.counts[id] = p.values[i];
}

constexpr int32_t kMostGroups = 8;  // of a warp

int32_t StrideOf(int32_t vocab_size) { return ((vocab_size + kGroup - 1) / kGroup + 3) / 4 * 4; }

RowStats StatsIn(void* workspace, int32_t num_rows, int32_t vocab_size) {
  const int32_t stride = StrideOf(vocab_size);
  auto* first = static_cast<float*>(workspace);
  const int64_t size = static_cast<int64_t>(num_rows) * stride;
  return {first, first + size, first + 2 * size, first + 3 * size, stride};
}

// One group a warp while that leaves SMs of an H100 idle, then more, up to `most`: fewer blocks pay
// for reading the row's parameters.
int32_t GroupsPerWarp(int32_t num_rows, int32_t num_groups, int32_t most) {
  constexpr int64_t kWarpsAtOnce = 132 * 64;
  const int64_t per_warp = static_cast<int64_t>(num_rows) * num_groups / kWarpsAtOnce;
  return static_cast<int32_t>(std::clamp<int64_t>(per_warp, 1, most));
}

template <typename Params>
cudaError_t Run(const Params& p, void (*scan)(Params, RowStats, int32_t), int32_t most_groups,
                void (*finish)(Params, RowStats), cudaStream_t stream) {
  if (p.num_rows <= 0 || p.num_rows > 65535 || p.vocab_size <= 0 ||
      p.vocab_size > kMaxSampleVocab || p.logits_stride % 4 != 0 || p.max_top < 0 ||
      p.max_top > kMaxTopLogprobs) {
    return cudaErrorInvalidValue;
  }
  const RowStats stats = StatsIn(p.workspace, p.num_rows, p.vocab_size);
  const int32_t num_groups = (p.vocab_size + kGroup - 1) / kGroup;
  const int32_t groups_per_warp = GroupsPerWarp(p.num_rows, num_groups, most_groups);
  const int32_t groups_per_block = groups_per_warp * kScanWarps;
  const dim3 grid((num_groups + groups_per_block - 1) / groups_per_block, p.num_rows);
  cudaError_t error =
      Launch(scan, grid, dim3(kScanWarps * 32), 0, p.pdl, stream, p, stats, groups_per_warp);
  if (error != cudaSuccess) return error;
  error =
      cudaFuncSetAttribute(finish, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(DrawMemory));
  if (error != cudaSuccess) return error;
  return Launch(finish, dim3(p.num_rows), dim3(kDrawThreads), sizeof(DrawMemory), p.pdl, stream, p,
                stats);
}

}  // namespace

size_t SampleWorkspaceBytes(int32_t num_rows, int32_t vocab_size) {
  return sizeof(float) * kNumRowStats * num_rows * StrideOf(vocab_size);
}

cudaError_t Sample(const SampleParams& params, cudaStream_t stream) {
  if (params.num_valid_tokens <= 0 || params.num_valid_tokens > params.vocab_size) {
    return cudaErrorInvalidValue;
  }
  // Most blocks have nothing to do where most rows are plain greedy.
  const int32_t most_groups = params.best != nullptr ? 2 * kMostGroups : kMostGroups;
  return Run(params, SampleScanKernel, most_groups, SampleDrawKernel, stream);
}

cudaError_t Score(const ScoreParams& params, cudaStream_t stream) {
  return Run(params, ScoreScanKernel, kMostGroups, ScoreKernel, stream);
}

cudaError_t FillCounts(const FillCountsParams& params, cudaStream_t stream) {
  const cudaError_t error = cudaMemsetAsync(
      params.counts, 0, sizeof(uint16_t) * ((params.vocab_size + 7) / 8 * 8), stream);
  if (error != cudaSuccess || params.num_entries <= 0) return error;
  constexpr int kThreads = 256;
  FillCountsKernel<<<(params.num_entries + kThreads - 1) / kThreads, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace mili::kernels::cuda
