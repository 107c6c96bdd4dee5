// GrpcServer: one listening gRPC port with its services, health and reflection. Starts in Create,
// ends in Shutdown; its threads are gRPC's own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/time/time.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

namespace mili::router {

class GrpcServer {
 public:
  // The public server listens by itself. The admin server listens nowhere: its port is shared with
  // HTTP, whose server hands over what turns out to be HTTP/2. It alone has channelz; gRPC's switch
  // for that works on every server made after it, so make the public server first.
  enum class Kind { kPublic, kAdmin };
  struct Options {
    Kind kind = Kind::kPublic;
    std::string host = {};                       // as the user wrote it
    uint32_t port = 0;                           // 0: any free one
    std::string port_flag = {};                  // named in errors, e.g. "--grpc-port"
    std::vector<grpc::Service*> services = {};   // outlive the server
    std::vector<std::string> health_names = {};  // beside ""
  };
  // UNAVAILABLE if the port cannot be had: cause and remedy in one line.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Create(Options options);
  ~GrpcServer();

  // kAdmin: serves an accepted, non-blocking connection; owns the descriptor.
  void TakeConnection(int fd);
  // grpc.health.v1 for "" and every name; NOT_SERVING until the first call.
  void SetServing(bool serving);
  // Refuses new calls, gives those under way until `deadline`, then cancels them.
  void Shutdown(absl::Time deadline);

  // kPublic: "host:port" with the real port.
  const std::string& address() const { return address_; }

 private:
  GrpcServer() = default;

  std::string address_;
  std::vector<std::string> health_names_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;  // kAdmin
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace mili::router
