// FakeBackend: executes steps without a model. A sampled token is a function of (seed, choice,
// position) alone, so a preempted or failed-over stream must equal the undisturbed one. It keeps a
// picture of the KV pages and fails a row whose context is not what its own sequence wrote, so that
// a page given to two sequences shows. Executor thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "common/core/memory_plan.h"
#include "worker/model/backend.h"

namespace mili::worker {

// The token that FakeBackend samples at `position`; in [3, vocab_size).
inline TokenId FakeToken(uint64_t seed, uint32_t choice_idx, uint32_t position,
                         uint32_t vocab_size) {
  uint64_t x = seed * 0x9e3779b97f4a7c15ull + choice_idx * 0xbf58476d1ce4e5b9ull + position + 1;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;  // splitmix64
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return static_cast<TokenId>(3 + (x ^ (x >> 31)) % (vocab_size - 3));
}

class FakeBackend final : public Backend {
 public:
  struct Options {
    uint32_t vocab_size = 1000;
    uint32_t num_pages = 0;
    uint32_t page_size_tokens = 16;
    // Called at the start of each step, e.g. to wait or to count.
    std::function<void(const StepBatch&)> before_step;
    // Rows that sample at a position for which this is true fail as if their logits were NaN.
    std::function<bool(uint32_t position)> is_nan;
  };
  explicit FakeBackend(Options options)
      : options_(std::move(options)),
        kv_(uint64_t{options_.num_pages} * options_.page_size_tokens) {}

  absl::Status Execute(const StepBatch& batch, std::span<const SampleTask> samples,
                       std::span<TokenOutcome> sampled, std::span<TokenOutcome> scored) override {
    if (options_.before_step) options_.before_step(batch);
    std::vector<absl::Status> row_status(batch.num_rows());
    std::vector<uint32_t> row_of_token(batch.num_tokens());
    for (uint32_t row = 0; row < batch.num_rows(); ++row) {
      for (int64_t t = batch.cu_seqlens[row]; t < batch.cu_seqlens[row + 1]; ++t) {
        row_of_token[t] = row;
        Write(batch, row, t);
      }
    }
    for (uint32_t row = 0; row < batch.num_rows(); ++row) row_status[row] = CheckRow(batch, row);
    for (size_t i = 0; i < samples.size(); ++i) {
      const SampleTask& task = samples[i];
      sampled[i].status = row_status[row_of_token[task.token_idx]];
      if (options_.is_nan && options_.is_nan(task.position)) {
        sampled[i].status = absl::InternalError("the model's logits are not a number (NaN)");
      }
      sampled[i].token.id =
          FakeToken(task.params->seed, task.params->choice_idx, task.position, options_.vocab_size);
      if (task.params->num_logprobs) AddLogprobs(*task.params->num_logprobs, &sampled[i].token);
    }
    for (size_t i = 0; i < scored.size(); ++i) {
      scored[i].status = row_status[batch.scores[i].row_idx];
      scored[i].token.id = batch.scores[i].target;
      AddLogprobs(batch.scores[i].num_top, &scored[i].token);
    }
    return absl::OkStatus();
  }

 private:
  struct Entry {
    TokenId token = 0;
    uint32_t position = 0;
    uint64_t chain = 0;  // of all tokens up to this one
  };

  Entry& At(const StepBatch& batch, uint32_t row, uint32_t position) {
    const uint64_t page = batch.page_table[uint64_t{row} * batch.page_table_stride +
                                           position / options_.page_size_tokens];
    return kv_[page * options_.page_size_tokens + position % options_.page_size_tokens];
  }
  static uint64_t Link(uint64_t chain, TokenId token) {
    return (chain ^ token) * 0x100000001b3ull + 0x9e3779b9;
  }

  void Write(const StepBatch& batch, uint32_t row, int64_t t) {
    const uint32_t position = batch.positions[t];
    const uint64_t before = position == 0 ? 0 : At(batch, row, position - 1).chain;
    kv_[batch.slot_map[t]] = {batch.token_ids[t], position, Link(before, batch.token_ids[t])};
  }

  absl::Status CheckRow(const StepBatch& batch, uint32_t row) {
    uint64_t chain = 0;
    for (uint32_t position = 0; position < batch.context_lens[row]; ++position) {
      const Entry& entry = At(batch, row, position);
      chain = Link(chain, entry.token);
      if (entry.position != position || entry.chain != chain) {
        return absl::InternalError(absl::StrCat("slot ", batch.slots[row].value,
                                                ": the KV at position ", position,
                                                " is another sequence's"));
      }
    }
    return absl::OkStatus();
  }

  static void AddLogprobs(uint32_t num_top, SampledToken* token) {
    token->logprob = -0.25f * static_cast<float>(1 + token->id % 7);
    token->rank = 1 + token->id % 7;
    for (uint32_t i = 0; i < num_top; ++i) {
      token->top.push_back({i, -0.125f * static_cast<float>(i + 1)});
    }
  }

  const Options options_;
  std::vector<Entry> kv_;
};

}  // namespace mili::worker
