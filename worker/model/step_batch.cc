#include "worker/model/step_batch.h"

namespace mili::worker {

void StepBatch::Reserve(uint32_t max_rows, uint32_t max_tokens, uint32_t max_pages_per_seq) {
  page_table_stride = max_pages_per_seq;
  resets.reserve(max_rows);
  slots.reserve(max_rows);
  cu_seqlens.reserve(max_rows + 1);
  context_lens.reserve(max_rows);
  page_table.reserve(uint64_t{max_rows} * max_pages_per_seq);
  token_ids.reserve(max_tokens);
  positions.reserve(max_tokens);
  slot_map.reserve(max_tokens);
  fed_rows.reserve(max_rows);
  samples.reserve(max_rows);
}

void StepBatch::Clear() {
  resets.clear();
  slots.clear();
  cu_seqlens.assign(1, 0);
  context_lens.clear();
  page_table.clear();
  token_ids.clear();
  positions.clear();
  slot_map.clear();
  fed_rows.clear();
  samples.clear();
  scores.clear();
}

}  // namespace mili::worker
