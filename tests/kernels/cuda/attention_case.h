// A step's attention inputs on host and device, and the answer in double precision. Whatever a
// kernel may not read (unused pages, the tail of last pages, page table entries behind the end) is
// NaN or a page far out of range, and the output begins as NaN.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "kernels/cuda/attention/paged_attention.h"
#include "tests/kernels/cuda/device_array.h"

namespace mili::kernels::cuda {

// One sequence: its rows of this step and its context, those rows included.
struct TestSequence {
  int32_t num_rows;
  int32_t context_len;
};

class AttentionCase {
 public:
  AttentionCase(const AttentionShape& shape, const std::vector<TestSequence>& sequences,
                uint32_t seed)
      : shape_(shape), sequences_(sequences), random_(seed) {
    for (const TestSequence& s : sequences) {
      context_lens_.push_back(s.context_len);
      cu_seqlens_.push_back(cu_seqlens_.back() + s.num_rows);
      table_stride_ = std::max(table_stride_, (s.context_len + kPageTokens - 1) / kPageTokens + 2);
    }
    q_stride_ = int64_t{shape.num_heads + 2 * shape.num_kv_heads} * shape.head_dim;
    out_stride_ = int64_t{shape.num_heads} * shape.head_dim;
    FillPages();
    kv_values_.reserve(kv_.size());
    for (const uint16_t bits : kv_) kv_values_.push_back(FromBits(shape.dtype, bits));
    q_.resize(static_cast<size_t>(num_rows() * q_stride_), NaN());
    for (int64_t t = 0; t < num_rows(); ++t) {
      for (int64_t i = 0; i < out_stride_; ++i) q_[t * q_stride_ + i] = Random(1.5f);
    }
  }

  int32_t num_rows() const { return cu_seqlens_.back(); }
  int32_t num_seqs() const { return static_cast<int32_t>(sequences_.size()); }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }
  const AttentionShape& shape() const { return shape_; }
  const std::vector<TestSequence>& sequences() const { return sequences_; }
  const std::vector<int32_t>& context_lens() const { return context_lens_; }
  const std::vector<int32_t>& cu_seqlens() const { return cu_seqlens_; }
  const std::vector<int32_t>& page_table() const { return page_table_; }
  const std::vector<uint16_t>& q() const { return q_; }
  const std::vector<uint16_t>& kv() const { return kv_; }
  int64_t q_stride() const { return q_stride_; }
  int64_t out_stride() const { return out_stride_; }
  int32_t table_stride() const { return table_stride_; }
  int32_t num_pages() const { return num_pages_; }
  int64_t page_stride() const {
    return int64_t{2} * shape_.num_kv_heads * kPageTokens * shape_.head_dim;
  }
  uint16_t NaN() const { return 0xffff; }  // in both types, as GpuArray's poison

