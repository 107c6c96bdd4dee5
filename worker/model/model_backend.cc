#include "worker/model/model_backend.h"

#include <algorithm>
#include <utility>

#include "common/base/status_macros.h"

namespace mili::worker {
namespace {

constexpr uint32_t kMaxTop = 1024;

SampledToken ToToken(const kernels::SampleOutcome& outcome,
                     std::span<const kernels::TokenLogprob> top) {
  SampledToken token{outcome.token_id, outcome.logprob, outcome.rank, {}};
  token.top.reserve(top.size());
  for (const kernels::TokenLogprob& entry : top)
    token.top.push_back({entry.token_id, entry.logprob});
  return token;
}

// What a row whose logits decide nothing ends with.
absl::Status FailureOf(const kernels::SampleOutcome& outcome) {
  if (outcome.has_nan) return absl::InternalError("the model's logits are not a number (NaN)");
  if (outcome.all_masked) {
    return absl::InvalidArgumentError("every token is banned: none is left to sample");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelBackend>> ModelBackend::Create(Options options,
                                                                   Weights weights) {
  MILI_ASSIGN_OR_RETURN(KvArena kv, KvArena::Allocate(options.plan.kv, options.plan.num_pages));
  MILI_ASSIGN_OR_RETURN(Workspace workspace,
                        Workspace::Allocate(options.config, options.plan, options.compute));
  if (options.num_valid_tokens == 0) options.num_valid_tokens = options.config.vocab_size;
  options.num_valid_tokens = std::min(options.num_valid_tokens, options.config.vocab_size);
  return std::unique_ptr<ModelBackend>(new ModelBackend(std::move(options), std::move(weights),
                                                        std::move(kv), std::move(workspace)));
}

ModelBackend::ModelBackend(Options options, Weights weights, KvArena kv, Workspace workspace)
    : options_(std::move(options)),
      weights_(std::move(weights)),
      kv_(std::move(kv)),
      workspace_(std::move(workspace)),
      forward_(
          std::make_unique<Forward>(options_.config, weights_, kv_, workspace_, options_.compute)),
      top_(uint64_t{kMaxTop} * options_.compute.pool->num_threads()) {
  rows_.reserve(options_.plan.max_num_seqs + options_.plan.max_num_batched_tokens);
  output_idxs_.reserve(rows_.capacity());
}

absl::Status ModelBackend::Execute(const StepBatch& batch, std::span<const SampleTask> samples,
                                   std::span<TokenOutcome> sampled,
                                   std::span<TokenOutcome> scored) {
  if (batch.num_tokens() == 0) return absl::OkStatus();
  rows_.clear();
  for (size_t i = 0; i < samples.size(); ++i) {
    rows_.push_back({&samples[i], nullptr, &sampled[i], samples[i].token_idx});
  }
  for (size_t i = 0; i < batch.scores.size(); ++i) {
    rows_.push_back({nullptr, &batch.scores[i], &scored[i], batch.scores[i].token_idx});
  }
  output_idxs_.clear();
  for (const HeadRow& row : rows_) output_idxs_.push_back(row.token_idx);
  MILI_RETURN_IF_ERROR(forward_->Run(batch, output_idxs_));
  const std::span<const HeadRow> rows(rows_);
  const std::span<const uint32_t> outputs(output_idxs_);
  for (size_t first = 0; first < rows.size(); first += workspace_.tile_rows) {
    const size_t count = std::min<size_t>(workspace_.tile_rows, rows.size() - first);
    MILI_RETURN_IF_ERROR(RunTile(rows.subspan(first, count), outputs.subspan(first, count)));
  }
  return absl::OkStatus();
}

absl::Status ModelBackend::RunTile(std::span<const HeadRow> rows,
                                   std::span<const uint32_t> token_idxs) {
  float* logits = nullptr;
  MILI_RETURN_IF_ERROR(forward_->Logits(token_idxs, &logits));
  kernels::ParallelFor& pool = *options_.compute.pool;
  const uint64_t vocab_size = options_.config.vocab_size;
  const auto decide = [&](int64_t begin, int64_t end, int thread_idx) {
    for (int64_t i = begin; i < end; ++i) {
      float* row_logits = logits + static_cast<uint64_t>(i) * vocab_size;
      absl::Status status = rows[i].sample != nullptr ? SampleOne(rows[i], row_logits, thread_idx)
                                                      : ScoreOne(rows[i], row_logits, thread_idx);
      if (!status.ok()) rows[i].outcome->status = std::move(status);
    }
  };
  if (rows.size() == 1) {
    decide(0, 1, 0);  // no one to wake
  } else {
    kernels::ForPieces(pool, static_cast<int64_t>(rows.size()), 1, decide);
  }
  return absl::OkStatus();
}

absl::Status ModelBackend::SampleOne(const HeadRow& row, float* logits, int thread_idx) {
  const SampleTask& task = *row.sample;
  const SamplingParams& params = *task.params;
  const uint32_t num_top =
      std::min({params.num_logprobs.value_or(0), kMaxTop, options_.config.vocab_size});
  kernels::TokenLogprob* top = top_.data() + uint64_t{kMaxTop} * thread_idx;
  kernels::SampleParams sample;
  sample.logits = logits;
  sample.vocab_size = options_.config.vocab_size;
  sample.num_valid_tokens = options_.num_valid_tokens;
  sample.temperature = params.temperature;
  sample.top_p = params.top_p;
  sample.top_k = params.top_k;
  sample.min_p = params.min_p;
  sample.seed = params.seed;
  sample.choice_idx = params.choice_idx;
  sample.position = task.position;
  sample.presence_penalty = params.presence_penalty;
  sample.frequency_penalty = params.frequency_penalty;
  sample.repetition_penalty = params.repetition_penalty;
  sample.counts = task.counts.data();
  sample.num_counts = static_cast<int64_t>(task.counts.size());
  sample.biases = task.biases.data();
  sample.num_biases = static_cast<int64_t>(task.biases.size());
  if (task.ban) {
    sample.banned = params.banned_token_ids.data();
    sample.num_banned = static_cast<int64_t>(params.banned_token_ids.size());
  }
  sample.want_logprobs = params.num_logprobs.has_value();
  sample.num_top = num_top;
  sample.top = top;
  sample.workspace = workspace_.sampling + workspace_.sampling_stride_bytes * thread_idx;
  kernels::SampleOutcome outcome;
  MILI_RETURN_IF_ERROR(Sample(options_.compute, sample, &outcome));
  MILI_RETURN_IF_ERROR(FailureOf(outcome));
  row.outcome->token = ToToken(outcome, {top, num_top});
  return absl::OkStatus();
}

absl::Status ModelBackend::ScoreOne(const HeadRow& row, const float* logits, int thread_idx) {
  const uint32_t num_top = std::min({row.score->num_top, kMaxTop, options_.config.vocab_size});
  kernels::TokenLogprob* top = top_.data() + uint64_t{kMaxTop} * thread_idx;
  kernels::SampleOutcome outcome;
  MILI_RETURN_IF_ERROR(Score(options_.compute,
                             {.logits = logits,
                              .vocab_size = options_.config.vocab_size,
                              .token_id = row.score->target,
                              .num_top = num_top,
                              .top = top},
                             &outcome));
  MILI_RETURN_IF_ERROR(FailureOf(outcome));
  row.outcome->token = ToToken(outcome, {top, num_top});
  row.outcome->token.id = row.score->target;
  return absl::OkStatus();
}

}  // namespace mili::worker
