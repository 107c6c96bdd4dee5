#include "common/core/memory_plan.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili {
namespace {

using ::testing::HasSubstr;

// SmolLM2-135M's shape.
ModelConfig Config() {
  ModelConfig config;
  config.num_layers = 30;
  config.hidden_size = 576;
  config.intermediate_size = 1536;
  config.num_heads = 9;
  config.num_kv_heads = 3;
  config.head_dim = 64;
  config.vocab_size = 49152;
  config.max_position = 8192;
  return config;
}
constexpr uint64_t kGiB = 1ull << 30;
constexpr uint64_t kWeights = 100'000'000;
constexpr uint64_t kTokenBytes = 2 * 30 * 3 * 64 * 2;  // K and V, bf16

MemoryLimits Limits() {
  MemoryLimits limits;
  limits.available_bytes = 16 * kGiB;
  return limits;
}
absl::StatusOr<MemoryPlan> Plan(const MemoryLimits& limits) {
  return PlanMemory(Config(), kWeights, DType::kBF16, limits);
}
void ExpectRefused(const MemoryLimits& limits, absl::StatusCode code, const std::string& what) {
  const absl::Status status = Plan(limits).status();
  EXPECT_EQ(status.code(), code);
  EXPECT_THAT(std::string(status.message()), HasSubstr(what));
}

TEST(MemoryPlanTest, TakesAQuarterOfWhatIsFree) {
  MemoryLimits limits = Limits();
  limits.available_bytes = 4 * kGiB;
  const absl::StatusOr<MemoryPlan> plan = Plan(limits);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->num_pages, kGiB / (16 * kTokenBytes));
  EXPECT_EQ(plan->kv_bytes, plan->num_pages * 16 * kTokenBytes);
  EXPECT_EQ(plan->max_model_len, 8192u);
  EXPECT_EQ(plan->weights_bytes, kWeights);
}

TEST(MemoryPlanTest, TakesNoMoreThanAllSequencesNeed) {
  MemoryLimits limits = Limits();
  limits.available_bytes = 1000 * kGiB;
  limits.max_num_seqs = 3;
  limits.max_model_len = 100;
  const absl::StatusOr<MemoryPlan> plan = Plan(limits);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->num_pages, 3u * 7);  // 100 tokens lie in 7 pages
}

TEST(MemoryPlanTest, CutsTheContextToWhatThePagesHold) {
  MemoryLimits limits = Limits();
  limits.kv_cache_memory_bytes = 100 * 16 * kTokenBytes + 5;
  const absl::StatusOr<MemoryPlan> plan = Plan(limits);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->num_pages, 100u);
  EXPECT_EQ(plan->max_model_len, 1600u);
}

TEST(MemoryPlanTest, HoldsOneFullContextIfAskedFor) {
  MemoryLimits limits = Limits();
  limits.available_bytes = 400 << 20;  // a quarter holds about 4,500 tokens
  limits.max_model_len = 8192;
  const absl::StatusOr<MemoryPlan> plan = Plan(limits);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->num_pages, 512u);
}

TEST(MemoryPlanTest, NeverExceedsWhatIsFree) {
  for (uint64_t mib = 120; mib < 1200; mib += 7) {
    MemoryLimits limits = Limits();
    limits.available_bytes = mib << 20;
    const absl::StatusOr<MemoryPlan> plan = Plan(limits);
    if (!plan.ok()) {
      EXPECT_EQ(plan.status().code(), absl::StatusCode::kResourceExhausted);
      continue;
    }
    EXPECT_LE(plan->total_bytes(), limits.available_bytes) << mib;
    EXPECT_LE(plan->max_model_len, plan->num_kv_tokens());
    EXPECT_GE(plan->num_pages, 1u);
  }
}

TEST(MemoryPlanTest, UnknownFreeMemoryRefusesNothing) {
  MemoryLimits limits = Limits();
  limits.available_bytes = 0;
  const absl::StatusOr<MemoryPlan> plan = Plan(limits);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->num_pages, 512u);  // one full context
}

TEST(MemoryPlanTest, SaysByHowMuchAndWhatWouldFit) {
  MemoryLimits limits = Limits();
  limits.available_bytes = 200 << 20;
  limits.max_model_len = 8192;
  ExpectRefused(limits, absl::StatusCode::kResourceExhausted, "--max-model-len ");
  limits.available_bytes = 50 << 20;
  ExpectRefused(limits, absl::StatusCode::kResourceExhausted, "a smaller model or more memory");
  limits = Limits();
  limits.available_bytes = 200 << 20;
  limits.kv_cache_memory_bytes = kGiB;
  ExpectRefused(limits, absl::StatusCode::kResourceExhausted, "--kv-cache-memory-bytes ");
  limits = Limits();
  limits.kv_cache_memory_bytes = 16 * kTokenBytes * 10;
  limits.max_model_len = 161;
  ExpectRefused(limits, absl::StatusCode::kResourceExhausted, "--max-model-len 160 would fit");
  limits.kv_cache_memory_bytes = 10;
  ExpectRefused(limits, absl::StatusCode::kResourceExhausted, "a page takes 368640 bytes");
}

TEST(MemoryPlanTest, WhatItSaysWouldFitDoes) {
  MemoryLimits limits = Limits();
  limits.available_bytes = 200 << 20;
  limits.max_model_len = 8192;
  const std::string message(Plan(limits).status().message());
  const size_t flag = message.find("--max-model-len ");
  ASSERT_NE(flag, std::string::npos);
  limits.max_model_len = static_cast<uint32_t>(std::stoul(message.substr(flag + 16)));
  EXPECT_TRUE(Plan(limits).ok()) << Plan(limits).status();
}

TEST(MemoryPlanTest, RefusesLimitsThatContradictEachOther) {
  MemoryLimits limits = Limits();
  limits.max_model_len = 8193;
  ExpectRefused(limits, absl::StatusCode::kInvalidArgument, "max-model-len is 8193");
  limits = Limits();
  limits.max_num_batched_tokens = 31;
  ExpectRefused(limits, absl::StatusCode::kInvalidArgument, "less than max-num-seqs");
  limits = Limits();
  limits.max_num_seqs = 0;
  ExpectRefused(limits, absl::StatusCode::kInvalidArgument, "max-num-seqs is 0");
  limits = Limits();
  limits.page_size_tokens = 0;
  ExpectRefused(limits, absl::StatusCode::kInvalidArgument, "page-size is 0");
  limits = Limits();
  limits.num_threads = 0;
  ExpectRefused(limits, absl::StatusCode::kInvalidArgument, "threads is 0");
}

TEST(MemoryPlanTest, HugeShapesDoNotOverflow) {
  ModelConfig config = Config();
  config.num_layers = 1024;
  config.num_heads = config.num_kv_heads = 1024;
  config.head_dim = 256;
  config.max_position = 1 << 24;
  MemoryLimits limits = Limits();
  limits.max_num_seqs = 4096;
  limits.max_num_batched_tokens = 1 << 20;
  const absl::Status status = PlanMemory(config, kWeights, DType::kF32, limits).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

TEST(MemoryPlanTest, DescribesEachPart) {
  const absl::StatusOr<MemoryPlan> plan = Plan(Limits());
  ASSERT_TRUE(plan.ok());
  const std::string text = Describe(*plan);
  EXPECT_THAT(text, HasSubstr("weights    95.4 MiB"));
  EXPECT_THAT(text, HasSubstr("23040 bytes a token"));
  EXPECT_THAT(text, HasSubstr("sequences of 4k"));
}

}  // namespace
}  // namespace mili
