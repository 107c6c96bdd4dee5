#include "kernels/reference/sample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/reference/candidates.h"
#include "kernels/reference/philox.h"

namespace mili::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int64_t kMaxTop = 1024;

// What turns raw logits into logprobs.
struct LogSoftmax {
  float max;
  double log_sum;  // of exp(logit - max); of the number of infinities if max is +inf

  float Of(float logit) const {
    if (max == kInf) return logit == kInf ? static_cast<float>(-log_sum) : -kInf;
    return static_cast<float>(static_cast<double>(logit) - max - log_sum);
  }
};

LogSoftmax LogSoftmaxOf(const float* logits, int64_t n, float max, const RowScan& scan) {
  if (max == kInf) {
    const int64_t count = scan.count_greater(logits, n, std::numeric_limits<float>::max());
    return {max, std::log(static_cast<double>(count))};
  }
  if (max == -kInf) return {0, 0};  // no distribution: every logprob is -inf
  double sum = 0;
  float weights[RowScan::kBlock];
  for (int64_t i = 0; i < n; i += RowScan::kBlock) {
    sum += scan.weights(logits + i, std::min(RowScan::kBlock, n - i), {max, 1, -kInf}, weights);
  }
  return {max, std::log(sum)};
}

// The num_top likeliest tokens, best first.
void FillTop(const float* logits, int64_t n, const LogSoftmax& softmax, int64_t num_top,
             const RowScan& scan, TokenLogprob* top) {
  Candidate found[2 * kMaxTop + 256];
  num_top = std::min({num_top, n, kMaxTop});
  int64_t count = CollectTop(logits, n, num_top, -kInf, scan, found, std::size(found));
  std::sort(found, found + count, IsBefore);
  for (int64_t id = 0; id < n && count < num_top; ++id) {  // too few finite logits
    if (logits[id] == -kInf) found[count++] = {logits[id], static_cast<uint32_t>(id), 0};
  }
  for (int64_t i = 0; i < num_top; ++i) {
    top[i] = {found[i].token_id, softmax.Of(found[i].logit)};
  }
}

// Bans, bias and penalties, in that order, on the logits in place.
void Edit(const SampleParams& p) {
  for (int64_t i = 0; i < p.num_banned; ++i) p.logits[p.banned[i]] = -kInf;
  for (int64_t i = 0; i < p.num_biases; ++i) p.logits[p.biases[i].token_id] += p.biases[i].bias;
  for (int64_t i = 0; i < p.num_counts; ++i) {
    float& logit = p.logits[p.counts[i].token_id];
    logit = logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
    const uint32_t count = p.counts[i].num_in_output;
    if (count > 0) {
      logit -= p.presence_penalty;
      logit -= p.frequency_penalty * static_cast<float>(count);
    }
  }
}

// Position of `target` in the running sum of the weights; the last positive one if the sum, rounded
// otherwise, stays below it.
template <typename WeightAt>
int64_t Locate(int64_t n, double target, WeightAt weight_at) {
  double sum = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double weight = weight_at(i);
    if (weight > 0) last = i;
    sum += weight;
    if (sum > target) return i;
  }
  return last;
}

// A draw from all tokens above the floor, in the order of their ids. `block_sums` holds one double
// for each block of the row.
uint32_t DrawFromRow(const SampleParams& p, const SoftmaxWeight& of, double uniform,
                     double* block_sums, const RowScan& scan) {
  float weights[RowScan::kBlock];
  const int64_t n = p.num_valid_tokens;
  const int64_t num_blocks = (n + RowScan::kBlock - 1) / RowScan::kBlock;
  double total = 0;
  for (int64_t b = 0; b < num_blocks; ++b) {
    const int64_t begin = b * RowScan::kBlock;
    block_sums[b] =
        scan.weights(p.logits + begin, std::min(RowScan::kBlock, n - begin), of, weights);
    total += block_sums[b];
  }
  double target = uniform * total;
  const int64_t block = Locate(num_blocks, target, [&](int64_t b) { return block_sums[b]; });
  for (int64_t b = 0; b < block; ++b) target -= block_sums[b];
  const int64_t begin = block * RowScan::kBlock;
  const int64_t size = std::min(RowScan::kBlock, n - begin);
  scan.weights(p.logits + begin, size, of, weights);
  return static_cast<uint32_t>(begin + Locate(size, target, [&](int64_t i) { return weights[i]; }));
}

double TotalWeight(const SampleParams& p, const SoftmaxWeight& of, const RowScan& scan) {
  float weights[RowScan::kBlock];
  double total = 0;
  for (int64_t i = 0; i < p.num_valid_tokens; i += RowScan::kBlock) {
    const int64_t size = std::min(RowScan::kBlock, p.num_valid_tokens - i);
    total += scan.weights(p.logits + i, size, of, weights);
  }
  return total;
}

// The floor below which logits cannot matter for top_p: all of them together weigh less than the
// share of `total` that top_p drops.
float TopPFloor(const SampleParams& p, const SoftmaxWeight& of, double total) {
  const double least = (1.0 - p.top_p) * total / static_cast<double>(p.num_valid_tokens) * 0.99;
  if (!(least > 0)) return of.floor;
  return std::max(of.floor, static_cast<float>(of.max + of.temperature * std::log(least)));
}

