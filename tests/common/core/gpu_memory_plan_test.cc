#include "common/core/gpu_memory_plan.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili {
namespace {

using ::testing::HasSubstr;

// Qwen3-8B's shape.
ModelConfig Config() {
  ModelConfig config;
  config.num_layers = 36;
  config.hidden_size = 4096;
  config.intermediate_size = 12288;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.vocab_size = 151936;
  config.max_position = 40960;
  return config;
}
constexpr uint64_t kGiB = 1ull << 30;
constexpr uint64_t kWeights = 16'381'470'720;
constexpr uint64_t kPageBytes = 16ull * 2 * 36 * 8 * 128 * 2;

GpuMemoryLimits Limits() {
  GpuMemoryLimits limits;
  limits.total_bytes = 80 * kGiB;
  limits.free_bytes = 79 * kGiB;
  return limits;
}
absl::StatusOr<MemoryPlan> Plan(const GpuMemoryLimits& limits) {
  return PlanGpuMemory(Config(), kWeights, DType::kBF16, limits);
}
void ExpectRefused(const GpuMemoryLimits& limits, absl::StatusCode code, const std::string& what) {
  const absl::Status status = Plan(limits).status();
  EXPECT_EQ(status.code(), code);
  EXPECT_THAT(std::string(status.message()), HasSubstr(what));
}

TEST(GpuMemoryPlanTest, FillsTheShareThatMayBeUsed) {
  const absl::StatusOr<MemoryPlan> plan = Plan(Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  // Others hold 1 GiB of the 72 that may be in use.
  EXPECT_LE(plan->total_bytes(), 71 * kGiB);
  EXPECT_GT(plan->total_bytes() + kPageBytes, 71 * kGiB);
  EXPECT_EQ(plan->kv_bytes, plan->num_pages * kPageBytes);
  EXPECT_EQ(plan->max_model_len, 40960u);
  EXPECT_GT(plan->graphs_bytes, 0u);
  EXPECT_GT(plan->reserve_bytes, 0u);
}

TEST(GpuMemoryPlanTest, TakesNoMoreThanAllSequencesNeed) {
  GpuMemoryLimits limits = Limits();
  limits.max_num_seqs = 3;
  limits.max_model_len = 100;
  const absl::StatusOr<MemoryPlan> plan = Plan(limits);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->num_pages, 3u * 7);  // 100 tokens lie in 7 pages
}

TEST(GpuMemoryPlanTest, TakesTheKvMemoryThatIsGiven) {
  GpuMemoryLimits limits = Limits();
  limits.kv_cache_memory_bytes = 100 * kPageBytes + 5;
  const absl::StatusOr<MemoryPlan> plan = Plan(limits);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->num_pages, 100u);
  EXPECT_EQ(plan->max_model_len, 1600u);  // what the pages hold
}

TEST(GpuMemoryPlanTest, SaysByHowMuchAContextIsTooLongAndWhatWouldFit) {
  GpuMemoryLimits limits = Limits();
  limits.total_bytes = limits.free_bytes = 24 * kGiB;
  limits.max_model_len = 40960;
  const absl::Status status = Plan(limits).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("MiB are taken) by "));
  const size_t at = message.find("--max-model-len ");
  ASSERT_NE(at, std::string::npos) << message;
  // The length that it names fits indeed.
  limits.max_model_len = static_cast<uint32_t>(std::stoul(message.substr(at + 16)));
  EXPECT_TRUE(Plan(limits).ok()) << Plan(limits).status();
}

TEST(GpuMemoryPlanTest, NamesAKvSizeThatFits) {
  GpuMemoryLimits limits = Limits();
  limits.kv_cache_memory_bytes = 70 * kGiB;
  const std::string message(Plan(limits).status().message());
  const size_t at = message.find("--kv-cache-memory-bytes ");
  ASSERT_NE(at, std::string::npos) << message;
  limits.kv_cache_memory_bytes = std::stoull(message.substr(at + 24));
  EXPECT_TRUE(Plan(limits).ok()) << Plan(limits).status();
}

TEST(GpuMemoryPlanTest, RefusesAModelThatDoesNotFitWhateverIsAskedFor) {
  GpuMemoryLimits limits = Limits();
  limits.total_bytes = limits.free_bytes = 16 * kGiB;
  ExpectRefused(limits, absl::StatusCode::kResourceExhausted, "a smaller model");
}

TEST(GpuMemoryPlanTest, CountsWhatOthersHold) {
  GpuMemoryLimits limits = Limits();
  limits.free_bytes = 8 * kGiB;
  ExpectRefused(limits, absl::StatusCode::kResourceExhausted, "exceed the 0.0 MiB");
  ExpectRefused(limits, absl::StatusCode::kResourceExhausted, "(73728.0 MiB are taken) by ");
  ExpectRefused(limits, absl::StatusCode::kResourceExhausted, "other programs must leave the GPU");
}

TEST(GpuMemoryPlanTest, SmallModelsComputeMorePromptTokensAStep) {
  EXPECT_EQ(Plan(Limits())->max_num_batched_tokens, 2048u);
  ModelConfig small = Config();  // Qwen3-0.6B's shape
  small.num_layers = 28;
  small.hidden_size = 1024;
  small.intermediate_size = 3072;
  small.num_heads = 16;
  EXPECT_EQ(UsualGpuBatchedTokens(small), 8192u);
  GpuMemoryLimits limits = Limits();
  limits.max_num_batched_tokens = 777;
  EXPECT_EQ(Plan(limits)->max_num_batched_tokens, 777u);
}

TEST(GpuMemoryPlanTest, NamesTheLimitThatIsWrong) {
  GpuMemoryLimits limits = Limits();
  limits.utilization = 1.5;
  ExpectRefused(limits, absl::StatusCode::kInvalidArgument, "gpu-memory-utilization is 1.5");
  limits = Limits();
  limits.max_num_seqs = 5000;
  ExpectRefused(limits, absl::StatusCode::kInvalidArgument, "max-num-seqs is 5000");
  limits = Limits();
  limits.max_num_batched_tokens = 100;
  ExpectRefused(limits, absl::StatusCode::kInvalidArgument, "less than max-num-seqs");
  limits = Limits();
  limits.max_model_len = 50000;
  ExpectRefused(limits, absl::StatusCode::kInvalidArgument, "made for at most 40960");
}

}  // namespace
}  // namespace mili
