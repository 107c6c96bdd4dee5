// Attention of a block's unit: QK-norm, RoPE and the pages' entry of the new token, softmax over
// the unit's pages, and then the putting together of all shares of 16 elements of a head. A warp
// walks through pages for one query head; half of it has the even tokens, the other the odd ones,
// and a lane has the same eight elements of each.
#pragma once

#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/common/vec8.cuh"
#include "kernels/cuda/decode_layers/exchange.cuh"
#include "kernels/cuda/decode_layers/ring.cuh"

namespace mili::kernels::cuda {
namespace decode_layers {

inline constexpr int kPagesAtOnce = kWarps / kGroup;

// What the warps of a block leave for each other.
struct AttendShared {
  float o[kWarps][kHeadDim + 4];
  float top[kWarps];
  float sum[kWarps];
  float cos[kHeadDim / 2];
  float sin[kHeadDim / 2];
};

// Adds over the lanes that differ in `bit`: those without it keep the first half of the sums.
template <int kCount>
__device__ __forceinline__ void Fold(float* v, int bit, int lane) {
  const bool is_upper = lane & bit;
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    const float given = is_upper ? v[i] : v[i + kCount / 2];
    const float kept = is_upper ? v[i + kCount / 2] : v[i];
    v[i] = kept + FromLane(given, bit);
  }
}

template <int kSlots, int kRows>
struct Attention {
  static constexpr int kPageVec = 512;  // bytes of two tokens

  const Args& a;
  AttendShared& shared;
  Ring<kSlots>& ring;
  const Unit<kRows>& unit;
  const DecodeLayer& layer;
  uint32_t tag;
  int warp;
  int lane;

  int head = warp % kGroup;  // of the group
  int half = lane / 16;
  float q[kVec];
  float o[kVec] = {};
  float top = -INFINITY;
  float sum = 0;  // of this lane's weights

  // Normed and rotated at the row's position; lanes 0 to 15 and 16 to 31 hold a head each time.
  __device__ void NormAndRotate(float (&v)[kVec], const uint4& weight) const {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kVec; ++i) squares = fmaf(v[i], v[i], squares);
#pragma unroll
    for (int bit = 1; bit < 16; bit *= 2) squares += FromLane(squares, bit);
    const float factor = rsqrtf(squares * (1.0f / kHeadDim) + a.eps);
    float w[kVec];
    Unpack<__nv_bfloat16>(weight, w);
    const int pair = lane % 8 * kVec;
    const float sign = lane & 8 ? 1.0f : -1.0f;
#pragma unroll
    for (int i = 0; i < kVec; ++i) v[i] *= factor * w[i];
#pragma unroll
    for (int i = 0; i < kVec; ++i) {
      v[i] = v[i] * shared.cos[pair + i] + sign * FromLane(v[i], 8) * shared.sin[pair + i];
    }
  }

