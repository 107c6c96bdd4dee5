// Logprob, rank and the likeliest tokens of a row's raw logits. Included by sample.cu.
#pragma once

#include "kernels/cuda/sample/draw.cuh"

namespace mili::kernels::cuda {

// What turns raw logits into logprobs.
struct LogSoftmax {
  float max;
  double log_sum;  // of exp(logit - max); of the number of infinities if max is +inf

  __device__ __forceinline__ float Of(float logit) const {
    if (max == Infinity()) {
      return logit == Infinity() ? static_cast<float>(-log_sum) : -Infinity();
    }
    return static_cast<float>(static_cast<double>(logit) - max - log_sum);
  }
};

// group_max holds the raw maxima.
__device__ __forceinline__ LogSoftmax LogSoftmaxOf(float max, const float* sums, int32_t num_groups,
                                                   DrawMemory& memory) {
  if (max == -Infinity()) return {0, 0};  // no distribution: every logprob is -inf
  double sum = 0;
  for (int32_t group = threadIdx.x; group < num_groups; group += kDrawThreads) {
    const float group_max = memory.group_max[group];
    if (group_max == -Infinity()) continue;
    if (max == Infinity()) {
      sum += group_max == max ? sums[group] : 0.0f;
    } else {
      sum += static_cast<double>(sums[group]) * expf(group_max - max);
    }
  }
  return {max, log(BlockScan<double>(sum, memory).total)};
}

// 1 + number of raw logits above `key`, reading the groups that hold any.
__device__ __forceinline__ int32_t RankOf(uint32_t key, int32_t num_groups, DrawMemory& memory) {
  const Source<false> groups = {Values::kRawGroups, ListGroups(num_groups, key + 1, memory), 0};
  uint32_t larger = 0;
  ForEachUnit(groups, memory, [&](int32_t, const float4& x) {
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) larger += KeyOf((&x.x)[j]) > key;
  });
  return 1 + static_cast<int32_t>(BlockScan<uint32_t>(larger, memory).total);
}

// FillTop for more candidates than threads. Not inlined: most rows do without.
__device__ __noinline__ void FillTopOfMany(Source<false> source, LogSoftmax softmax,
                                           int32_t num_top, uint32_t lowest, uint32_t highest,
                                           SampledLogprob* top, DrawMemory& memory) {
  const Threshold threshold =
      Select<false>(source, {lowest, Threshold::kAll}, highest, num_top, {}, memory);
  CountTies(source, threshold, memory);
  auto* selected = reinterpret_cast<uint64_t*>(memory.unit_mass);  // key << 32 | ~id
  __syncthreads();
  if (threadIdx.x == 0) memory.num_selected = 0;
  __syncthreads();
  ForEachUnit(source, memory, [&](int32_t unit, const float4& x) {
    const Passing passing = PassingOf(x, threshold, TiesBefore(unit, threshold, memory));
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) {
      if (!passing.passes[j]) continue;
      const int32_t id = source.IdOf(unit, threadIdx.x % 32 * kLaneIds + j, memory);
      selected[atomicAdd(&memory.num_selected, 1)] =
          uint64_t{KeyOf((&x.x)[j])} << 32 | ~static_cast<uint32_t>(id);
    }
  });
  __syncthreads();
  for (int32_t i = threadIdx.x; i < num_top; i += kDrawThreads) {
    const uint64_t mine = selected[i];
    int32_t better = 0;
    for (int32_t j = 0; j < num_top; ++j) better += selected[j] > mine;
    top[better] = {static_cast<int32_t>(~static_cast<uint32_t>(mine)),
                   softmax.Of(ValueOf(static_cast<uint32_t>(mine >> 32)))};
  }
}

// The num_top likeliest tokens, best first; num_top is at most the vocabulary.
__device__ __forceinline__ void FillTop(const LogSoftmax& softmax, int32_t num_top,
                                        int32_t num_groups, const Extremes& extremes,
                                        SampledLogprob* top, DrawMemory& memory) {
  const uint32_t lowest =
      BoundOfLargest(num_top, num_groups, kKeyOfMinusInfinity, extremes, memory);
  const Source<false> source = Gather<false>(Values::kRawGroups, num_groups, lowest, memory);
  if (!source.is_list() || source.count > kDrawThreads) {
    FillTopOfMany(source, softmax, num_top, lowest, extremes.highest, top, memory);
    return;
  }
  const int32_t rank = RankAmongListed(source.count, memory);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  if (thread >= source.count || rank >= num_top) return;
  top[rank] = {memory.listed_ids[thread], softmax.Of(memory.listed[thread])};
}

// Fills logprob, rank and top for the row's token.
__device__ __forceinline__ void FillLogprobs(const float* raw_max, const float* raw_sum,
                                             int32_t num_top, SampledLogprob* top, SampledRow* out,
                                             DrawMemory& memory) {
  const RowReader& reader = memory.reader;
  const int32_t num_groups = (reader.vocab_size + kGroup - 1) / kGroup;
  const float logit = reader.logits[out->token_id];
  const Extremes extremes = KeepMaxima(LoadMaxima(raw_max, num_groups), false, memory);
  const LogSoftmax softmax = LogSoftmaxOf(ValueOf(extremes.highest), raw_sum, num_groups, memory);
  out->logprob = softmax.Of(logit);
  out->rank = RankOf(KeyOf(logit), num_groups, memory);
  if (num_top > 0) FillTop(softmax, num_top, num_groups, extremes, top, memory);
}

}  // namespace mili::kernels::cuda
