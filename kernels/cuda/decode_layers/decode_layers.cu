#include <algorithm>

#include "kernels/cuda/attention/shape.h"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/decode_layers/attend.cuh"
#include "kernels/cuda/decode_layers/decode_layers.h"
#include "kernels/cuda/decode_layers/product.cuh"

namespace mili::kernels::cuda {
namespace decode_layers {
namespace {

constexpr int kMaxSharedBytes = 227 * 1024;  // of a block
constexpr int kMaxSlots = 26;

template <int kRows>
struct Shared {
  uint64_t full[kMaxSlots];
  uint64_t empty[kMaxSlots];
  ProductShared<kRows> product;
  AttendShared attend;
  int pages[Unit<kRows>::kKeptPages];
};

// The ring comes first, then Shared.
template <int kRows>
constexpr int kSlotsFor = std::min<int>(kMaxSlots,
                                        (kMaxSharedBytes - sizeof(Shared<kRows>)) / kSlotBytes);

template <int kRows>
__device__ void Calculate(const Args& a, Shared<kRows>& shared, Ring<kSlotsFor<kRows>> ring,
                          const Unit<kRows>& unit) {
  constexpr int kSlots = kSlotsFor<kRows>;
  int warp = threadIdx.x / 32;
  int lane = threadIdx.x % 32;
  WaitForProducers();
  uint32_t last_tag;
  asm volatile("ld.relaxed.gpu.global.b32 %0, [%1];" : "=r"(last_tag) : "l"(a.launch) : "memory");
  Products<kSlots, kRows> products = {a, shared.product, ring, warp, lane, 0, {}};
  __nv_bfloat16* own = a.residual + warp * kHidden + blockIdx.x * 8 + lane % 8;
  products.residual = warp < kRows ? __bfloat162float(*own) : 0;
  // One loop over products, so that their code is there once and stays in the instruction cache.
#pragma unroll 1
  for (int i = 0; i < a.num_layers * 4; ++i) {
    const int layer = i / 4;
    const int product = i % 4;
    const uint32_t tag = last_tag + 1 + layer;
    // Hides where the lane is from, or all addresses would be kept in registers from here on.
    asm volatile("" : "+r"(lane), "+r"(warp));
    if (product == kOutputProduct) {
      Attention<kSlots, kRows>{a, shared.attend, ring, unit, a.layers[layer], tag, warp, lane}
          .Run();
      if (warp < kRows) MergeParts<kRows>(a, unit, tag, warp, lane);
    }
    products.warp = warp;
    products.lane = lane;
    products.Run(product, layer, tag);
  }
  if (warp < kRows && lane < 8) *own = __float2bfloat16(products.residual);
  // All blocks have read it: the last rows came from all.
  if (blockIdx.x == 0 && threadIdx.x == 0) *a.launch = last_tag + a.num_layers;
}

template <int kRows>
__global__ void __launch_bounds__(kThreads, 1) Kernel(const __grid_constant__ Args a) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr int kSlots = kSlotsFor<kRows>;
  extern __shared__ __align__(128) char bytes[];
  auto& shared = *reinterpret_cast<Shared<kRows>*>(bytes + kSlots * kSlotBytes);
  const auto address = [](const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
  };
  const Ring<kSlots> ring = {address(bytes), address(shared.full), address(shared.empty)};
  const Unit<kRows> unit(a);
  if (threadIdx.x == 0) ring.Init();
  const int thread = static_cast<int>(threadIdx.x);
  const int num_kept = min(unit.num_local, Unit<kRows>::kKeptPages);
  for (int i = thread; i < num_kept; i += kThreads) shared.pages[i] = unit.PageOf(a, i);
  if (thread < kHeadDim / 2) {
    const int at = a.positions[unit.row] * (kHeadDim / 2) + thread;
    shared.attend.cos[thread] = a.rope_cos[at];
    shared.attend.sin[thread] = a.rope_sin[at];
  }
  __syncthreads();
  if (thread < kWarps * 32) {
    Calculate<kRows>(a, shared, ring, unit);
  } else if (thread == kWarps * 32) {
    Loader<kSlots, kRows>{a, ring, shared.pages, unit}.Run();
  }
#endif
}

template <int kRows>
cudaError_t LaunchRows(const Args& args, bool pdl, cudaStream_t stream) {
  constexpr int kSharedBytes = kSlotsFor<kRows> * kSlotBytes + sizeof(Shared<kRows>);
  const cudaError_t error = cudaFuncSetAttribute(
      Kernel<kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error != cudaSuccess) return error;
  // Blocks wait for each other: all of them run, or none.
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeCooperative;
  attributes[0].val.cooperative = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = kBlocks;
  config.blockDim = kThreads;
  config.dynamicSmemBytes = kSharedBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = pdl ? 2 : 1;
  const cudaError_t launched = cudaLaunchKernelEx(&config, Kernel<kRows>, args);
  const cudaError_t last = cudaGetLastError();
  return launched != cudaSuccess ? launched : last;
}

Exchange LayOut(uint64_t* words) {
  constexpr int64_t kRows = kMaxDecodeLayersRows;
  Exchange e = {};
  e.mlp_out = words;
  e.attention_out = e.mlp_out + kRows * kHidden / 2;
  e.qkv = e.attention_out + kRows * kHidden / 2;
  e.heads = e.qkv + kRows * kQkv / 2;
  e.activation = e.heads + kRows * kHeads * kHeadDim / 2;
  e.parts = e.activation + kRows * kInter / 2;
  return e;
}

}  // namespace
}  // namespace decode_layers