  // Brings q; `owns` says that the sequence's last page is this warp's, and so the new token. It
  // begins the softmax then, and heads of a group write K and V once.
  __device__ void Begin(bool owns) {
    const int lane_words = lane % 16 * 4;
    const uint4 q_norm = __ldg(static_cast<const uint4*>(layer.q_norm) + lane % 16);
    const uint4 k_norm = __ldg(static_cast<const uint4*>(layer.k_norm) + lane % 16);
    const uint64_t* row = a.exchange.qkv + unit.row * (kQkv / 2) + lane_words;
    const int q_head = unit.kv_head * kGroup + head;
    uint4 raw[3];  // q, k, v
    Poll([&] {
      uint32_t missing = 0;
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const int from = i == 0 || !owns ? q_head : kHeads + (i - 1) * kKvHeads + unit.kv_head;
        uint64_t words[4];
        LookTwo(row + from * (kHeadDim / 2), words[0], words[1]);
        LookTwo(row + from * (kHeadDim / 2) + 2, words[2], words[3]);
#pragma unroll
        for (int j = 0; j < 4; ++j) missing |= Missing(words[j], tag);
        raw[i] = {DataOf(words[0]), DataOf(words[1]), DataOf(words[2]), DataOf(words[3])};
      }
      return missing;
    });
#pragma unroll 1
    for (int i = owns; i >= 0; --i) {
      Unpack<__nv_bfloat16>(i == 0 ? raw[0] : raw[1], q);
      NormAndRotate(q, i == 0 ? q_norm : k_norm);
      if (i == 1) raw[1] = Pack<__nv_bfloat16>(q);
    }
#pragma unroll
    for (int i = 0; i < kVec; ++i) q[i] *= a.scale_log2;
    if (!owns) return;
    const int slot = a.slot_map[unit.row];
    if (head == 0 && slot >= 0) {
      char* to = static_cast<char*>(layer.pages) + slot / kPageTokens * a.page_stride_bytes +
                 (unit.kv_head + half * kKvHeads) * kHeadPageBytes +
                 slot % kPageTokens * (kHeadDim * 2);
      reinterpret_cast<uint4*>(to)[lane % 16] = half == 0 ? raw[1] : raw[2];
    }
    float k[kVec];
    Unpack<__nv_bfloat16>(raw[1], k);
    top = 0;
#pragma unroll
    for (int i = 0; i < kVec; ++i) top = fmaf(q[i], k[i], top);
#pragma unroll
    for (int bit = 1; bit < 16; bit *= 2) top += FromLane(top, bit);
    sum = lane == 0 ? 1 : 0;
    if (half == 0) Unpack<__nv_bfloat16>(raw[2], o);
  }

  // Adds the page at `from` in shared memory, of which num_keys (1 or more) count.
  __device__ void AddPage(uint32_t from, int num_keys) {
    from += lane * 16;
    float s[kVec];  // of tokens 2 i + half
#pragma unroll
    for (int i = 0; i < kVec; ++i) {
      float k[kVec];
      Unpack<__nv_bfloat16>(LoadShared16(from + i * kPageVec), k);
      s[i] = 0;
#pragma unroll
      for (int j = 0; j < kVec; ++j) s[i] = fmaf(q[j], k[j], s[i]);
    }
    Fold<8>(s, 8, lane);
    Fold<4>(s, 4, lane);
    Fold<2>(s, 2, lane);
    s[0] += FromLane(s[0], 1);
    const int mine = (lane & 8) / 2 + (lane & 4) / 2 + (lane & 2) / 2;
    const float score = 2 * mine + half < num_keys ? s[0] : -INFINITY;
    float new_top = score;
#pragma unroll
    for (int bit = 2; bit < 32; bit *= 2) new_top = fmaxf(new_top, FromLane(new_top, bit));
    new_top = fmaxf(new_top, top);
    const float factor = Exp2(top - new_top);
    const float weight = Exp2(score - new_top);
    top = new_top;
    sum = sum * factor + (lane % 2 == 0 ? weight : 0);
#pragma unroll
    for (int j = 0; j < kVec; ++j) o[j] *= factor;
#pragma unroll
    for (int i = 0; i < kVec; ++i) {
      uint4 bits = LoadShared16(from + kHeadPageBytes + i * kPageVec);
      if (2 * i + half >= num_keys) bits = {0, 0, 0, 0};
      float v[kVec];
      Unpack<__nv_bfloat16>(bits, v);
      const float w = __shfl_sync(~0u, weight, half * 16 + i * 2);
#pragma unroll
      for (int j = 0; j < kVec; ++j) o[j] = fmaf(w, v[j], o[j]);
    }
  }

  __device__ void PublishPart() const {
    uint64_t* part =
        a.exchange.parts +
        ((unit.kv_head * kGroup + head) * kMaxShares + blockIdx.x % kMaxShares) * kPartWords;
    uint64_t* to = part + lane % 16 * kVec + half * 4;
    const auto bits = [&](int i) { return __float_as_uint(half == 0 ? o[i] : o[i + 4]); };
    PublishTwo(to, bits(0), bits(1), tag);
    PublishTwo(to + 2, bits(2), bits(3), tag);
    if (lane == 0) PublishTwo(part + kHeadDim, __float_as_uint(top), __float_as_uint(sum), tag);
  }

  // Several warps have pages of the head: the first ones put theirs together.
  __device__ void Combine() {
    if (warp < unit.num_local * kGroup) {
      if (half == 0) {
        *reinterpret_cast<float4*>(&shared.o[warp][lane * kVec]) = {o[0], o[1], o[2], o[3]};
        *reinterpret_cast<float4*>(&shared.o[warp][lane * kVec + 4]) = {o[4], o[5], o[6], o[7]};
      }
      shared.top[warp] = top;
      shared.sum[warp] = sum;
    }
    if (!MeetAt(kCombineBarrier, warp < kGroup)) return;
    const int count = min(kPagesAtOnce, unit.num_local);
    top = -INFINITY;
#pragma unroll 1
    for (int i = 0; i < count; ++i) top = fmaxf(top, shared.top[i * kGroup + head]);
    sum = 0;
#pragma unroll
    for (int j = 0; j < kVec; ++j) o[j] = 0;
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const int from = i * kGroup + head;
      const float weight = Exp2(shared.top[from] - top);
      sum = fmaf(weight, shared.sum[from], sum);
#pragma unroll
      for (int j = 0; j < kVec; ++j) {
        o[j] = fmaf(weight, shared.o[from][lane % 16 * kVec + j], o[j]);
      }
    }
    PublishPart();
  }

  __device__ void Run() {
    if (unit.num_local == 0) return;
    const bool works = warp / kGroup < unit.num_local;
    const int last = unit.num_pages - 1;
    if (works) {
      Begin(last % unit.num_shares == unit.share &&
            last / unit.num_shares % kPagesAtOnce == warp / kGroup);
    }
    const int num_old = a.context_lens[unit.row] - 1;
#pragma unroll 1
    for (int first = 0; first < unit.num_local; first += kPagesAtOnce) {
      const int count = min(kPagesAtOnce, unit.num_local - first);
      ring.Wait(count);
      const int at = warp / kGroup;
      const int num_keys =
          min(kPageTokens, num_old - ((first + at) * unit.num_shares + unit.share) * kPageTokens);
      if (at < count && num_keys > 0) {
        AddPage(ring.data + ring.Wrapped(ring.Offset() + at * kSlotBytes), num_keys);
      }
      ring.Release(count);
    }
    if (works) {
#pragma unroll
      for (int bit = 1; bit < 32; bit *= 2) sum += FromLane(sum, bit);
#pragma unroll
      for (int j = 0; j < kVec; ++j) o[j] += FromLane(o[j], 16);
    }
    if (unit.num_local > 1) return Combine();
    if (works) PublishPart();
  }
};

