// Sampling on the GPU, token by token against the reference: the same logits give the same tokens,
// but where a draw lies on the border of two.
#include "tests/kernels/cuda/sample_case.h"

namespace mili::kernels::cuda {
namespace {

constexpr float kInf = INFINITY;

class SampleGpu : public GpuTest {
 protected:
  TestRow RandomRow(int32_t vocab_size, float spread) {
    TestRow row;
    row.logits.resize(vocab_size);
    std::normal_distribution<float> normal(0, spread);
    for (float& logit : row.logits) logit = normal(random_);
    row.sampling.seed = uint64_t{random_()} << 32 | random_();
    row.sampling.choice_idx = random_() % 3;
    row.position = static_cast<int32_t>(random_() % 100000);
    return row;
  }

  // A row with every mode and edit as the bits of `kind` have it.
  TestRow AnyRow(int32_t vocab_size, uint32_t kind) {
    constexpr float kSpreads[] = {0.001f, 1, 3, 8};
    constexpr float kTopPs[] = {1, 0.9f, 0.5f, 0.999f};
    constexpr int32_t kTopKs[] = {0, 1, 50, 1000};
    TestRow row = RandomRow(vocab_size, kSpreads[kind & 3]);
    SlotSampling& s = row.sampling;
    s.temperature = (kind >> 2 & 7) == 0 ? 0.0f : 0.2f * static_cast<float>(kind >> 2 & 7);
    s.top_p = kTopPs[kind >> 5 & 3];
    s.top_k = kTopKs[kind >> 7 & 3];
    s.min_p = (kind >> 9 & 3) == 3 ? 0.05f : 0.0f;
    s.num_top = (kind >> 11 & 3) == 0 ? -1 : static_cast<int32_t>(random_() % 21);
    if ((kind >> 13 & 1) != 0) AddEdits(row);
    return row;
  }

  void AddEdits(TestRow& row) {
    const auto vocab_size = static_cast<int32_t>(row.logits.size());
    SlotSampling& s = row.sampling;
    s.repetition_penalty = 1.3f;
    s.presence_penalty = 0.7f;
    s.frequency_penalty = 0.3f;
    s.ban_until = row.position + static_cast<int32_t>(random_() % 2);
    for (int i = 0; i < 40; ++i) {
      const auto id = static_cast<int32_t>(random_() % vocab_size);
      row.counts[id] = static_cast<uint16_t>(1 + random_() % 4);
      if (i % 4 == 0 && vocab_size > 100) row.banned.push_back(id);
      if (i % 4 == 1) row.biases.push_back({id, static_cast<float>(random_() % 100) / 10 - 5});
    }
    if (random_() % 2 == 0 || vocab_size < 100) return;
    row.mask.resize((vocab_size + 31) / 32);
    for (uint32_t& word : row.mask) word = random_() | random_();
  }

  // Samples the rows on both and compares everything.
  void Check(const std::vector<TestRow>& rows, int32_t num_valid, int32_t max_top) {
    const std::vector<TestOutcome> got = SampleOnGpu(rows, num_valid, max_top);
    for (size_t i = 0; i < rows.size(); ++i) {
      SCOPED_TRACE(testing::Message()
                   << "row " << i << " of " << rows[i].logits.size() << ", temperature "
                   << rows[i].sampling.temperature << ", top_p " << rows[i].sampling.top_p
                   << ", top_k " << rows[i].sampling.top_k << ", min_p " << rows[i].sampling.min_p);
      if (rows[i].is_padding) {
        EXPECT_EQ(got[i].row.token_id, -1);
        EXPECT_EQ(got[i].row.flags, ~0u) << "a padding row was written";
        continue;
      }
      const ReferenceOutcome want = SampleByReference(rows[i], num_valid, max_top);
      ASSERT_EQ(got[i].row.flags, want.row.has_nan      ? kSampledNan
                                  : want.row.all_masked ? kSampledMasked
                                                        : 0u);
      if (got[i].row.flags != 0) {
        EXPECT_EQ(got[i].row.token_id, -1);
        continue;
      }
      ++num_rows_;
      CheckToken(rows[i], got[i].row, want, num_valid);
      CheckLogprobs(rows[i], got[i], want);
    }
  }

  void TearDown() override {
    if (num_rows_ > 0) std::printf("%d of %d tokens are a neighbour\n", num_neighbours_, num_rows_);
    EXPECT_LE(num_neighbours_, 1 + num_rows_ / 50);
  }

  std::mt19937 random_{std::random_device()()};
  int num_rows_ = 0;
  int num_neighbours_ = 0;