bool HasDecodeLayers(const DecodeLayersShape& shape, int32_t num_sms, int32_t compute_capability) {
  using namespace decode_layers;
  return shape.dtype == DType::kBF16 && shape.num_layers > 0 &&
         shape.num_layers <= kMaxDecodeLayers && shape.hidden_size == kHidden &&
         shape.num_heads == kHeads && shape.num_kv_heads == kKvHeads &&
         shape.head_dim == kHeadDim && shape.intermediate_size == kInter && num_sms >= kBlocks &&
         compute_capability == 90;
}

size_t DecodeLayersWorkspaceBytes() {
  return (decode_layers::kExchangeWords + 2) * sizeof(uint64_t);
}

cudaError_t DecodeLayers(const DecodeLayersParams& params, cudaStream_t stream) {
  using namespace decode_layers;
  if (!HasDecodeLayers(params.shape, kBlocks, 90) || params.workspace == nullptr) {
    return cudaErrorInvalidValue;
  }
  Args args = {};
  std::copy_n(params.layers, params.shape.num_layers, args.layers);
  args.num_layers = params.shape.num_layers;
  args.eps = params.eps;
  args.scale_log2 = params.scale * kLog2E;
  args.residual = static_cast<__nv_bfloat16*>(params.residual);
  args.rope_cos = params.rope_cos;
  args.rope_sin = params.rope_sin;
  args.positions = params.positions;
  args.slot_map = params.slot_map;
  args.page_table = params.page_table;
  args.page_table_stride = params.page_table_stride;
  args.context_lens = params.context_lens;
  args.page_stride_bytes = params.page_stride * 2;
  args.exchange = LayOut(static_cast<uint64_t*>(params.workspace));
  args.launch = reinterpret_cast<uint32_t*>(args.exchange.mlp_out + kExchangeWords);
  switch (params.num_rows) {
    case 1:
      return LaunchRows<1>(args, params.pdl, stream);
    case 2:
      return LaunchRows<2>(args, params.pdl, stream);
    case 4:
      return LaunchRows<4>(args, params.pdl, stream);
    case 8:
      return LaunchRows<8>(args, params.pdl, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace mili::kernels::cuda
