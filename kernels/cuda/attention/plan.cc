// The host side of both kinds of attention: how a step's work is cut, from its lengths alone.
#include "kernels/cuda/attention/plan.h"

#include <algorithm>

#include "kernels/cuda/attention/paged_attention.h"
#include "kernels/cuda/attention/shape.h"

namespace mili::kernels::cuda {
namespace {

int32_t CeilDiv(int32_t a, int32_t b) { return (a + b - 1) / b; }

// How many shares a step of `total` blocks is cut into. num_units: sequences and heads.
int32_t NumShares(int32_t total, int32_t num_units, int32_t num_ctas) {
  if (total == 0) return 0;
  const int32_t mean = total / num_units;
  const int32_t least = mean <= kMaxWholeBlocks ? mean : kMinShareBlocks;
  return CeilDiv(total, std::max(CeilDiv(total, num_ctas), least));
}

}  // namespace

int32_t DecodeCtas(int32_t num_sms) { return num_sms * kDecodeCtasPerSm; }

size_t DecodePlanInts(int32_t num_ctas) {
  return (sizeof(DecodePlanHeader) + sizeof(DecodeShare) * static_cast<size_t>(num_ctas)) /
         sizeof(int32_t);
}

void PlanDecode(const int32_t* context_lens, int32_t num_seqs, int32_t num_kv_heads,
                int32_t num_ctas, int32_t* plan) {
  int32_t total = 0;
  int32_t num_units = 0;
  for (int32_t s = 0; s < num_seqs; ++s) {
    total += CeilDiv(context_lens[s], kDecodeBlock) * num_kv_heads;
    if (context_lens[s] > 0) num_units += num_kv_heads;
  }
  const int32_t active = NumShares(total, num_units, num_ctas);
  auto* header = reinterpret_cast<DecodePlanHeader*>(plan);
  *header = {total, active, 0, 0};
  auto* shares = reinterpret_cast<DecodeShare*>(header + 1);

  int32_t s = 0;
  int32_t first_of_s = 0;  // block at which sequence s begins
  for (int32_t c = 0; c < num_ctas; ++c) {
    shares[c] = {};
    if (c >= active) continue;
    const int32_t begin = ShareBegin(c, total, active);
    int32_t blocks_of_s = CeilDiv(context_lens[s], kDecodeBlock);
    while (begin >= first_of_s + blocks_of_s * num_kv_heads) {
      first_of_s += blocks_of_s * num_kv_heads;
      blocks_of_s = CeilDiv(context_lens[++s], kDecodeBlock);
    }
    shares[c].seq = s;
    shares[c].kv_head = (begin - first_of_s) / blocks_of_s;
    shares[c].block = (begin - first_of_s) % blocks_of_s;
    shares[c].num_blocks = ShareBegin(c + 1, total, active) - begin;
    shares[c].len = context_lens[s];
  }
}

int32_t VarlenTiles(const AttentionShape& shape, int32_t max_tokens, int32_t max_seqs) {
  return max_tokens / TokensPerTile(GroupOf(shape)) + std::min(max_tokens, max_seqs);
}

size_t VarlenPlanInts(int32_t num_tiles) {
  return sizeof(VarlenTile) / sizeof(int32_t) * static_cast<size_t>(num_tiles);
}

int32_t PlanVarlen(const AttentionShape& shape, const int32_t* cu_seqlens,
                   const int32_t* context_lens, int32_t num_seqs, int32_t num_tiles,
                   int32_t* plan) {
  const int32_t tokens_per_tile = TokensPerTile(GroupOf(shape));
  auto* tiles = reinterpret_cast<VarlenTile*>(plan);
  int32_t num_used = 0;
  for (int32_t s = 0; s < num_seqs; ++s) {
    const int32_t len = cu_seqlens[s + 1] - cu_seqlens[s];
    for (int32_t first = 0; first < len && num_used < num_tiles; first += tokens_per_tile) {
      const int32_t end = std::min(first + tokens_per_tile, len);
      tiles[num_used++] = {
          s, first, len, context_lens[s], cu_seqlens[s], context_lens[s] - len + end, {}};
    }
  }
  std::stable_sort(tiles, tiles + num_used, [](const VarlenTile& a, const VarlenTile& b) {
    return a.num_keys > b.num_keys;
  });
  std::fill(tiles + num_used, tiles + num_tiles, VarlenTile{-1, 0, 0, 0, 0, 0, {}});
  return num_used;
}

}  // namespace mili::kernels::cuda
