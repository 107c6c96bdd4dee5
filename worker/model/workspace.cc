#include "worker/model/workspace.h"

#include <algorithm>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"

namespace mili::worker {
namespace {

// Lays the parts out behind `carver`; with a dry one only counts.
void Lay(const ModelConfig& config, const MemoryPlan& plan, const Compute& compute, Carver carver,
         Workspace* workspace, uint64_t* used_bytes) {
  const uint64_t tokens = plan.max_num_batched_tokens;
  const uint64_t hidden = config.hidden_size;
  const uint64_t mlp = config.intermediate_size;
  workspace->tile_rows = std::min(kHeadTileRows, plan.max_num_batched_tokens);
  workspace->residual = carver.Take<float>(tokens * hidden);
  workspace->normed = carver.Take<float>(tokens * hidden);
  workspace->delta = carver.Take<float>(tokens * hidden);

  Carver attention = carver;
  workspace->q = attention.Take<float>(tokens * config.q_size());
  workspace->k = attention.Take<float>(tokens * config.kv_size());
  workspace->v = attention.Take<float>(tokens * config.kv_size());
  workspace->attention = attention.Take<float>(tokens * config.q_size());
  workspace->gate = carver.Take<float>(tokens * mlp);
  workspace->up = carver.Take<float>(tokens * mlp);
  if (attention.used_bytes() > carver.used_bytes()) carver = attention;

  workspace->rope_cos = carver.Take<float>(tokens * config.head_dim / 2);
  workspace->rope_sin = carver.Take<float>(tokens * config.head_dim / 2);
  workspace->row_numbers = carver.Take<uint32_t>(tokens);
  const uint64_t widest = std::max({config.hidden_size, config.q_size(), config.intermediate_size});
  workspace->linear = carver.Take<std::byte>(compute.kernels->linear_workspace_bytes(
      static_cast<int64_t>(tokens), static_cast<int64_t>(widest)));
  const uint64_t rows = workspace->tile_rows;
  workspace->tile_residual = carver.Take<float>(rows * hidden);
  workspace->tile_delta = carver.Take<float>(rows * hidden);
  workspace->tile_normed = carver.Take<float>(rows * hidden);
  workspace->logits = carver.Take<float>(rows * config.vocab_size);
  workspace->sampling_stride_bytes =
      (compute.kernels->sample_workspace_bytes(config.vocab_size) + 63) / 64 * 64;
  workspace->sampling =
      carver.Take<std::byte>(workspace->sampling_stride_bytes * compute.pool->num_threads());
  *used_bytes = carver.used_bytes();
}

}  // namespace

absl::StatusOr<Workspace> Workspace::Allocate(const ModelConfig& config, const MemoryPlan& plan,
                                              const Compute& compute) {
  Workspace workspace;
  uint64_t needed_bytes = 0;
  Lay(config, plan, compute, Carver(), &workspace, &needed_bytes);
  if (needed_bytes > plan.workspace_bytes) {
    return absl::InternalError(
        absl::StrCat("the ", compute.kernels->name, " kernels need a workspace of ", needed_bytes,
                     " bytes; the plan sets ", plan.workspace_bytes, " aside"));
  }
  MILI_ASSIGN_OR_RETURN(workspace.memory,
                        DeviceMemory::Allocate(needed_bytes, DeviceMemory::Pages::kSmall,
                                               "the workspace (--max-num-batched-tokens)"));
  Lay(config, plan, compute, Carver(workspace.memory.data()), &workspace, &needed_bytes);
  for (uint32_t i = 0; i < plan.max_num_batched_tokens; ++i) workspace.row_numbers[i] = i;
  return workspace;
}

}  // namespace mili::worker
