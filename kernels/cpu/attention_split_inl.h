// The split of attention over threads: the rows (new tokens x heads of the group) of each sequence
// and KV head are cut in tiles, and all tiles stand in one line.
#pragma once

#include "kernels/cpu/share_inl.h"
#include "kernels/params.h"

namespace mili::kernels {
namespace {

struct KvHeadOfSeq {
  int64_t seq;
  int64_t kv_head;
  int64_t first_token;  // row of q
  int64_t num_before;   // positions before the first new token
  int64_t num_rows;     // new tokens * heads of the group
};

MILI_INLINE KvHeadOfSeq ItemOf(const PagedAttentionParams& p, int64_t seq, int64_t kv_head) {
  const int64_t num_new = p.cu_seqlens[seq + 1] - p.cu_seqlens[seq];
  return {seq, kv_head, p.cu_seqlens[seq], p.context_lens[seq] - num_new,
          num_new * (p.num_heads / p.num_kv_heads)};
}

MILI_INLINE bool HasOneNewTokenEach(const PagedAttentionParams& p) {
  for (int64_t seq = 0; seq < p.num_seqs; ++seq) {
    if (p.cu_seqlens[seq + 1] - p.cu_seqlens[seq] != 1) return false;
  }
  return true;
}

// Positions met by all rows together.
MILI_INLINE int64_t TotalWork(const PagedAttentionParams& p) {
  int64_t work = 0;
  for (int64_t seq = 0; seq < p.num_seqs; ++seq) {
    const int64_t num_new = p.cu_seqlens[seq + 1] - p.cu_seqlens[seq];
    const int64_t before = p.context_lens[seq] - num_new;
    work += p.num_heads * (num_new * before + num_new * (num_new + 1) / 2);
  }
  return work;
}

MILI_INLINE int64_t NumTiles(const PagedAttentionParams& p, int64_t tile_rows) {
  int64_t tiles = 0;
  for (int64_t seq = 0; seq < p.num_seqs; ++seq) {
    tiles += (ItemOf(p, seq, 0).num_rows + tile_rows - 1) / tile_rows * p.num_kv_heads;
  }
  return tiles;
}

// Calls body(item, first, last), rows of the item, for the tiles [begin, end) of the line.
template <typename Body>
MILI_INLINE void ForEachTile(const PagedAttentionParams& p, int64_t tile_rows, int64_t begin,
                             int64_t end, Body body) {
  int64_t before = 0;  // tiles of earlier sequences
  for (int64_t seq = 0; seq < p.num_seqs && before < end; ++seq) {
    const int64_t tiles_a_head = (ItemOf(p, seq, 0).num_rows + tile_rows - 1) / tile_rows;
    const int64_t tiles = tiles_a_head * p.num_kv_heads;
    for (int64_t i = MaxOf(begin - before, 0); i < MinOf(end - before, tiles); ++i) {
      const KvHeadOfSeq item = ItemOf(p, seq, i / tiles_a_head);
      const int64_t first = i % tiles_a_head * tile_rows;
      body(item, first, MinOf(first + tile_rows, item.num_rows));
    }
    before += tiles;
  }
}

}  // namespace
}  // namespace mili::kernels
