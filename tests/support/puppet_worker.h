// PuppetWorker: a worker of one epoch without a model. It holds slots and an arena as the real one
// does, checks every rule of worker.proto, and remembers of each position in each page which tokens
// led up to it, so that reading KV that was not written with exactly those tokens is an error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "common/core/request.h"
#include "common/core/step_plan.h"
#include "common/core/worker_facts.h"

namespace mili::testing {

// Small facts that CheckFacts accepts.
WorkerFacts PuppetFacts();

// Digest of the first tokens of a sequence; position p has that of tokens 0 .. p.
uint64_t ExtendDigest(uint64_t digest, TokenId token);
inline constexpr uint64_t kEmptyDigest = 0x9e3779b97f4a7c15;

// What the puppet samples after tokens with this digest; a function of seed, choice, position and
// history alone. `num_output`: tokens produced before.
TokenId PuppetSample(const SamplingParams& sampling, uint64_t digest, uint64_t position,
                     uint32_t num_output, uint32_t vocab_size);

// The whole undisturbed stream of a choice, as router and puppet must produce it.
struct PuppetStream {
  std::vector<TokenId> tokens;
  FinishReason reason = FinishReason::kLength;
};
PuppetStream UndisturbedStream(const Request& request, uint32_t choice_idx, uint32_t vocab_size);

// The logprob that the puppet gives prompt token `position`.
float PuppetPromptLogprob(uint64_t digest_before, TokenId token);

class PuppetWorker {
 public:
  PuppetWorker(const WorkerFacts& facts, Epoch epoch);

  // Computes one step. An error names the rule that the plan breaks.
  absl::StatusOr<StepResult> Execute(const StepPlan& plan);

  uint32_t num_slots_held() const;

 private:
  struct Slot {
    std::vector<TokenId> tokens;  // known ones, and those sampled since
    uint32_t num_started = 0;     // of `tokens`, those the SeqStart named
    uint32_t num_prompt = 0;
    uint32_t num_computed = 0;
    uint64_t digest = kEmptyDigest;  // of the computed tokens
    std::vector<PageId> pages;
    SamplingParams sampling;
  };

  absl::Status Release(SlotId slot);
  absl::Status Start(const SeqStart& start);
  absl::Status TakePages(SlotId slot, const std::vector<PageId>& pages);
  absl::Status CheckStep(const SeqStep& step) const;
  absl::Status CheckHistory(const Slot& slot) const;
  absl::StatusOr<RowResult> Compute(const SeqStep& step);

  const WorkerFacts facts_;
  const Epoch epoch_;
  StepId last_step_;
  std::vector<std::optional<Slot>> slots_;
  std::vector<std::optional<SlotId>> page_owner_;  // [num_pages]
  std::vector<uint64_t> arena_;                    // [num_pages, page_size_tokens] digests
};

}  // namespace mili::testing
