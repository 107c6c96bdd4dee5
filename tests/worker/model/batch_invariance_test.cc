// The same request gives the same bytes alone, in any batch, in any chunks, on any number of
// threads and after restarts: tokens and logprobs alike.
#include <cstring>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "kernels/cpu/kernels.h"
#include "kernels/reference/kernels.h"
#include "tests/support/model_runner.h"

namespace mili::worker {
namespace {

struct Case {
  const char* model;
  const char* table;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.model << " on " << c.table; }

class BatchInvarianceTest : public ::testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<ModelRunner> Load(int num_threads, uint32_t max_num_batched_tokens) {
    const kernels::CpuKernels* table = std::string(GetParam().table) == "reference"
                                           ? &kernels::ReferenceKernels()
                                           : kernels::FindCpuKernels(GetParam().table);
    if (table == nullptr) return nullptr;
    MemoryLimits limits;
    limits.max_num_seqs = 6;
    limits.max_num_batched_tokens = max_num_batched_tokens;
    limits.page_size_tokens = 4;
    limits.max_model_len = 80;
    limits.kv_cache_memory_bytes = 1 << 20;
    auto runner = ModelRunner::Load(std::string(MILI_TEST_DATA) + "/models/" + GetParam().model,
                                    *table, num_threads, limits);
    EXPECT_TRUE(runner.ok()) << runner.status();
    return runner.ok() ? *std::move(runner) : nullptr;
  }

  // Greedy and drawn, with penalties, bias, min_tokens, logprobs and prompt logprobs.
  static std::vector<DriverRequest> Requests(uint32_t vocab_size) {
    std::mt19937 random(11);
    std::vector<DriverRequest> requests(10);
    for (size_t i = 0; i < requests.size(); ++i) {
      DriverRequest& request = requests[i];
      for (size_t n = 1 + random() % 40; n > 0; --n) {
        request.prompt.push_back(static_cast<TokenId>(random() % vocab_size));
      }
      request.max_tokens = 1 + static_cast<uint32_t>(random() % 20);
      SamplingParams& sampling = request.sampling;
      sampling.temperature = i % 3 == 0 ? 0.0f : 0.9f;
      sampling.seed = 1000 + i;
      sampling.top_k = i % 4 == 1 ? 20 : 0;
      sampling.top_p = i % 4 == 2 ? 0.8f : 1.0f;
      if (i % 2 == 0) sampling.num_logprobs = 3;
      if (i % 5 == 0) sampling.num_prompt_logprobs = 2;
      if (i % 3 == 1) {
        sampling.frequency_penalty = 0.7f;
        sampling.repetition_penalty = 1.3f;
      }
      if (i % 3 == 2) sampling.logit_bias = {{5, 1.5f}, {9, -2.0f}};
      sampling.min_tokens = 4;
      sampling.banned_token_ids = {1, 2};
    }
    return requests;
  }

  static void ExpectSame(const std::vector<SampledToken>& a, const std::vector<SampledToken>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].id, b[i].id);
      EXPECT_EQ(a[i].rank, b[i].rank);
      EXPECT_EQ(std::memcmp(&a[i].logprob, &b[i].logprob, sizeof(float)), 0);
      ASSERT_EQ(a[i].top.size(), b[i].top.size());
      for (size_t j = 0; j < a[i].top.size(); ++j) {
        EXPECT_EQ(a[i].top[j].id, b[i].top[j].id);
        EXPECT_EQ(std::memcmp(&a[i].top[j].logprob, &b[i].top[j].logprob, sizeof(float)), 0);
      }
    }
  }
};

TEST_P(BatchInvarianceTest, AloneInAnyBatchInAnyChunksAndAfterRestarts) {
  const std::unique_ptr<ModelRunner> alone = Load(1, 80);
  if (alone == nullptr) GTEST_SKIP() << "this CPU cannot run " << GetParam().table;
  const std::vector<DriverRequest> requests = Requests(alone->vocab_size());
  const auto expected = alone->Generate(requests, {.max_side_by_side = 1});
  ASSERT_TRUE(expected.ok()) << expected.status();
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const std::unique_ptr<ModelRunner> crowd = Load(seed % 2 == 0 ? 1 : 2, 24);
    const auto got = crowd->Generate(requests, {.seed = seed,
                                                .max_chunk = static_cast<uint32_t>(1 + seed * 4),
                                                .skip_probability = 0.2,
                                                .restart_probability = seed > 3 ? 0.1 : 0.0});
    ASSERT_TRUE(got.ok()) << got.status();
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", request " << i);
      ExpectSame((*got)[i].tokens, (*expected)[i].tokens);
      // A restart scores the prompt again from its start, so the last life has them all.
      ExpectSame((*got)[i].prompt_logprobs, (*expected)[i].prompt_logprobs);
    }
  }
}

constexpr Case kCases[] = {
    {"tiny-qwen3", "reference"},
    {"tiny-qwen3", "amx"},
    {"tiny-qwen3", "avx_vnni"},
    {"tiny-qwen3", "avx512_vnni"},
    {"tiny-qwen3", "avx2"},
    {"tiny-qwen3", "portable"},
    {"tiny-llama", "avx512_vnni"},
    {"tiny-qwen2", "avx512_vnni"},
    {"quant/q4_1.gguf", "avx512_vnni"},
    {"quant/q4_1.gguf", "avx2"},
    {"quant/q4_1.gguf", "avx_vnni"},
    {"quant/q6_k.gguf", "avx512_vnni"},
    {"quant/q8_0.gguf", "avx512_vnni"},
    {"quant/q4_k.gguf", "portable"},
};
INSTANTIATE_TEST_SUITE_P(Models, BatchInvarianceTest, ::testing::ValuesIn(kCases));

}  // namespace
}  // namespace mili::worker
