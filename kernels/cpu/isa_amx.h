// AVX-512 with VNNI, and AMX tiles of BF16.
#pragma once

#include "kernels/cpu/isa_avx512.h"

namespace mili::kernels {
namespace {

struct IsaAmx : Isa {
  // The tile registers of the calling thread, configured for its lifetime and zero at first.
  class Tiles {
   public:
    // Sums of `num_tiles` tiles of 16 tokens, the last of `num_last`, and of 16 rows.
    MILI_INLINE Tiles(int num_tiles, int num_last) {
      Config config = {};
      config.palette = 1;
      for (int i = 0; i < 7; ++i) {
        const bool is_last = i == num_tiles - 1 || i == kLastX;
        config.rows[i] = static_cast<uint8_t>(is_last ? num_last : 16);
        config.row_bytes[i] = 64;
      }
      // Not _tile_loadconfig: GCC 12 believes that it reads 8 bytes, and drops the rest.
      asm volatile("ldtilecfg %0" : : "m"(config));
    }
    MILI_INLINE ~Tiles() { _tile_release(); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

    // Adds 32 columns: `weights` [16 pairs][16 rows], `x` [tokens] of twice 64 bytes, which are
    // added, `stride` apart.
    template <int kTiles>
    MILI_INLINE void Add(const void* weights, const std::byte* x, int64_t stride) {
      // The loads do not tell the compiler what they read.
      asm volatile("" : : : "memory");
      _tile_loadd(6, weights, 64);
      AddTile<0, kTiles>(x, stride);
      if constexpr (kTiles > 1) AddTile<1, kTiles>(x, stride);
      if constexpr (kTiles > 2) AddTile<2, kTiles>(x, stride);
      if constexpr (kTiles > 3) AddTile<3, kTiles>(x, stride);
    }

    // Writes the sums, [tokens][16 rows].
    template <int kTiles>
    MILI_INLINE void Store(float* sums) const {
      _tile_stored(0, sums, 64);
      if constexpr (kTiles > 1) _tile_stored(1, sums + 256, 64);
      if constexpr (kTiles > 2) _tile_stored(2, sums + 512, 64);
      if constexpr (kTiles > 3) _tile_stored(3, sums + 768, 64);
    }

   private:
    static constexpr int kLastX = 5;

    // Intel's Architecture Instruction Set Extensions, LDTILECFG.
    struct alignas(64) Config {
      uint8_t palette;
      uint8_t start_row;
      uint8_t reserved[14];
      uint16_t row_bytes[16];
      uint8_t rows[16];
    };
    static_assert(sizeof(Config) == 64);

    template <int kTile, int kTiles>
    MILI_INLINE void AddTile(const std::byte* x, int64_t stride) {
      x += kTile * 16 * stride;
      AddProduct<kTile, kTile == kTiles - 1>(x, stride);
      AddProduct<kTile, kTile == kTiles - 1>(x + 64, stride);
    }

    // The numbers of the tiles are part of the instruction.
    template <int kTile, bool kIsLast>
    MILI_INLINE void AddProduct(const std::byte* x, int64_t stride) {
      if constexpr (kIsLast) {
        _tile_loadd(5, x, stride);
      } else {
        _tile_loadd(4, x, stride);
      }
      if constexpr (kTile == 0 && kIsLast) _tile_dpbf16ps(0, 5, 6);
      if constexpr (kTile == 0 && !kIsLast) _tile_dpbf16ps(0, 4, 6);
      if constexpr (kTile == 1 && kIsLast) _tile_dpbf16ps(1, 5, 6);
      if constexpr (kTile == 1 && !kIsLast) _tile_dpbf16ps(1, 4, 6);
      if constexpr (kTile == 2 && kIsLast) _tile_dpbf16ps(2, 5, 6);
      if constexpr (kTile == 2 && !kIsLast) _tile_dpbf16ps(2, 4, 6);
      if constexpr (kTile == 3) _tile_dpbf16ps(3, 5, 6);
    }
  };
};

}  // namespace
}  // namespace mili::kernels
