// The HTTP server on a free port over an ApiFixture.
#pragma once

#include <memory>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "router/api/http/routes.h"
#include "router/api/http/server.h"
#include "tests/router/api/api_fixture.h"
#include "tests/router/api/http_client.h"

namespace mili::router {

class HttpTest : public testing::Test {
 protected:
  explicit HttpTest(HttpLimits limits = {}) {
    auto server = HttpServer::Create(
        {.host = "127.0.0.1",
         .port_flag = "--port",
         .limits = limits,
         .handler = [this](HttpRequest request, std::shared_ptr<HttpExchange> exchange) {
           routes_.Handle(std::move(request), std::move(exchange));
         }});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    server_->Start();
  }

  // As the router ends: network threads first, then the frontend's, whose last news still reach for
  // a connection; the server itself goes last.
  ~HttpTest() override { server_->Shutdown(absl::Now()); }

  struct Answer {
    int status = 0;
    std::string head;
    std::string body;
    nlohmann::json json() const { return nlohmann::json::parse(body, nullptr, false); }
  };
  static Answer Parse(const std::string& response) {
    Answer answer;
    const size_t end = response.find("\r\n\r\n");
    answer.head = response.substr(0, end);
    answer.body = end == std::string::npos ? "" : response.substr(end + 4);
    if (answer.head.size() > 12) answer.status = std::stoi(answer.head.substr(9, 3));
    return answer;
  }
  static std::string PostBytes(const std::string& path, const std::string& body,
                               const std::string& headers = "") {
    return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + headers +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  Answer Post(const std::string& path, const std::string& body, const std::string& headers = "") {
    TestClient client(server_->address());
    client.Send(PostBytes(path, body, headers));
    return Parse(client.ReadResponse());
  }
  Answer Get(const std::string& path, const std::string& method = "GET") {
    TestClient client(server_->address());
    client.Send(method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    return Parse(client.ReadToClose());
  }

  std::unique_ptr<HttpServer> server_;
  ApiFixture api_;
  Routes routes_{{.metrics = [] { return std::string("mili_up 1\n"); }},
                 &api_.frontend,
                 &api_.state,
                 &api_.model};
};

}  // namespace mili::router
