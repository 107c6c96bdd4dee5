// Server: the gRPC server of a worker: one address, the Worker service, grpc.health.v1. Binds in
// Start, before anything is loaded; "" and the service are NOT_SERVING until SetServing.
#pragma once

#include <memory>
#include <string>

#include <absl/status/statusor.h>
#include <absl/time/time.h>

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace mili::worker {

class Server {
 public:
  // `address` is HOST:PORT (0: any free one) or unix:/path. UNAVAILABLE saying why it cannot be
  // had. `service` outlives the server.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const std::string& address,
                                                       grpc::Service* service);
  ~Server();

  // As clients dial it, with the real port.
  const std::string& address() const { return address_; }
  void SetServing(bool is_serving);
  // Takes no new calls, cuts those that have not ended within `grace`, returns when all are done.
  void Shutdown(absl::Duration grace);

 private:
  Server(std::string address, std::unique_ptr<grpc::Server> server);

  const std::string address_;
  const std::unique_ptr<grpc::Server> server_;
};

}  // namespace mili::worker
