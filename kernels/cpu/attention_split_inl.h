// The split of attention over threads: all rows (sequence, KV head, new token, head of the group)
// in one line, cut where the shares of work are equal. A row's work is the number of positions it
// sees.
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

// Work of the first `rows` rows of an item.
MILI_INLINE int64_t WorkOfRows(const KvHeadOfSeq& item, int64_t group, int64_t rows) {
  const int64_t tokens = rows / group;
  const int64_t whole = tokens * item.num_before + tokens * (tokens + 1) / 2;
  return whole * group + (rows % group) * (item.num_before + tokens + 1);
}

// The smallest number of rows with at least that much work.
MILI_INLINE int64_t RowsOfWork(const KvHeadOfSeq& item, int64_t group, int64_t work) {
  int64_t low = 0;
  int64_t high = item.num_rows;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (WorkOfRows(item, group, middle) >= work) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

MILI_INLINE KvHeadOfSeq ItemOf(const PagedAttentionParams& p, int64_t seq, int64_t kv_head) {
  const int64_t num_new = p.cu_seqlens[seq + 1] - p.cu_seqlens[seq];
  return {seq, kv_head, p.cu_seqlens[seq], p.context_lens[seq] - num_new,
          num_new * (p.num_heads / p.num_kv_heads)};
}

MILI_INLINE int64_t TotalWork(const PagedAttentionParams& p) {
  int64_t work = 0;
  for (int64_t seq = 0; seq < p.num_seqs; ++seq) {
    const KvHeadOfSeq item = ItemOf(p, seq, 0);
    work += p.num_kv_heads * WorkOfRows(item, p.num_heads / p.num_kv_heads, item.num_rows);
  }
  return work;
}

// Calls body(item, first, last) for the rows whose end lies in (begin, end] of the line of work.
template <typename Body>
MILI_INLINE void ForEachRowRange(const PagedAttentionParams& p, int64_t begin, int64_t end,
                                 Body body) {
  const int64_t group = p.num_heads / p.num_kv_heads;
  int64_t before = 0;
  for (int64_t seq = 0; seq < p.num_seqs; ++seq) {
    for (int64_t kv_head = 0; kv_head < p.num_kv_heads; ++kv_head) {
      const KvHeadOfSeq item = ItemOf(p, seq, kv_head);
      const int64_t work = WorkOfRows(item, group, item.num_rows);
      if (before + work > begin && before < end) {
        const int64_t first = begin <= before ? 0 : RowsOfWork(item, group, begin - before + 1) - 1;
        const int64_t last =
            end >= before + work ? item.num_rows : RowsOfWork(item, group, end - before + 1) - 1;
        if (first < last) body(item, first, last);
      }
      before += work;
    }
  }
}

}  // namespace
}  // namespace mili::kernels
