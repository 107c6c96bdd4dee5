// The four products of a layer: the block's rows of a matrix by all rows of the step. Each warp has
// an eighth of every 1024 elements of k and takes its weights into registers before the rows have
// come. Weights are the 16 rows of the MMA and the step's rows its 8 columns. The warps' sums meet
// in shared memory; warp r ends what belongs to row r and publishes it.
#pragma once

#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/common/vec8.cuh"
#include "kernels/cuda/decode_layers/exchange.cuh"
#include "kernels/cuda/decode_layers/ring.cuh"

namespace mili::kernels::cuda {
namespace decode_layers {

enum Product : int { kQkvProduct, kOutputProduct, kGateUpProduct, kDownProduct };

// Those of k = 1024 norm their rows and have tiles of 16 weight rows; the others have 8 weight rows
// and k of some times 1024.
__device__ __forceinline__ bool IsTiled(int product) { return product % 2 == 0; }
__device__ __forceinline__ int NumPieces(int product) { return product < 2 ? 2 : 3; }  // tiles or k
static_assert(kQkv == kBlocks * 32 && kHidden == kBlocks * 8 && 2 * kInter == kBlocks * 48);
static_assert(kHidden == 1024 && kHeads * kHeadDim == 2048 && kInter == 3072);

inline constexpr int kWarpK = 1024 / kWarps;             // a warp's elements of 1024
inline constexpr int kTokenPitch = 3 * kWarpK * 2 + 64;  // bytes; keeps two tokens' banks apart
inline constexpr int kTileRows = 16;

template <int kRows>
struct ProductShared {
  alignas(16) char x[kWarps][kRows][kTokenPitch];
  float tiled[kWarps][kRows][3 * kTileRows + 4];
  float plain[kWarps][kRows][8 + 4];
  float squares[2][kRows][kWarps];
};

template <int kSlots, int kRows>
struct Products {
  const Args& a;
  ProductShared<kRows>& shared;
  Ring<kSlots>& ring;
  int warp;
  int lane;
  float residual;  // of row `warp` of the step, element blockIdx.x * 8 + lane % 8
  float sums[3][4];

  using WeightRows = uint4[2][2];

  __device__ static uint4 Pick(bool is_second, const uint4& x, const uint4& y) {
    return {is_second ? y.x : x.x, is_second ? y.y : x.y, is_second ? y.z : x.z,
            is_second ? y.w : x.w};
  }
  // The warp's elements of eight weight rows: vectors 8 i + 4 j + lane % 4 of row lane / 4. Rows
  // begin at the same bank, so odd ones are read in another order.
  __device__ void LoadWeights(uint32_t offset, WeightRows& w) const {
    const bool is_odd = lane & 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t from = ring.data + ring.Wrapped(offset) + i * 128 + (is_odd ? 64 : 0);
      const uint4 x = LoadShared16(from);
      const uint4 y = LoadShared16(from ^ 64);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        w[i][j] = Pick(is_odd != j, x, y);
        // Now, not when the rows have come.
        asm volatile("" : "+r"(w[i][j].x), "+r"(w[i][j].y), "+r"(w[i][j].z), "+r"(w[i][j].w));
      }
    }
  }

