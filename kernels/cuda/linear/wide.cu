#include <algorithm>
#include <cstdint>

#include "kernels/cuda/linear/tensor_map.h"
#include "kernels/cuda/linear/wide.h"
#include "kernels/cuda/linear/wide_args.h"

namespace mili::kernels::cuda {
namespace {

constexpr int kTokenTiles[] = {16, 32, 64, 128, 256};
constexpr int kMaxCluster = 8;  // what every device lets a cluster have
constexpr uint32_t kGoodStages = 3;
constexpr int kMaxTokensOfThree = 128;  // groups

int DivideUp(int a, int b) { return (a + b - 1) / b; }

int TokensOf(int32_t num_rows) {
  for (const int tokens : kTokenTiles) {
    if (num_rows <= tokens) return tokens;
  }
  return 256;
}

int ChunksOf(const LinearParams& p) {
  return DivideUp(p.k, p.w_scales != nullptr ? kWideChunkBytes : kWideChunkBytes / 2);
}

WideKernel KernelFor(const LinearParams& p, int tokens, int groups) {
  const bool is_fp8 = p.w_scales != nullptr;
  if (p.dtype == DType::kBF16) {
    return is_fp8 ? WideBf16Fp8(tokens, groups) : WideBf16(tokens, groups);
  }
  return is_fp8 ? WideF16Fp8(tokens, groups) : WideF16(tokens, groups);
}

// A matrix of `rows` rows of `k` elements, in boxes of `box_rows` rows by one chunk.
cudaError_t Encode(const LinearParams& p, const void* data, int64_t rows, int64_t stride,
                   int box_rows, CUtensorMap* map) {
  const bool is_fp8 = p.w_scales != nullptr;
  BoxedMatrix matrix;
  matrix.type = is_fp8                   ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                : p.dtype == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                         : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  matrix.element_bytes = is_fp8 ? 1 : 2;
  matrix.data = data;
  matrix.rows = rows;
  matrix.columns = p.k;
  matrix.stride = stride;
  matrix.box_rows = box_rows;
  matrix.box_columns = kWideChunkBytes / matrix.element_bytes;
  matrix.is_swizzled = true;
  return MakeTensorMap(matrix, map);
}

// Stages of the ring, and with *bytes the shared memory of a block. A block that has a
// multiprocessor for itself takes all: what it fetches while the kernels ahead end carries it until
// the tokens are there. Else half, where that is enough.
int StagesFor(const SkinnyDevice& device, int tokens, int groups, int chunks, bool is_alone,
              uint32_t* bytes) {
  const uint32_t rows = groups * kWideGroupRows;
  const uint32_t stage = (rows + tokens) * kWideChunkBytes;
  const auto fitting = [&](int32_t shared) {
    return (static_cast<uint32_t>(shared) - kWideRingOffset) / stage;
  };
  uint32_t stages = fitting(device.paired_shared_bytes);
  if (is_alone || stages < kGoodStages) stages = fitting(device.shared_bytes);
  stages = std::min<uint32_t>({stages, kWideMaxStages, static_cast<uint32_t>(chunks)});
  const uint32_t sums = tokens * (rows + kWideSumPadding) * sizeof(float);
  *bytes = kWideRingOffset + std::max(stages * stage, sums);
  return static_cast<int>(stages);
}

// Whether the largest tiles give nearly every multiprocessor one block, and none two.
bool SuitsThreeGroups(const LinearParams& p, int splits, const SkinnyDevice& device) {
  const int blocks = DivideUp(p.n, 3 * kWideGroupRows) * splits;
  return p.num_rows <= kMaxTokensOfThree && blocks <= device.num_sms &&
         10 * blocks >= 9 * device.num_sms;
}

// As measured in steps on an H100: the largest tiles where one for each multiprocessor fills it.
// Else small tiles, and where those are few so many splits that nearly every multiprocessor has a
// block; not less than 8 chunks for a block. Where each has several blocks and the tokens are many:
// large tiles, which read those half as often.
WideCut UsualCut(const LinearParams& p, const SkinnyDevice& device) {
  if (SuitsThreeGroups(p, 1, device)) return {3, 1};
  const int tiles = DivideUp(p.n, kWideGroupRows);
  if (p.num_rows > 64 && tiles > 2 * device.num_sms) return {2, 1};
  const int chunks = ChunksOf(p);
  const int wanted = device.num_sms * 90 / 100;
  WideCut cut;
  while (tiles * cut.splits < wanted && cut.splits < kMaxCluster && chunks >= 16 * cut.splits) {
    cut.splits *= 2;
  }
  return cut;
}

}  // namespace

bool IsWideCut(const WideCut& cut, int32_t num_rows) {
  return cut.groups >= 1 && cut.groups <= (num_rows <= kMaxTokensOfThree ? 3 : 2) &&
         cut.splits >= 1 && cut.splits <= kMaxCluster && (cut.splits & (cut.splits - 1)) == 0;
}

bool WideTakes(const LinearParams& p) {
  if (p.dtype != DType::kBF16 && p.dtype != DType::kF16) return false;
  if ((p.w_scales == nullptr) != (p.x_scales == nullptr) || p.norm_weight != nullptr) return false;
  const int alignment = p.w_scales != nullptr ? 16 : 8;
  if (p.num_rows < 1 || p.n < 8 || p.n % 8 != 0 || p.k < 64 || p.k % alignment != 0) return false;
  if (p.x_stride % alignment != 0 || DivideUp(p.num_rows, 256) > 65535) return false;
  return !p.silu_mul || (p.n % 16 == 0 && p.bias == nullptr && p.add == nullptr && !p.is_y_f32);
}

std::vector<WideCut> WideCuts(const LinearParams& p, const SkinnyDevice& device) {
  const WideCut usual = UsualCut(p, device);
  std::vector<WideCut> cuts = {usual};
  const int chunks = ChunksOf(p);
  for (int groups = 1; groups <= 3; ++groups) {
    for (int splits = 1; splits <= kMaxCluster; splits *= 2) {
      const int blocks = DivideUp(p.n, groups * kWideGroupRows) * splits;
      if (groups == 3 && !SuitsThreeGroups(p, splits, device)) continue;
      const bool is_usual = groups == usual.groups && splits == usual.splits;
      const bool is_small = chunks < 2 * splits || blocks > 2 * device.num_sms;
      if (!is_usual && (splits == 1 || !is_small)) cuts.push_back({groups, splits});
    }
  }
  return cuts;
}

cudaError_t PrepareWide(const SkinnyDevice& device) {
  LinearParams p;
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const bool is_fp8 : {false, true}) {
      const float some_scale = 1.0f;
      p.dtype = dtype;
      p.w_scales = is_fp8 ? &some_scale : nullptr;
      for (const int tokens : kTokenTiles) {
        for (const int groups : {1, 2, 3}) {
          if (groups == 3 && tokens > kMaxTokensOfThree) continue;
          const cudaError_t error = cudaFuncSetAttribute(
              KernelFor(p, tokens, groups), cudaFuncAttributeMaxDynamicSharedMemorySize,
              device.shared_bytes);
          if (error != cudaSuccess) return error;
        }
      }
    }
  }
  return cudaSuccess;
}

