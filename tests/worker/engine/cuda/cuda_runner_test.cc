// Whole models on the GPU against the plain fp32 loops on the CPU: random weights, shapes of every
// architecture and head size.
#include "worker/engine/cuda/cuda_runner.h"

#include <random>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "common/formats/quantized_source.h"
#include "kernels/reference/kernels.h"
#include "tests/support/gpu_model_runner.h"
#include "tests/support/model_runner.h"
#include "tests/support/random_model.h"
#include "tests/worker/engine/cuda/model_case.h"

namespace mili::worker {
namespace {

constexpr uint32_t kMaxSeqs = 80;

class CudaRunnerTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const absl::StatusOr<Gpu> gpu = OpenGpu();
    if (!gpu.ok()) GTEST_SKIP() << gpu.status().message();
    const RandomModel model(ConfigOf(GetParam()), GetParam().dtype, 7, GetParam().is_fp8);
    vocab_size_ = model.config().vocab_size;
    GpuMemoryLimits gpu_limits;
    gpu_limits.max_num_seqs = kMaxSeqs;
    gpu_limits.max_num_batched_tokens = 128;
    gpu_limits.kv_cache_memory_bytes = 64 << 20;
    auto on_gpu = GpuModelRunner::Load(model, *gpu, gpu_limits, GetParam().is_fp8);
    ASSERT_TRUE(on_gpu.ok()) << on_gpu.status();
    gpu_ = *std::move(on_gpu);
    auto tuned =
        GpuModelRunner::Load(model, *gpu, gpu_limits, GetParam().is_fp8, {.max_seconds = 0.3});
    ASSERT_TRUE(tuned.ok()) << tuned.status();
    tuned_ = *std::move(tuned);
    MemoryLimits limits;
    limits.max_num_seqs = kMaxSeqs;
    limits.max_num_batched_tokens = 256;
    limits.kv_cache_memory_bytes = 64 << 20;
    auto on_cpu = ModelRunner::Load(model, kernels::ReferenceKernels(),
                                    static_cast<int>(std::thread::hardware_concurrency()), limits);
    ASSERT_TRUE(on_cpu.ok()) << on_cpu.status();
    cpu_ = *std::move(on_cpu);
  }

  uint32_t vocab_size_ = 0;
  std::unique_ptr<GpuModelRunner> gpu_;
  std::unique_ptr<GpuModelRunner> tuned_;  // with kernels that were chosen by timing them
  std::unique_ptr<ModelRunner> cpu_;
};

TEST_P(CudaRunnerTest, LogitsAreThoseOfTheReference) {
  const std::vector<TokenId> prompt = RandomIds(1, 97, vocab_size_);
  const auto expected = cpu_->PromptLogits(prompt, 256);
  ASSERT_TRUE(expected.ok()) << expected.status();
  const std::pair<GpuModelRunner*, uint32_t> runs[] = {
      {gpu_.get(), 1},  {gpu_.get(), 3},  {gpu_.get(), 16},   {gpu_.get(), 17},
      {gpu_.get(), 48}, {gpu_.get(), 80}, {tuned_.get(), 12}, {tuned_.get(), 48}};
  for (const auto& [runner, chunk] : runs) {
    const auto got = runner->PromptLogits(prompt, chunk);
    ASSERT_TRUE(got.ok()) << got.status();
    double worst = 1;
    for (size_t i = 0; i < prompt.size(); ++i) {
      const double cosine =
          CosineOf(got->data() + i * vocab_size_, expected->data() + i * vocab_size_, vocab_size_);
      worst = std::isnan(cosine) ? -1 : std::min(worst, cosine);
    }
    RecordProperty("worst_cosine_" + std::to_string(chunk), std::to_string(worst));
    // Beyond that many rows the activations are rounded to e4m3 too.
    const bool has_fp8_rows = GetParam().is_fp8 && chunk > gpu::k::kMaxMixedRows;
    EXPECT_GT(worst, has_fp8_rows ? 0.99 : 0.9995) << "chunks of " << chunk;
  }
}