  __device__ static uint32_t Times(uint32_t x, uint32_t y) {
    const __nv_bfloat162 product = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&x),
                                           *reinterpret_cast<const __nv_bfloat162*>(&y));
    return *reinterpret_cast<const uint32_t*>(&product);
  }
  // Four elements of a row in piece `piece` of 1024. With kNorm they are multiplied by the norm's
  // weight, and their squares' sum is left in `square`; the row's own factor comes at the end.
  template <bool kNorm>
  __device__ void Keep(int row, int piece, uint2 x, const uint2& norm, float& square) const {
    if (kNorm) {
      const float2 low = ToFloat2(*reinterpret_cast<const __nv_bfloat162*>(&x.x));
      const float2 high = ToFloat2(*reinterpret_cast<const __nv_bfloat162*>(&x.y));
      square = fmaf(low.x, low.x, low.y * low.y) + fmaf(high.x, high.x, high.y * high.y);
      x = {Times(x.x, norm.x), Times(x.y, norm.y)};
    }
    *reinterpret_cast<uint2*>(shared.x[warp][row] + piece * (kWarpK * 2) + lane * 8) = x;
  }
  // Brings the warp's elements of all rows, count pieces of 1024, of which row r begins at
  // from + r * row_words.
  template <int kMaxPieces, bool kNorm>
  __device__ void Receive(const uint64_t* from, int row_words, int count, uint32_t tag,
                          const uint2& norm, float (&squares)[kRows]) const {
    constexpr int kAtOnce = kRows * kMaxPieces <= 12 ? kRows : 4;
    from += warp * (kWarpK / 2) + lane * 2;
#pragma unroll
    for (int row = 0; row < kRows; row += kAtOnce) {
      uint64_t words[kAtOnce][kMaxPieces][2];
      Poll([&] {
        uint32_t missing = 0;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
          for (int j = 0; j < kMaxPieces; ++j) {
            if (j > 0 && j >= count) continue;
            LookTwo(from + (row + i) * row_words + j * 512, words[i][j][0], words[i][j][1]);
          }
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
          for (int j = 0; j < kMaxPieces; ++j) {
            if (j > 0 && j >= count) continue;
            missing |= Missing(words[i][j][0], tag) | Missing(words[i][j][1], tag);
          }
        }
        return missing;
      });
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
        for (int j = 0; j < kMaxPieces; ++j) {
          if (j > 0 && j >= count) continue;
          Keep<kNorm>(row + i, j, {DataOf(words[i][j][0]), DataOf(words[i][j][1])}, norm,
                      squares[row + i]);
        }
      }
    }
    __syncwarp();
  }
  __device__ uint4 LoadX(int piece, int i, int j) const {
    const char* row = shared.x[warp][min(lane / 4, kRows - 1)];
    return *reinterpret_cast<const uint4*>(row + piece * (kWarpK * 2) + i * 128 + j * 64 +
                                           lane % 4 * 16);
  }
  __device__ static void Multiply(float (&even)[4], float (&odd)[4], const uint4& low,
                                  const uint4& high, const uint4& x) {
    Bf16::Mma(even, {low.x, high.x, low.y, high.y}, x.x, x.y);
    Bf16::Mma(odd, {low.z, high.z, low.w, high.w}, x.z, x.w);
  }

  // sums[i]: of tile i.
  __device__ void MultiplyTiles(int product, const DecodeLayer& layer, bool is_first,
                                uint32_t tag) {
    const bool is_qkv = product == kQkvProduct;
    const bool has_third = !is_qkv;
    const void* weight = is_qkv ? layer.input_norm : layer.post_attention_norm;
    const uint2 norm = __ldg(static_cast<const uint2*>(weight) + warp * 32 + lane);
    const uint32_t offset = ring.Offset() + lane / 4 * 2048 + warp * (kWarpK * 2) + lane % 4 * 16;
    WeightRows w[3][2];
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      if (i == 2 && !has_third) continue;
      LoadWeights(offset + i * (kTileRows * 2048), w[i][0]);
      LoadWeights(offset + i * (kTileRows * 2048) + 8 * 2048, w[i][1]);
    }
    float squares[kRows];
    if (is_first) {
      const auto* from = reinterpret_cast<const uint2*>(a.residual) + warp * 32 + lane;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        Keep<true>(row, 0, from[row * (kHidden / 4)], norm, squares[row]);
      }
      __syncwarp();
    } else {
      Receive<1, true>(is_qkv ? a.exchange.mlp_out : a.exchange.attention_out, kHidden / 2, 1,
                       is_qkv ? tag - 1 : tag, norm, squares);
    }
    float odd[3][4] = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const uint4 x = LoadX(0, i, j);
#pragma unroll
        for (int tile = 0; tile < 3; ++tile) {
          if (tile == 2 && !has_third) continue;
          Multiply(sums[tile], odd[tile], w[tile][0][i][j], w[tile][1][i][j], x);
        }
      }
    }
    AddTo(sums, odd);
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
#pragma unroll
      for (int bit = 1; bit < 32; bit *= 2) squares[row] += FromLane(squares[row], bit);
      if (lane == 0) shared.squares[product / 2][row][warp] = squares[row];
    }
  }

  // sums[0]: of the block's eight rows.
  __device__ void MultiplyPlain(int product, uint32_t tag) {
    const int count = NumPieces(product);
    const uint32_t offset =
        ring.Offset() + lane / 4 * count * 2048 + warp * (kWarpK * 2) + lane % 4 * 16;
    WeightRows w[3];
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      if (i < 2 || count == 3) LoadWeights(offset + i * 2048, w[i]);
    }
    float squares[kRows];
    Receive<3, false>(product == kOutputProduct ? a.exchange.heads : a.exchange.activation,
                      count * 512, count, tag, {}, squares);
    float odd[3][4] = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int piece = 0; piece < 3; ++piece) {
          if (piece == 2 && count == 2) continue;
          Multiply(sums[piece], odd[piece], w[piece][i][j], {}, LoadX(piece, i, j));
        }
      }
    }
    AddTo(sums, odd);