uint32_t Draw(const SampleParams& p, SoftmaxWeight of, Candidate* candidates, const RowScan& scan) {
  const double uniform = UniformOf(Philox4x32({p.position, p.choice_idx, 0, 0}, p.seed));
  const int64_t n = p.num_valid_tokens;
  const bool has_top_k = p.top_k > 0 && p.top_k < n;
  if (!has_top_k && p.top_p >= 1) {
    return DrawFromRow(p, of, uniform, reinterpret_cast<double*>(candidates), scan);
  }
  int64_t count;
  double total;
  if (has_top_k) {
    count = CollectTop(p.logits, n, p.top_k, of.floor, scan, candidates, n);
    total = Weigh(candidates, count, of);
  } else {
    total = TotalWeight(p, of, scan);
    count = CollectTop(p.logits, n, n, TopPFloor(p, of, total), scan, candidates, n);
    Weigh(candidates, count, of);
  }
  if (p.top_p < 1) {
    count = TakeMass(candidates, count, p.top_p * total);
    total = 0;
    for (int64_t i = 0; i < count; ++i) total += candidates[i].weight;
  }
  std::sort(candidates, candidates + count,
            [](const Candidate& a, const Candidate& b) { return a.token_id < b.token_id; });
  const int64_t drawn =
      Locate(count, uniform * total, [&](int64_t i) { return candidates[i].weight; });
  return candidates[drawn].token_id;
}

// The token, from edited logits; false if none is left.
bool Choose(const SampleParams& p, Candidate* candidates, const RowScan& scan, uint32_t* token) {
  bool has_nan = false;
  float max = scan.max(p.logits, p.num_valid_tokens, &has_nan);
  if (max == -kInf) return false;
  if (p.temperature == 0) {
    *token =
        static_cast<uint32_t>(std::find(p.logits, p.logits + p.num_valid_tokens, max) - p.logits);
    return true;
  }
  if (max == kInf) {  // as in the limit: only the infinite ones, evenly
    for (int64_t i = 0; i < p.num_valid_tokens; ++i) {
      p.logits[i] = p.logits[i] == kInf ? 0 : -kInf;
    }
    max = 0;
  }
  SoftmaxWeight of = {max, p.temperature, -kInf};
  if (p.min_p > 0) {  // weight >= min_p, the largest weight being 1
    const float least = max + p.temperature * std::log(std::min(p.min_p, 1.0f));
    of.floor = std::nextafter(std::min(least, max), -kInf);
  }
  *token = Draw(p, of, candidates, scan);
  return true;
}

size_t AlignedTo64(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

SampleOutcome SampleRow(const SampleParams& p, const RowScan& scan) {
  SampleOutcome outcome;
  const float raw_max = scan.max(p.logits, p.vocab_size, &outcome.has_nan);
  if (outcome.has_nan) return outcome;
  auto* raw = reinterpret_cast<float*>(p.workspace);
  auto* candidates =
      reinterpret_cast<Candidate*>(p.workspace + AlignedTo64(p.vocab_size * sizeof(float)));
  if (p.want_logprobs) std::memcpy(raw, p.logits, p.vocab_size * sizeof(float));
  Edit(p);
  if (!Choose(p, candidates, scan, &outcome.token_id)) {
    outcome.all_masked = true;
    return outcome;
  }
  if (p.want_logprobs) {
    const LogSoftmax softmax = LogSoftmaxOf(raw, p.vocab_size, raw_max, scan);
    outcome.logprob = softmax.Of(raw[outcome.token_id]);
    outcome.rank =
        1 + static_cast<uint32_t>(scan.count_greater(raw, p.vocab_size, raw[outcome.token_id]));
    FillTop(raw, p.vocab_size, softmax, p.num_top, scan, p.top);
  }
  return outcome;
}

SampleOutcome ScoreRow(const ScoreParams& p, const RowScan& scan) {
  SampleOutcome outcome;
  const float max = scan.max(p.logits, p.vocab_size, &outcome.has_nan);
  if (outcome.has_nan) return outcome;
  const LogSoftmax softmax = LogSoftmaxOf(p.logits, p.vocab_size, max, scan);
  const float logit = p.logits[p.token_id];
  outcome.token_id = p.token_id;
  outcome.logprob = softmax.Of(logit);
  outcome.rank = 1 + static_cast<uint32_t>(scan.count_greater(p.logits, p.vocab_size, logit));
  FillTop(p.logits, p.vocab_size, softmax, p.num_top, scan, p.top);
  return outcome;
}

namespace reference {
namespace {

float PlainMax(const float* x, int64_t n, bool* has_nan) {
  float max = -kInf;
  for (int64_t i = 0; i < n; ++i) {
    if (std::isnan(x[i])) *has_nan = true;
    if (x[i] > max) max = x[i];
  }
  return max;
}

float PlainWeights(const float* x, int64_t n, const SoftmaxWeight& of, float* weights) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    weights[i] = x[i] > of.floor ? std::exp((x[i] - of.max) / of.temperature) : 0.0f;
    sum += weights[i];
  }
  return static_cast<float>(sum);
}

int64_t PlainCountGreater(const float* x, int64_t n, float value) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += x[i] > value;
  return count;
}

constexpr RowScan kPlainScan = {PlainMax, PlainWeights, PlainCountGreater};

}  // namespace

size_t SampleWorkspaceBytes(int64_t vocab_size) {
  return AlignedTo64(vocab_size * sizeof(float)) + AlignedTo64(vocab_size * sizeof(Candidate));
}

SampleOutcome Sample(const SampleParams& p) { return SampleRow(p, kPlainScan); }

SampleOutcome Score(const ScoreParams& p) { return ScoreRow(p, kPlainScan); }

}  // namespace reference
}  // namespace mili::kernels
