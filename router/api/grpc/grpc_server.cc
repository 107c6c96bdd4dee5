#include "router/api/grpc/grpc_server.h"

#include <utility>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_builder.h>

namespace mili::router {
namespace {

constexpr int kMiB = 1024 * 1024;

void SetLimits(GrpcServer::Kind kind, grpc::ServerBuilder* builder) {
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a port in use is an error
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 * 1024);
  if (kind == GrpcServer::Kind::kAdmin) {
    builder->SetMaxReceiveMessageSize(4 * kMiB);
    builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 100);
    return;
  }
  builder->SetMaxReceiveMessageSize(16 * kMiB);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 30'000);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 2);
  grpc::ResourceQuota quota("public");
  quota.Resize(size_t{1024} * kMiB);
  builder->SetResourceQuota(quota);
}

std::string Join(const std::string& host, int port) {
  const bool is_v6 = absl::StrContains(host, ":") && !absl::StartsWith(host, "[");
  return is_v6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Create(Options options) {
  // Process-wide switches of gRPC, to be thrown before a server is built.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  if (options.kind == Kind::kAdmin) grpc::channelz::experimental::InitChannelzService();

  grpc::ServerBuilder builder;
  SetLimits(options.kind, &builder);
  int port = 0;
  const std::string wanted = Join(options.host, static_cast<int>(options.port));
  std::unique_ptr<GrpcServer> server(new GrpcServer);
  const bool listens = options.kind == Kind::kPublic;
  if (listens) {
    builder.AddListeningPort(wanted, grpc::InsecureServerCredentials(), &port);
  } else {
    server->acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        grpc::InsecureServerCredentials());
  }
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr || (listens && port == 0)) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen for gRPC on ", wanted, ": the port is in use or the host is not ours; pass ",
        "another ", options.port_flag, " (0: any free one) or --host"));
  }
  if (listens) server->address_ = Join(options.host, port);
  server->health_names_ = std::move(options.health_names);
  server->SetServing(false);
  return server;
}

GrpcServer::~GrpcServer() { Shutdown(absl::Now()); }

void GrpcServer::TakeConnection(int fd) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.fd = fd;
  acceptor_->HandleNewConnection(&connection);
}

void GrpcServer::SetServing(bool serving) {
  auto* health = server_->GetHealthCheckService();
  if (health == nullptr) return;
  for (const std::string& name : health_names_) health->SetServingStatus(name, serving);
  health->SetServingStatus("", serving);
}

void GrpcServer::Shutdown(absl::Time deadline) {
  if (server_ == nullptr) return;
  server_->Shutdown(absl::ToChronoTime(deadline));
  server_->Wait();
  server_.reset();
}

}  // namespace mili::router
