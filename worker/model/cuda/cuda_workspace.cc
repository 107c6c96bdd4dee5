#include "worker/model/cuda/cuda_workspace.h"

#include <algorithm>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "worker/device/memory.h"

namespace mili::worker {
namespace {

namespace k = gpu::k;

// Lays the parts out behind `carver`; with a dry one only counts.
void Lay(const ModelConfig& config, const MemoryPlan& plan, Carver carver, CudaWorkspace* ws,
         uint64_t* used_bytes) {
  const uint64_t tokens = plan.max_num_batched_tokens;
  const uint64_t seqs = plan.max_num_seqs;
  const uint64_t padded_seqs = seqs + kMaxGraphPrompts;
  const uint64_t mlp = config.intermediate_size;
  const uint64_t pages = ws->page_table_stride;
  const auto halves = [](Carver& from, uint64_t count) { return from.Take<uint16_t>(count); };
  ws->residual = halves(carver, tokens * config.hidden_size);
  ws->normed = halves(carver, tokens * config.hidden_size);
  Carver attention = carver;
  ws->qkv = halves(attention, tokens * (config.q_size() + 2 * config.kv_size()));
  ws->attention = halves(attention, tokens * config.q_size());
  ws->gate_up = halves(carver, tokens * 2 * mlp);
  ws->activation = halves(carver, tokens * mlp);
  if (attention.used_bytes() > carver.used_bytes()) carver = attention;
  ws->fp8_rows = carver.Take<uint8_t>(
      tokens * std::max({uint64_t{config.hidden_size}, uint64_t{config.q_size()}, mlp}));
  ws->fp8_scales = carver.Take<float>(tokens);
  ws->head_normed = halves(carver, seqs * config.hidden_size);
  ws->logits = carver.Take<float>(seqs * config.vocab_size);
  ws->rope_cos = carver.Take<float>(uint64_t{plan.max_model_len} * config.head_dim / 2);
  ws->rope_sin = carver.Take<float>(uint64_t{plan.max_model_len} * config.head_dim / 2);

  for (int32_t** array : {&ws->token_ids, &ws->positions, &ws->slot_map, &ws->feed_slots,
                          &ws->score_rows, &ws->score_targets, &ws->score_num_top}) {
    *array = carver.Take<int32_t>(tokens);
  }
  for (int32_t** array : {&ws->head_rows, &ws->head_slots, &ws->head_positions, &ws->last_tokens}) {
    *array = carver.Take<int32_t>(seqs);
  }
  ws->cu_seqlens = carver.Take<int32_t>(padded_seqs + 1);
  ws->context_lens = carver.Take<int32_t>(padded_seqs);
  ws->page_table = carver.Take<int32_t>(padded_seqs * pages);
  ws->decode_plan = carver.Take<int32_t>(k::DecodePlanInts(ws->num_decode_ctas));
  ws->varlen_plan = carver.Take<int32_t>(k::VarlenPlanInts(ws->max_varlen_tiles));
  ws->slots = carver.Take<k::SlotSampling>(seqs);
  ws->counts = carver.Take<uint16_t>(seqs * ws->counts_stride);
  ws->biases = carver.Take<k::SlotBias>(seqs * kMaxSlotBiases);
  ws->banned = carver.Take<int32_t>(seqs * kMaxSlotBanned);
  ws->count_ids = carver.Take<int32_t>(plan.max_model_len);
  ws->count_values = carver.Take<uint16_t>(plan.max_model_len);
  ws->sampled_at = carver.Take<k::SampledRow*>(1);
  ws->scored = carver.Take<k::SampledRow>(tokens);
  ws->top = carver.Take<k::SampledLogprob>(kMaxStepTopLogprobs);
  ws->attention_workspace = carver.Take<std::byte>(
      k::DecodeWorkspaceBytes(AttentionShapeOf(config, plan.kv.dtype), ws->num_decode_ctas));
  ws->varlen_workspace = carver.Take<std::byte>(
      k::VarlenWorkspaceBytes(AttentionShapeOf(config, plan.kv.dtype), ws->num_sms));
  ws->decode_layers_workspace = carver.Take<std::byte>(k::DecodeLayersWorkspaceBytes());
  ws->sample_workspace = carver.Take<std::byte>(
      k::SampleWorkspaceBytes(static_cast<int32_t>(seqs), static_cast<int32_t>(config.vocab_size)));
  ws->head_best =
      carver.Take<uint64_t>(std::min<uint64_t>(seqs, k::kMaxHeadRows) *
                            k::HeadParts(ws->num_sms, static_cast<int32_t>(config.vocab_size)));
  for (std::byte*& staging : ws->staging) staging = carver.Take<std::byte>(ws->staging_bytes);
  *used_bytes = carver.used_bytes();
}

}  // namespace

k::AttentionShape AttentionShapeOf(const ModelConfig& config, DType dtype) {
  return {.dtype = dtype,
          .head_dim = static_cast<int32_t>(config.head_dim),
          .num_heads = static_cast<int32_t>(config.num_heads),
          .num_kv_heads = static_cast<int32_t>(config.num_kv_heads)};
}

uint64_t StagingWords(const MemoryPlan& plan, const CudaWorkspace& ws) {
  const uint64_t tokens = plan.max_num_batched_tokens;
  const uint64_t seqs = plan.max_num_seqs + kMaxGraphPrompts;
  const uint64_t pages = seqs * ws.page_table_stride;
  const uint64_t records = seqs * (1 + sizeof(k::SlotSampling) / 4);
  const uint64_t plans =
      k::DecodePlanInts(ws.num_decode_ctas) + k::VarlenPlanInts(ws.max_varlen_tiles);
  constexpr uint64_t kAlignment = 16 * 32;  // of up to 32 arrays
  return 7 * tokens + 7 * (seqs + 1) + 2 + pages + records + plans + kAlignment;
}

absl::StatusOr<CudaWorkspace> CudaWorkspace::Allocate(const ModelConfig& config,
                                                      const MemoryPlan& plan, int num_sms) {
  CudaWorkspace ws;
  ws.counts_stride = (int64_t{config.vocab_size} + 7) / 8 * 8;
  ws.page_table_stride = static_cast<int32_t>((plan.max_model_len + plan.kv.page_size_tokens - 1) /
                                              plan.kv.page_size_tokens);
  ws.num_sms = num_sms;
  ws.num_decode_ctas = k::DecodeCtas(num_sms);
  ws.max_varlen_tiles = k::VarlenTiles(
      AttentionShapeOf(config, plan.kv.dtype), static_cast<int32_t>(plan.max_num_batched_tokens),
      static_cast<int32_t>(plan.max_num_seqs + kMaxGraphPrompts), num_sms);
  ws.staging_bytes = 4 * StagingWords(plan, ws);
  uint64_t needed_bytes = 0;
  Lay(config, plan, Carver(), &ws, &needed_bytes);
  if (needed_bytes + kGpuLinearWorkspaceBytes > plan.workspace_bytes) {
    return absl::InternalError(absl::StrCat(
        "the GPU's kernels need a workspace of ", needed_bytes + kGpuLinearWorkspaceBytes,
        " bytes; the plan sets ", plan.workspace_bytes, " aside"));
  }
  MILI_ASSIGN_OR_RETURN(ws.memory, CudaMemory::Allocate(needed_bytes, "the workspace"));
  Lay(config, plan, Carver(ws.memory.data()), &ws, &needed_bytes);
  return ws;
}

}  // namespace mili::worker