TEST_P(CudaRunnerTest, SequencesInAnyBatchAndAfterRestartsAreGreedy) {
  std::vector<DriverRequest> requests(24);
  std::mt19937_64 random(3);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = RandomIds(i, 1 + random() % 60, vocab_size_);
    requests[i].max_tokens = 1 + static_cast<uint32_t>(random() % 24);
    requests[i].sampling.temperature = 0;
    if (i % 3 == 0) requests[i].sampling.num_logprobs = static_cast<uint32_t>(i % 5);
    if (i % 4 == 0) requests[i].sampling.num_prompt_logprobs = 2;
  }
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    if (seed == 2) {  // what never ran is captured too
      EXPECT_EQ(gpu_->CaptureAll(), AllPaddings(gpu_->model().plan()).size());
    }
    const auto results = gpu_->Generate(requests, {.seed = seed,
                                                   .max_chunk = seed == 1 ? UINT32_MAX : 20,
                                                   .skip_probability = seed == 1 ? 0.0 : 0.2,
                                                   .restart_probability = seed == 1 ? 0.0 : 0.05});
    ASSERT_TRUE(results.ok()) << results.status();
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", request " << i);
      ExpectGreedy(*cpu_, requests[i], (*results)[i], GetParam().is_fp8 ? 8 : 2);
    }
  }
}

// So many rows that the head finds their best tokens by itself, beside rows that need logits.
TEST_P(CudaRunnerTest, ManySequencesAreGreedyWhateverOthersAskFor) {
  std::vector<DriverRequest> requests(kMaxSeqs);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = RandomIds(200 + i, 1 + i % 3, vocab_size_);
    requests[i].max_tokens = 8;
    requests[i].sampling.temperature = i % 5 == 4 ? 1 : 0;
    if (i % 5 == 3) requests[i].sampling.num_logprobs = 2;
  }
  const auto results = gpu_->Generate(requests);
  ASSERT_TRUE(results.ok()) << results.status();
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].sampling.temperature > 0) continue;
    SCOPED_TRACE(testing::Message() << "request " << i);
    ExpectGreedy(*cpu_, requests[i], (*results)[i], GetParam().is_fp8 ? 8 : 2);
  }
}

// The last layer leaves out what nobody samples or scores.
TEST_P(CudaRunnerTest, LongPromptsAreFollowedByTheTokensOfTheReference) {
  std::vector<DriverRequest> requests(16);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = RandomIds(100 + i, 40 + 10 * i, vocab_size_);
    requests[i].max_tokens = 1 + static_cast<uint32_t>(i % 7);
    requests[i].sampling.temperature = 0;
    requests[i].sampling.num_logprobs = 1;
  }
  for (const uint32_t max_chunk : {UINT32_MAX, 70u}) {
    const auto results = gpu_->Generate(requests, {.seed = max_chunk, .max_chunk = max_chunk});
    ASSERT_TRUE(results.ok()) << results.status();
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "chunks of " << max_chunk << ", request " << i);
      ExpectGreedy(*cpu_, requests[i], (*results)[i], GetParam().is_fp8 ? 8 : 2);
    }
  }
}

TEST_P(CudaRunnerTest, BiasesBansAndPenaltiesDecide) {
  DriverRequest biased;
  biased.prompt = RandomIds(5, 10, vocab_size_);
  biased.max_tokens = 4;
  biased.sampling.temperature = 0;
  biased.sampling.logit_bias = {{77, 2000.0f}};  // far above what any logit is by itself
  DriverRequest banned = biased;
  banned.sampling.logit_bias.push_back({78, 1000.0f});
  banned.sampling.min_tokens = 2;
  banned.sampling.banned_token_ids = {77};
  DriverRequest penalised = biased;
  penalised.sampling.logit_bias.push_back({78, 1980.0f});
  penalised.sampling.presence_penalty = 2;
  penalised.sampling.frequency_penalty = 2;
  penalised.max_tokens = 60;
  const auto results = gpu_->Generate({biased, banned, penalised});
  ASSERT_TRUE(results.ok()) << results.status();
  EXPECT_EQ((*results)[0].ids(), (std::vector<TokenId>{77, 77, 77, 77}));
  EXPECT_EQ((*results)[1].ids(), (std::vector<TokenId>{78, 78, 77, 77}));
  // Each repetition costs 2 more, which in the end outweighs the lead of either.
  const std::vector<TokenId> ids = (*results)[2].ids();
  const auto num_77 = std::count(ids.begin(), ids.end(), 77u);
  const auto num_78 = std::count(ids.begin(), ids.end(), 78u);
  EXPECT_EQ(num_77 + num_78, 60);
  EXPECT_GT(num_77, 0);
  EXPECT_GT(num_78, 0);
}

