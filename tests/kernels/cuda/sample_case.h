// Rows to sample on the GPU and by the reference: logits, parameters, what the slots hold. Some
// rows are padding. One thread.
#pragma once

#include <cmath>
#include <map>
#include <memory>
#include <numeric>

#include "kernels/cuda/sample/sample.h"
#include "kernels/params.h"
#include "kernels/reference/philox.h"
#include "kernels/reference/sample.h"
#include "tests/kernels/cuda/device_array.h"

namespace mili::kernels::cuda {

// One row and all that decides about it.
struct TestRow {
  std::vector<float> logits;
  SlotSampling sampling;
  int32_t position = 0;
  std::vector<SlotBias> biases;
  std::vector<int32_t> banned;
  std::vector<uint32_t> mask;          // empty: none
  std::map<int32_t, uint16_t> counts;  // as SlotSampling has them; empty: none
  bool is_padding = false;
};

struct TestOutcome {
  SampledRow row;
  std::vector<SampledLogprob> top;
};

// What the GPU makes of the rows, one slot each, in reverse order.
inline std::vector<TestOutcome> SampleOnGpu(const std::vector<TestRow>& rows, int32_t num_valid,
                                            int32_t max_top) {
  const auto num_rows = static_cast<int32_t>(rows.size());
  const auto vocab_size = static_cast<int32_t>(rows[0].logits.size());
  const int64_t stride = (vocab_size + 3) / 4 * 4 + 4;
  std::vector<float> logits(num_rows * stride, NAN);
  std::vector<int32_t> row_slots(num_rows), positions(num_rows);
  std::vector<SlotSampling> slots(num_rows);
  std::vector<std::unique_ptr<GpuArray<SlotBias>>> biases;
  std::vector<std::unique_ptr<GpuArray<int32_t>>> banned;
  std::vector<std::unique_ptr<GpuArray<uint32_t>>> masks;
  std::vector<std::unique_ptr<GpuArray<uint16_t>>> counts(num_rows);
  for (int32_t i = 0; i < num_rows; ++i) {
    const TestRow& row = rows[i];
    std::copy(row.logits.begin(), row.logits.end(), logits.begin() + i * stride);
    const int32_t slot = num_rows - 1 - i;
    row_slots[i] = row.is_padding ? -1 : slot;
    positions[i] = row.position;
    SlotSampling& s = slots[slot] = row.sampling;
    s.num_biases = static_cast<int32_t>(row.biases.size());
    s.biases = biases.emplace_back(new GpuArray<SlotBias>(row.biases))->data();
    s.num_banned = static_cast<int32_t>(row.banned.size());
    s.banned = banned.emplace_back(new GpuArray<int32_t>(row.banned))->data();
    if (!row.mask.empty()) s.mask = masks.emplace_back(new GpuArray<uint32_t>(row.mask))->data();
    if (row.counts.empty()) continue;
    counts[i].reset(new GpuArray<uint16_t>((vocab_size + 7) / 8 * 8));
    std::vector<int32_t> ids;
    std::vector<uint16_t> values;
    for (const auto& [id, value] : row.counts) {
      ids.push_back(id);
      values.push_back(value);
    }
    const GpuArray<int32_t> d_ids(ids);
    const GpuArray<uint16_t> d_values(values);
    s.counts = counts[i]->data();
    EXPECT_EQ(FillCounts({s.counts, vocab_size, d_ids.data(), d_values.data(),
                          static_cast<int32_t>(ids.size())},
                         nullptr),
              cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  const GpuArray<float> d_logits(logits);
  const GpuArray<int32_t> d_row_slots(row_slots), d_positions(positions), last_tokens(num_rows);
  const GpuArray<SlotSampling> d_slots(slots);
  const GpuArray<SampledRow> out(num_rows);
  const GpuArray<SampledLogprob> top(size_t(num_rows) * max_top);
  const GpuArray<uint8_t> workspace(SampleWorkspaceBytes(num_rows, vocab_size));
  SampleParams p;
  p.logits = d_logits.data();
  p.logits_stride = stride;
  p.num_rows = num_rows;
  p.vocab_size = vocab_size;
  p.num_valid_tokens = num_valid;
  p.row_slots = d_row_slots.data();
  p.positions = d_positions.data();
  p.slots = d_slots.data();
  p.last_tokens = last_tokens.data();
  p.out = out.data();
  p.top = top.data();
  p.max_top = max_top;
  p.workspace = workspace.data();
  EXPECT_EQ(cuda::Sample(p, nullptr), cudaSuccess);

  const std::vector<SampledRow> outs = out.Read();
  const std::vector<SampledLogprob> tops = top.Read();
  const std::vector<int32_t> last = last_tokens.Read();
  workspace.Read();
  std::vector<TestOutcome> outcomes(num_rows);
  for (int32_t i = 0; i < num_rows; ++i) {
    outcomes[i].row = outs[i];
    outcomes[i].top.assign(tops.begin() + i * max_top, tops.begin() + (i + 1) * max_top);
    const int32_t slot = num_rows - 1 - i;
    EXPECT_EQ(last[slot], rows[i].is_padding ? -1 : std::max(outs[i].token_id, 0)) << "row " << i;
    if (counts[i] == nullptr) continue;
    std::map<int32_t, uint16_t> want = rows[i].counts;
    if (outs[i].token_id >= 0) {
      uint16_t& count = want[outs[i].token_id];
      count = static_cast<uint16_t>(count == 0 ? 2 : std::min(count + 1, 65535));
    }
    const std::vector<uint16_t> table = counts[i]->Read();
    for (int32_t id = 0; id < vocab_size; ++id) {
      const auto it = want.find(id);
      EXPECT_EQ(table[id], it == want.end() ? 0 : it->second) << "row " << i << " token " << id;
    }
  }
  return outcomes;
}

// What the reference makes of a row. `edited` gets the logits it chose from.
struct ReferenceOutcome {
  SampleOutcome row;
  std::vector<TokenLogprob> top;
  std::vector<float> edited;
};

inline ReferenceOutcome SampleByReference(const TestRow& row, int32_t num_valid, int32_t max_top) {
  const auto vocab_size = static_cast<int64_t>(row.logits.size());
  ReferenceOutcome outcome;
  outcome.edited = row.logits;
  outcome.top.resize(std::clamp(row.sampling.num_top, 0, max_top));
  std::vector<TokenBias> biases;
  for (const SlotBias& b : row.biases)
    biases.push_back({static_cast<uint32_t>(b.token_id), b.bias});
  std::vector<uint32_t> banned;
  if (row.position < row.sampling.ban_until) banned.assign(row.banned.begin(), row.banned.end());
  for (uint32_t id = 0; id < vocab_size && !row.mask.empty(); ++id) {
    if ((row.mask[id / 32] >> id % 32 & 1) == 0) banned.push_back(id);
  }
  std::vector<TokenCount> counts;
  for (const auto& [id, n] : row.counts) counts.push_back({static_cast<uint32_t>(id), n - 1u});
  std::vector<std::byte> workspace(reference::SampleWorkspaceBytes(vocab_size) + 64);
  const SlotSampling& s = row.sampling;
  kernels::SampleParams p;
  p.logits = outcome.edited.data();
  p.vocab_size = vocab_size;
  p.num_valid_tokens = num_valid;
  p.temperature = s.temperature;
  p.top_p = s.top_p;
  p.top_k = s.top_k;
  p.min_p = s.min_p;
  p.seed = s.seed;
  p.choice_idx = s.choice_idx;
  p.position = static_cast<uint32_t>(row.position);
  p.presence_penalty = s.presence_penalty;
  p.frequency_penalty = s.frequency_penalty;
  p.repetition_penalty = s.repetition_penalty;
  p.counts = counts.data();
  p.num_counts = static_cast<int64_t>(counts.size());
  p.biases = biases.data();
  p.num_biases = static_cast<int64_t>(biases.size());
  p.banned = banned.data();
  p.num_banned = static_cast<int64_t>(banned.size());
  p.want_logprobs = s.num_top >= 0;
  p.num_top = std::min<int64_t>(outcome.top.size(), vocab_size);
  p.top = outcome.top.data();
  const auto address = reinterpret_cast<uintptr_t>(workspace.data());
  p.workspace = workspace.data() + (64 - address % 64) % 64;
  outcome.row = reference::Sample(p);
  return outcome;
}

// How far, as a share of the mass, the row's draw lies from the range of `token`, both worked out
// by sorting in fp64; 1 if the token is not kept at all. top_p is moved by up to `slack` if that
// keeps the token.
inline double DistanceOfDraw(const TestRow& row, const std::vector<float>& edited,
                             int32_t num_valid, uint32_t token, double slack) {
  const SlotSampling& s = row.sampling;
  std::vector<uint32_t> ids(num_valid);
  std::iota(ids.begin(), ids.end(), 0u);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](uint32_t a, uint32_t b) { return edited[a] > edited[b]; });
  const auto weight = [&](uint32_t id) {
    return std::exp((static_cast<double>(edited[id]) - edited[ids[0]]) / s.temperature);
  };
  while (weight(ids.back()) < s.min_p) ids.pop_back();
  if (s.top_k > 0 && ids.size() > static_cast<size_t>(s.top_k)) ids.resize(s.top_k);
  double total = 0;
  for (uint32_t id : ids) total += weight(id);
  double best = 1;
  const double u =
      UniformOf(Philox4x32({static_cast<uint32_t>(row.position), s.choice_idx, 0, 0}, s.seed));
  for (const double shift : {-slack, 0.0, slack}) {
    double kept = 0;
    size_t count = 0;
    while (count < ids.size() && (count == 0 || s.top_p >= 1 || kept < (s.top_p + shift) * total)) {
      kept += weight(ids[count++]);
    }
    std::vector<uint32_t> by_id(ids.begin(), ids.begin() + static_cast<int64_t>(count));
    std::sort(by_id.begin(), by_id.end());
    double before = 0;
    for (uint32_t id : by_id) {
      const double after = before + weight(id) / kept;
      if (id == token) best = std::min(best, std::max({0.0, before - u, u - after}));
      before = after;
    }
  }
  return best;
}

}  // namespace mili::kernels::cuda