 private:
  void CheckToken(const TestRow& row, const SampledRow& got, const ReferenceOutcome& want,
                  int32_t num_valid) {
    if (static_cast<uint32_t>(got.token_id) == want.row.token_id) return;
    ASSERT_GT(row.sampling.temperature, 0) << got.token_id << ", not " << want.row.token_id;
    ASSERT_GE(got.token_id, 0);
    ASSERT_LT(got.token_id, num_valid);
    ++num_neighbours_;
    EXPECT_LE(DistanceOfDraw(row, want.edited, num_valid, got.token_id, 2e-6), 2e-6)
        << got.token_id << ", not " << want.row.token_id;
  }

  static void CheckLogprobs(const TestRow& row, const TestOutcome& got,
                            const ReferenceOutcome& want) {
    if (row.sampling.num_top < 0) return;
    if (static_cast<uint32_t>(got.row.token_id) == want.row.token_id) {
      ExpectLogprob(got.row.logprob, want.row.logprob);
      EXPECT_EQ(static_cast<uint32_t>(got.row.rank), want.row.rank);
    }
    const size_t num_top = std::min(want.top.size(), row.logits.size());
    for (size_t i = 0; i < num_top; ++i) {
      ASSERT_EQ(static_cast<uint32_t>(got.top[i].token_id), want.top[i].token_id) << "top " << i;
      ExpectLogprob(got.top[i].logprob, want.top[i].logprob);
    }
    for (size_t i = num_top; i < got.top.size(); ++i) {
      ASSERT_EQ(got.top[i].token_id, -1) << "top " << i << " was written";
    }
  }
  static void ExpectLogprob(float got, float want) {
    if (std::isinf(want)) {
      EXPECT_EQ(got, want);
    } else {
      EXPECT_NEAR(got, want, 4e-6 * std::max(1.0f, std::fabs(want)));
    }
  }
};

TEST_F(SampleGpu, AllModesGiveTheReferencesTokens) {
  for (const int32_t vocab_size : {1, 5, 127, 128, 129, 1000, 32003, 49152}) {
    std::vector<TestRow> rows;
    for (int i = 0; i < 140; ++i) {  // more than an H100 has SMs
      rows.push_back(AnyRow(vocab_size, random_()));
      rows.back().is_padding = i % 13 == 5;
    }
    Check(rows, vocab_size, 20);
  }
}

TEST_F(SampleGpu, LargeVocabulariesGiveTheReferencesTokens) {
  for (const auto& [vocab_size, num_valid] : {std::pair{151936, 151669}, {262144, 262144}}) {
    for (const int num_rows : {1, 3, 64}) {
      std::vector<TestRow> rows;
      for (int i = 0; i < num_rows; ++i) rows.push_back(AnyRow(vocab_size, random_()));
      Check(rows, num_valid, 20);
    }
  }
}

TEST_F(SampleGpu, TiesGoToTheLowestId) {
  std::vector<TestRow> rows;
  for (uint32_t kind = 0; kind < 64; ++kind) {
    TestRow row = AnyRow(5000, random_() & ~0x2000u);
    for (float& logit : row.logits) logit = std::round(logit);  // many ties, both zeros among them
    rows.push_back(row);
  }
  Check(rows, 4990, 20);
  for (TestRow& row : rows) row.logits.assign(5000, 1.5f);
  Check(rows, 4990, 20);
}

TEST_F(SampleGpu, TopPOfFlatLogitsKeepsWhatTheReferenceKeeps) {
  std::vector<TestRow> rows;
  for (const float spread : {0.001f, 0.3f, 1.0f, 2.0f}) {
    for (const float top_p : {0.01f, 0.5f, 0.9f, 0.9999f}) {
      for (uint32_t kind = 0; kind < 4; ++kind) {
        TestRow row = RandomRow(20000, spread);
        row.sampling.temperature = 0.4f + 0.4f * static_cast<float>(random_() % 4);
        row.sampling.top_p = top_p;
        if (kind % 2 != 0) AddEdits(row);
        for (float& logit : row.logits) logit = kind < 2 ? logit : std::round(8 * logit) / 8;
        rows.push_back(row);
      }
    }
  }
  Check(rows, 19900, 0);
}

TEST_F(SampleGpu, InfinitiesAndNothingLeftAreAsTheReferenceHasThem) {
  std::vector<TestRow> rows;
  for (int i = 0; i < 48; ++i) {
    TestRow row = AnyRow(3000, random_() | 0x800u);
    if (i % 3 == 0) {
      for (int j = 0; j < 3; ++j) row.logits[random_() % 3000] = kInf;
    } else if (i % 3 == 1) {
      for (int j = 0; j < 3000; ++j) {
        if (j % 500 != i) row.logits[j] = -kInf;
      }
    } else if (i % 2 == 0) {
      row.logits.assign(3000, -kInf);
    } else {
      row.logits[random_() % 3000] = NAN;
    }
    rows.push_back(row);
  }
  Check(rows, 3000, 20);
}

TEST_F(SampleGpu, ManyLogprobsAreSortedAsTheReferenceHasThem) {
  std::vector<TestRow> rows;
  for (const int32_t num_top : {0, 1, 200, 1024, 5000}) {
    rows.push_back(RandomRow(9000, 2));
    rows.back().sampling.num_top = num_top;
    rows.push_back(RandomRow(9000, 0.0001f));
    for (float& logit : rows.back().logits) logit = std::round(logit * 10000) / 10000;
    rows.back().sampling.num_top = num_top;
  }
  Check(rows, 9000, 1024);
}

TEST_F(SampleGpu, ARowDoesNotDependOnItsBatch) {
  std::vector<TestRow> rows;
  for (int i = 0; i < 140; ++i) rows.push_back(AnyRow(60000, random_()));
  const std::vector<TestOutcome> together = SampleOnGpu(rows, 59900, 20);
  for (size_t i = 0; i < rows.size(); i += 5) {
    const TestOutcome alone = SampleOnGpu({rows[i]}, 59900, 20)[0];
    EXPECT_EQ(std::memcmp(&alone.row, &together[i].row, sizeof(SampledRow)), 0) << i;
    EXPECT_EQ(std::memcmp(alone.top.data(), together[i].top.data(), 20 * sizeof(SampledLogprob)), 0)
        << i;
  }
}

TEST_F(SampleGpu, ScoreGivesTheReferencesLogprobs) {
  for (const int32_t vocab_size : {7, 1000, 151936}) {
    const int32_t num_rows = 9;
    const int32_t max_top = 20;
    const int64_t stride = (vocab_size + 3) / 4 * 4;
    std::vector<float> logits(num_rows * stride, NAN);
    std::vector<int32_t> targets(num_rows), num_top(num_rows);
    for (int32_t i = 0; i < num_rows; ++i) {
      const TestRow row = RandomRow(vocab_size, 3);
      std::copy(row.logits.begin(), row.logits.end(), logits.begin() + i * stride);
      targets[i] = i == 4 ? -1 : static_cast<int32_t>(random_() % vocab_size);
      num_top[i] = i * 5 % 24;
    }
    const GpuArray<float> d_logits(logits);
    const GpuArray<int32_t> d_targets(targets), d_num_top(num_top);
    const GpuArray<SampledRow> out(num_rows);
    const GpuArray<SampledLogprob> top(num_rows * max_top);
    const GpuArray<uint8_t> workspace(SampleWorkspaceBytes(num_rows, vocab_size));
    cuda::ScoreParams p;
    p.logits = d_logits.data();
    p.logits_stride = stride;
    p.num_rows = num_rows;
    p.vocab_size = vocab_size;
    p.targets = d_targets.data();
    p.num_top = d_num_top.data();
    p.out = out.data();
    p.top = top.data();
    p.max_top = max_top;
    p.workspace = workspace.data();
    ASSERT_EQ(cuda::Score(p, nullptr), cudaSuccess);
    const std::vector<SampledRow> rows = out.Read();
    const std::vector<SampledLogprob> tops = top.Read();
    for (int32_t i = 0; i < num_rows; ++i) {
      ASSERT_EQ(rows[i].token_id, targets[i]);
      if (targets[i] < 0) continue;
      std::vector<TokenLogprob> want_top(std::min({num_top[i], max_top, vocab_size}));
      const SampleOutcome want = reference::Score({.logits = &logits[i * stride],
                                                   .vocab_size = vocab_size,
                                                   .token_id = static_cast<uint32_t>(targets[i]),
                                                   .num_top = static_cast<int64_t>(want_top.size()),
                                                   .top = want_top.data()});
      EXPECT_NEAR(rows[i].logprob, want.logprob, 1e-4);
      EXPECT_EQ(static_cast<uint32_t>(rows[i].rank), want.rank);
      for (size_t j = 0; j < want_top.size(); ++j) {
        EXPECT_EQ(static_cast<uint32_t>(tops[i * max_top + j].token_id), want_top[j].token_id);
        EXPECT_NEAR(tops[i * max_top + j].logprob, want_top[j].logprob, 1e-4);
      }
    }
  }
}

}  // namespace
}  // namespace mili::kernels::cuda
