// Sampling of every table: against a distribution worked out by sorting in fp64, and by the counts
// of many draws.
#include <algorithm>
#include <map>
#include <numeric>

#include "kernels/reference/philox.h"
#include "tests/kernels/kernel_test_support.h"

namespace mili::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// SampleParams that own what they point to; Run works on copies.
struct Row {
  std::vector<float> logits;
  SampleParams params;
  std::vector<TokenCount> counts;
  std::vector<TokenBias> biases;
  std::vector<uint32_t> banned;
  std::vector<TokenLogprob> top;

  explicit Row(std::vector<float> values) : logits(std::move(values)) {
    params.vocab_size = static_cast<int64_t>(logits.size());
    params.num_valid_tokens = params.vocab_size;
  }

  SampleOutcome Run(const CpuKernels& table) {
    std::vector<float> consumed = logits;
    Workspace workspace(table.sample_workspace_bytes(params.vocab_size));
    top.assign(params.num_top, {});
    params.logits = consumed.data();
    params.counts = counts.data();
    params.num_counts = static_cast<int64_t>(counts.size());
    params.biases = biases.data();
    params.num_biases = static_cast<int64_t>(biases.size());
    params.banned = banned.data();
    params.num_banned = static_cast<int64_t>(banned.size());
    params.top = top.data();
    params.workspace = workspace.data();
    return table.sample(params);
  }

