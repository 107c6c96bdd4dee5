// StepBatch: one forward pass as arrays, in the order kernels read them. Filled by the engine
// thread while earlier steps compute, then owned by the stream's executor until the step is done.
// Its memory is reserved once for the largest step.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/ids.h"
#include "common/core/sampling_params.h"
#include "kernels/params.h"

namespace mili::worker {

// A row of the step whose last token's logits are sampled.
struct SampleRow {
  uint32_t row_idx = 0;    // into StepBatch::slots
  uint32_t token_idx = 0;  // into StepBatch::token_ids
  uint32_t position = 0;   // of the token to sample, in its sequence
};

// A computed prompt token whose successor in the prompt is scored.
struct ScoreRow {
  uint32_t row_idx = 0;
  uint32_t token_idx = 0;
  TokenId target = 0;  // the successor
  uint32_t num_top = 0;
};

// A slot that gets a new sequence: what its sampling starts from.
struct SlotReset {
  SlotId slot;
  SamplingParams sampling;
  uint32_t num_prompt_tokens = 0;
  uint32_t num_output_tokens = 0;  // produced before a restart
  // By token id; empty unless a penalty is set.
  std::vector<kernels::TokenCount> counts;
};

struct StepBatch {
  Epoch epoch;
  StepId step_id;
  // Take effect before anything is computed.
  std::vector<SlotReset> resets;
  // One entry a row, in the plan's order.
  std::vector<SlotId> slots;
  std::vector<int64_t> cu_seqlens;    // [num_rows + 1]
  std::vector<int64_t> context_lens;  // [num_rows], with the new tokens
  std::vector<uint32_t> page_table;   // [num_rows, page_table_stride]
  int64_t page_table_stride = 0;
  // One entry a token.
  std::vector<uint32_t> token_ids;
  std::vector<uint32_t> positions;
  std::vector<int64_t> slot_map;  // page * page_size + token in page
  // Rows whose one token is what their slot sampled last: filled in on the executor thread.
  std::vector<uint32_t> fed_rows;
  std::vector<SampleRow> samples;
  std::vector<ScoreRow> scores;

  uint32_t num_rows() const { return static_cast<uint32_t>(slots.size()); }
  uint32_t num_tokens() const { return static_cast<uint32_t>(token_ids.size()); }

  void Reserve(uint32_t max_rows, uint32_t max_tokens, uint32_t max_pages_per_seq);
  // Empties it; keeps its memory.
  void Clear();
};

}  // namespace mili::worker
