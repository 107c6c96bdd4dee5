// SmolLM2-135M-Instruct (GGUF Q4_1, path in MILI_TEST_MODEL) against its dequantised fp32 form in
// transformers (tests/data/smollm2/goldens.json). MILI_TEST_ALL_PROMPTS=1 runs all prompts, not
// only those marked for CI.
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/cpu/kernels.h"
#include "kernels/reference/kernels.h"
#include "tests/support/model_runner.h"

namespace mili::worker {
namespace {

class SmolLm2Test : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("MILI_TEST_MODEL");
    if (path == nullptr) GTEST_SKIP() << "MILI_TEST_MODEL is not set";
    path_ = path;
    std::ifstream file(std::string(MILI_TEST_DATA) + "/smollm2/goldens.json");
    goldens_ = nlohmann::json::parse(file);
  }

  std::unique_ptr<ModelRunner> Load(const kernels::CpuKernels& table) {
    MemoryLimits limits;
    limits.max_num_seqs = 8;
    limits.max_num_batched_tokens = 256;
    limits.max_model_len = 2048;
    auto runner = ModelRunner::Load(path_, table, 2, limits);
    EXPECT_TRUE(runner.ok()) << runner.status();
    return runner.ok() ? *std::move(runner) : nullptr;
  }

  // Mean and largest |dlogprob| of the text's tokens, and the ratio of the perplexities.
  struct Distance {
    double mean = 0;
    double largest = 0;
    double perplexity_ratio = 0;
  };
  Distance ScoreText(ModelRunner& runner) {
    const nlohmann::json& score = goldens_.at("score");
    const auto expected = score.at("logprobs").get<std::vector<double>>();
    DriverRequest request;
    request.prompt = score.at("token_ids").get<std::vector<TokenId>>();
    request.sampling.temperature = 0;
    request.sampling.num_prompt_logprobs = 0;
    const auto results = runner.Generate({request});
    EXPECT_TRUE(results.ok()) << results.status();
    const std::vector<SampledToken>& got = results->front().prompt_logprobs;
    EXPECT_EQ(got.size(), expected.size());
    Distance distance;
    double sum = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      const double difference = std::abs(got[i].logprob - expected[i]);
      distance.mean += difference / static_cast<double>(got.size());
      distance.largest = std::max(distance.largest, difference);
      sum += got[i].logprob;
    }
    const double expected_sum = std::accumulate(expected.begin(), expected.end(), 0.0);
    distance.perplexity_ratio = std::exp((expected_sum - sum) / static_cast<double>(got.size()));
    return distance;
  }

  std::string path_;
  nlohmann::json goldens_;
};

TEST_F(SmolLm2Test, ReferenceKernelsGiveTheGreedyTokensOfTheDequantisedModel) {
  const std::unique_ptr<ModelRunner> runner = Load(kernels::ReferenceKernels());
  ASSERT_NE(runner, nullptr);
  std::vector<DriverRequest> requests;
  std::vector<const nlohmann::json*> prompts;
  for (const nlohmann::json& prompt : goldens_.at("prompts")) {
    if (!prompt.at("ci").get<bool>() && std::getenv("MILI_TEST_ALL_PROMPTS") == nullptr) continue;
    DriverRequest request;
    request.prompt = prompt.at("prompt_token_ids").get<std::vector<TokenId>>();
    request.max_tokens = static_cast<uint32_t>(prompt.at("token_ids").size());
    request.sampling.temperature = 0;
    request.sampling.num_logprobs = 0;
    requests.push_back(std::move(request));
    prompts.push_back(&prompt);
  }
  ASSERT_GE(requests.size(), 8u);
  const auto results = runner->Generate(requests);
  ASSERT_TRUE(results.ok()) << results.status();
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(prompts[i]->at("name").get<std::string>());
    EXPECT_EQ((*results)[i].ids(), prompts[i]->at("token_ids").get<std::vector<TokenId>>());
    const auto logprobs = prompts[i]->at("logprobs").get<std::vector<double>>();
    for (size_t t = 0; t < logprobs.size(); ++t) {
      EXPECT_NEAR((*results)[i].tokens[t].logprob, logprobs[t], 1e-3) << "token " << t;
    }
  }
}

TEST_F(SmolLm2Test, ReferenceKernelsScoreTheTextAsTheDequantisedModel) {
  const std::unique_ptr<ModelRunner> runner = Load(kernels::ReferenceKernels());
  ASSERT_NE(runner, nullptr);
  const Distance distance = ScoreText(*runner);
  EXPECT_LE(distance.largest, 1e-3);
}

TEST_F(SmolLm2Test, FastKernelsStayNear) {
  const std::unique_ptr<ModelRunner> runner = Load(kernels::BestCpuKernels());
  ASSERT_NE(runner, nullptr);
  const Distance distance = ScoreText(*runner);
  std::printf("%s: mean |dlogprob| %.4f, largest %.3f, perplexity x %.5f\n",
              kernels::BestCpuKernels().name, distance.mean, distance.largest,
              distance.perplexity_ratio);
  EXPECT_LE(distance.mean, 0.05);
  EXPECT_NEAR(distance.perplexity_ratio, 1.0, 0.005);
}

}  // namespace
}  // namespace mili::worker
