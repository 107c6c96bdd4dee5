#include "common/core/memory_plan.h"

#include <gtest/gtest.h>

namespace mili {
namespace {

ModelConfig SmallLlama() {
  ModelConfig config;
  config.num_layers = 2;
  config.hidden_size = 64;
  config.intermediate_size = 128;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.vocab_size = 100;
  config.max_position = 512;
  return config;
}

MemoryLimits Limits() {
  MemoryLimits limits;
  limits.max_num_seqs = 4;
  limits.max_num_batched_tokens = 64;
  limits.available_bytes = 64 << 20;
  return limits;
}

constexpr uint64_t kWeightsBytes = 1 << 20;
// Two layers of K and V, two heads of 16 elements of two bytes.
constexpr uint64_t kBytesPerToken = 2 * 2 * 2 * 16 * 2;

absl::StatusOr<MemoryPlan> Plan(const MemoryLimits& limits) {
  return PlanMemory(SmallLlama(), kWeightsBytes, DType::kBF16, limits);
}

TEST(MemoryPlanTest, CountsTheBytesOfATokenAndOfAPage) {
  const auto plan = Plan(Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->kv.bytes_per_token(), kBytesPerToken);
  EXPECT_EQ(plan->kv.bytes_per_page(), kBytesPerToken * 16);
  EXPECT_EQ(plan->kv_bytes, plan->num_pages * plan->kv.bytes_per_page());
  EXPECT_EQ(plan->total_bytes(), plan->weights_bytes + plan->kv_bytes + plan->workspace_bytes);
}

TEST(MemoryPlanTest, GivesKvNoMoreThanAllFullContextsNeed) {
  const auto plan = Plan(Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->num_kv_tokens(), 4u * 512);
  EXPECT_EQ(plan->max_model_len, 512u);
}

TEST(MemoryPlanTest, GivesKvWhatWasAskedFor) {
  MemoryLimits limits = Limits();
  limits.kv_cache_memory_bytes = kBytesPerToken * 16 * 40;
  const auto plan = Plan(limits);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->num_pages, 40u);
}

TEST(MemoryPlanTest, CutsTheContextToThePagesUnlessItWasAskedFor) {
  MemoryLimits limits = Limits();
  limits.kv_cache_memory_bytes = kBytesPerToken * 16 * 10;
  const auto cut = Plan(limits);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(cut->max_model_len, 160u);
  limits.max_model_len = 512;
  EXPECT_TRUE(absl::IsResourceExhausted(Plan(limits).status()));
}

TEST(MemoryPlanTest, NamesAFlagThatWouldFitWhenMemoryIsShort) {
  MemoryLimits limits = Limits();
  limits.max_model_len = 512;
  const uint64_t workspace_bytes = Plan(limits)->workspace_bytes;
  limits.available_bytes = kWeightsBytes + workspace_bytes + kBytesPerToken * 16 * 20;
  const absl::Status status = Plan(limits).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_NE(status.message().find("--max-model-len 320 would fit"), absl::string_view::npos)
      << status;
}

TEST(MemoryPlanTest, RefusesLimitsThatContradictEachOther) {
  MemoryLimits limits = Limits();
  limits.max_num_batched_tokens = 3;
  EXPECT_TRUE(absl::IsInvalidArgument(Plan(limits).status()));
  limits = Limits();
  limits.max_model_len = 513;
  EXPECT_TRUE(absl::IsInvalidArgument(Plan(limits).status()));
  limits = Limits();
  limits.page_size_tokens = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(Plan(limits).status()));
}

}  // namespace
}  // namespace mili
