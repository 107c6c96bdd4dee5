#include "common/wire/status_wire.h"

#include <gtest/gtest.h>

namespace mili {
namespace {

class StatusCodeTest : public testing::TestWithParam<int> {};

TEST_P(StatusCodeTest, SurvivesTheWayToGrpcAndBack) {
  const absl::Status before(static_cast<absl::StatusCode>(GetParam()), "what went wrong");
  const grpc::Status wire = ToGrpc(before);
  EXPECT_EQ(wire.error_code(), GetParam());
  EXPECT_EQ(wire.error_message(), "what went wrong");
  EXPECT_EQ(FromGrpc(wire), before);
}

INSTANTIATE_TEST_SUITE_P(AllCodes, StatusCodeTest, testing::Range(1, 17));

TEST(StatusWireTest, OkStaysOk) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok());
}

TEST(StatusWireTest, DetailsSurviveTheWire) {
  absl::Status status = BadField("temperature", "must be 0 to 100");
  status = WithRetryInfo(std::move(status), absl::Milliseconds(1500));
  status = WithReason(std::move(status), "QUEUE_FULL", {{"limit", "8"}});
  const absl::Status back = FromGrpc(ToGrpc(status));
  EXPECT_EQ(back, status);
  EXPECT_EQ(FieldOf(back), "temperature");
  EXPECT_EQ(RetryAfterOf(back), absl::Milliseconds(1500));
  EXPECT_EQ(ReasonOf(back), "QUEUE_FULL");
  EXPECT_EQ(back.message(), "temperature: must be 0 to 100");
}

TEST(StatusWireTest, AbsentDetailsAreNothing) {
  const absl::Status status = absl::InternalError("x");
  EXPECT_EQ(FieldOf(status), std::nullopt);
  EXPECT_EQ(RetryAfterOf(status), std::nullopt);
  EXPECT_EQ(ReasonOf(status), std::nullopt);
  EXPECT_TRUE(ToGrpc(status).error_details().empty());
}

TEST(StatusWireTest, NegativeWaitIsNone) {
  EXPECT_EQ(RetryAfterOf(WithRetryInfo(absl::UnavailableError("x"), -absl::Seconds(3))),
            absl::ZeroDuration());
}

TEST(StatusWireTest, GarbledDetailsKeepCodeAndMessage) {
  const absl::Status status =
      FromGrpc(grpc::Status(grpc::StatusCode::ABORTED, "lost", "\xff\xff not a message"));
  EXPECT_EQ(status, absl::AbortedError("lost"));
}

}  // namespace
}  // namespace mili
