// The ring of shared memory through which a block's weights and KV pages stream, in the order in
// which they are used. One lane asks for copies, as far ahead as there is room; all other warps
// read.
#pragma once

#include "kernels/cuda/common/bulk_copy.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/decode_layers/args.cuh"

namespace mili::kernels::cuda {
namespace decode_layers {

// Copies that may be under way at once. More do not come sooner while there is time for all, but
// what the blocks exchange has to wait behind them; where pages take longer than that, they do.
__device__ __forceinline__ int MaxUnderWay(int num_pages) { return num_pages <= 16 ? 2 : 3; }

// Barriers of the warps that calculate. The sums' one is the first of four.
enum NamedBarrier : int { kSumsBarrier = 1, kReadBarrier = 5, kCombineBarrier = 6 };

// Waits for all of them where `waits`, and says so; else only lets the others know.
__device__ __forceinline__ bool MeetAt(int barrier, bool waits) {
  if (waits) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(kWarps * 32) : "memory");
  } else {
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "n"(kWarps * 32) : "memory");
  }
  return waits;
}

__device__ __forceinline__ float FromLane(float x, int mask) {
  return __shfl_xor_sync(~0u, x, mask);
}

__device__ __forceinline__ uint4 LoadShared16(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address));
  return v;
}

// A place in a ring of kSlots slots.
template <int kSlots>
struct Place {
  int slot = 0;
  uint32_t parity = 0;

  __device__ void Advance(int count) {
    slot += count;
    if (slot < kSlots) return;
    slot -= kSlots;
    parity ^= 1;
  }
};

template <int kSlots>
struct Ring {
  static constexpr int kBytes = kSlots * kSlotBytes;

  uint32_t data;   // addresses in shared memory
  uint32_t full;   // [kSlots] barriers: the slot's bytes have come
  uint32_t empty;  // [kSlots] barriers: all warps have read the slot
  Place<kSlots> next;

  __device__ static uint32_t Wrapped(uint32_t offset) {
    return offset < kBytes ? offset : offset - kBytes;
  }
  __device__ uint32_t Offset() const { return next.slot * kSlotBytes; }

  __device__ void Init() const {
    for (int i = 0; i < kSlots; ++i) {
      InitBarrier(full + 8 * i, 1);
      InitBarrier(empty + 8 * i, kWarps);
    }
    PublishBarriers();
  }

  // For a whole warp: the next `count` slots, at most 32, have come. Each lane waits for one, since
  // a wait of all lanes for all slots costs 5 % of a step; racecheck does not follow the warp's
  // barrier then, and reports the reads.
  __device__ void Wait(int count) const {
    const int lane = threadIdx.x % 32;
    if (lane < count) {
      Place<kSlots> place = next;
      place.Advance(lane);
      WaitForPhase(full + 8 * place.slot, place.parity);
    }
    __syncwarp();
  }
  // For a whole warp, which has read them.
  __device__ void Release(int count) {
    const int lane = threadIdx.x % 32;
    __syncwarp();
    if (lane < count) {
      Place<kSlots> place = next;
      place.Advance(lane);
      Arrive(empty + 8 * place.slot);
    }
    next.Advance(count);
  }
};

// A block's part in attention: of a KV head of a sequence the pages `share`, `share` + num_shares
// ... The blocks of a head are dealt out to the sequences so that their shares become alike.
template <int kRows>
struct Unit {
  static constexpr int kKeptPages = 256;
  int kv_head = blockIdx.x / kMaxShares;
  int row = 0;
  int share = 0;
  int num_shares = 0;  // of the row
  int num_pages = 0;
  int num_local = 0;  // pages of this share
  // For warp r, of row r: where its parts begin among those of a head, and how many there are.
  int first_part = 0;
  int num_parts = 0;

