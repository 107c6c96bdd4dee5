#include "worker/engine/cuda/slot_sampling.h"

#include <algorithm>
#include <cstring>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/core/gpu_memory_plan.h"

namespace mili::worker {
namespace {

namespace k = gpu::k;

// Of what new sequences of a step bring beside their parameters. More goes through memory that is
// not pinned, which makes the launching thread wait.
constexpr uint64_t kPinnedBytes = 512ull << 10;

constexpr uint32_t kMaxCount = 65534;

absl::Status CheckRoom(const char* what, uint64_t count, uint32_t room) {
  if (count <= room) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(count, " ", what, "; the GPU takes at most ", room));
}

}  // namespace

absl::StatusOr<SlotSampler> SlotSampler::Create(CudaModel* model) {
  SlotSampler sampler(model);
  for (PinnedMemory& memory : sampler.pinned_) {
    MILI_ASSIGN_OR_RETURN(memory, PinnedMemory::Allocate(kPinnedBytes, "sampling parameters"));
  }
  return sampler;
}

absl::StatusOr<SlotRecord> SlotSampler::Reset(const SlotReset& reset, uint32_t step_idx) {
  const SamplingParams& params = reset.sampling;
  const CudaWorkspace& ws = model_->workspace();
  MILI_RETURN_IF_ERROR(CheckRoom("logit biases", params.logit_bias.size(), kMaxSlotBiases));
  MILI_RETURN_IF_ERROR(CheckRoom("banned tokens", params.banned_token_ids.size(), kMaxSlotBanned));
  SlotRecord record;
  record.slot = reset.slot;
  k::SlotSampling& slot = record.sampling;
  slot.temperature = params.temperature;
  slot.top_p = params.top_p;
  slot.min_p = params.min_p;
  slot.top_k = static_cast<int32_t>(std::min<uint32_t>(params.top_k, INT32_MAX));
  slot.seed = params.seed;
  slot.choice_idx = params.choice_idx;
  slot.presence_penalty = params.presence_penalty;
  slot.frequency_penalty = params.frequency_penalty;
  slot.repetition_penalty = params.repetition_penalty;
  slot.num_top = params.num_logprobs ? static_cast<int32_t>(*params.num_logprobs) : -1;
  if (!params.logit_bias.empty()) {
    biases_.clear();
    for (const LogitBias& bias : params.logit_bias) {
      biases_.push_back({static_cast<int32_t>(bias.token_id), bias.bias});
    }
    k::SlotBias* const to = ws.biases + uint64_t{reset.slot.value} * kMaxSlotBiases;
    MILI_RETURN_IF_ERROR(Copy(to, biases_.data(), biases_.size() * sizeof(biases_[0]), step_idx));
    slot.num_biases = static_cast<int32_t>(biases_.size());
    slot.biases = to;
  }
  if (params.min_tokens > 0 && !params.banned_token_ids.empty()) {
    ids_.assign(params.banned_token_ids.begin(), params.banned_token_ids.end());
    int32_t* const to = ws.banned + uint64_t{reset.slot.value} * kMaxSlotBanned;
    MILI_RETURN_IF_ERROR(Copy(to, ids_.data(), ids_.size() * sizeof(ids_[0]), step_idx));
    slot.num_banned = static_cast<int32_t>(ids_.size());
    slot.banned = to;
    slot.ban_until = static_cast<int32_t>(
        std::min<uint64_t>(uint64_t{reset.num_prompt_tokens} + params.min_tokens, INT32_MAX));
  }
  if (!reset.counts.empty()) {
    slot.counts = ws.counts + reset.slot.value * ws.counts_stride;
    MILI_RETURN_IF_ERROR(FillCounts(reset, slot.counts, step_idx));
  }
  return record;
}

absl::Status SlotSampler::FillCounts(const SlotReset& reset, uint16_t* counts, uint32_t step_idx) {
  const CudaWorkspace& ws = model_->workspace();
  ids_.clear();
  values_.clear();
  for (const kernels::TokenCount& count : reset.counts) {
    ids_.push_back(static_cast<int32_t>(count.token_id));
    values_.push_back(static_cast<uint16_t>(1 + std::min(count.num_in_output, kMaxCount)));
  }
  MILI_RETURN_IF_ERROR(Copy(ws.count_ids, ids_.data(), ids_.size() * sizeof(ids_[0]), step_idx));
  MILI_RETURN_IF_ERROR(
      Copy(ws.count_values, values_.data(), values_.size() * sizeof(values_[0]), step_idx));
  return gpu::FillCounts({.counts = counts,
                          .vocab_size = static_cast<int32_t>(model_->config().vocab_size),
                          .token_ids = ws.count_ids,
                          .values = ws.count_values,
                          .num_entries = static_cast<int32_t>(ids_.size())},
                         model_->stream());
}

absl::Status SlotSampler::Copy(void* to, const void* from, uint64_t size_bytes, uint32_t step_idx) {
  uint64_t& used = used_bytes_[step_idx];
  if (used + size_bytes <= kPinnedBytes) {
    std::byte* const place = pinned_[step_idx].data() + used;
    used += (size_bytes + 15) / 16 * 16;
    std::memcpy(place, from, size_bytes);
    from = place;
  }
  return model_->stream().CopyToDevice(to, from, size_bytes);
}

}  // namespace mili::worker