// For warp r: 16 elements of a head of row r, from all its shares; half of the lanes each.
template <int kRows>
__device__ void MergeParts(const Args& a, const Unit<kRows>& unit, uint32_t tag, int row,
                           int lane) {
  constexpr int kMine = kMaxShares / 2;
  const int count = unit.num_parts;
  const int head = blockIdx.x / 8;
  const int element = blockIdx.x % 8 * 16 + lane % 16;
  const uint64_t* parts = a.exchange.parts + (head * kMaxShares + unit.first_part) * kPartWords;
  uint64_t o[kMine], top[kMine], sum[kMine];
  const auto share_of = [&](int i) { return 2 * i + lane / 16; };
  if (count > 0) {
    Poll([&] {
      uint32_t missing = 0;
#pragma unroll
      for (int i = 0; i < kMine; ++i) {
        if (2 * i >= count) continue;
        const uint64_t* part = parts + min(share_of(i), count - 1) * kPartWords;
        Look(part + element, o[i]);
        LookTwo(part + kHeadDim, top[i], sum[i]);
      }
#pragma unroll
      for (int i = 0; i < kMine; ++i) {
        if (2 * i >= count) continue;
        missing |= Missing(o[i], tag) | Missing(top[i], tag) | Missing(sum[i], tag);
      }
      return missing;
    });
  }
  float all_top = -INFINITY;
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    if (share_of(i) < count) all_top = fmaxf(all_top, __uint_as_float(DataOf(top[i])));
  }
  all_top = fmaxf(all_top, FromLane(all_top, 16));
  float all_sum = 0, value = 0;
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    if (share_of(i) >= count) continue;
    const float weight = Exp2(__uint_as_float(DataOf(top[i])) - all_top);
    all_sum = fmaf(weight, __uint_as_float(DataOf(sum[i])), all_sum);
    value = fmaf(weight, __uint_as_float(DataOf(o[i])), value);
  }
  all_sum += FromLane(all_sum, 16);
  value += FromLane(value, 16);
  value = count > 0 ? value / all_sum : 0;
  const float next = FromLane(value, 1);
  if (lane < 16 && lane % 2 == 0) {
    uint64_t* to = a.exchange.heads + row * (kHeads * kHeadDim / 2);
    Publish(to + (head * kHeadDim + element) / 2, Bf16::Pack(value, next), tag);
  }
}

}  // namespace decode_layers
}  // namespace mili::kernels::cuda
