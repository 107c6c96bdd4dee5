#include "worker/engine/cuda/cuda_runner.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/core/gpu_memory_plan.h"

namespace mili::worker {
namespace {

namespace k = gpu::k;

// Steps that are captured before the worker is ready: 1, 2, 4, 8 decodes, a short prompt.
constexpr size_t kNumSmallSizes = 5;

// What a row whose logits decide nothing ends with.
absl::Status FailureOf(const k::SampledRow& row) {
  if (row.flags & k::kSampledNan) {
    return absl::InternalError("the model's logits are not a number (NaN)");
  }
  if (row.flags & k::kSampledMasked) {
    return absl::InvalidArgumentError("every token is banned: none is left to sample");
  }
  return absl::OkStatus();
}

SampledToken ToToken(const k::SampledRow& row, int32_t id, const k::SampledLogprob* top,
                     int32_t num_top) {
  SampledToken token{static_cast<TokenId>(id), row.logprob, static_cast<uint32_t>(row.rank), {}};
  for (int32_t i = 0; i < num_top; ++i) {
    token.top.push_back({static_cast<TokenId>(top[i].token_id), top[i].logprob});
  }
  return token;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaRunner>> CudaRunner::Create(std::unique_ptr<CudaModel> model) {
  MILI_ASSIGN_OR_RETURN(SlotSampler sampler, SlotSampler::Create(model.get()));
  auto runner = std::unique_ptr<CudaRunner>(new CudaRunner(std::move(model), std::move(sampler)));
  MILI_RETURN_IF_ERROR(runner->Allocate());
  MILI_RETURN_IF_ERROR(runner->RunSmallSizes());
  return runner;
}

CudaRunner::CudaRunner(std::unique_ptr<CudaModel> model, SlotSampler sampler)
    : model_(std::move(model)),
      packer_(model_->config(), model_->plan(), model_->workspace()),
      paddings_(AllPaddings(model_->plan())),
      sampler_(std::move(sampler)),
      slot_top_(model_->plan().max_num_seqs, -1),
      failures_(model_->plan().max_num_seqs) {}

absl::Status CudaRunner::Allocate() {
  const MemoryPlan& plan = model_->plan();
  MILI_ASSIGN_OR_RETURN(copies_, CudaStream::Create());
  const auto allocate = [](PinnedMemory& memory, uint64_t size_bytes) -> absl::Status {
    MILI_ASSIGN_OR_RETURN(memory, PinnedMemory::Allocate(size_bytes, "the steps in flight"));
    return absl::OkStatus();
  };
  for (Place& place : places_) {
    MILI_RETURN_IF_ERROR(allocate(place.staging, model_->workspace().staging_bytes));
    MILI_RETURN_IF_ERROR(allocate(place.sampled, plan.max_num_seqs * sizeof(k::SampledRow)));
    MILI_RETURN_IF_ERROR(
        allocate(place.scored, plan.max_num_batched_tokens * sizeof(k::SampledRow)));
    MILI_RETURN_IF_ERROR(allocate(place.top, kMaxStepTopLogprobs * sizeof(k::SampledLogprob)));
    MILI_ASSIGN_OR_RETURN(place.is_copied, CudaEvent::Create(/*timed=*/false));
    MILI_ASSIGN_OR_RETURN(place.start, CudaEvent::Create(/*timed=*/true));
  }
  for (CudaEvent& end : ends_) {
    MILI_ASSIGN_OR_RETURN(end, CudaEvent::Create(/*timed=*/true));
  }
  return absl::OkStatus();
}

absl::Status CudaRunner::RunSmallSizes() {
  CudaStream& stream = model_->stream();
  std::byte* const device = model_->workspace().staging[0];
  StepBatch nothing;
  nothing.Clear();
  for (size_t i = 0; i < std::min(kNumSmallSizes, paddings_.size()); ++i) {
    Place& place = places_[0];
    // All rows are padding. Twice: run, so that the kernels are loaded, then captured.
    const PackedStep packed =
        packer_.Pack(nothing, {}, paddings_[i], place.staging.data(), device, SampledOf(place));
    MILI_RETURN_IF_ERROR(stream.CopyToDevice(device, place.staging.data(), packed.size_bytes));
    MILI_RETURN_IF_ERROR(gpu::LayOutStep(packed.layout, stream));
    for (int use = 0; use < 2; ++use) MILI_RETURN_IF_ERROR(Compute(packed, place));
    MILI_RETURN_IF_ERROR(stream.Synchronize());
  }
  return absl::OkStatus();
}

bool CudaRunner::PrepareAhead() {
  while (next_padding_ < paddings_.size()) {
    CudaStepShape shape = packer_.ShapeOf(paddings_[next_padding_++]);
    shape.max_top = kGraphTopLogprobs;
    Captured& captured = captured_[shape];
    if (captured.graph || captured.is_refused) continue;
    Capture(shape, captured);
    break;
  }
  return next_padding_ < paddings_.size();
}

void CudaRunner::Launch(Step& step, const std::atomic<uint64_t>&) {
  step.is_computed = true;
  places_[step.index].launched = LaunchStep(step.batch, step.index);
  ++num_launched_;
}

absl::Status CudaRunner::LaunchStep(const StepBatch& batch, uint32_t index) {
  Place& place = places_[index];
  CudaStream& stream = model_->stream();
  place.failures.clear();
  sampler_.Begin(index);
  MILI_RETURN_IF_ERROR(ResetSlots(batch, index));
  PlanTop(batch, place);
  std::byte* const staging = model_->workspace().staging[index];
  const bool pads = place.sample_top <= static_cast<int32_t>(kGraphTopLogprobs);
  const StepPadding padding = pads ? PaddingOf(batch, model_->plan()) : StepPadding();
  const PackedStep packed =
      packer_.Pack(batch, records_, padding, place.staging.data(), staging, SampledOf(place));
  MILI_RETURN_IF_ERROR(copies_.CopyToDevice(staging, place.staging.data(), packed.size_bytes));
  MILI_RETURN_IF_ERROR(copies_.Record(place.is_copied));
  MILI_RETURN_IF_ERROR(stream.WaitFor(place.is_copied));
  MILI_RETURN_IF_ERROR(stream.Record(place.start));
  MILI_RETURN_IF_ERROR(gpu::LayOutStep(packed.layout, stream));
  if (batch.num_tokens() > 0) {
    MILI_RETURN_IF_ERROR(Compute(packed, place));
    MILI_RETURN_IF_ERROR(CopyResults(packed, place));
  }
  return stream.Record(ends_[num_launched_ % ends_.size()]);
}

absl::Status CudaRunner::ResetSlots(const StepBatch& batch, uint32_t index) {
  records_.clear();
  for (const SlotReset& reset : batch.resets) {
    absl::StatusOr<SlotRecord> record = sampler_.Reset(reset, index);
    if (absl::IsInvalidArgument(record.status())) {
      places_[index].failures.emplace_back(reset.slot, record.status());
      continue;
    }
    MILI_RETURN_IF_ERROR(record.status());
    slot_top_[reset.slot.value] = record->sampling.num_top;
    records_.push_back(*std::move(record));
  }
  return absl::OkStatus();
}

void CudaRunner::PlanTop(const StepBatch& batch, Place& place) {
  place.num_top.clear();
  place.sample_top = place.score_top = 0;
  for (const SampleRow& sample : batch.samples) {
    const int32_t num_top = slot_top_[batch.slots[sample.row_idx].value];
    place.num_top.push_back(num_top);
    place.sample_top = std::max(place.sample_top, num_top);
  }
  place.wants_top = place.sample_top > 0;
  for (const ScoreRow& score : batch.scores) {
    place.score_top = std::max(place.score_top, static_cast<int32_t>(score.num_top));
  }
  const uint64_t for_samples = batch.samples.size() * uint64_t(place.sample_top);
  if (for_samples + batch.scores.size() * uint64_t(place.score_top) <= kMaxStepTopLogprobs) return;
  place.score_top = 0;
  for (const ScoreRow& score : batch.scores) {
    place.failures.emplace_back(
        batch.slots[score.row_idx],
        absl::ResourceExhaustedError(absl::StrCat(
            "too many prompt_logprobs in one step; together they may be ", kMaxStepTopLogprobs)));
  }
}

absl::Status CudaRunner::Compute(const PackedStep& packed, Place& place) {
  CudaStream& stream = model_->stream();
  CudaStepShape shape = packed.shape;
  if (packed.is_padded) {
    place.sample_top = shape.max_top = kGraphTopLogprobs;
    const CudaGraph* const graph = GraphOf(shape);
    return graph != nullptr ? stream.Launch(*graph) : model_->RunStep(shape);
  }
  shape.max_top = place.sample_top;
  MILI_RETURN_IF_ERROR(model_->RunStep(shape));
  const auto max_rows = static_cast<int32_t>(model_->plan().max_num_seqs);
  k::SampledLogprob* top = model_->workspace().top + int64_t{packed.num_samples} * place.sample_top;
  for (int32_t first = 0; first < packed.num_scores; first += max_rows) {
    const int32_t count = std::min(max_rows, packed.num_scores - first);
    MILI_RETURN_IF_ERROR(
        model_->Score(first, count, top + int64_t{first} * place.score_top, place.score_top));
  }
  return absl::OkStatus();
}

absl::Status CudaRunner::CopyResults(const PackedStep& packed, Place& place) {
  CudaStream& stream = model_->stream();
  const CudaWorkspace& ws = model_->workspace();
  const auto copy = [&](PinnedMemory& to, const auto* from, uint64_t count) {
    if (count == 0) return absl::OkStatus();
    return stream.CopyToHost(to.data(), from, count * sizeof(*from));
  };
  const uint64_t for_samples = uint64_t(packed.num_samples) * place.sample_top;
  const uint64_t for_scores = uint64_t(packed.num_scores) * place.score_top;
  MILI_RETURN_IF_ERROR(copy(place.scored, ws.scored, packed.num_scores));
  if (!place.wants_top && for_scores == 0) return absl::OkStatus();
  return copy(place.top, ws.top, for_samples + for_scores);
}

const CudaGraph* CudaRunner::GraphOf(const CudaStepShape& shape) {
  Captured& captured = captured_[shape];
  if (!captured.graph && captured.was_run && !captured.is_refused) Capture(shape, captured);
  captured.was_run = true;
  return captured.graph ? &captured.graph : nullptr;
}

void CudaRunner::Capture(const CudaStepShape& shape, Captured& captured) {
  CudaStream& stream = model_->stream();
  captured.is_refused = true;
  if (!stream.BeginCapture().ok()) return;
  const absl::Status status = model_->RunStep(shape);
  absl::StatusOr<CudaGraph> graph = stream.EndCapture();
  if (!status.ok() || !graph.ok() || !stream.Upload(*graph).ok()) return;
  captured.graph = *std::move(graph);
  captured.is_refused = false;
}

size_t CudaRunner::num_graphs() const {
  return static_cast<size_t>(
      std::count_if(captured_.begin(), captured_.end(),
                    [](const auto& entry) { return static_cast<bool>(entry.second.graph); }));
}

absl::Status CudaRunner::Finish(Step& step) {
  Place& place = places_[step.index];
  MILI_RETURN_IF_ERROR(place.launched);
  MILI_RETURN_IF_ERROR(ends_[num_finished_ % ends_.size()].Wait());
  step.result = {};
  step.result.epoch = step.batch.epoch;
  step.result.step_id = step.batch.step_id;
  MILI_RETURN_IF_ERROR(FillTimes(step));
  FillResult(step, place);
  return absl::OkStatus();
}

absl::Status CudaRunner::FillTimes(Step& step) {
  const CudaEvent& start = places_[step.index].start;
  MILI_ASSIGN_OR_RETURN(const float compute_ms,
                        ends_[num_finished_ % ends_.size()].ElapsedMs(start));
  step.result.compute = absl::Milliseconds(compute_ms);
  if (num_finished_ > 0) {
    const CudaEvent& end_before = ends_[(num_finished_ - 1) % ends_.size()];
    MILI_ASSIGN_OR_RETURN(const float idle_ms, start.ElapsedMs(end_before));
    step.result.idle = absl::Milliseconds(idle_ms);
  }
  ++num_finished_;
  return absl::OkStatus();
}

void CudaRunner::FillResult(Step& step, const Place& place) {
  const StepBatch& batch = step.batch;
  for (const SlotReset& reset : batch.resets) failures_[reset.slot.value] = absl::OkStatus();
  for (const auto& [slot, status] : place.failures) failures_[slot.value] = status;
  std::vector<RowResult>& rows = step.result.rows;
  rows.resize(batch.num_rows());
  for (uint32_t row = 0; row < batch.num_rows(); ++row) rows[row].slot = batch.slots[row];
  const auto fail = [&](SlotId slot, const absl::Status& status) {
    if (!status.ok() && failures_[slot.value].ok()) failures_[slot.value] = status;
  };
  const auto* top = reinterpret_cast<const k::SampledLogprob*>(place.top.data());
  for (size_t i = 0; i < batch.samples.size(); ++i, top += place.sample_top) {
    const k::SampledRow& row = SampledOf(place)[i];
    RowResult& result = rows[batch.samples[i].row_idx];
    fail(result.slot, FailureOf(row));
    result.tokens.push_back(ToToken(row, row.token_id, top, place.num_top[i]));
  }
  for (size_t i = 0; i < batch.scores.size(); ++i, top += place.score_top) {
    const auto& row = reinterpret_cast<const k::SampledRow*>(place.scored.data())[i];
    const ScoreRow& score = batch.scores[i];
    RowResult& result = rows[score.row_idx];
    fail(result.slot, FailureOf(row));
    const int32_t num_top = std::min(static_cast<int32_t>(score.num_top), place.score_top);
    result.prompt_logprobs.push_back(
        ToToken(row, static_cast<int32_t>(score.target), top, num_top));
  }
  for (RowResult& row : rows) {
    row.status = failures_[row.slot.value];
    if (row.status.ok()) continue;
    row.tokens.clear();
    row.prompt_logprobs.clear();
  }
  std::erase_if(rows, [](const RowResult& row) {
    return row.tokens.empty() && row.prompt_logprobs.empty() && row.status.ok();
  });
}

}  // namespace mili::worker
