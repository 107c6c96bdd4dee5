#include "worker/engine/cpu_runner.h"

#include <utility>

#include <absl/time/clock.h>

namespace mili::worker {

CpuRunner::CpuRunner(Backend* backend, uint32_t num_slots)
    : backend_(backend), memory_(num_slots), last_end_(absl::Now()) {
  tasks_.reserve(num_slots);
  task_rows_.reserve(num_slots);
}

void CpuRunner::Launch(Step& step, const std::atomic<uint64_t>& live_epoch) {
  done_[step.index].Clear();
  stream_.Enqueue([this, &step, &live_epoch] {
    step.is_computed = live_epoch.load() == step.batch.epoch.value;
    if (step.is_computed) Run(step);
    done_[step.index].Set();
  });
}

absl::Status CpuRunner::Finish(Step& step) {
  done_[step.index].Wait();
  return absl::OkStatus();
}

void CpuRunner::Run(Step& step) {
  step.result = {};
  step.result.epoch = step.batch.epoch;
  step.result.step_id = step.batch.step_id;
  const absl::Time start = absl::Now();
  step.result.idle = start - last_end_;
  Compute(step.batch, &step.result);
  last_end_ = absl::Now();
  step.result.compute = last_end_ - start;
}

void CpuRunner::Compute(StepBatch& batch, StepResult* result) {
  for (SlotReset& reset : batch.resets) memory_.Reset(std::move(reset));
  for (const uint32_t row : batch.fed_rows) {
    batch.token_ids[batch.cu_seqlens[row]] = memory_.last_token(batch.slots[row]);
  }
  tasks_.clear();
  task_rows_.clear();
  std::vector<RowResult>& rows = result->rows;
  rows.resize(batch.num_rows());
  for (uint32_t row = 0; row < batch.num_rows(); ++row) rows[row].slot = batch.slots[row];
  for (const SampleRow& sample : batch.samples) {
    const SlotId slot = batch.slots[sample.row_idx];
    if (!memory_.failure(slot).ok()) continue;
    tasks_.push_back(memory_.TaskOf(sample, slot));
    task_rows_.push_back(sample);
  }
  sampled_.assign(tasks_.size(), {});
  scored_.assign(batch.scores.size(), {});
  const absl::Status step_status = backend_->Execute(batch, tasks_, sampled_, scored_);

  for (size_t i = 0; i < scored_.size(); ++i) {
    RowResult& row = rows[batch.scores[i].row_idx];
    if (!step_status.ok()) scored_[i].status = step_status;
    if (scored_[i].status.ok()) {
      row.prompt_logprobs.push_back(std::move(scored_[i].token));
    } else if (row.status.ok()) {
      row.status = scored_[i].status;
      memory_.Record(row.slot, scored_[i]);
    }
  }
  for (size_t i = 0; i < sampled_.size(); ++i) {
    RowResult& row = rows[task_rows_[i].row_idx];
    if (!step_status.ok()) sampled_[i].status = step_status;
    memory_.Record(row.slot, sampled_[i]);
    if (sampled_[i].status.ok()) row.tokens.push_back(std::move(sampled_[i].token));
  }
  for (RowResult& row : rows) {
    if (!step_status.ok()) memory_.Record(row.slot, {step_status, {}});
    row.status = memory_.failure(row.slot);
    if (row.status.ok()) continue;
    row.tokens.clear();
    row.prompt_logprobs.clear();
  }
  std::erase_if(rows, [](const RowResult& row) {
    return row.tokens.empty() && row.prompt_logprobs.empty() && row.status.ok();
  });
}

}  // namespace mili::worker
