// top_p of a row with more candidates than the list holds, as flat logits have: one pass finds
// roughly where the border lies, a second sums what is surely kept and lists what is in question.
// Device code only.
#pragma once

#include "kernels/cuda/sample/scan.cuh"
#include "kernels/cuda/sample/select.cuh"

namespace mili::kernels::cuda {

// Logits in bins of equal width below the largest, best first; the last bin has all the rest.
struct WidthBins {
  float max;
  float per_value;
  __device__ __forceinline__ uint32_t Of(float x) const {
    return min(static_cast<uint32_t>((max - x) * per_value), uint32_t{kBins - 1});
  }
};

// The lowest key, from `low` to `high`, whose value is in bin `last` or a better one; `high` is.
__device__ __forceinline__ uint32_t LowestKeyIn(const WidthBins& bins, uint32_t last, uint32_t low,
                                                uint32_t high) {
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (bins.Of(ValueOf(middle)) <= last) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return high;
}

// Masses of the bins in bin_mass[0], in units that sum to no more than 2^32, so not exact.
template <bool kEdits>
__device__ __forceinline__ void FillWidthBins(const Source<kEdits>& row, const WidthBins& bins,
                                              float factor, double total, DrawMemory& memory) {
  const auto per_mass = static_cast<float>(0x1p31 / total);
  __syncthreads();
  memory.bin_mass[0][threadIdx.x] = 0;
  __syncthreads();
  ForEachUnit(row, memory, [&](int32_t, const float4& x) {
#pragma unroll
    for (int j = 0; j < kLaneIds; ++j) {
      const float value = (&x.x)[j];
      const uint32_t mass = __float2uint_rn(exp2f((value - bins.max) * factor) * per_mass);
      if (mass > 0) atomicAdd(&memory.bin_mass[0][bins.Of(value)], mass);
    }
  });
  __syncthreads();
}

// The bin in which the running mass reaches `need`; kBins if none does.
__device__ __forceinline__ uint32_t FindWidthBin(uint32_t need, DrawMemory& memory) {
  const uint32_t mass = memory.bin_mass[0][threadIdx.x];
  const Scanned<uint32_t> scanned = BlockScan<uint32_t>(mass, memory);
  const bool is_border = scanned.before < need && need <= scanned.before + mass;
  const Proposed found =
      Propose(is_border ? static_cast<int32_t>(threadIdx.x) : kNoLow, kNoHigh, memory);
  return found.lowest == kNoLow ? kBins : found.lowest;
}

// Adds to unit_mass what passes of the list; its units are groups of the row.
__device__ __forceinline__ void AddListed(int32_t count, uint32_t lowest, const Weight& weight,
                                          DrawMemory& memory) {
  for (int32_t i = threadIdx.x; i < count; i += kDrawThreads) {
    const int32_t group = memory.listed_ids[i] / kGroup;
    if (i > 0 && memory.listed_ids[i - 1] / kGroup == group) continue;
    double mass = 0;  // of the group, by the thread that has its first
    for (int32_t j = i; j < count && memory.listed_ids[j] / kGroup == group; ++j) {
      const float value = memory.listed[j];
      if (KeyOf(value) >= lowest) mass += weight.Of(value);
    }
    memory.unit_mass[group] += mass;
  }
  __syncthreads();
}

// The threshold that keeps top_p of `total`, and in unit_mass what passes it. Returns whether it
// was found; ties at the threshold and borders that rounding hides are left to Select. Keys below
// `lowest` are not needed to reach top_p; all logits are below infinity.
struct WideTopP {
  bool found;
  Threshold threshold;
  Scanned<double> mass;
};
template <bool kEdits>
__device__ __forceinline__ WideTopP FindWideTopP(const Source<kEdits>& row, float top_p,
                                                 double total, uint32_t lowest,
                                                 const Weight& weight, DrawMemory& memory) {
  const WidthBins bins = {weight.max, (kBins - 1) / (weight.max - ValueOf(lowest))};
  const float factor = FactorOf(weight.temperature);
  FillWidthBins(row, bins, factor, total, memory);
  const uint32_t bin = FindWidthBin(static_cast<uint32_t>(top_p * 0x1p31), memory);
  if (bin >= kBins - 1) return {};
  const uint32_t max_key = KeyOf(weight.max);
  const uint32_t bin_low = LowestKeyIn(bins, bin, lowest, max_key);
  const uint32_t above = bin > 0 ? LowestKeyIn(bins, bin - 1, lowest, max_key) : max_key + 1;
  const float above_value = ValueRange(above, above).lowest;
  const int32_t count = ListCandidates(
      row, bin_low, above - 1, memory, [&](int32_t unit, const float4(&x)[kListBatch]) {
        float masses[kScanBatch];
        static_assert(kListBatch == kScanBatch);
#pragma unroll
        for (int j = 0; j < kListBatch; ++j) {
          masses[j] = 0;
#pragma unroll
          for (int i = 0; i < kLaneIds; ++i) {
            const float value = (&x[j].x)[i];
            masses[j] += value >= above_value ? exp2f((value - weight.max) * factor) : 0.0f;
          }
        }
        const float mass = WarpSumFour(masses);
        const int32_t lane = threadIdx.x % 32;
        if (lane % 8 == 0 && unit + lane / 8 < row.num_units) {
          memory.unit_mass[unit + lane / 8] = mass;
        }
      });
  if (count > kMaxListed) return {};
  const double kept = ScanUnits<double>(memory.unit_mass, row.num_units, memory).total;
  const double left = top_p * total - kept;
  if (!(left > 0)) return {};
  const Source<kEdits> list = ListOf<kEdits>(Values::kListed, count);
  const uint64_t need = __double2ull_ru(left * kFixedOne);
  const Threshold threshold =
      Select<true>(list, {bin_low, Threshold::kAll}, above - 1, need, weight, memory);
  if (threshold.ties != Threshold::kAll) return {};
  AddListed(count, threshold.key, weight, memory);
  return {true, threshold, ScanUnits<double>(memory.unit_mass, row.num_units, memory)};
}

}  // namespace mili::kernels::cuda
