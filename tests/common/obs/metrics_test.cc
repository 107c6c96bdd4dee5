#include "common/obs/metrics.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili {
namespace {

using ::testing::HasSubstr;

TEST(MetricsTest, EveryMetricIsThereBeforeItIsUsed) {
  MetricsRegistry metrics;
  metrics.AddCounter("mili_prompt_tokens_total", "Prompt tokens.");
  metrics.AddGauge("mili_num_requests_running", "Running.");
  metrics.AddHistogram("mili_inter_token_latency_seconds", "Gap.", Buckets::kInterTokenLatency);
  const std::string text = metrics.Render();
  EXPECT_THAT(text, HasSubstr("# HELP mili_prompt_tokens_total Prompt tokens.\n"
                              "# TYPE mili_prompt_tokens_total counter\n"
                              "mili_prompt_tokens_total 0\n"));
  EXPECT_THAT(text, HasSubstr("mili_num_requests_running 0\n"));
  EXPECT_THAT(text, HasSubstr("mili_inter_token_latency_seconds_bucket{le=\"+Inf\"} 0\n"));
}

TEST(MetricsTest, LabelsMakeMetricsOfOneFamily) {
  MetricsRegistry metrics;
  auto& stop = metrics.AddCounter("mili_request_success_total", "Ended.", {{"reason", "stop"}});
  auto& length = metrics.AddCounter("mili_request_success_total", "Ended.", {{"reason", "length"}});
  stop.Increment();
  length.Increment(2);
  metrics.AddCounter("mili_request_success_total", "Ended.", {{"reason", "stop"}}).Increment();
  const std::string text = metrics.Render();
  EXPECT_THAT(text, HasSubstr("mili_request_success_total{reason=\"stop\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("mili_request_success_total{reason=\"length\"} 2\n"));
  EXPECT_EQ(text.find("# TYPE"), text.rfind("# TYPE"));
}

TEST(MetricsTest, TwoRegistriesShareNothing) {
  MetricsRegistry one;
  MetricsRegistry two;
  one.AddCounter("mili_x_total", "X.").Increment();
  two.AddCounter("mili_x_total", "X.");
  EXPECT_THAT(two.Render(), HasSubstr("mili_x_total 0\n"));
}

TEST(MetricsTest, BoundsRiseAndHoldThoseOfVllm) {
  for (const Buckets buckets :
       {Buckets::kTimeToFirstToken, Buckets::kInterTokenLatency, Buckets::kRequestLatency,
        Buckets::kStepDuration, Buckets::kTokensPerStep}) {
    const auto bounds = BoundsOf(buckets);
    EXPECT_TRUE(std::is_sorted(bounds.begin(), bounds.end()));
    EXPECT_EQ(std::adjacent_find(bounds.begin(), bounds.end()), bounds.end());
  }
  const auto inter_token = BoundsOf(Buckets::kInterTokenLatency);
  for (const double bound : {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0,
                             2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0}) {
    EXPECT_THAT(inter_token, ::testing::Contains(bound));
  }
  EXPECT_LT(inter_token.front(), 0.001);
}

TEST(MetricsDeathTest, ANameOfAnotherKindIsRefused) {
  MetricsRegistry metrics;
  metrics.AddCounter("mili_x_total", "X.");
  EXPECT_DEATH(metrics.AddGauge("mili_x_total", "X."), "mili_x_total");
  EXPECT_DEATH(metrics.AddGauge("no name", "X."), "no name");
}

}  // namespace
}  // namespace mili
