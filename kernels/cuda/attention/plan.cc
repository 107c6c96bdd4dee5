// The host side of both kinds of attention: how a step's work is cut, from its lengths alone.
#include "kernels/cuda/attention/plan.h"

#include <algorithm>
#include <numeric>

#include "kernels/cuda/attention/paged_attention.h"
#include "kernels/cuda/attention/shape.h"

namespace mili::kernels::cuda {
namespace {

int32_t CeilDiv(int32_t a, int32_t b) { return (a + b - 1) / b; }

// How many shares a step of `total` blocks is cut into. num_units: sequences and heads; `longest`:
// blocks of one at most.
int32_t NumShares(int32_t total, int32_t num_units, int32_t longest, int32_t num_ctas) {
  if (total == 0) return 0;
  const int32_t mean = total / num_units;
  const int32_t least = mean <= kMaxWholeBlocks ? mean : kMinShareBlocks;
  const int32_t share = std::max(CeilDiv(total, num_ctas), least);
  // Of equal lengths shares that end where sequences and heads end leave nothing to put together.
  const int32_t whole = CeilDiv(share, longest) * longest;
  const bool is_even = num_units * int64_t{longest} == total && total % whole == 0;
  const bool is_hardly_longer = kWholeShareSlack * (whole - share) <= share;
  return CeilDiv(total, is_even && is_hardly_longer ? whole : share);
}

int32_t BlocksOf(const VarlenTile& tile) { return CeilDiv(tile.end_key, kVarlenKeyBlock); }

// The most blocks of keys that a part should have, so that all parts are at work at once on
// `room` CTAs a KV head, or, with more tiles than those, none is much longer than a CTA's share.
int32_t LongestPart(const VarlenTile* tiles, int32_t num_used, int32_t room) {
  constexpr int32_t kShortest = 2;  // below it, passing the sums on costs more than it saves
  int32_t total = 0;
  for (int32_t i = 0; i < num_used; ++i) total += BlocksOf(tiles[i]);
  if (num_used > room) return std::max(kShortest, 2 * CeilDiv(total, room));
  const auto parts_of = [&](int32_t longest) {
    int32_t parts = 0;
    for (int32_t i = 0; i < num_used; ++i) parts += CeilDiv(BlocksOf(tiles[i]), longest);
    return parts;
  };
  int32_t longest = std::max(kShortest, CeilDiv(total, room));
  while (parts_of(longest) > room) ++longest;
  return longest;
}

// Cuts tiles with many keys into parts of about equal length, the longer ones first. `room`: CTAs a
// KV head; as many slots there are at most. Returns the number of tiles then.
int32_t SplitTiles(VarlenTile* tiles, int32_t num_used, int32_t num_tiles, int32_t room) {
  if (num_used == 0 || room == 0) return num_used;
  const int32_t longest = LongestPart(tiles, num_used, room);
  int32_t num_slots = 0;
  const int32_t num_whole = num_used;
  for (int32_t i = 0; i < num_whole; ++i) {
    const VarlenTile tile = tiles[i];
    const int32_t num_blocks = BlocksOf(tile);
    const int32_t num_parts = CeilDiv(num_blocks, longest);
    const int32_t num_more = num_parts - 1;
    if (num_more == 0 || num_slots + num_more > room || num_used + num_more > num_tiles) continue;
    int32_t block = 0;
    for (int32_t part = 0; part < num_parts; ++part) {
      VarlenTile& to = part == 0 ? tiles[i] : tiles[num_used++];
      to = tile;
      to.first_key = block * kVarlenKeyBlock;
      block += num_blocks / num_parts + (part < num_blocks % num_parts ? 1 : 0);
      to.end_key = std::min(block * kVarlenKeyBlock, tile.end_key);
      to.num_gathered = part < num_more ? -1 : num_more;
      to.slot = num_slots + (part < num_more ? part : 0);
    }
    num_slots += num_more;
  }
  return num_used;
}

}  // namespace

int32_t DecodeCtas(int32_t num_sms) { return num_sms * kDecodeCtasPerSm; }

DecodeGrid DecodeGridOf(int32_t num_seqs, int32_t num_kv_heads, int32_t num_ctas) {
  const int32_t num_sms = num_ctas / kDecodeCtasPerSm;
  const bool are_few = int64_t{num_seqs} * num_kv_heads <= num_sms / kSmsOfFewUnits;
  return are_few ? DecodeGrid{num_sms, kManyDecodeWarps} : DecodeGrid{num_ctas, kDecodeWarps};
}

size_t DecodePlanInts(int32_t num_ctas) {
  return (sizeof(DecodePlanHeader) + sizeof(DecodeShare) * static_cast<size_t>(num_ctas)) /
         sizeof(int32_t);
}

void PlanDecode(const int32_t* context_lens, int32_t num_seqs, int32_t num_kv_heads,
                const DecodeGrid& grid, int32_t* plan) {
  const int32_t block = DecodeBlock(grid.num_warps);
  int32_t total = 0;
  int32_t num_units = 0;
  int32_t longest = 0;
  for (int32_t s = 0; s < num_seqs; ++s) {
    const int32_t blocks = CeilDiv(context_lens[s], block);
    longest = std::max(longest, blocks);
    total += blocks * num_kv_heads;
    if (context_lens[s] > 0) num_units += num_kv_heads;
  }
  const int32_t active = NumShares(total, num_units, longest, grid.num_ctas);
  auto* header = reinterpret_cast<DecodePlanHeader*>(plan);
  *header = {total, active, 0, 0};
  auto* shares = reinterpret_cast<DecodeShare*>(header + 1);

  int32_t s = 0;
  int32_t first_of_s = 0;  // block at which sequence s begins
  for (int32_t c = 0; c < grid.num_ctas; ++c) {
    shares[c] = {};
    if (c >= active) continue;
    const int32_t begin = ShareBegin(c, total, active);
    int32_t blocks_of_s = CeilDiv(context_lens[s], block);
    while (begin >= first_of_s + blocks_of_s * num_kv_heads) {
      first_of_s += blocks_of_s * num_kv_heads;
      blocks_of_s = CeilDiv(context_lens[++s], block);
    }
    shares[c].seq = s;
    shares[c].kv_head = (begin - first_of_s) / blocks_of_s;
    shares[c].block = (begin - first_of_s) % blocks_of_s;
    shares[c].num_blocks = ShareBegin(c + 1, total, active) - begin;
    shares[c].len = context_lens[s];
  }
}

int32_t VarlenTiles(const AttentionShape& shape, int32_t max_tokens, int32_t max_seqs,
                    int32_t num_sms) {
  return max_tokens / TokensPerTile(GroupOf(shape)) + std::min(max_tokens, max_seqs) +
         num_sms / shape.num_kv_heads;
}

size_t VarlenPlanInts(int32_t num_tiles) {
  return sizeof(VarlenTile) / sizeof(int32_t) * static_cast<size_t>(num_tiles);
}

VarlenPlanUse PlanVarlen(const AttentionShape& shape, const int32_t* cu_seqlens,
                         const int32_t* context_lens, int32_t num_seqs, int32_t num_tiles,
                         int32_t* plan, int32_t num_sms) {
  const int32_t tokens_per_tile = TokensPerTile(GroupOf(shape));
  auto* tiles = reinterpret_cast<VarlenTile*>(plan);
  int32_t num_used = 0;
  for (int32_t s = 0; s < num_seqs; ++s) {
    const int32_t len = cu_seqlens[s + 1] - cu_seqlens[s];
    const int32_t first_position = context_lens[s] - len;
    for (int32_t first = 0; first < len && num_used < num_tiles; first += tokens_per_tile) {
      const int32_t count = std::min(tokens_per_tile, len - first);
      tiles[num_used++] = {.seq = s,
                           .first_row = cu_seqlens[s] + first,
                           .num_tokens = count,
                           .first_position = first_position + first,
                           .first_key = 0,
                           .end_key = first_position + first + count,
                           .num_gathered = 0,
                           .slot = 0};
    }
  }
  const int32_t num_whole = num_used;
  num_used = SplitTiles(tiles, num_used, num_tiles, num_sms / shape.num_kv_heads);
  std::stable_sort(tiles, tiles + num_used, [](const VarlenTile& a, const VarlenTile& b) {
    return a.end_key - a.first_key > b.end_key - b.first_key;
  });
  std::fill(tiles + num_used, tiles + num_tiles, VarlenTile{-1, 0, 0, 0, 0, 0, 0, 0});
  return {num_used, num_used > num_whole};
}

int32_t SmsOfPrompts(const AttentionShape& shape, const int32_t* cu_seqlens,
                     const int32_t* context_lens, int32_t num_decodes, int32_t num_prompts,
                     int32_t num_sms) {
  const int32_t tokens_per_tile = TokensPerTile(GroupOf(shape));
  int64_t prompt_blocks = 0;
  for (int32_t s = num_decodes; s < num_decodes + num_prompts; ++s) {
    for (int32_t left = cu_seqlens[s + 1] - cu_seqlens[s]; left > 0; left -= tokens_per_tile) {
      prompt_blocks +=
          CeilDiv(context_lens[s] - std::max(left - tokens_per_tile, 0), kVarlenKeyBlock);
    }
  }
  const int64_t prompts = prompt_blocks * kDecodeTokensABlock;
  const int64_t decodes = std::accumulate(context_lens, context_lens + num_decodes, int64_t{0}) +
                          int64_t{num_decodes} * kDecodeTokensASequence;
  const int64_t both = prompts + decodes;
  const auto share = static_cast<int32_t>((num_sms * decodes + both - 1) / both);
  return num_sms - std::min(share, num_sms / 2);
}

}  // namespace mili::kernels::cuda
