// A row of logits read in groups of 128, one a warp, four consecutive ids a lane: as they are, or
// with bans, bias, penalties and mask applied, in the order of kernels/params.h. Nothing is written
// back: who reads a group again edits it again, so raw logits stay for the logprobs. Device code
// only.
#pragma once

#include <cstdint>

#include "kernels/cuda/sample/sample.h"

namespace mili::kernels::cuda {

inline constexpr int kGroup = 128;
inline constexpr int kLaneIds = kGroup / 32;
inline constexpr int kMaxGroups = kMaxSampleVocab / kGroup;

__device__ __forceinline__ float Infinity() { return __int_as_float(0x7f800000); }

// An integer that orders like x; both zeros are one. 0 for a NaN, which is how absent elements are
// written.
__device__ __forceinline__ uint32_t KeyOf(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  const uint32_t key = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return x != x ? 0 : key;
}

__device__ __forceinline__ float ValueOf(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

inline constexpr uint32_t kKeyOfMinusInfinity = 0x007fffffu;

__device__ __forceinline__ bool HasEdits(const SlotSampling& s) {
  return s.num_banned > 0 || s.num_biases > 0 || s.mask != nullptr || s.counts != nullptr;
}

// Lists are short, or a request's own doing: each warp looks through the whole list. `has_ids`: the
// lane's ids are in the vocabulary, so that counts and mask have them.
__device__ __noinline__ float4 EditGroup(float4 logits, const SlotSampling& s, int32_t position,
                                         int32_t first, bool has_ids) {
  float* x = &logits.x;
  const int32_t num_banned = position < s.ban_until ? s.num_banned : 0;
  for (int32_t i = 0; i < num_banned; ++i) {
    const int32_t at = s.banned[i] - first;
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) x[j] = at == j ? -Infinity() : x[j];
  }
  for (int32_t i = 0; i < s.num_biases; ++i) {
    const SlotBias bias = s.biases[i];
    const int32_t at = bias.token_id - first;
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) x[j] = at == j ? x[j] + bias.bias : x[j];
  }
  if (s.counts != nullptr && has_ids) {
    const auto counts = *reinterpret_cast<const ushort4*>(s.counts + first);
    const uint32_t of[kLaneIds] = {counts.x, counts.y, counts.z, counts.w};
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) {
      if (of[j] == 0) continue;
      x[j] = x[j] > 0 ? x[j] / s.repetition_penalty : x[j] * s.repetition_penalty;
      if (of[j] == 1) continue;  // in the prompt only
      x[j] = __fsub_rn(x[j], s.presence_penalty);
      x[j] = __fsub_rn(x[j], __fmul_rn(s.frequency_penalty, static_cast<float>(of[j] - 1)));
    }
  }
  if (s.mask != nullptr && has_ids) {
    const uint32_t bits = s.mask[first / 32] >> (first % 32);
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) x[j] = (bits >> j & 1) != 0 ? x[j] : -Infinity();
  }
  return logits;
}

struct RowReader {
  const float* logits;  // of the row
  int32_t vocab_size;
  int32_t num_valid;          // ids from here on are -inf when edited
  int32_t position;           // of the token to sample
  const SlotSampling* edits;  // null: none
  // The row holds +inf, which leaves nothing else a chance: those become 0, the rest -inf.
  bool only_infinite = false;

  static __device__ __forceinline__ int32_t FirstId(int32_t group) {
    return group * kGroup + static_cast<int32_t>(threadIdx.x % 32) * kLaneIds;
  }

  // Ids past the vocabulary are `absent`.
  __device__ __forceinline__ float4 Raw(int32_t group, float absent) const {
    const int32_t first = FirstId(group);
    if (first + kLaneIds <= vocab_size) return *reinterpret_cast<const float4*>(logits + first);
    float4 x;
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) {
      (&x.x)[j] = first + j < vocab_size ? logits[first + j] : absent;
    }
    return x;
  }

  __device__ __forceinline__ float4 Edit(float4 x, int32_t group) const {
    const int32_t first = FirstId(group);
    if (edits != nullptr) x = EditGroup(x, *edits, position, first, first < vocab_size);
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) {
      float& value = (&x.x)[j];
      if (first + j >= num_valid) value = -Infinity();
      if (only_infinite) value = value == Infinity() ? 0.0f : -Infinity();
    }
    return x;
  }

  __device__ __forceinline__ float4 Edited(int32_t group) const {
    return Edit(Raw(group, -Infinity()), group);
  }
};

}  // namespace mili::kernels::cuda
