// Perplexity of SmolLM2 over 4,096 tokens, by the fast kernels against fp32: within half a percent
// of the dequantised file, Q8_0 also of the weights it was made from; so too a Hugging Face
// directory that is quantised while it is read. Takes minutes, so only where MILI_TEST_PERPLEXITY
// names the folder that tools/bench/make_models.py made of MILI_TEST_MODEL.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/formats/model_source.h"
#include "common/formats/quantized_source.h"
#include "common/text/tokenizer.h"
#include "kernels/cpu/kernels.h"
#include "kernels/reference/kernels.h"
#include "tests/support/model_runner.h"

namespace mili::worker {
namespace {

constexpr size_t kNumTokens = 4096;
constexpr double kTolerance = 0.005;

class PerplexityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("MILI_TEST_MODEL");
    const char* folder = std::getenv("MILI_TEST_PERPLEXITY");
    if (model == nullptr || folder == nullptr) GTEST_SKIP() << "MILI_TEST_PERPLEXITY is not set";
    original_ = model;
    directory_ = std::string(folder) + "/SmolLM2-135M-Instruct";
    prefix_ = directory_ + ".";
    std::stringstream text;
    text << std::ifstream(std::string(MILI_TEST_DATA) + "/smollm2/long_text.txt").rdbuf();
    const auto source = ModelSource::Open(model);
    ASSERT_TRUE(source.ok()) << source.status();
    const auto bundle = (*source)->LoadTokenizer();
    ASSERT_TRUE(bundle.ok() && bundle->has_value()) << bundle.status();
    const auto tokenizer = Tokenizer::FromJson((*bundle)->tokenizer_json);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    ids_ = (*tokenizer)->Encode(text.str(), {});
    ASSERT_GE(ids_.size(), kNumTokens);
    ids_.resize(kNumTokens);
  }

  double PerplexityOf(const std::string& path, const kernels::CpuKernels& table,
                      std::string_view quantization = "none") {
    auto opened = ModelSource::Open(path);
    EXPECT_TRUE(opened.ok()) << opened.status();
    if (!opened.ok()) return NAN;
    const auto source = QuantizeWhileReading(*std::move(opened), quantization);
    EXPECT_TRUE(source.ok()) << source.status();
    if (!source.ok()) return NAN;
    MemoryLimits limits;
    limits.max_num_seqs = 1;
    limits.max_num_batched_tokens = 512;
    limits.max_model_len = kNumTokens + 1;
    const auto runner = ModelRunner::Load(**source, table, 2, limits);
    EXPECT_TRUE(runner.ok()) << runner.status();
    if (!runner.ok()) return NAN;
    DriverRequest request;
    request.prompt = ids_;
    request.sampling.num_prompt_logprobs = 0;
    const auto results = (*runner)->Generate({request});
    EXPECT_TRUE(results.ok()) << results.status();
    if (!results.ok()) return NAN;
    double sum = 0;
    for (const SampledToken& token : results->front().prompt_logprobs) sum += token.logprob;
    const double perplexity = std::exp(-sum / (kNumTokens - 1));
    std::printf("%s, quantization %s, %s: perplexity %.4f\n",
                std::filesystem::path(path).filename().c_str(), std::string(quantization).c_str(),
                table.name, perplexity);
    return perplexity;
  }

  void ExpectNearFp32(const std::string& path) {
    const double fast = PerplexityOf(path, kernels::BestCpuKernels());
    const double exact = PerplexityOf(path, kernels::ReferenceKernels());
    EXPECT_NEAR(fast / exact, 1, kTolerance);
  }

  std::string original_;
  std::string directory_;  // of the weights in bf16
  std::string prefix_;     // of the requantised files
  std::vector<TokenId> ids_;
};

TEST_F(PerplexityTest, Q4_1AndTheQ8_0MadeOfItAreNearItsDequantisedForm) {
  const double exact = PerplexityOf(original_, kernels::ReferenceKernels());
  EXPECT_NEAR(PerplexityOf(original_, kernels::BestCpuKernels()) / exact, 1, kTolerance);
  EXPECT_NEAR(PerplexityOf(prefix_ + "Q8_0.gguf", kernels::BestCpuKernels()) / exact, 1,
              kTolerance);
}

TEST_F(PerplexityTest, Q4_0IsNearItsDequantisedForm) { ExpectNearFp32(prefix_ + "Q4_0.gguf"); }
TEST_F(PerplexityTest, Bf16IsNearItsFp32Form) { ExpectNearFp32(prefix_ + "BF16.gguf"); }

TEST_F(PerplexityTest, Q8_0MadeWhileReadingIsNearTheBf16ItWasMadeFrom) {
  EXPECT_NEAR(PerplexityOf(directory_, kernels::BestCpuKernels(), "q8_0") /
                  PerplexityOf(directory_, kernels::ReferenceKernels()),
              1, kTolerance);
}
// SmolLM2's rows of 576 are no whole blocks of Q4_K: of its matrices `down` takes it, the others
// take Q8_0.
TEST_F(PerplexityTest, Q4_kMadeWhileReadingIsNearItsDequantisedForm) {
  EXPECT_NEAR(PerplexityOf(directory_, kernels::BestCpuKernels(), "q4_k") /
                  PerplexityOf(directory_, kernels::ReferenceKernels(), "q4_k"),
              1, kTolerance);
}

}  // namespace
}  // namespace mili::worker