  __device__ explicit Unit(const Args& a) {
    int pages[kRows], shares[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      pages[r] = (a.context_lens[r] + kPageTokens - 1) / kPageTokens;
      shares[r] = 1;
    }
#pragma unroll 1
    for (int i = kRows; i < kMaxShares; ++i) {
      int longest = 0, longest_pages = pages[0], longest_shares = shares[0];
#pragma unroll
      for (int r = 1; r < kRows; ++r) {
        if (pages[r] * longest_shares <= longest_pages * shares[r]) continue;
        longest = r;
        longest_pages = pages[r];
        longest_shares = shares[r];
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) shares[r] += r == longest;
    }
    const int column = blockIdx.x % kMaxShares;
    int first = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (column >= first && column < first + shares[r]) {
        row = r;
        share = column - first;
        num_shares = shares[r];
        num_pages = pages[r];
      }
      if (threadIdx.x / 32 == r) {
        first_part = first;
        num_parts = min(shares[r], pages[r]);
      }
      first += shares[r];
    }
    if (share < num_pages) num_local = (num_pages - share + num_shares - 1) / num_shares;
  }
  __device__ int PageOf(const Args& a, int local) const {
    return a.page_table[row * a.page_table_stride + local * num_shares + share];
  }
};

// What the loading lane does: a step of all layers.
template <int kSlots, int kRows>
struct Loader {
  const Args& a;
  Ring<kSlots> ring;
  const int* kept_pages;  // the first ones of the unit
  const Unit<kRows>& unit;
  Place<kSlots> under_way;  // the first copy that may not have come
  const int max_under_way = MaxUnderWay(unit.num_local);
  int num_under_way = 0;
  bool is_first_round = true;
  uint64_t policy = EvictFirst();

  static_assert(kSlots >= 4);  // or a copy's barrier could be two uses on

  // Makes the next slot ready for `bytes`.
  __device__ uint32_t Take(uint32_t bytes) {
    if (!is_first_round) WaitForPhase(ring.empty + 8 * ring.next.slot, ring.next.parity ^ 1);
    if (num_under_way == max_under_way) {
      WaitForPhase(ring.full + 8 * under_way.slot, under_way.parity);
      under_way.Advance(1);
    } else {
      ++num_under_way;
    }
    ArriveExpecting(ring.full + 8 * ring.next.slot, bytes);
    return ring.data + ring.Offset();
  }
  __device__ uint32_t Barrier() const { return ring.full + 8 * ring.next.slot; }
  __device__ void Advance() {
    ring.next.Advance(1);
    is_first_round = is_first_round && ring.next.slot != 0;
  }

  // This block's rows of a matrix, which are one piece.
  __device__ void LoadRows(const void* matrix, int bytes) {
    const char* from = static_cast<const char*>(matrix) + blockIdx.x * bytes;
#pragma unroll 1
    for (int at = 0; at < bytes; at += kSlotBytes) {
      const uint32_t to = Take(kSlotBytes);
      BulkCopy(to, from + at, kSlotBytes, Barrier(), policy);
      Advance();
    }
  }
  __device__ void LoadPages(const void* pages) {
#pragma unroll 1
    for (int i = 0; i < unit.num_local; ++i) {
      const uint32_t to = Take(2 * kHeadPageBytes);
      const int page = i < Unit<kRows>::kKeptPages ? kept_pages[i] : unit.PageOf(a, i);
      const char* k = static_cast<const char*>(pages) + page * a.page_stride_bytes +
                      unit.kv_head * kHeadPageBytes;
      BulkCopy(to, k, kHeadPageBytes, Barrier(), policy);
      BulkCopy(to + kHeadPageBytes, k + kKvHeads * kHeadPageBytes, kHeadPageBytes, Barrier(),
               policy);
      Advance();
    }
  }
  __device__ void Run() {
#pragma unroll 1
    for (int i = 0; i < a.num_layers; ++i) {
      const DecodeLayer& layer = a.layers[i];
      LoadRows(layer.qkv, kQkv / kBlocks * kHidden * 2);
      if (i == 0) WaitForProducers();
      LoadPages(layer.pages);
      LoadRows(layer.o, kHidden / kBlocks * kHeads * kHeadDim * 2);
      LoadRows(layer.gate_up, 2 * kInter / kBlocks * kHidden * 2);
      LoadRows(layer.down, kHidden / kBlocks * kInter * 2);
    }
  }
};

}  // namespace decode_layers
}  // namespace mili::kernels::cuda
