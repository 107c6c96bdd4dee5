// Routes: which path answers how. Called on network threads; never blocks. Knows nothing of
// sockets.
#pragma once

#include <functional>
#include <string>

#include "router/api/frontend.h"
#include "router/api/http/exchange.h"
#include "router/api/served_model.h"
#include "router/api/server_state.h"

namespace mili::router {

class Routes {
 public:
  struct Options {
    // Renders /metrics; null: no such route on this port.
    std::function<std::string()> metrics;
    // Only what an operator needs: health, readiness, version, metrics.
    bool admin_only = false;
  };
  // All outlive the routes.
  Routes(Options options, Frontend* frontend, ServerState* state, const ModelSlot* model)
      : options_(std::move(options)), frontend_(frontend), state_(state), model_(model) {}

  void Handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange);

 private:
  HttpReply Get(const std::string& path) const;
  void Post(const std::string& path, bool strict, const HttpRequest& request,
            const std::shared_ptr<HttpExchange>& exchange);
  HttpReply Models(const std::string& id) const;
  bool IsGet(const std::string& path) const;
  bool IsPost(const std::string& path) const;

  const Options options_;
  Frontend* const frontend_;
  ServerState* const state_;
  const ModelSlot* const model_;
};

}  // namespace mili::router
