// A row of logits read in groups of 128, one a warp, four consecutive ids a lane: as they are, or
// with bans, bias, mask and penalties applied, to the effect of kernels/params.h. Nothing is
// written back: who reads a group again edits it again, so raw logits stay for the logprobs. Device
// code only.
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

__device__ __forceinline__ bool HasLists(const SlotSampling& s) {
  return s.num_banned > 0 || s.num_biases > 0 || s.mask != nullptr;
}
__device__ __forceinline__ bool HasEdits(const SlotSampling& s) {
  return HasLists(s) || s.counts != nullptr;
}

// Bans, biases and mask: -inf stays -inf under the penalties that follow. Lists are short, or a
// request's own doing: each warp looks through the whole list. `has_ids`: the lane's ids are in the
// vocabulary, so that the mask has them.
inline __device__ __noinline__ float4 EditByLists(float4 logits, const SlotSampling& s,
                                                  int32_t position, int32_t first, bool has_ids) {
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
  if (s.mask != nullptr && has_ids) {
    const uint32_t bits = s.mask[first / 32] >> (first % 32);
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) x[j] = (bits >> j & 1) != 0 ? x[j] : -Infinity();
  }
  return logits;
}

__device__ __forceinline__ void Penalise(const SlotSampling& s, ushort4 counts, float4& logits) {
  const uint32_t of[kLaneIds] = {counts.x, counts.y, counts.z, counts.w};
  if ((of[0] | of[1] | of[2] | of[3]) == 0) return;
#pragma unroll
  for (int j = 0; j < kLaneIds; ++j) {
    float& x = (&logits.x)[j];
    if (of[j] == 0) continue;
    x = x > 0 ? x / s.repetition_penalty : x * s.repetition_penalty;
    if (of[j] == 1) continue;  // in the prompt only
    x = __fsub_rn(x, s.presence_penalty);
    x = __fsub_rn(x, __fmul_rn(s.frequency_penalty, static_cast<float>(of[j] - 1)));
  }
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

  // How often the lane's ids stand in the sequence.
  __device__ __forceinline__ ushort4 Counts(int32_t group) const {
    const int32_t first = FirstId(group);
    if (edits == nullptr || edits->counts == nullptr || first >= vocab_size) return {0, 0, 0, 0};
    return *reinterpret_cast<const ushort4*>(edits->counts + first);
  }

  __device__ __forceinline__ float4 Edit(float4 x, ushort4 counts, int32_t group) const {
    if (edits == nullptr) return Cut(x, group);
    const int32_t first = FirstId(group);
    if (HasLists(*edits)) x = EditByLists(x, *edits, position, first, first < vocab_size);
    Penalise(*edits, counts, x);
    return Cut(x, group);
  }

  // What Edit does without edits.
  __device__ __forceinline__ float4 Cut(float4 x, int32_t group) const {
    const int32_t first = FirstId(group);
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) {
      float& value = (&x.x)[j];
      if (first + j >= num_valid) value = -Infinity();
      if (only_infinite) value = value == Infinity() ? 0.0f : -Infinity();
    }
    return x;
  }

  __device__ __forceinline__ float4 Edited(int32_t group) const {
    const float4 raw = Raw(group, -Infinity());
    return Edit(raw, Counts(group), group);
  }
};

}  // namespace mili::kernels::cuda