  // The greatest relative distance |out - answer| / |answer| of a row and head; infinite if a row
  // of a sequence without context was written or any other value is not finite. out: [num_rows,
  // out_stride].
  double Error(const std::vector<uint16_t>& out) const {
    const size_t num_threads = std::max(1u, std::thread::hardware_concurrency());
    std::vector<double> errors(num_threads, 0.0);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < num_threads; ++i) {
      threads.emplace_back([&, i] {
        for (int32_t s = 0; s < num_seqs(); ++s) {
          for (int32_t row = cu_seqlens_[s]; row < cu_seqlens_[s + 1]; ++row) {
            if (static_cast<size_t>(row) % num_threads != i) continue;
            for (int32_t h = 0; h < shape_.num_heads; ++h) {
              errors[i] = std::max(errors[i], ErrorOfHead(out, s, row, h));
            }
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return *std::max_element(errors.begin(), errors.end());
  }

 private:
  uint16_t Random(float deviation) {
    return ToBits(shape_.dtype, std::normal_distribution<float>(0, deviation)(random_));
  }

  void FillPages() {
    std::vector<int32_t> used(sequences_.size());
    for (size_t s = 0; s < used.size(); ++s) {
      used[s] = (context_lens_[s] + kPageTokens - 1) / kPageTokens;
    }
    num_pages_ = std::accumulate(used.begin(), used.end(), 0) + 5;
    std::vector<int32_t> pages(static_cast<size_t>(num_pages_));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), random_);
    kv_.assign(static_cast<size_t>(num_pages_ * page_stride()), NaN());
    page_table_.assign(sequences_.size() * static_cast<size_t>(table_stride_), 1 << 29);
    size_t next = 0;
    for (size_t s = 0; s < used.size(); ++s) {
      for (int32_t i = 0; i < used[s]; ++i) page_table_[s * table_stride_ + i] = pages[next++];
      for (int32_t t = 0; t < context_lens_[s]; ++t) {
        for (int32_t h = 0; h < 2 * shape_.num_kv_heads; ++h) {
          uint16_t* row = &kv_[static_cast<size_t>(Offset(static_cast<int32_t>(s), t, h))];
          for (int32_t i = 0; i < shape_.head_dim; ++i) row[i] = Random(1.0f);
        }
      }
    }
  }

  // Of token t of sequence s; head h is of K, num_kv_heads + h of V.
  int64_t Offset(int32_t s, int32_t t, int32_t h) const {
    const int64_t page = page_table_[static_cast<size_t>(s * table_stride_ + t / kPageTokens)];
    return page * page_stride() + (int64_t{h} * kPageTokens + t % kPageTokens) * shape_.head_dim;
  }

  double ErrorOfHead(const std::vector<uint16_t>& out, int32_t s, int32_t row, int32_t h) const {
    const int32_t dim = shape_.head_dim;
    const int32_t kv_head = h / (shape_.num_heads / shape_.num_kv_heads);
    const uint16_t* got = &out[static_cast<size_t>(row * out_stride_ + int64_t{h} * dim)];
    if (context_lens_[s] == 0) {
      return std::all_of(got, got + dim, [&](uint16_t v) { return v == NaN(); }) ? 0 : INFINITY;
    }
    const int32_t num_keys = context_lens_[s] - (cu_seqlens_[s + 1] - 1 - row);
    std::vector<double> scores(static_cast<size_t>(num_keys));
    std::vector<double> q(static_cast<size_t>(dim));
    for (int32_t i = 0; i < dim; ++i) {
      q[i] =
          FromBits(shape_.dtype, q_[static_cast<size_t>(row * q_stride_ + int64_t{h} * dim + i)]);
    }
    for (int32_t t = 0; t < num_keys; ++t) {
      const float* k = &kv_values_[static_cast<size_t>(Offset(s, t, kv_head))];
      constexpr int32_t kLanes = 8;  // sums at once: this is most of the tests' time
      double sums[kLanes] = {};
      for (int32_t i = 0; i < dim; i += kLanes) {
        for (int32_t j = 0; j < kLanes; ++j) sums[j] += q[i + j] * double{k[i + j]};
      }
      scores[t] = std::accumulate(sums, sums + kLanes, 0.0) * scale();
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    std::vector<double> answer(static_cast<size_t>(dim), 0.0);
    double sum = 0;
    for (int32_t t = 0; t < num_keys; ++t) {
      const double weight = std::exp(scores[t] - top);
      const float* v =
          &kv_values_[static_cast<size_t>(Offset(s, t, shape_.num_kv_heads + kv_head))];
      sum += weight;
      for (int32_t i = 0; i < dim; ++i) answer[i] += weight * double{v[i]};
    }
    double distance = 0, norm = 0;
    for (int32_t i = 0; i < dim; ++i) {
      const double value = FromBits(shape_.dtype, got[i]);
      if (!std::isfinite(value)) return INFINITY;
      distance += (value - answer[i] / sum) * (value - answer[i] / sum);
      norm += answer[i] / sum * (answer[i] / sum);
    }
    return std::sqrt(distance / norm);
  }

  const AttentionShape shape_;
  const std::vector<TestSequence> sequences_;
  std::mt19937 random_;
  std::vector<int32_t> context_lens_;
  std::vector<int32_t> cu_seqlens_ = {0};
  std::vector<int32_t> page_table_;
  std::vector<uint16_t> q_;
  std::vector<uint16_t> kv_;
  std::vector<float> kv_values_;
  int64_t q_stride_ = 0;
  int64_t out_stride_ = 0;
  int32_t table_stride_ = 2;
  int32_t num_pages_ = 0;
};

// Device copies of a case.
struct DeviceCase {
  explicit DeviceCase(const AttentionCase& c)
      : q(c.q()),
        kv(c.kv()),
        page_table(c.page_table()),
        context_lens(c.context_lens()),
        out(static_cast<size_t>(c.num_rows() * c.out_stride())) {
    cache.kv = kv.data();
    cache.page_stride = c.page_stride();
    cache.num_pages = c.num_pages();
    cache.page_table = page_table.data();
    cache.page_table_stride = c.table_stride();
    cache.context_lens = context_lens.data();
  }

  GpuArray<uint16_t> q, kv;
  GpuArray<int32_t> page_table, context_lens;
  GpuArray<uint16_t> out;
  PagedKv cache;
};

// The distance that rounding the probabilities and the output to 16 bits explains.
inline double AttentionTolerance(DType dtype) { return dtype == DType::kBF16 ? 6e-3 : 1e-3; }

}  // namespace mili::kernels::cuda
