// HttpServer: one listening port that speaks HTTP/1.1 and hands requests to a handler. Owns its
// sockets and network threads, which never block. Limits sizes and times of everything a client
// does; knows nothing of what the paths mean.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "router/api/http/exchange.h"

namespace mili::router {

struct HttpLimits {
  size_t max_body_bytes = 8 * 1024 * 1024;
  uint32_t max_header_bytes = 16 * 1024;
  size_t max_headers = 100;
  size_t max_connections = 20000;
  absl::Duration header_timeout = absl::Seconds(10);  // first byte to the end of the header
  absl::Duration body_timeout = absl::Seconds(30);    // between two bytes of a body
  absl::Duration keep_alive = absl::Seconds(75);      // between two requests
  absl::Duration write_timeout = absl::Seconds(30);   // without the client taking anything
  absl::Duration ping_interval = absl::Seconds(10);   // of silence in a stream
};

class HttpServer {
 public:
  struct Options {
    std::string host;
    uint32_t port = 0;           // 0: any free one
    std::string port_flag = {};  // named in errors, e.g. "--port"
    size_t num_threads = 1;
    HttpLimits limits = {};
    HttpHandler handler = {};
    // If set: takes connections that begin as HTTP/2 (gRPC); the callee owns the descriptor.
    std::function<void(int fd)> take_http2 = {};
  };
  // Binds and listens, but accepts nothing before Start. UNAVAILABLE: cause and remedy in one line.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Create(Options options);
  ~HttpServer();

  void Start();
  // Closes the port and idle connections, lets requests under way end until `deadline`, then cuts.
  void Shutdown(absl::Time deadline);

  // "host:port" with the real port.
  const std::string& address() const;

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace mili::router
