// The table of ranges: every field at its edges, the same for both APIs.
#include "router/api/validate.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/wire/status_wire.h"
#include "tests/router/api/api_fixture.h"

namespace mili::router {
namespace {

using testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();

GenerateSpec SpecOf(Prompt prompt = std::string("abc")) {
  GenerateSpec spec;
  spec.prompts.push_back(std::move(prompt));
  return spec;
}

absl::StatusOr<ValidSpec> Check(GenerateSpec spec, const ServedModel& model = FakeModel(),
                                const RequestLimits& limits = {}) {
  return Validate(std::move(spec), model, limits, /*seed=*/11, absl::UnixEpoch());
}

struct NumberCase {
  const char* field;
  std::optional<double> GenerateSpec::*member;
  std::vector<double> good;
  std::vector<double> bad;
};

class NumberTest : public testing::TestWithParam<NumberCase> {};

TEST_P(NumberTest, TakesItsRangeAndNamesItselfOutside) {
  const NumberCase& c = GetParam();
  for (const double value : c.good) {
    GenerateSpec spec = SpecOf();
    spec.*c.member = value;
    EXPECT_TRUE(Check(spec).ok()) << c.field << " " << value << ": " << Check(spec).status();
  }
  std::vector<double> bad = c.bad;
  bad.insert(bad.end(), {kNan, kInf, -kInf, 1e308, -1e308});
  for (const double value : bad) {
    GenerateSpec spec = SpecOf();
    spec.*c.member = value;
    const absl::Status status = Check(spec).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.field << " " << value;
    EXPECT_EQ(FieldOf(status), c.field);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, NumberTest,
    testing::Values(
        NumberCase{"temperature", &GenerateSpec::temperature, {0, 0.7, 100}, {-0.01, 100.1}},
        NumberCase{"top_p", &GenerateSpec::top_p, {0.001, 1}, {0, -0.1, 1.01}},
        NumberCase{"min_p", &GenerateSpec::min_p, {0, 1}, {-0.1, 1.1}},
        NumberCase{"presence_penalty", &GenerateSpec::presence_penalty, {-2, 0, 2}, {-2.1, 2.1}},
        NumberCase{"frequency_penalty", &GenerateSpec::frequency_penalty, {-2, 2}, {-2.1, 2.1}},
        NumberCase{"repetition_penalty", &GenerateSpec::repetition_penalty, {0.1, 1, 5}, {0, -1}}),
    [](const auto& info) { return info.param.field; });

struct IntegerCase {
  const char* field;
  std::optional<int64_t> GenerateSpec::*member;
  std::vector<int64_t> good;
  std::vector<int64_t> bad;
};

class IntegerTest : public testing::TestWithParam<IntegerCase> {};

TEST_P(IntegerTest, TakesItsRangeAndNamesItselfOutside) {
  const IntegerCase& c = GetParam();
  for (const int64_t value : c.good) {
    GenerateSpec spec = SpecOf();
    spec.*c.member = value;
    EXPECT_TRUE(Check(spec).ok()) << c.field << " " << value << ": " << Check(spec).status();
  }
  for (const int64_t value : c.bad) {
    GenerateSpec spec = SpecOf();
    spec.*c.member = value;
    const absl::Status status = Check(spec).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.field << " " << value;
    EXPECT_EQ(FieldOf(status), c.field);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, IntegerTest,
    testing::Values(
        IntegerCase{"top_k", &GenerateSpec::top_k, {-1, 0, 1, 2147483647}, {-2, 2147483648, kMax}},
        IntegerCase{"seed", &GenerateSpec::seed, {kMin, -1, 0, kMax}, {}},
        IntegerCase{"n", &GenerateSpec::n, {1, 128}, {0, -1, 129, kMax, kMin}},
        IntegerCase{
            "max_tokens", &GenerateSpec::max_tokens, {1, 4294967295}, {-1, 0, 4294967296, kMax}},
        IntegerCase{"min_tokens", &GenerateSpec::min_tokens, {0, 64}, {-1, 65, kMax}},
        IntegerCase{"logprobs", &GenerateSpec::logprobs, {0, 20}, {-1, 21, kMax}},
        IntegerCase{"prompt_logprobs", &GenerateSpec::prompt_logprobs, {0, 20}, {-1, 21}}),
    [](const auto& info) { return info.param.field; });

TEST(ValidateTest, PriorityIsAnInt32) {
  for (const int64_t bad : {int64_t{2147483648}, int64_t{-2147483649}, kMax}) {
    GenerateSpec spec = SpecOf();
    spec.priority = bad;
    EXPECT_EQ(FieldOf(Check(spec).status()), "priority");
  }
}

TEST(ValidateTest, StopsAreFewAndShort) {
  GenerateSpec spec = SpecOf();
  spec.stop = std::vector<std::string>(16, std::string(1024, 'x'));
  EXPECT_TRUE(Check(spec).ok());
  spec.stop.push_back("y");
  EXPECT_EQ(FieldOf(Check(spec).status()), "stop");
  spec.stop = {""};
  EXPECT_EQ(FieldOf(Check(spec).status()), "stop");
  spec.stop = {std::string(1025, 'x')};
  EXPECT_EQ(FieldOf(Check(spec).status()), "stop");
}

TEST(ValidateTest, LogitBiasNamesIdsAndValuesOutOfRange) {
  GenerateSpec spec = SpecOf();
  spec.logit_bias = {{256, 100}, {0, -100}};
  ASSERT_TRUE(Check(spec).ok());
  EXPECT_EQ(Check(spec)->sampling.logit_bias.front().token_id, 0u);
  for (const std::pair<int64_t, double>& bad :
       std::vector<std::pair<int64_t, double>>{{257, 1}, {-1, 1}, {0, 100.5}, {0, kNan}}) {
    spec.logit_bias = {bad};
    EXPECT_EQ(FieldOf(Check(spec).status()), "logit_bias") << bad.first;
  }
  spec.logit_bias.assign(4097, {1, 1});
  EXPECT_EQ(FieldOf(Check(spec).status()), "logit_bias");
}

TEST(ValidateTest, IdsOutOfTheVocabularyAreRefused) {
  EXPECT_EQ(FieldOf(Check(SpecOf(std::vector<TokenId>{1, 257})).status()), "prompt");
  GenerateSpec spec = SpecOf();
  spec.stop_token_ids = {257};
  EXPECT_EQ(FieldOf(Check(spec).status()), "stop_token_ids");
}

TEST(ValidateTest, EmptyPromptsAreRefused) {
  EXPECT_EQ(FieldOf(Check(GenerateSpec()).status()), "prompt");
  EXPECT_EQ(FieldOf(Check(SpecOf(std::vector<TokenId>())).status()), "prompt");
  EXPECT_EQ(FieldOf(Check(SpecOf(ChatPrompt())).status()), "messages");
}

TEST(ValidateTest, WithoutATokenizerOnlyIdsAreTaken) {
  ServedModel model = FakeModel();
  model.tokenizer = nullptr;
  model.encode_chat = nullptr;
  const absl::Status status = Check(SpecOf(), model).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("send token ids"));
  const auto valid = Check(SpecOf(std::vector<TokenId>{1}), model);
  ASSERT_TRUE(valid.ok());
  EXPECT_TRUE(valid->return_token_ids);
}

TEST(ValidateTest, DefaultsGoRequestThenEndpointThenModelThenNeutral) {
  ServedModel model = FakeModel();
  model.defaults = {.temperature = 0.6, .top_p = 0.8, .top_k = 20};
  GenerateSpec spec = SpecOf();
  spec.temperature = 0.1;
  const auto grpc = Check(spec, model);
  ASSERT_TRUE(grpc.ok());
  EXPECT_FLOAT_EQ(grpc->sampling.temperature, 0.1f);
  EXPECT_FLOAT_EQ(grpc->sampling.top_p, 0.8f);
  EXPECT_EQ(grpc->sampling.top_k, 20u);
  EXPECT_FLOAT_EQ(grpc->sampling.repetition_penalty, 1);
  spec.endpoint = Endpoint::kGenerate;
  spec.temperature = std::nullopt;
  const auto generate = Check(spec, model);
  ASSERT_TRUE(generate.ok());
  EXPECT_FLOAT_EQ(generate->sampling.temperature, 1);
  EXPECT_FLOAT_EQ(generate->sampling.top_p, 0.95f);
  EXPECT_EQ(generate->max_tokens, 50u);
}

TEST(ValidateTest, EndTokensStopUnlessIgnored) {
  GenerateSpec spec = SpecOf();
  spec.stop_token_ids = {5, 5};
  spec.min_tokens = 2;
  const auto valid = Check(spec);
  ASSERT_TRUE(valid.ok());
  EXPECT_EQ(valid->stop_token_ids, (std::vector<TokenId>{5, FakeTokenizer::kEnd}));
  EXPECT_EQ(valid->sampling.banned_token_ids, valid->stop_token_ids);
  spec.ignore_eos = true;
  EXPECT_EQ(Check(spec)->stop_token_ids, (std::vector<TokenId>{5}));
}

TEST(ValidateTest, ZeroTokensNeedSomethingToScore) {
  GenerateSpec spec = SpecOf();
  spec.max_tokens = 0;
  EXPECT_EQ(FieldOf(Check(spec).status()), "max_tokens");
  spec.endpoint = Endpoint::kCompletions;
  spec.echo = true;
  ASSERT_TRUE(Check(spec).ok());
  EXPECT_EQ(Check(spec)->sampling.num_prompt_logprobs, 0u);
}

TEST(ValidateTest, DeadlineIsTheNearerOfClientAndServer) {
  GenerateSpec spec = SpecOf();
  RequestLimits limits;
  limits.request_timeout = absl::Seconds(10);
  spec.deadline = absl::UnixEpoch() + absl::Seconds(5);
  EXPECT_EQ(Check(spec, FakeModel(), limits)->deadline, spec.deadline);
  spec.deadline = absl::InfiniteFuture();
  EXPECT_EQ(Check(spec, FakeModel(), limits)->deadline, absl::UnixEpoch() + absl::Seconds(10));
  EXPECT_EQ(Check(spec, FakeModel(), limits)->queue_deadline,
            absl::UnixEpoch() + absl::Seconds(60));
}

TEST(ValidateTest, SeedIsTheClientsOrOurs) {
  GenerateSpec spec = SpecOf();
  EXPECT_EQ(Check(spec)->sampling.seed, 11u);
  spec.seed = -1;
  EXPECT_EQ(Check(spec)->sampling.seed, ~uint64_t{0});
}

TEST(ValidateTest, TooManyChoicesInABatchAreRefused) {
  GenerateSpec spec;
  spec.prompts.assign(1025, std::string("a"));
  EXPECT_EQ(FieldOf(Check(spec).status()), "prompt");
  spec.prompts.resize(100);
  spec.n = 128;
  EXPECT_EQ(FieldOf(Check(spec).status()), "n");
}

TEST(ResolveMaxTokensTest, TakesWhatTheContextLeavesUpToTheCap) {
  const ServedModel model = FakeModel();
  ValidSpec spec;
  EXPECT_EQ(*ResolveMaxTokens(spec, 60, model, {}), 4u);
  EXPECT_EQ(*ResolveMaxTokens(spec, 4, model, {.default_max_tokens = 10}), 10u);
  EXPECT_FALSE(ResolveMaxTokens(spec, 64, model, {}).ok());
  EXPECT_FALSE(ResolveMaxTokens(spec, 0, model, {}).ok());
  spec.max_tokens = 4;
  EXPECT_EQ(*ResolveMaxTokens(spec, 60, model, {}), 4u);
  const absl::Status status = ResolveMaxTokens(spec, 61, model, {}).status();
  EXPECT_EQ(ReasonOf(status), "context_length_exceeded");
  for (const char* number : {"64 tokens", "61 tokens", "4 are asked"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(number));
  }
  spec.max_tokens = 4294967295;
  EXPECT_FALSE(ResolveMaxTokens(spec, 1, model, {}).ok());
}

TEST(SamplingDefaultsTest, ReadsWhatItKnowsAndRefusesWhatIsOutOfRange) {
  const auto defaults =
      ParseSamplingDefaults(R"({"temperature":0.6,"top_k":20,"do_sample":true,"top_p":null})");
  ASSERT_TRUE(defaults.ok());
  EXPECT_EQ(ToJson(*defaults), R"({"temperature":0.6,"top_k":20})");
  EXPECT_TRUE(ParseSamplingDefaults("").ok());
  EXPECT_FALSE(ParseSamplingDefaults("[1]").ok());
  EXPECT_FALSE(ParseSamplingDefaults("{").ok());
  EXPECT_EQ(FieldOf(ParseSamplingDefaults(R"({"temperature":-1})").status()),
            "generation_config.temperature");
  EXPECT_EQ(FieldOf(ParseSamplingDefaults(R"({"top_p":"x"})").status()), "generation_config.top_p");
}

}  // namespace
}  // namespace mili::router