cudaError_t WideLinear(const LinearParams& p, const WideCut& cut, const SkinnyDevice& device,
                       cudaStream_t stream) {
  const int chunks = ChunksOf(p);
  if (!WideTakes(p) || !IsWideCut(cut, p.num_rows)) return cudaErrorInvalidValue;
  const int tokens = TokensOf(p.num_rows);
  const int rows = cut.groups * kWideGroupRows;
  WideArgs args = {};
  cudaError_t error = Encode(p, p.w, p.n, p.k, rows, &args.w_map);
  if (error == cudaSuccess) error = Encode(p, p.x, p.num_rows, p.x_stride, tokens, &args.x_map);
  if (error != cudaSuccess) return error;
  args.bias = p.bias;
  args.add = p.add;
  args.y = p.y;
  args.w_scales = p.w_scales;
  args.x_scales = p.x_scales;
  args.add_stride = p.add_stride;
  args.y_stride = p.y_stride;
  args.num_rows = p.num_rows;
  args.n = p.n;
  args.num_chunks = chunks;
  args.num_splits = cut.splits;
  args.is_y_f32 = p.is_y_f32;
  args.silu_mul = p.silu_mul;
  const dim3 grid(DivideUp(p.n, rows) * cut.splits, DivideUp(p.num_rows, tokens));
  const bool is_alone = static_cast<int64_t>(grid.x) * grid.y <= device.num_sms;
  uint32_t bytes = 0;
  args.num_stages =
      StagesFor(device, tokens, cut.groups, DivideUp(chunks, cut.splits), is_alone, &bytes);
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(cut.splits), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(cut.groups * 128 + 32);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = p.pdl ? 2 : 1;
  error = cudaLaunchKernelEx(&config, KernelFor(p, tokens, cut.groups), args);
  return error != cudaSuccess ? error : cudaGetLastError();
}

}  // namespace mili::kernels::cuda
