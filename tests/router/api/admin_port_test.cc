// One port for operators: Control and health over gRPC, /metrics and probes over HTTP.
#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "router/api/grpc/control_service.h"
#include "router/api/grpc/grpc_server.h"
#include "router/api/http/routes.h"
#include "router/api/http/server.h"
#include "router/api/scheduler_metrics.h"
#include "tests/router/api/api_fixture.h"
#include "tests/router/api/http_client.h"

namespace mili::router {
namespace {

using testing::HasSubstr;

class AdminPortTest : public testing::Test {
 protected:
  AdminPortTest() {
    grpc_ = *GrpcServer::Create({.kind = GrpcServer::Kind::kAdmin,
                                 .services = {control_.get()},
                                 .health_names = {"mili.v1.Control"}});
    http_ = *HttpServer::Create(
        {.host = "127.0.0.1",
         .port_flag = "--admin-port",
         .handler =
             [this](HttpRequest request, std::shared_ptr<HttpExchange> exchange) {
               routes_.Handle(std::move(request), std::move(exchange));
             },
         .take_http2 = [this](int fd) { grpc_->TakeConnection(fd); }});
    http_->Start();
  }

  std::string Get(const std::string& path) {
    TestClient client(http_->address());
    client.Send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
    return client.ReadResponse();
  }

  ApiFixture api_;
  Routes routes_{{.metrics = [] { return std::string("mili_up 1\n"); }, .admin_only = true},
                 &api_.frontend,
                 &api_.state,
                 &api_.model};
  std::unique_ptr<v1::Control::CallbackService> control_ =
      MakeControlService(&api_.state, &api_.model);
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<HttpServer> http_;
};

TEST_F(AdminPortTest, SpeaksGrpcAndHttpOnOnePort) {
  const auto stub = v1::Control::NewStub(
      grpc::CreateChannel(http_->address(), grpc::InsecureChannelCredentials()));
  for (int i = 0; i < 3; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::ListModelsResponse models;
    const grpc::Status status = stub->ListModels(&context, {}, &models);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(models.models(0).model(), "tiny");
    EXPECT_THAT(Get("/metrics"), HasSubstr("mili_up 1\n"));
  }
}

TEST_F(AdminPortTest, HasNoRouteThatGenerates) {
  EXPECT_THAT(Get("/v1/models"), HasSubstr("HTTP/1.1 404"));
  EXPECT_THAT(Get("/ready"), HasSubstr("HTTP/1.1 200"));
}

// grpc.health.v1.Health/Check by hand: its proto is compiled into gRPC, but not offered.
std::string CheckHealth(const std::string& address, const std::string& service) {
  std::string bytes;
  if (!service.empty()) {
    bytes = std::string("\x0a", 1) + static_cast<char>(service.size()) + service;
  }
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  grpc::CompletionQueue queue;
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) return "code " + std::to_string(status.error_code());
  std::vector<grpc::Slice> slices;
  (void)response.Dump(&slices);
  std::string answer;
  for (const grpc::Slice& s : slices) {
    answer.append(reinterpret_cast<const char*>(s.begin()), s.size());
  }
  return answer == std::string("\x08\x01", 2) ? "SERVING" : "NOT_SERVING";
}

TEST_F(AdminPortTest, HealthIsToldForEachService) {
  EXPECT_EQ(CheckHealth(http_->address(), ""), "NOT_SERVING");
  grpc_->SetServing(true);
  EXPECT_EQ(CheckHealth(http_->address(), ""), "SERVING");
  EXPECT_EQ(CheckHealth(http_->address(), "mili.v1.Control"), "SERVING");
  EXPECT_EQ(CheckHealth(http_->address(), "nobody"), "code 5");
}

TEST(SchedulerMetricsTest, AllAreThereAtZeroAndCountWhatTheLoopsTell) {
  MetricsRegistry registry;
  int num_changes = 0;
  SchedulerMetrics metrics(&registry, [&](size_t, const GroupSnapshot&) { ++num_changes; });
  metrics.OnGenerated(5);  // before there is a model nothing counts
  metrics.Register("m");
  for (const char* name :
       {"mili_num_requests_running{model_name=\"m\"} 0", "mili_num_requests_waiting",
        "mili_kv_cache_usage_perc", "mili_time_to_first_token_seconds_count{model_name=\"m\"} 0",
        "mili_inter_token_latency_seconds_bucket", "mili_e2e_request_latency_seconds_sum",
        "mili_request_queue_time_seconds_count", "mili_prompt_tokens_total{model_name=\"m\"} 0",
        "mili_generation_tokens_total{model_name=\"m\"} 0", "mili_prefix_cache_queries_total",
        "mili_prefix_cache_hits_total", "mili_num_preemptions_total",
        "mili_iteration_tokens_total_count", "finished_reason=\"stop\"",
        "finished_reason=\"length\"", "finished_reason=\"abort\"", "finished_reason=\"error\""}) {
    EXPECT_THAT(registry.Render(), HasSubstr(name));
  }
  GroupSnapshot snapshot;
  snapshot.is_ready = true;
  snapshot.num_running = 2;
  snapshot.num_pages_total = 10;
  snapshot.num_pages_leased = 5;
  metrics.OnSnapshot(0, snapshot);
  metrics.OnSnapshot(0, snapshot);
  metrics.OnSnapshot(1, snapshot);
  EXPECT_EQ(num_changes, 2);
  metrics.OnGenerated(3);
  metrics.OnFinished({.finished_reason = "stop", .e2e = absl::Seconds(1)});
  metrics.Mute(true);
  metrics.OnGenerated(100);
  const std::string text = registry.Render();
  EXPECT_THAT(text, HasSubstr("mili_num_requests_running{model_name=\"m\"} 4"));
  EXPECT_THAT(text, HasSubstr("mili_kv_cache_usage_perc{model_name=\"m\"} 0.5"));
  EXPECT_THAT(text, HasSubstr("mili_generation_tokens_total{model_name=\"m\"} 3"));
  EXPECT_THAT(text, HasSubstr("finished_reason=\"stop\",model_name=\"m\"} 1"));
}

}  // namespace
}  // namespace mili::router
