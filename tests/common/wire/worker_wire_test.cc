#include "common/wire/worker_wire.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili {
namespace {

using ::testing::HasSubstr;

StepPlan FullPlan() {
  SamplingParams sampling;
  sampling.temperature = 0.5f;
  sampling.top_p = 0.9f;
  sampling.top_k = 40;
  sampling.min_p = 0.05f;
  sampling.seed = 0xfedcba9876543210ull;
  sampling.choice_idx = 3;
  sampling.presence_penalty = -1.5f;
  sampling.frequency_penalty = 0.25f;
  sampling.repetition_penalty = 1.1f;
  sampling.logit_bias = {{7, -100.0f}, {9, 2.5f}};
  sampling.min_tokens = 4;
  sampling.banned_token_ids = {0, 2};
  sampling.num_logprobs = 0;  // zero is not absent
  sampling.num_prompt_logprobs = 5;
  StepPlan plan;
  plan.epoch = Epoch(1ull << 40);
  plan.step_id = StepId(12);
  plan.release = {SlotId(1), SlotId(4)};
  plan.start = {{SlotId(4), {5, 6, 7, 8}, 3, 1, {PageId(9), PageId(2)}, sampling}};
  plan.step = {{SlotId(4), 3, {}, TokenSource::kKnown, true},
               {SlotId(0), 1, {PageId(77)}, TokenSource::kLastSampled, true}};
  return plan;
}

void ExpectSame(const StepPlan& a, const StepPlan& b) {
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.step_id, b.step_id);
  EXPECT_EQ(a.release, b.release);
  ASSERT_EQ(a.start.size(), b.start.size());
  for (size_t i = 0; i < a.start.size(); ++i) {
    EXPECT_EQ(a.start[i].slot, b.start[i].slot);
    EXPECT_EQ(a.start[i].token_ids, b.start[i].token_ids);
    EXPECT_EQ(a.start[i].num_prompt_tokens, b.start[i].num_prompt_tokens);
    EXPECT_EQ(a.start[i].num_cached_tokens, b.start[i].num_cached_tokens);
    EXPECT_EQ(a.start[i].pages, b.start[i].pages);
    EXPECT_EQ(a.start[i].sampling, b.start[i].sampling);
  }
  ASSERT_EQ(a.step.size(), b.step.size());
  for (size_t i = 0; i < a.step.size(); ++i) {
    EXPECT_EQ(a.step[i].slot, b.step[i].slot);
    EXPECT_EQ(a.step[i].num_tokens, b.step[i].num_tokens);
    EXPECT_EQ(a.step[i].new_pages, b.step[i].new_pages);
    EXPECT_EQ(a.step[i].source, b.step[i].source);
    EXPECT_EQ(a.step[i].sample, b.step[i].sample);
  }
}

TEST(WorkerWireTest, KeepsAPlanThroughBytes) {
  const StepPlan plan = FullPlan();
  worker::v1::StepPlan proto;
  ASSERT_TRUE(proto.ParseFromString(ToProto(plan).SerializeAsString()));
  const absl::StatusOr<StepPlan> back = FromProto(proto);
  ASSERT_TRUE(back.ok()) << back.status();
  ExpectSame(plan, *back);
}

TEST(WorkerWireTest, KeepsAbsentLogprobsAbsent) {
  StepPlan plan = FullPlan();
  plan.start[0].sampling.num_logprobs.reset();
  plan.start[0].sampling.num_prompt_logprobs.reset();
  const absl::StatusOr<StepPlan> back = FromProto(ToProto(plan));
  ASSERT_TRUE(back.ok());
  EXPECT_FALSE(back->start[0].sampling.num_logprobs.has_value());
  EXPECT_FALSE(back->start[0].sampling.num_prompt_logprobs.has_value());
}

TEST(WorkerWireTest, RefusesAnUnknownTokenSource) {
  worker::v1::StepPlan proto = ToProto(FullPlan());
  for (const int source : {0, 3, -1}) {
    proto.mutable_step(1)->set_source(static_cast<worker::v1::TokenSource>(source));
    const absl::Status status = FromProto(proto).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("slot 0: token source"));
  }
}

