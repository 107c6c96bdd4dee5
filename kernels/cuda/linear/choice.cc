#include "kernels/cuda/linear/choice.h"

namespace mili::kernels::cuda {
namespace {

// Untuned, as measured on an H100. The skinny kernel up to so many rows, and to kMaxSkinnyRows
// while the tokens of a block stay small; the wide one up to so many, and cublasLt above.
constexpr int32_t kUntunedSkinnyRows = 8;
constexpr int64_t kUntunedSkinnyElements = 16 * 2048;  // rows times k
constexpr int32_t kUntunedWideRows = 64;
constexpr int32_t kUntunedWideRowsFp8 = 128;
constexpr int32_t kUntunedGroups = 3;

// Above so many rows the gated kernel's small tile is never the faster one, but by the luck of a
// measurement.
constexpr int32_t kMaxSmallTileRows = 512;

// Above kMaxWideRows the gated kernel is faster where its tiles are full to this share. Timing does
// not decide there: the GPU's clock sinks with its power, and of cublasLt's many algorithms the
// fastest is also the luckiest.
constexpr float kFullTiles = 0.9f;

// What the kernel for SiLU would take in a step, behind a product of cublasLt.
constexpr float kSiluLaunchUs = 1.5f;
constexpr float kCopyBytesPerUs = 2.6e6f;

AlgoTable::Entry EntryOf(const WideCut& cut) {
  return {LinearKernel::kWide, {uint64_t(cut.groups), uint64_t(cut.splits)}};
}

AlgoTable::Entry GatedEntry(int32_t groups) {
  return {LinearKernel::kGated, {static_cast<uint64_t>(groups)}};
}

}  // namespace

MatmulShape ShapeOf(const LinearParams& p) {
  MatmulShape shape;
  shape.dtype = p.dtype;
  shape.is_y_f32 = p.is_y_f32;
  shape.is_fp8 = p.x_scales != nullptr;
  shape.has_bias = p.bias != nullptr;
  shape.has_add = p.add != nullptr;
  shape.silu_mul = p.silu_mul;
  shape.n = p.n;
  shape.k = p.k;
  shape.num_rows = p.num_rows;
  return shape;
}

WideCut CutOf(const AlgoTable::Entry& entry) {
  return {static_cast<int32_t>(entry.algo[0]), static_cast<int32_t>(entry.algo[1])};
}

int32_t GroupsOf(const AlgoTable::Entry& entry) { return static_cast<int32_t>(entry.algo[0]); }

bool KernelChoice::TakesSkinny(const LinearParams& p) const {
  return is_hopper_ && SkinnyTakes(p, device_);
}

bool KernelChoice::TakesWide(const LinearParams& p) const { return is_hopper_ && WideTakes(p); }

bool KernelChoice::TakesGated(const LinearParams& p) const { return is_hopper_ && GatedTakes(p); }

bool KernelChoice::TakesLibrary(const LinearParams& p) {
  const bool is_mixed = p.w_scales != nullptr && p.x_scales == nullptr;
  return !p.silu_mul && p.norm_weight == nullptr && !is_mixed;
}

bool KernelChoice::Choose(const LinearParams& p, AlgoTable::Entry* choice) const {
  const bool skinny = TakesSkinny(p);
  const bool wide = TakesWide(p);
  const bool gated = TakesGated(p);
  const bool library = TakesLibrary(p);
  const bool is_timed = !wide || p.num_rows > kMaxUntimedRows || p.is_y_f32;
  // What only the skinny kernel does is not in the table.
  if ((wide || library) && is_timed) {
    const AlgoTable::Entry* entry = tuned_.Find(ShapeOf(p));
    const bool takes[] = {skinny, entry != nullptr && wide && IsWideCut(CutOf(*entry), p.num_rows),
                          library, entry != nullptr && gated && IsGatedTile(GroupsOf(*entry))};
    if (entry != nullptr && takes[static_cast<size_t>(entry->kernel)]) {
      *choice = *entry;
      return true;
    }
  }
  const bool is_small =
      p.num_rows <= kUntunedSkinnyRows || p.num_rows * int64_t{p.k} <= kUntunedSkinnyElements;
  const int32_t wide_rows = p.x_scales != nullptr ? kUntunedWideRowsFp8 : kUntunedWideRows;
  if (skinny && (is_small || !wide)) {
    *choice = {LinearKernel::kSkinny};
  } else if (gated && p.num_rows > kMaxWideRows) {
    *choice = GatedEntry(kUntunedGroups);
  } else if (wide && (p.num_rows <= wide_rows || !library)) {
    *choice = EntryOf(WideCuts(p, device_).front());
  } else {
    *choice = {};
  }
  return skinny || wide || library;
}

bool KernelChoice::IsFasterFused(const LinearParams& fused) const {
  if (TakesSkinny(fused)) return true;
  if (!TakesWide(fused)) return false;
  if (fused.num_rows <= kMaxUntimedRows) return true;
  if (TakesGated(fused) && fused.num_rows > kMaxWideRows) {
    return GatedTilesFilled(fused.num_rows) >= kFullTiles;
  }
  LinearParams apart = fused;
  apart.silu_mul = false;
  const AlgoTable::Entry* one = tuned_.Find(ShapeOf(fused));
  const AlgoTable::Entry* two = tuned_.Find(ShapeOf(apart));
  if (one == nullptr || two == nullptr) return false;
  const float moved = 3.0f * static_cast<float>(fused.num_rows) * static_cast<float>(fused.n);
  return one->us <= two->us + kSiluLaunchUs + moved / kCopyBytesPerUs;
}

std::vector<AlgoTable::Entry> KernelChoice::OwnCandidates(const LinearParams& p) const {
  std::vector<AlgoTable::Entry> candidates;
  if (TakesSkinny(p)) candidates.push_back({LinearKernel::kSkinny});
  if (TakesWide(p) && p.num_rows <= kMaxWideRows) {
    for (const WideCut& cut : WideCuts(p, device_)) candidates.push_back(EntryOf(cut));
  }
  if (TakesGated(p) && p.num_rows >= kMinGatedRows) {
    if (p.num_rows <= kMaxSmallTileRows) candidates.push_back(GatedEntry(2));
    candidates.push_back(GatedEntry(kUntunedGroups));
  }
  return candidates;
}

}  // namespace mili::kernels::cuda