  // Probability of each token that may be drawn, from temperature, min_p, top_k and top_p.
  std::map<uint32_t, double> Distribution() const {
    std::vector<uint32_t> ids(params.num_valid_tokens);
    std::iota(ids.begin(), ids.end(), 0u);
    std::stable_sort(ids.begin(), ids.end(),
                     [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
    const auto weight = [&](uint32_t id) {
      return std::exp((static_cast<double>(logits[id]) - logits[ids[0]]) / params.temperature);
    };
    while (weight(ids.back()) < params.min_p) ids.pop_back();
    if (params.top_k > 0 && ids.size() > static_cast<size_t>(params.top_k)) {
      ids.resize(params.top_k);
    }
    double total = 0;
    for (uint32_t id : ids) total += weight(id);
    double kept = 0;
    size_t count = 0;
    while (count < ids.size() && (count == 0 || kept < params.top_p * total)) {
      kept += weight(ids[count++]);
    }
    std::map<uint32_t, double> distribution;
    for (size_t i = 0; i < count; ++i) {
      if (weight(ids[i]) > 0) distribution[ids[i]] = weight(ids[i]) / kept;
    }
    return distribution;
  }
};

class SampleTest : public testing::TestWithParam<std::string> {
 protected:
  const CpuKernels& table() const { return TableOf(GetParam()); }
  std::mt19937 rng_{23};
};

uint32_t Greedy(const CpuKernels& table, Row row) {
  row.params.temperature = 0;
  return row.Run(table).token_id;
}

TEST_P(SampleTest, GreedyTakesTheLargestAndTheLowestIdOnTies) {
  for (const int64_t size : {1, 2, 17, 1000, 49152}) {
    Row row(RandomFloats(size, rng_));
    const auto best = std::max_element(row.logits.begin(), row.logits.end());
    EXPECT_EQ(Greedy(table(), row), best - row.logits.begin());
    row.logits.assign(size, 1.5f);
    EXPECT_EQ(Greedy(table(), row), 0u);
  }
  Row row({1, 7, 3, 7});
  EXPECT_EQ(Greedy(table(), row), 1u);
}

TEST_P(SampleTest, DrawsFollowTheDistribution) {
  struct Filters {
    float temperature, min_p, top_p;
    int64_t top_k;
  };
  for (const Filters& f : {Filters{1, 0, 1, 0}, Filters{0.7f, 0, 1, 5}, Filters{1.5f, 0, 0.8f, 0},
                           Filters{1, 0.2f, 1, 0}, Filters{1.2f, 0.05f, 0.9f, 12},
                           Filters{0.3f, 0, 0.5f, 0}, Filters{1, 0, 0, 0}, Filters{2, 0, 1, 1}}) {
    Row row(RandomFloats(40, rng_));
    row.params.temperature = f.temperature;
    row.params.min_p = f.min_p;
    row.params.top_p = f.top_p;
    row.params.top_k = f.top_k;
    row.params.seed = rng_();
    const auto distribution = row.Distribution();
    constexpr int kDraws = 4000;
    std::map<uint32_t, int> counts;
    for (int i = 0; i < kDraws; ++i) {
      row.params.position = i;
      const uint32_t token = row.Run(table()).token_id;
      ASSERT_TRUE(distribution.count(token)) << token << " is filtered out";
      ++counts[token];
    }
    double chi_square = 0;
    for (const auto& [token, probability] : distribution) {
      const double expected = probability * kDraws;
      chi_square += (counts[token] - expected) * (counts[token] - expected) / expected;
    }
    const double freedom = static_cast<double>(distribution.size()) - 1;
    // Mean `freedom`, variance 2 * freedom: five deviations off is a wrong distribution.
    EXPECT_LE(chi_square, freedom + 5 * std::sqrt(2 * freedom) + 1e-9);
  }
}

TEST_P(SampleTest, LargeVocabulariesKeepExactlyTheRightTokens) {
  const int64_t size = 151936;
  for (const float spread : {0.001f, 3.0f}) {  // nearly flat, and like a model's
    for (const auto& [top_k, top_p] :
         {std::pair<int64_t, float>{0, 0.9f}, {0, 0.9999f}, {1000, 1}, {1000, 0.7f}, {150000, 1}}) {
      Row row(RandomFloats(size, rng_, spread));
      row.params.top_k = top_k;
      row.params.top_p = top_p;
      const auto distribution = row.Distribution();
      for (int i = 0; i < 5; ++i) {
        row.params.position = i;
        EXPECT_TRUE(distribution.count(row.Run(table()).token_id));
      }
    }
  }
}

TEST_P(SampleTest, EqualLogitsAreCutByTheLowestId) {
  Row row(std::vector<float>(3000, 0.25f));
  row.params.top_k = 7;
  for (int i = 0; i < 100; ++i) {
    row.params.position = i;
    EXPECT_LT(row.Run(table()).token_id, 7u);
  }
  row.params.top_k = 0;
  row.params.top_p = 0.01f;  // 30 of 3000
  for (int i = 0; i < 100; ++i) {
    row.params.position = i;
    EXPECT_LT(row.Run(table()).token_id, 31u);
  }
}

TEST_P(SampleTest, TheDrawDependsOnSeedChoiceAndPositionOnly) {
  Row row(RandomFloats(500, rng_, 0.1f));
  row.params.seed = 0x123456789abcdefull;
  const auto sequence = [&] {
    std::vector<uint32_t> tokens;
    for (int i = 0; i < 32; ++i) {
      row.params.position = i;
      tokens.push_back(row.Run(table()).token_id);
    }
    return tokens;
  };
  const auto first = sequence();
  EXPECT_EQ(sequence(), first);
  row.params.want_logprobs = true;
  row.params.num_top = 20;
  EXPECT_EQ(sequence(), first);
  row.params.choice_idx = 1;
  EXPECT_NE(sequence(), first);
  row.params.choice_idx = 0;
  row.params.seed ^= uint64_t{1} << 40;  // the upper half of the seed counts too
  EXPECT_NE(sequence(), first);
}

TEST_P(SampleTest, BansBiasAndPadding) {
  Row row({5, 4, 3, 2, 9});
  row.params.num_valid_tokens = 4;
  EXPECT_EQ(Greedy(table(), row), 0u);  // the largest is padding
  row.banned = {0, 1};
  EXPECT_EQ(Greedy(table(), row), 2u);
  row.biases = {{3, 1.5f}, {1, 100}};  // a ban is stronger than a bias
  EXPECT_EQ(Greedy(table(), row), 3u);
  row.params.temperature = 1;
  for (int i = 0; i < 200; ++i) {
    row.params.position = i;
    const uint32_t token = row.Run(table()).token_id;
    EXPECT_TRUE(token == 2 || token == 3) << token;
  }
}

TEST_P(SampleTest, RepetitionPenaltyDividesPositiveAndMultipliesNegative) {
  Row row({4, 3, -1});
  row.params.repetition_penalty = 2;
  row.counts = {{0, 0}};  // in the prompt only counts too
  EXPECT_EQ(Greedy(table(), row), 1u);
  row.logits = {-3, -2, -3.5f};
  row.counts = {{1, 1}};  // to -4
  EXPECT_EQ(Greedy(table(), row), 0u);
  row.params.repetition_penalty = 1;
  EXPECT_EQ(Greedy(table(), row), 1u);
}

TEST_P(SampleTest, PresenceAndFrequencyPenaltyCountTheOutput) {
  Row row({4, 3.5f, 0});
  row.params.presence_penalty = 1;
  row.counts = {{0, 0}};
  EXPECT_EQ(Greedy(table(), row), 0u);  // only in the prompt
  row.counts = {{0, 3}};
  EXPECT_EQ(Greedy(table(), row), 1u);
  row.params.presence_penalty = 0;
  row.params.frequency_penalty = 0.15f;
  row.counts = {{0, 3}};
  EXPECT_EQ(Greedy(table(), row), 0u);  // 4 - 0.45
  row.counts = {{0, 4}};
  EXPECT_EQ(Greedy(table(), row), 1u);  // 4 - 0.6
  row.params.frequency_penalty = -2;
  row.counts = {{2, 3}};
  EXPECT_EQ(Greedy(table(), row), 2u);  // 0 + 6
}

TEST_P(SampleTest, LogprobsAreOfTheRawLogits) {
  for (const int64_t size : {1, 5, 1000, 49152}) {
    Row row(RandomFloats(size, rng_, 4));
    row.params.want_logprobs = true;
    row.params.num_top = std::min<int64_t>(size, 20);
    row.params.temperature = 0;
    row.params.num_valid_tokens = (size + 1) / 2;
    if (size > 2) row.biases = {{1, 90}};  // chosen for its bias, not for its logit
    const SampleOutcome outcome = row.Run(table());
    double sum = 0;
    for (float logit : row.logits) sum += std::exp(static_cast<double>(logit));
    std::vector<float> sorted = row.logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    EXPECT_NEAR(outcome.logprob, row.logits[outcome.token_id] - std::log(sum), 2e-5);
    EXPECT_EQ(outcome.rank, 1 + std::count_if(sorted.begin(), sorted.end(), [&](float x) {
                              return x > row.logits[outcome.token_id];
                            }));
    for (int64_t i = 0; i < row.params.num_top; ++i) {
      EXPECT_EQ(row.logits[row.top[i].token_id], sorted[i]);
      EXPECT_NEAR(row.top[i].logprob, sorted[i] - std::log(sum), 2e-5);
    }
  }
}

TEST_P(SampleTest, TopBreaksTiesByIdAndReachesMaskedTokens) {
  Row row({-kInf, 1, 2, 2, -kInf, 1});
  row.params.want_logprobs = true;
  row.params.num_top = 6;
  row.params.temperature = 0;
  EXPECT_EQ(row.Run(table()).token_id, 2u);
  std::vector<uint32_t> ids;
  for (const TokenLogprob& entry : row.top) ids.push_back(entry.token_id);
  EXPECT_EQ(ids, (std::vector<uint32_t>{2, 3, 1, 5, 0, 4}));
  EXPECT_EQ(row.top[5].logprob, -kInf);
}

TEST_P(SampleTest, ScoreGivesLogprobRankAndTop) {
  const std::vector<float> logits = RandomFloats(2000, rng_, 3);
  double sum = 0;
  for (float logit : logits) sum += std::exp(static_cast<double>(logit));
  for (const uint32_t token : {0u, 77u, 1999u}) {
    std::vector<TokenLogprob> top(1024);
    const SampleOutcome outcome =
        table().score({logits.data(), 2000, token, static_cast<int64_t>(top.size()), top.data()});
    EXPECT_EQ(outcome.token_id, token);
    EXPECT_FALSE(outcome.has_nan);
    EXPECT_NEAR(outcome.logprob, logits[token] - std::log(sum), 2e-5);
    EXPECT_EQ(outcome.rank, 1 + std::count_if(logits.begin(), logits.end(),
                                              [&](float x) { return x > logits[token]; }));
    EXPECT_TRUE(std::is_sorted(top.begin(), top.end(),
                               [](const auto& a, const auto& b) { return a.logprob > b.logprob; }));
    EXPECT_EQ(logits[top[0].token_id], *std::max_element(logits.begin(), logits.end()));
  }
  EXPECT_EQ(table().score({logits.data(), 2000, 3, 0, nullptr}).token_id, 3u);
}

TEST_P(SampleTest, ANanIsReportedWhereverItStands) {
  for (const size_t at : {0u, 15u, 16u, 36u}) {
    Row row(RandomFloats(37, rng_));
    row.logits[at] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(row.Run(table()).has_nan) << at;
    EXPECT_TRUE(table().score({row.logits.data(), 37, 1, 0, nullptr}).has_nan) << at;
  }
}

TEST_P(SampleTest, AnInfiniteLogitWins) {
  Row row(RandomFloats(50, rng_));
  row.logits[9] = row.logits[20] = kInf;
  EXPECT_EQ(Greedy(table(), row), 9u);
  row.params.want_logprobs = true;
  std::map<uint32_t, int> counts;
  for (const float top_p : {1.0f, 0.9f}) {
    for (const int64_t top_k : {0, 5}) {
      row.params.top_p = top_p;
      row.params.top_k = top_k;
      for (int i = 0; i < 50; ++i) {
        row.params.position = i;
        const SampleOutcome outcome = row.Run(table());
        ++counts[outcome.token_id];
        EXPECT_NEAR(outcome.logprob, std::log(0.5), 1e-6);
        EXPECT_EQ(outcome.rank, 1u);
      }
    }
  }
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_GT(counts[9], 50);
  EXPECT_GT(counts[20], 50);
}

TEST_P(SampleTest, ExtremeTemperaturesStaySane) {
  Row row({1, 2, 1.5f});
  for (const float temperature : {1e-30f, 1e-40f, 1e-4f}) {
    row.params.temperature = temperature;
    EXPECT_EQ(row.Run(table()).token_id, 1u);
    row.params.min_p = 0.1f;
    EXPECT_EQ(row.Run(table()).token_id, 1u);
  }
  row.params.min_p = 0;
  row.params.temperature = 1e30f;  // as good as even
  std::map<uint32_t, int> counts;
  for (int i = 0; i < 300; ++i) {
    row.params.position = i;
    ++counts[row.Run(table()).token_id];
  }
  for (uint32_t id = 0; id < 3; ++id) EXPECT_GT(counts[id], 60);
}

TEST_P(SampleTest, NothingLeftIsReported) {
  Row row({1, 2, 3});
  row.banned = {0, 1, 2};
  EXPECT_TRUE(row.Run(table()).all_masked);
  row.params.temperature = 0;
  EXPECT_TRUE(row.Run(table()).all_masked);
  Row masked(std::vector<float>(40, -kInf));
  EXPECT_TRUE(masked.Run(table()).all_masked);
  masked.logits[39] = 5;
  EXPECT_EQ(masked.Run(table()).token_id, 39u);
  masked.params.num_valid_tokens = 39;
  EXPECT_TRUE(masked.Run(table()).all_masked);
}

INSTANTIATE_TEST_SUITE_P(Tables, SampleTest, testing::ValuesIn(AllTables()),
                         [](const auto& info) { return info.param; });

// The known answers that the authors' library, Random123, publishes for philox4x32-10.
TEST(PhiloxTest, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffffull),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822ull),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, UniformStaysBelowOne) {
  EXPECT_EQ(UniformOf({0, 0, 0, 0}), 0.0);
  EXPECT_LT(UniformOf({0xffffffff, 0xffffffff, 0, 0}), 1.0);
  EXPECT_EQ(UniformOf({0x80000000, 0, 0, 0}), 0.5);
}

}  // namespace
}  // namespace mili::kernels