TEST(WorkerWireTest, KeepsAResultThroughBytes) {
  StepResult result;
  result.epoch = Epoch(3);
  result.step_id = StepId(8);
  result.compute = absl::Microseconds(1234);
  result.idle = absl::Microseconds(5);
  RowResult sampled;
  sampled.slot = SlotId(2);
  sampled.tokens = {{11, -0.5f, 1, {{11, -0.5f}, {12, -1.5f}}}};
  sampled.prompt_logprobs = {{4, -2.0f, 9, {{1, -0.1f}}}};
  RowResult failed;
  failed.slot = SlotId(5);
  failed.status = absl::InternalError("logits are NaN");
  result.rows = {sampled, failed};

  worker::v1::StepResult proto;
  ASSERT_TRUE(proto.ParseFromString(ToProto(result).SerializeAsString()));
  const StepResult back = FromProto(proto);
  EXPECT_EQ(back.epoch, result.epoch);
  EXPECT_EQ(back.step_id, result.step_id);
  EXPECT_EQ(back.compute, result.compute);
  EXPECT_EQ(back.idle, result.idle);
  ASSERT_EQ(back.rows.size(), 2u);
  EXPECT_EQ(back.rows[0].slot, SlotId(2));
  EXPECT_TRUE(back.rows[0].status.ok());
  ASSERT_EQ(back.rows[0].tokens.size(), 1u);
  EXPECT_EQ(back.rows[0].tokens[0].id, 11u);
  EXPECT_EQ(back.rows[0].tokens[0].logprob, -0.5f);
  EXPECT_EQ(back.rows[0].tokens[0].rank, 1u);
  ASSERT_EQ(back.rows[0].tokens[0].top.size(), 2u);
  EXPECT_EQ(back.rows[0].tokens[0].top[1].id, 12u);
  EXPECT_EQ(back.rows[0].tokens[0].top[1].logprob, -1.5f);
  ASSERT_EQ(back.rows[0].prompt_logprobs.size(), 1u);
  EXPECT_EQ(back.rows[0].prompt_logprobs[0].rank, 9u);
  EXPECT_EQ(back.rows[1].status, failed.status);
}

TEST(WorkerWireTest, ARowErrorWithoutACodeStaysAnError) {
  worker::v1::StepResult proto;
  proto.add_rows()->mutable_error()->set_message("cause");
  proto.add_rows()->mutable_error()->set_code(99);
  const StepResult result = FromProto(proto);
  EXPECT_EQ(result.rows[0].status, absl::UnknownError("cause"));
  EXPECT_FALSE(result.rows[1].status.ok());
}

TEST(WorkerWireTest, KeepsFactsThroughBytes) {
  WorkerFacts facts;
  facts.protocol_version = 7;
  facts.build = "0.1.0";
  facts.last_epoch = Epoch(9);
  facts.model_digest = "aa";
  facts.tokenizer_digest = "bb";
  facts.model_name = "name";
  facts.model_path = "path";
  facts.architecture = "qwen3";
  facts.weight_dtype = "q4_1";
  facts.kv_dtype = "bf16";
  facts.device = "cpu";
  facts.page_size_tokens = 16;
  facts.num_pages = 100;
  facts.num_slots = 32;
  facts.max_num_batched_tokens = 512;
  facts.max_model_len = 2048;
  facts.vocab_size = 1000;
  facts.eos_token_ids = {2, 5};
  facts.weights_bytes = 1ull << 33;
  facts.kv_bytes = 1ull << 34;
  facts.workspace_bytes = 1ull << 35;
  facts.process_bytes = 1ull << 33;
  facts.load = absl::Milliseconds(250);
  facts.generation_config_json = "{}";
  facts.num_parameters = 135000000;
  const WorkerFacts back = FromProto(ToProto(facts));
  // The message is as long as its fields: a field lost on the way back shows here.
  EXPECT_EQ(ToProto(back).SerializeAsString(), ToProto(facts).SerializeAsString());
  EXPECT_EQ(back.load, facts.load);
  EXPECT_EQ(back.eos_token_ids, facts.eos_token_ids);
  EXPECT_EQ(back.last_epoch, facts.last_epoch);
  EXPECT_EQ(back.workspace_bytes, facts.workspace_bytes);
  EXPECT_EQ(back.process_bytes, facts.process_bytes);
}

TEST(WorkerWireTest, KeepsATokenizerBundleThroughBytes) {
  const TokenizerBundle bundle{"{\"a\":1}", "{{ x }}", "<s>", "</s>", "<pad>", "<unk>"};
  const TokenizerBundle back = FromProto(ToProto(bundle));
  EXPECT_EQ(back.tokenizer_json, bundle.tokenizer_json);
  EXPECT_EQ(back.chat_template, bundle.chat_template);
  EXPECT_EQ(back.bos_token, bundle.bos_token);
  EXPECT_EQ(back.eos_token, bundle.eos_token);
  EXPECT_EQ(back.pad_token, bundle.pad_token);
  EXPECT_EQ(back.unk_token, bundle.unk_token);
}

}  // namespace
}  // namespace mili