#pragma unroll
    for (int j = 0; j < 2; ++j) sums[0][j] += sums[1][j] + sums[2][j];
  }
  __device__ static void AddTo(float (&to)[3][4], const float (&from)[3][4]) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) to[i][j] += from[i][j];
    }
  }

  // Leaves the warp's sums: those of weight row w and row r of the step at [warp][r][w].
  __device__ void LeaveSums(int product) const {
    const bool is_tiled = IsTiled(product);
    const int pitch = is_tiled ? 3 * kTileRows + 4 : 8 + 4;
    const int row = lane % 4 * 2;
    float* to = (is_tiled ? &shared.tiled[0][0][0] : &shared.plain[0][0][0]) +
                (warp * kRows + row) * pitch + lane / 4;
#pragma unroll
    for (int tile = 0; tile < 3; ++tile) {
      if (tile >= (is_tiled ? NumPieces(product) : 1)) continue;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (row + j >= kRows) continue;
        to[j * pitch + tile * kTileRows] = sums[tile][j];
        if (is_tiled) to[j * pitch + tile * kTileRows + 8] = sums[tile][2 + j];
      }
    }
    __syncwarp();
  }
  __device__ static float SumOfWarps(const float* first, int pitch) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) sum += first[i * pitch];
    return sum;
  }
  __device__ float NormFactor(const float* squares) const {
    float sum = squares[lane % kWarps];
#pragma unroll
    for (int bit = 1; bit < kWarps; bit *= 2) sum += FromLane(sum, bit);
    return rsqrtf(sum * (1.0f / kHidden) + a.eps);
  }

  // For warp r: what the product gives for row r, published.
  __device__ void Finish(int product, bool is_last, uint32_t tag) {
    const int row = warp;
    float y;
    if (IsTiled(product)) {
      const bool is_qkv = product == kQkvProduct;
      const int from = is_qkv ? lane : min(lane, 23) / 8 * 16 + lane % 8;
      constexpr int kPitch = kRows * (3 * kTileRows + 4);
      y = SumOfWarps(&shared.tiled[0][row][from], kPitch);
      const float up = is_qkv ? 0 : SumOfWarps(&shared.tiled[0][row][from + 8], kPitch);
      const float factor = NormFactor(shared.squares[product / 2][row]);
      LetOthersRead();
      y *= factor;
      if (!is_qkv) y = __fdividef(y, 1 + __expf(-y)) * (up * factor);
    } else {
      y = SumOfWarps(&shared.plain[0][row][lane % 8], kRows * (8 + 4));
      LetOthersRead();
      y = residual = __bfloat162float(__float2bfloat16(residual + y));
      if (is_last) return;
    }
    const float next = FromLane(y, 1);
    const auto publish = [&](uint64_t* to, int row_words, int count) {
      if (lane >= count || lane % 2 != 0) return;
      to += row * row_words + (static_cast<int>(blockIdx.x) * count + lane) / 2;
      Publish(to, Bf16::Pack(y, next), tag);
    };
    if (product == kQkvProduct) publish(a.exchange.qkv, kQkv / 2, 32);
    if (product == kOutputProduct) publish(a.exchange.attention_out, kHidden / 2, 8);
    if (product == kGateUpProduct) publish(a.exchange.activation, kInter / 2, 24);
    if (product == kDownProduct) publish(a.exchange.mlp_out, kHidden / 2, 8);
  }
  // Warps that finish a row read the sums before the others fill the pipe to shared memory with
  // reads of the next weights.
  __device__ void LetOthersRead() const {
    __syncwarp();
    MeetAt(kReadBarrier, kRows == kWarps);
  }

  __device__ void Run(int product, int layer_idx, uint32_t tag) {
    const int slots = NumPieces(product) * (IsTiled(product) ? 4 : 2);
    ring.Wait(slots);
#pragma unroll
    for (int i = 0; i < 3; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[i][j] = 0;
    }
    if (IsTiled(product)) {
      MultiplyTiles(product, a.layers[layer_idx], product == kQkvProduct && layer_idx == 0, tag);
    } else {
      MultiplyPlain(product, tag);
    }
    LeaveSums(product);
    if (MeetAt(kSumsBarrier + product, warp < kRows)) {
      Finish(product, product == kDownProduct && layer_idx + 1 == a.num_layers, tag);
    } else {
      MeetAt(kReadBarrier, true);
    }
    ring.Release(slots);
  }
};

}  // namespace decode_layers
}  // namespace mili::kernels::cuda
