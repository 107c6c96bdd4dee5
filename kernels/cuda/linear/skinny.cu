#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/linear/skinny.h"
#include "kernels/cuda/linear/skinny_args.h"

namespace mili::kernels::cuda {
namespace {

constexpr int kMinStages = 2;
constexpr int kGoodStages = 3;  // enough to keep the memory busy
constexpr int kMaxStages = 12;
// Of the shared memory: with that much, most other kernels' blocks still fit beside a block. As
// measured on chains of Qwen3-0.6B's products: more costs more than it brings.
constexpr int kRoomyPercent = 53;

struct Plan {
  SkinnyArgs args;
  int token_groups = 0;
  bool fits = false;
};

int DivideUp(int a, int b) { return (a + b - 1) / b; }

// Whether everything fits with tiles of `tile_rows`, x kept or not; fills in the layout if so. A
// block with little to do asks for all its weights at once, or leaves room for a block of the next
// kernel, which fetches weights meanwhile; with much to do a deeper ring is worth more.
bool Lay(const SkinnyDevice& device, bool is_fp8, int token_groups, int tile_rows, bool keeps_x,
         SkinnyArgs* args) {
  const int token_pitch = is_fp8 ? kSkinnyTokenPitchFp8 : kSkinnyTokenPitch;
  SkinnyLayout l = {};
  l.keeps_x = keeps_x;
  args->tile_rows = tile_rows;
  args->num_tiles = DivideUp(args->n, tile_rows);
  const int64_t x_bytes = int64_t{args->num_rows} * token_pitch;
  const int64_t kept = keeps_x ? args->num_chunks * x_bytes : 0;
  l.stage_bytes = static_cast<uint32_t>(tile_rows * kSkinnyWeightPitch + (keeps_x ? 0 : x_bytes));
  l.partial_bytes = static_cast<uint32_t>(kSkinnyMmaWarps * token_groups * 8 *
                                          (tile_rows + kSkinnyPartialPadding) * sizeof(float));
  const int64_t barriers = (8 * 2 * kMaxStages + 127) / 128 * 128;
  const int64_t norm = args->norm_weight != nullptr ? (int64_t{args->k} * 2 + 127) / 128 * 128 : 0;
  const int64_t fixed = barriers + 2 * int64_t{l.partial_bytes} + norm + kept;
  const auto stages_in = [&](int64_t bytes) { return (bytes - fixed) / l.stage_bytes; };
  const int grid = std::min(args->num_tiles, device.num_sms);
  const int64_t items = int64_t{DivideUp(args->num_tiles, grid)} * args->num_chunks;  // of a block
  int64_t stages = stages_in(device.paired_shared_bytes);
  if (stages_in(device.shared_bytes * kRoomyPercent / 100) >= items) {
    stages = items;
  } else if (stages < kGoodStages || items > 2 * stages) {
    stages = stages_in(device.shared_bytes);
  }
  if (stages < std::min<int64_t>(kMinStages, items)) return false;
  l.num_stages = static_cast<int>(std::min<int64_t>({stages, kMaxStages, items}));
  l.partials = static_cast<uint32_t>(barriers);
  l.norm = l.partials + 2 * l.partial_bytes;
  l.x = static_cast<uint32_t>(l.norm + norm);
  l.stages = static_cast<uint32_t>(l.x + kept);
  l.total_bytes = l.stages + l.num_stages * l.stage_bytes;
  args->layout = l;
  return true;
}

// Rows of a tile where x is kept: as many as give nearly every multiprocessor one tile, so that
// none begins a second one; else 16, or 8 where those would leave multiprocessors without one.
int TileRows(const LinearParams& p, const SkinnyDevice& device) {
  for (const int rows : {32, 16}) {
    const int tiles = DivideUp(p.n, rows);
    if (tiles <= device.num_sms && tiles * 10 >= device.num_sms * 9) return rows;
  }
  return !p.silu_mul && DivideUp(p.n, 16) < device.num_sms ? 8 : 16;
}

// x is kept in shared memory where it fits. Else tiles of 32, so that it comes half as often.
Plan MakePlan(const LinearParams& p, const SkinnyDevice& device) {
  Plan plan;
  const bool is_fp8 = p.w_scales != nullptr;
  SkinnyArgs& a = plan.args;
  a = {};
  a.x = p.x;
  a.w = p.w;
  a.bias = p.bias;
  a.add = p.add;
  a.y = p.y;
  a.w_scales = p.w_scales;
  a.norm_weight = p.norm_weight;
  a.norm_eps = p.norm_eps;
  a.x_stride = p.x_stride;
  a.add_stride = p.add_stride;
  a.y_stride = p.y_stride;
  a.num_rows = p.num_rows;
  a.n = p.n;
  a.k = p.k;
  a.is_y_f32 = p.is_y_f32;
  a.silu_mul = p.silu_mul;
  a.num_chunks = DivideUp(p.k, is_fp8 ? kSkinnyChunkBytes : kSkinnyChunkBytes / 2);
  plan.token_groups = p.num_rows <= 8 ? 1 : 2;
  const int rows = TileRows(p, device);
  plan.fits = Lay(device, is_fp8, plan.token_groups, rows, true, &a) ||
              (rows > 16 && Lay(device, is_fp8, plan.token_groups, 16, true, &a)) ||
              (p.norm_weight == nullptr && Lay(device, is_fp8, plan.token_groups, 32, false, &a));
  return plan;
}

SkinnyKernel KernelFor(DType dtype, bool is_fp8, int token_groups, int row_groups) {
  if (dtype == DType::kBF16) {
    return is_fp8 ? SkinnyBf16Fp8(token_groups, row_groups) : SkinnyBf16(token_groups, row_groups);
  }
  return is_fp8 ? SkinnyF16Fp8(token_groups, row_groups) : SkinnyF16(token_groups, row_groups);
}

}  // namespace

bool SkinnyTakes(const LinearParams& p, const SkinnyDevice& device) {
  if (p.dtype != DType::kBF16 && p.dtype != DType::kF16) return false;
  if (p.num_rows < 1 || p.num_rows > kMaxSkinnyRows || p.n < 1 || p.k < 64) return false;
  if (p.k % 64 != 0 || p.x_stride % 8 != 0 || p.x_scales != nullptr) return false;
  if (p.silu_mul && (p.n % 16 != 0 || p.bias != nullptr || p.add != nullptr || p.is_y_f32)) {
    return false;
  }
  return MakePlan(p, device).fits;
}

cudaError_t GetSkinnyDevice(int device, SkinnyDevice* limits) {
  int of_sm = 0;
  int reserved = 0;
  for (const auto& [attribute, value] :
       {std::pair{cudaDevAttrMultiProcessorCount, &limits->num_sms},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, &limits->shared_bytes},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, &of_sm},
        {cudaDevAttrReservedSharedMemoryPerBlock, &reserved}}) {
    const cudaError_t error = cudaDeviceGetAttribute(value, attribute, device);
    if (error != cudaSuccess) return error;
  }
  limits->paired_shared_bytes = std::min(limits->shared_bytes, of_sm / 2 - reserved);
  return cudaSuccess;
}

cudaError_t PrepareSkinny(const SkinnyDevice& device) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (int i = 0; i < 8; ++i) {
      const SkinnyKernel kernel = KernelFor(dtype, i & 4, 1 + (i & 1), 1 + (i >> 1 & 1));
      const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, device.shared_bytes);
      if (error != cudaSuccess) return error;
    }
  }
  return cudaSuccess;
}

cudaError_t SkinnyLinear(const LinearParams& params, const SkinnyDevice& device,
                         cudaStream_t stream) {
  if (!SkinnyTakes(params, device)) return cudaErrorInvalidValue;
  const Plan plan = MakePlan(params, device);
  const SkinnyKernel kernel = KernelFor(params.dtype, params.w_scales != nullptr, plan.token_groups,
                                        plan.args.tile_rows > 16 ? 2 : 1);
  const int grid = std::min(plan.args.num_tiles, device.num_sms);
  return Launch(kernel, dim3(grid), dim3(kSkinnyThreads), plan.args.layout.total_bytes, params.pdl,
                stream, plan.args);
}

}  // namespace mili::kernels::cuda
