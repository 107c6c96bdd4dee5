// Sampling and scoring on the device, by the rules of kernels/params.h: the order of edits, Philox
// counters, ties to the lowest id, logprobs of the raw logits. Graph-capturable: no allocation, no
// synchronisation, a grid that depends on num_rows and vocab_size alone; all arrays are device
// memory, read when the kernel runs.
//
// Against the CPU tables, for equal logits: greedy tokens, what top_k and min_p keep, ranks and top
// ids are the same. Sums of weights are taken in another order, so a drawn token, or top_p's last
// one, may be the neighbour when the draw (or top_p) lies within about 1e-6 of the border of two
// tokens. A row's result depends on that row alone, never on batch or grid.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace mili::kernels::cuda {

inline constexpr int32_t kMaxSampleVocab = 262144;
inline constexpr int32_t kMaxTopLogprobs = 1024;

struct SlotBias {
  int32_t token_id = 0;
  float bias = 0;
};

// How the rows of a slot are sampled: fields as in kernels::SampleParams. Written by the host when
// the slot gets a sequence; the arrays are device memory and live as long as the slot uses them.
struct SlotSampling {
  float temperature = 0;  // 0: greedy
  float top_p = 1;        // >= 1: off
  float min_p = 0;        // 0: off
  int32_t top_k = 0;      // 0: off
  uint64_t seed = 0;
  uint32_t choice_idx = 0;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  float repetition_penalty = 1;
  int32_t num_biases = 0;
  int32_t num_banned = 0;
  int32_t ban_until = 0;             // banned ids are banned at positions below this one
  int32_t num_top = -1;              // likeliest tokens to report; -1: no logprobs at all
  const SlotBias* biases = nullptr;  // [num_biases]
  const int32_t* banned = nullptr;   // [num_banned]
  const uint32_t* mask = nullptr;    // [ceil(vocab_size / 32)], 16-aligned: token id is allowed if
                                     // bit id % 32 of word id / 32 is set; null: all are
  // How often each token stands in the sequence: 0 not at all, 1 + n where n is its number in the
  // output, n <= 65534 (it stays there). Needed if a penalty is set, else null; the sampled token
  // is counted here. [vocab_size rounded up to 8], 16-aligned.
  uint16_t* counts = nullptr;
};

struct SampledLogprob {
  int32_t token_id = 0;
  float logprob = 0;
};

enum SampleFlags : uint32_t {
  kSampledNan = 1,     // the logits held a NaN: the row has no token
  kSampledMasked = 2,  // no token was left to sample: the row has no token
};

struct SampledRow {
  int32_t token_id = -1;  // -1: none, see flags
  uint32_t flags = 0;     // of SampleFlags
  float logprob = 0;      // of token_id, if the row wants logprobs
  int32_t rank = 0;       // 1 + number of larger raw logits, if the row wants logprobs
};

struct SampleParams {
  const float* logits = nullptr;  // [num_rows, vocab_size], 16-aligned; not changed
  int64_t logits_stride = 0;      // in elements, a multiple of 4
  // Not null: what the head (head/head.h) found, [num_rows, num_best]; rows that are greedy and ask
  // for nothing else then need no logits.
  const uint64_t* best = nullptr;
  int32_t num_best = 0;
  int32_t num_rows = 0;
  int32_t vocab_size = 0;               // at most kMaxSampleVocab
  int32_t num_valid_tokens = 0;         // ids the tokenizer knows; the rest is never sampled
  const int32_t* row_slots = nullptr;   // [num_rows]; negative: padding, nothing is written
  const int32_t* positions = nullptr;   // [num_rows]: of the token to sample, in its sequence
  const SlotSampling* slots = nullptr;  // [num_slots]
  int32_t* last_tokens = nullptr;       // [num_slots]: gets the token (0 if the row has none)
  SampledRow* out = nullptr;            // [num_rows]
  SampledRow* const* out_at = nullptr;  // not null: holds, when the kernel runs, what `out` is; may
                                        // be the host's (pinned)
  SampledLogprob* top = nullptr;        // [num_rows, max_top], best first; null if max_top is 0
  int32_t max_top = 0;                  // at most kMaxTopLogprobs; a row's num_top is cut to it
  void* workspace = nullptr;            // SampleWorkspaceBytes, 16-aligned
  bool pdl = false;                     // see kernels/cuda/common/launch.h
};

// Bytes that Sample and Score need for so many rows.
size_t SampleWorkspaceBytes(int32_t num_rows, int32_t vocab_size);

// cudaErrorInvalidValue for a shape not allowed above.
cudaError_t Sample(const SampleParams& params, cudaStream_t stream);

// Logprob, rank and top of given tokens under raw logits, e.g. of a prompt.
struct ScoreParams {
  const float* logits = nullptr;  // as in SampleParams
  int64_t logits_stride = 0;
  int32_t num_rows = 0;
  int32_t vocab_size = 0;
  const int32_t* targets = nullptr;  // [num_rows], ids to score; negative: padding
  const int32_t* num_top = nullptr;  // [num_rows]
  SampledRow* out = nullptr;         // [num_rows]
  SampledLogprob* top = nullptr;     // [num_rows, max_top]
  int32_t max_top = 0;
  void* workspace = nullptr;
  bool pdl = false;
};
cudaError_t Score(const ScoreParams& params, cudaStream_t stream);

// Fills a slot's counts: zero but for counts[token_ids[i]] = values[i]. Ids outside the table are
// left out.
struct FillCountsParams {
  uint16_t* counts = nullptr;  // [vocab_size rounded up to 8], 16-aligned
  int32_t vocab_size = 0;
  const int32_t* token_ids = nullptr;  // [num_entries], each once
  const uint16_t* values = nullptr;    // [num_entries]
  int32_t num_entries = 0;
};
cudaError_t FillCounts(const FillCountsParams& params, cudaStream_t stream);

}  // namespace mili::kernels::cuda
