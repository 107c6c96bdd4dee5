// What tests of whole models on the GPU share: shapes of models, and what the plain fp32 loops on
// the CPU say of sampled tokens. Pure but for the CPU's model.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ostream>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "common/core/model_config.h"
#include "tests/support/engine_driver.h"
#include "tests/support/model_runner.h"

namespace mili::worker {

inline constexpr uint32_t kMaxModelLen = 256;

struct Case {
  const char* name;
  Architecture architecture;
  DType dtype;
  uint32_t num_layers, hidden_size, intermediate_size, num_heads, num_kv_heads, head_dim;
  bool is_tied;
  bool is_fp8 = false;
  uint32_t vocab_size = 1008;  // what the head takes (HasHead); 1000 it does not
};
inline void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

inline ModelConfig ConfigOf(const Case& c) {
  ModelConfig config;
  config.architecture = c.architecture;
  config.name = c.name;
  config.num_layers = c.num_layers;
  config.hidden_size = c.hidden_size;
  config.intermediate_size = c.intermediate_size;
  config.num_heads = c.num_heads;
  config.num_kv_heads = c.num_kv_heads;
  config.head_dim = c.head_dim;
  config.vocab_size = c.vocab_size;
  config.max_position = kMaxModelLen;
  config.rms_norm_eps = 1e-6f;
  config.tie_word_embeddings = c.is_tied;
  config.attention_bias = c.architecture == Architecture::kQwen2;
  config.qk_norm = c.architecture == Architecture::kQwen3;
  return config;
}

inline std::vector<TokenId> RandomIds(uint64_t seed, size_t count, uint32_t vocab_size) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> ids(count);
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % vocab_size);
  return ids;
}

inline double CosineOf(const float* a, const float* b, size_t size) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < size; ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

inline double LogSumExp(const float* logits, size_t size) {
  double sum = 0;
  const float largest = *std::max_element(logits, logits + size);
  for (size_t i = 0; i < size; ++i) sum += std::exp(double{logits[i]} - largest);
  return largest + std::log(sum);
}

// How far a logit may be from the reference's: sums of 16-bit activations stray by some hundredths
// of what logits differ by among themselves.
inline double ToleranceOf(const float* logits, size_t size) {
  double sum = 0, squares = 0;
  for (size_t i = 0; i < size; ++i) {
    sum += logits[i];
    squares += double{logits[i]} * logits[i];
  }
  const double mean = sum / static_cast<double>(size);
  return 0.04 * std::sqrt(squares / static_cast<double>(size) - mean * mean);
}

// Every sampled token must be one that the reference finds about as likely as its best, within
// `factor` tolerances; logprobs that were asked for must be the reference's too.
inline void ExpectGreedy(ModelRunner& cpu, const DriverRequest& request, const DriverResult& result,
                         double factor) {
  const uint32_t vocab_size = cpu.vocab_size();
  std::vector<TokenId> ids = request.prompt;
  for (const SampledToken& token : result.tokens) ids.push_back(token.id);
  ids.pop_back();
  const auto logits = cpu.PromptLogits(ids, 256);
  ASSERT_TRUE(logits.ok()) << logits.status();
  ASSERT_EQ(result.tokens.size(), request.max_tokens);
  for (size_t i = 0; i < result.tokens.size(); ++i) {
    const float* row = logits->data() + (request.prompt.size() + i - 1) * vocab_size;
    const double best = *std::max_element(row, row + vocab_size);
    const double tolerance = ToleranceOf(row, vocab_size);
    EXPECT_GT(row[result.tokens[i].id], best - factor * tolerance) << "token " << i;
    if (!request.sampling.num_logprobs) continue;
    EXPECT_NEAR(result.tokens[i].logprob, row[result.tokens[i].id] - LogSumExp(row, vocab_size),
                factor * tolerance);
    EXPECT_EQ(result.tokens[i].top.size(), *request.sampling.num_logprobs);
  }
  if (!request.sampling.num_prompt_logprobs) return;
  ASSERT_EQ(result.prompt_logprobs.size(), request.prompt.size() - 1);
  for (size_t i = 0; i + 1 < request.prompt.size(); ++i) {
    const float* row = logits->data() + i * vocab_size;
    EXPECT_EQ(result.prompt_logprobs[i].id, request.prompt[i + 1]);
    EXPECT_NEAR(result.prompt_logprobs[i].logprob,
                row[request.prompt[i + 1]] - LogSumExp(row, vocab_size),
                factor * ToleranceOf(row, vocab_size));
  }
}

}  // namespace mili::worker