// One layer and few steps, so that compute-sanitizer's slowest tool ends too.
class CudaSmallStepsTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const absl::StatusOr<Gpu> gpu = OpenGpu();
    if (!gpu.ok()) GTEST_SKIP() << gpu.status().message();
    const RandomModel model(ConfigOf(GetParam()), GetParam().dtype, 7, GetParam().is_fp8);
    GpuMemoryLimits gpu_limits;
    gpu_limits.max_num_seqs = 4;
    gpu_limits.max_num_batched_tokens = 64;
    gpu_limits.kv_cache_memory_bytes = 8 << 20;
    auto on_gpu = GpuModelRunner::Load(model, *gpu, gpu_limits, GetParam().is_fp8);
    ASSERT_TRUE(on_gpu.ok()) << on_gpu.status();
    gpu_ = *std::move(on_gpu);
    MemoryLimits limits;
    limits.max_num_seqs = 4;
    limits.max_num_batched_tokens = 64;
    limits.kv_cache_memory_bytes = 8 << 20;
    auto on_cpu = ModelRunner::Load(model, kernels::ReferenceKernels(), 2, limits);
    ASSERT_TRUE(on_cpu.ok()) << on_cpu.status();
    cpu_ = *std::move(on_cpu);
  }

  // Greedy sequences of 4 tokens, the first after a prompt of `prompt_size`, each next one of 10
  // tokens more.
  void ExpectGreedySequences(size_t count, size_t prompt_size) {
    std::vector<DriverRequest> requests(count);
    for (size_t i = 0; i < count; ++i) {
      requests[i].prompt = RandomIds(i, prompt_size + 10 * i, cpu_->vocab_size());
      requests[i].max_tokens = 4;
      requests[i].sampling.temperature = 0;
    }
    const auto results = gpu_->Generate(requests);
    ASSERT_TRUE(results.ok()) << results.status();
    for (size_t i = 0; i < count; ++i) {
      SCOPED_TRACE(testing::Message() << "request " << i);
      ExpectGreedy(*cpu_, requests[i], (*results)[i], GetParam().is_fp8 ? 8 : 2);
    }
  }

  std::unique_ptr<GpuModelRunner> gpu_;
  std::unique_ptr<ModelRunner> cpu_;
};

TEST_P(CudaSmallStepsTest, OneSequenceIsGreedy) { ExpectGreedySequences(1, 20); }

TEST_P(CudaSmallStepsTest, SequencesTogetherAreGreedy) { ExpectGreedySequences(3, 7); }

// What is stored otherwise becomes bf16 on its way to the GPU.
class CudaStoredTypeTest : public ::testing::TestWithParam<const char*> {
 protected:
  void Load(const Case& shape) {
    const absl::StatusOr<Gpu> gpu = OpenGpu();
    if (!gpu.ok()) GTEST_SKIP() << gpu.status().message();
    const auto source = QuantizeWhileReading(
        std::make_unique<RandomModel>(ConfigOf(shape), DType::kF32, 7), GetParam());
    ASSERT_TRUE(source.ok()) << source.status();
    GpuMemoryLimits gpu_limits;
    gpu_limits.max_num_seqs = kMaxSeqs;
    gpu_limits.kv_cache_memory_bytes = 64 << 20;
    auto on_gpu = GpuModelRunner::Load(**source, *gpu, gpu_limits);
    ASSERT_TRUE(on_gpu.ok()) << on_gpu.status();
    gpu_ = *std::move(on_gpu);
    MemoryLimits limits;
    limits.kv_cache_memory_bytes = 64 << 20;
    auto on_cpu = ModelRunner::Load(**source, kernels::ReferenceKernels(),
                                    static_cast<int>(std::thread::hardware_concurrency()), limits);
    ASSERT_TRUE(on_cpu.ok()) << on_cpu.status();
    cpu_ = *std::move(on_cpu);
  }

