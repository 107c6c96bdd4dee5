// The passes of sampling over a whole vocabulary (see kernels/reference/sample.h).
#pragma once

#include "kernels/cpu/vec.h"
#include "kernels/reference/sample.h"

namespace mili::kernels {
namespace {

template <typename Isa>
float ScanMax(const float* x, int64_t n, bool* has_nan) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  F max = Broadcast<Isa>(-kInfinity);
  I unordered = {};
  int64_t i = 0;
  for (; i + Isa::kLanes <= n; i += Isa::kLanes) {
    const F v = LoadF<Isa>(x + i);
    unordered |= v != v;
    max = v > max ? v : max;
  }
  float result = Isa::ReduceMax(max);
  int32_t any = 0;
  for (int lane = 0; lane < Isa::kLanes; ++lane) any |= unordered[lane];
  for (; i < n; ++i) {
    any |= x[i] != x[i];
    result = x[i] > result ? x[i] : result;
  }
  if (any != 0) *has_nan = true;
  return result;
}

template <typename Isa>
float ScanWeights(const float* x, int64_t n, const SoftmaxWeight& of, float* weights) {
  using F = typename Isa::F;
  const F max = Broadcast<Isa>(of.max);
  const F temperature = Broadcast<Isa>(of.temperature);
  const F floor = Broadcast<Isa>(of.floor);
  F sum = {};
  for (int64_t i = 0; i < n; i += Isa::kLanes) {
    const int64_t left = MinOf(Isa::kLanes, n - i);
    const F v = left == Isa::kLanes ? LoadF<Isa>(x + i) : LoadFirst<Isa>(x + i, left);
    const F weight = v > floor ? Exp<Isa>((v - max) / temperature) : F{};
    if (left == Isa::kLanes) {
      sum += weight;
      StoreAs(weights + i, weight);
    } else {
      StoreFirst<Isa>(weights + i, weight, left);
      sum += LoadFirst<Isa>(weights + i, left);
    }
  }
  return Isa::ReduceAdd(sum);
}

template <typename Isa>
int64_t ScanCountGreater(const float* x, int64_t n, float value) {
  using I = typename Isa::I;
  I count = {};  // a lane stays below 2^31 / kLanes tokens
  int64_t i = 0;
  for (; i + Isa::kLanes <= n; i += Isa::kLanes) count -= LoadF<Isa>(x + i) > value;
  int64_t total = 0;
  for (int lane = 0; lane < Isa::kLanes; ++lane) total += count[lane];
  for (; i < n; ++i) total += x[i] > value;
  return total;
}

template <typename Isa>
constexpr RowScan kRowScan = {ScanMax<Isa>, ScanWeights<Isa>, ScanCountGreater<Isa>};

template <typename Isa>
SampleOutcome Sample(const SampleParams& p) {
  return SampleRow(p, kRowScan<Isa>);
}

template <typename Isa>
SampleOutcome Score(const ScoreParams& p) {
  return ScoreRow(p, kRowScan<Isa>);
}

}  // namespace
}  // namespace mili::kernels
