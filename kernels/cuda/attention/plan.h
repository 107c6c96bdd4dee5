// What the plans of attention hold, for the functions that write them and the kernels that read
// them. Plain C++.
#pragma once

#include <cstdint>

namespace mili::kernels::cuda {

#ifdef __CUDACC__
#define MILI_HOST_DEVICE __host__ __device__
#else
#define MILI_HOST_DEVICE
#endif

// Decode. The step's KV is one list of blocks, ordered by sequence, KV head, position; a block is a
// page for each warp of a CTA. Share c of `num_active` shares begins at block ShareBegin(c). No
// more shares are active than the largest one allows: so equal lengths are cut where sequences and
// heads end, if that is possible.
inline constexpr int32_t kDecodeCtasPerSm = 2;  // of kDecodeWarps
inline constexpr int32_t kDecodeWarps = 4;
inline constexpr int32_t kManyDecodeWarps = 8;  // of a CTA that has an SM for itself
// SMs for each sequence and head, from which on CTAs have many warps. On an H100 steps of up to 4
// sequences of 8 heads gain 2 to 8 % by them, those of 8 lose 2 %.
inline constexpr int32_t kSmsOfFewUnits = 4;
MILI_HOST_DEVICE constexpr int32_t DecodeBlock(int32_t num_warps) { return 16 * num_warps; }
// How small shares get where there are CTAs for more of them: a head's parts take as long to put
// together as three or four blocks to walk through.
inline constexpr int32_t kMinShareBlocks = 2;
inline constexpr int32_t kMaxWholeBlocks = 4;  // of sequences, on average, that are not cut
// Shares may be longer by this part of them if then none ends within a sequence and head: at 256
// sequences of 257 to 384 tokens it saves 2 us.
inline constexpr int32_t kWholeShareSlack = 32;

struct DecodePlanHeader {
  int32_t total_blocks;
  int32_t num_active;  // shares with blocks, the first ones
  int32_t reserved[2];
};

struct DecodeShare {
  int32_t seq;
  int32_t kv_head;
  int32_t block;       // of that sequence and head, where the share begins
  int32_t num_blocks;  // 0: nothing to do
  int32_t len;         // of that sequence
  int32_t reserved[3];
};

MILI_HOST_DEVICE inline int32_t ShareBegin(int32_t share, int32_t total_blocks,
                                           int32_t num_active) {
  return static_cast<int32_t>(static_cast<int64_t>(share) * total_blocks / num_active);
}

// The share that holds `block`: the last one that begins at or before it.
MILI_HOST_DEVICE inline int32_t ShareOf(int32_t block, int32_t total_blocks, int32_t num_active) {
  const int64_t end = static_cast<int64_t>(block + 1) * num_active;
  return static_cast<int32_t>((end + total_blocks - 1) / total_blocks) - 1;
}

// Varlen. A tile is 128 rows of query: a row for each token and query head of one group, as many
// whole tokens as fit. Where there are few tiles for their keys, several entries of the plan share
// a tile, each with a part of its keys; all but the last one leave their sums in slots of the
// workspace. On the device tiles are 16-aligned.
inline constexpr int32_t kVarlenTileRows = 128;
inline constexpr int32_t kVarlenKeyBlock = 128;  // parts begin at multiples of it

struct VarlenTile {
  int32_t seq;             // -1: empty
  int32_t first_row;       // in q and out, of the tile's first token
  int32_t num_tokens;      // of the tile
  int32_t first_position;  // of the tile's first token
  int32_t first_key;
  int32_t end_key;       // behind the last key of the tile, or of its part
  int32_t num_gathered;  // slots that are to be added; -1: the sums go into slot `slot`
  int32_t slot;          // the first one; slots are numbered alike for all KV heads
};

MILI_HOST_DEVICE inline int32_t TokensPerTile(int32_t group) { return kVarlenTileRows / group; }

// Both side by side. While an SM adds a block of keys to a tile, another one reads the KV of so
// many tokens for sequences that decode; to begin and end with one of these takes as long as so
// many more. Measured on an H100, where half of the SMs read as fast as the memory is.
inline constexpr int32_t kDecodeTokensABlock = 250;
inline constexpr int32_t kDecodeTokensASequence = 256;

#undef MILI_HOST_DEVICE

}  // namespace mili::kernels::cuda