  std::unique_ptr<GpuModelRunner> gpu_;
  std::unique_ptr<ModelRunner> cpu_;
};

TEST_P(CudaStoredTypeTest, GivesTheLogitsOfTheReference) {
  Load({"Stored", Architecture::kQwen3, DType::kF32, 2, 512, 1536, 4, 2, 128, true});
  if (gpu_ == nullptr) return;
  const uint32_t vocab_size = cpu_->vocab_size();
  const std::vector<TokenId> prompt = RandomIds(1, 40, vocab_size);
  const auto expected = cpu_->PromptLogits(prompt, 256);
  const auto got = gpu_->PromptLogits(prompt, kMaxSeqs);
  ASSERT_TRUE(expected.ok() && got.ok());
  for (size_t i = 0; i < prompt.size(); ++i) {
    EXPECT_GT(CosineOf(got->data() + i * vocab_size, expected->data() + i * vocab_size, vocab_size),
              0.9995)
        << "token " << i;
  }
}

TEST_P(CudaStoredTypeTest, DecodesSmolLM2sShapesAsTheReference) {
  Load({"SmolLM2", Architecture::kLlama, DType::kF32, 30, 576, 1536, 9, 3, 64, true, false, 49152});
  if (gpu_ == nullptr) return;
  std::vector<DriverRequest> requests;
  for (const size_t num_tokens : {2, 15, 17, 64, 130, 200}) {
    DriverRequest& request = requests.emplace_back();
    request.prompt = RandomIds(num_tokens, num_tokens, cpu_->vocab_size());
    request.max_tokens = 24;
    request.sampling.temperature = 0;
  }
  const auto results = gpu_->Generate(requests);
  ASSERT_TRUE(results.ok()) << results.status();
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(testing::Message() << requests[i].prompt.size() << " prompt tokens");
    ExpectGreedy(*cpu_, requests[i], (*results)[i], 2);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaStoredTypeTest, ::testing::Values("none", "q8_0", "q4_k"));

constexpr auto kBF16 = DType::kBF16;
constexpr auto kF16 = DType::kF16;
constexpr Case kCases[] = {
    {"Qwen3", Architecture::kQwen3, kBF16, 2, 512, 1536, 4, 2, 128, true},
    {"Qwen3Wide", Architecture::kQwen3, kBF16, 2, 512, 1536, 8, 2, 128, false},
    {"Qwen3As06B", Architecture::kQwen3, kBF16, 2, 1024, 3072, 16, 8, 128, true},
    {"Qwen3Fp16", Architecture::kQwen3, kF16, 2, 512, 1536, 4, 2, 128, true},
    {"Qwen2", Architecture::kQwen2, kBF16, 2, 448, 1216, 7, 1, 64, true},
    {"Llama", Architecture::kLlama, kBF16, 3, 576, 1536, 9, 3, 64, true},
    {"LlamaFp16", Architecture::kLlama, kF16, 2, 256, 1024, 8, 8, 64, false, false, 1000},
    {"LlamaGroupOf16", Architecture::kLlama, kBF16, 2, 256, 512, 16, 1, 64, false},
    {"Qwen3Fp8", Architecture::kQwen3, kBF16, 2, 512, 1536, 4, 2, 128, true, true},
    {"Qwen2Fp8", Architecture::kQwen2, kF16, 2, 448, 1216, 7, 1, 64, true, true},
};
INSTANTIATE_TEST_SUITE_P(Models, CudaRunnerTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

constexpr Case kSmallCases[] = {
    {"Qwen3", Architecture::kQwen3, kBF16, 1, 256, 512, 4, 2, 128, true, false, 320},
    {"Qwen3As06B", Architecture::kQwen3, kBF16, 1, 1024, 3072, 16, 8, 128, true, false, 320},
    {"Llama", Architecture::kLlama, kF16, 1, 256, 512, 8, 2, 64, false, false, 320},
    {"Qwen3Fp8", Architecture::kQwen3, kBF16, 1, 256, 512, 4, 2, 128, true, true, 320},
};
INSTANTIATE_TEST_SUITE_P(Models, CudaSmallStepsTest, ::testing::ValuesIn(kSmallCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace mili::worker
