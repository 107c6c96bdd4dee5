#include <algorithm>

#include "kernels/cuda/common/tensor_map_encoder.h"
#include "kernels/cuda/head/head.h"
#include "kernels/cuda/head/head_kernel.cuh"

namespace mili::kernels::cuda {
namespace {

using Kernel = void (*)(HeadArgs);

struct Instance {
  Kernel kernel;
  int rows;  // of a tile
  int shared_bytes;
};

template <typename Tile>
Instance InstanceOf() {
  return {HeadKernel<Tile>, Tile::kRows, Tile::kSharedBytes};
}

template <typename Element>
Instance InstanceFor(int32_t num_rows) {
  if (num_rows <= 64) return InstanceOf<HeadTile<Element, 64>>();
  if (num_rows <= 128) return InstanceOf<HeadTile<Element, 128>>();
  return InstanceOf<HeadTile<Element, 256>>();
}

Instance InstanceFor(DType dtype, int32_t num_rows) {
  return dtype == DType::kBF16 ? InstanceFor<Bf16>(num_rows) : InstanceFor<F16>(num_rows);
}

int DivideUp(int a, int b) { return (a + b - 1) / b; }

bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

bool KeepsContract(const HeadParams& p) {
  return (p.dtype == DType::kBF16 || p.dtype == DType::kF16) && p.num_rows >= 1 &&
         p.num_rows <= kMaxHeadRows && HasHead(p.vocab_size, p.k) && p.num_valid_tokens >= 1 &&
         p.num_valid_tokens <= p.vocab_size && p.x_stride >= p.k && p.x_stride % 8 == 0 &&
         p.logits_stride % 2 == 0 && IsAligned(p.x) && IsAligned(p.w) && IsAligned(p.logits);
}

cudaError_t MakeMaps(const HeadParams& p, int tile_rows, HeadArgs* args) {
  TensorMapEncoder encode = nullptr;
  const cudaError_t error = FindTensorMapEncoder(&encode);
  if (error != cudaSuccess) return error;
  const CUtensorMapDataType type =
      p.dtype == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const auto describe = [&](CUtensorMap* map, int rank, const void* data, const cuuint64_t* sizes,
                            const cuuint64_t* strides, const cuuint32_t* box) {
    const cuuint32_t steps[4] = {1, 1, 1, 1};
    return encode(map, type, rank, const_cast<void*>(data), sizes, strides, box, steps,
                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  const auto k = static_cast<cuuint64_t>(p.k);
  const cuuint64_t row_bytes = k * 2;
  const cuuint64_t w_sizes[4] = {k, 8, 2, static_cast<cuuint64_t>(p.vocab_size) / 16};
  const cuuint64_t w_strides[3] = {2 * row_bytes, row_bytes, 16 * row_bytes};
  const cuuint32_t w_box[4] = {kHeadChunk, 8, 2, kHeadTokens / 16};
  const cuuint64_t x_sizes[2] = {k, static_cast<cuuint64_t>(p.num_rows)};
  const cuuint64_t x_strides[1] = {static_cast<cuuint64_t>(p.x_stride) * 2};
  const cuuint32_t x_box[2] = {kHeadChunk, static_cast<cuuint32_t>(tile_rows) / 2};
  const bool is_described =
      describe(&args->w_map, 4, p.w, w_sizes, w_strides, w_box) == CUDA_SUCCESS &&
      describe(&args->x_map, 2, p.x, x_sizes, x_strides, x_box) == CUDA_SUCCESS;
  return is_described ? cudaSuccess : cudaErrorInvalidValue;
}

// Pairs of tiles, one for each block of a cluster.
int UnitsOf(int32_t vocab_size) { return DivideUp(vocab_size, 2 * kHeadTokens); }

}  // namespace

bool HasHead(int32_t vocab_size, int32_t k) {
  return vocab_size >= 16 && vocab_size % 16 == 0 && vocab_size <= kMaxSampleVocab && k >= 64 &&
         k % 8 == 0;
}

int32_t HeadParts(int32_t num_sms, int32_t vocab_size) {
  return std::min(UnitsOf(vocab_size), num_sms / 2) * 2;
}

cudaError_t PrepareHead() {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const int32_t rows : {64, 128, 256}) {
      const Instance instance = InstanceFor(dtype, rows);
      const cudaError_t error = cudaFuncSetAttribute(
          instance.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, instance.shared_bytes);
      if (error != cudaSuccess) return error;
    }
  }
  return cudaSuccess;
}

cudaError_t Head(const HeadParams& p, int32_t num_sms, cudaStream_t stream) {
  if (!KeepsContract(p)) return cudaErrorInvalidValue;
  const Instance instance = InstanceFor(p.dtype, p.num_rows);
  HeadArgs args = {};
  const cudaError_t error = MakeMaps(p, instance.rows, &args);
  if (error != cudaSuccess) return error;
  args.row_slots = p.row_slots;
  args.slots = p.slots;
  args.logits = p.logits;
  args.logits_stride = p.logits_stride;
  args.best = p.best;
  args.num_rows = p.num_rows;
  args.vocab_size = p.vocab_size;
  args.num_valid = p.num_valid_tokens;
  args.num_chunks = DivideUp(p.k, kHeadChunk);
  args.num_units = UnitsOf(p.vocab_size);
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {2, 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(HeadParts(num_sms, p.vocab_size)));
  config.blockDim = dim3(HeadTile<Bf16, 256>::kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(instance.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = p.pdl ? 2 : 1;
  const cudaError_t launched = cudaLaunchKernelEx(&config, instance.kernel, args);
  const cudaError_t last = cudaGetLastError();
  return launched != cudaSuccess ? launched : last;
}

}  // namespace mili::kernels::cuda
