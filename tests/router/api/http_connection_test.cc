// How the HTTP server treats clients that vanish, dawdle, pipeline or send what they should not.
#include <thread>

#include <gmock/gmock.h>

#include "tests/router/api/http_fixture.h"

namespace mili::router {
namespace {

using testing::HasSubstr;

constexpr char kLong[] = R"({"prompt":"abc","max_tokens":9})";
constexpr char kLongStream[] = R"({"prompt":"abc","max_tokens":9,"stream":true})";

class HttpConnectionTest : public HttpTest {
 protected:
  static HttpLimits ShortLimits() {
    HttpLimits limits;
    limits.max_body_bytes = 1000;
    limits.max_header_bytes = 2000;
    limits.max_headers = 10;
    limits.header_timeout = absl::Milliseconds(100);
    limits.body_timeout = absl::Milliseconds(100);
    limits.keep_alive = absl::Milliseconds(300);
    limits.ping_interval = absl::Milliseconds(20);
    limits.write_timeout = absl::Milliseconds(200);
    return limits;
  }
  HttpConnectionTest() : HttpTest(ShortLimits()) {}

  void SendToken(RequestKey key, char c, bool last) {
    TokenEvent event{.request = key};
    event.tokens.push_back({.id = static_cast<unsigned char>(c)});
    if (last) event.finish = Finish{.reason = FinishReason::kLength};
    api_.engine.Send(event);
  }
};

TEST_F(HttpConnectionTest, KeepAliveAnswersOneAfterTheOther) {
  TestClient client(server_->address());
  for (int i = 0; i < 3; ++i) {
    client.Send(PostBytes("/v1/completions", R"({"prompt":"abc","max_tokens":5})"));
    EXPECT_EQ(Parse(client.ReadResponse()).json()["choices"][0]["text"], "hello");
  }
}

TEST_F(HttpConnectionTest, PipelinedRequestsAreAnsweredInOrder) {
  TestClient client(server_->address());
  client.Send("GET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.ReadResponse(), HasSubstr("version"));
  EXPECT_THAT(client.ReadResponse(), HasSubstr("tiny"));
}

TEST_F(HttpConnectionTest, ResetWhileWaitingCancels) {
  api_.engine.hold = true;
  TestClient client(server_->address());
  client.Send(PostBytes("/v1/completions", kLong));
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  client.Reset();
  EXPECT_EQ(api_.engine.WaitForCancels(1)[0].first, key);
}

TEST_F(HttpConnectionTest, CloseWhileWaitingCancels) {
  api_.engine.hold = true;
  TestClient client(server_->address());
  client.Send(PostBytes("/v1/completions", kLong));
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  client.Close();
  EXPECT_EQ(api_.engine.WaitForCancels(1)[0].first, key);
}

TEST_F(HttpConnectionTest, ResetOfAStreamCancels) {
  api_.engine.hold = true;
  TestClient client(server_->address());
  client.Send(PostBytes("/v1/completions", kLongStream));
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  SendToken(key, 'x', false);
  client.ReadUntil("\"x\"");
  client.Reset();
  EXPECT_EQ(api_.engine.WaitForCancels(1)[0].first, key);
}

TEST_F(HttpConnectionTest, CloseOfAStreamCancelsAtTheNextPing) {
  api_.engine.hold = true;
  TestClient client(server_->address());
  client.Send(PostBytes("/v1/completions", kLongStream));
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  client.ReadUntil(": ping");
  client.Close();
  EXPECT_EQ(api_.engine.WaitForCancels(1)[0].first, key);
}

TEST_F(HttpConnectionTest, HalfClosedClientGetsItsAnswer) {
  api_.engine.hold = true;
  TestClient client(server_->address());
  client.Send(PostBytes("/v1/completions", kLong));
  client.CloseHalf();
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  // The interim response that asks whether anybody is there.
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  SendToken(key, 'x', true);
  EXPECT_EQ(Parse(client.ReadResponse()).json()["choices"][0]["text"], "x");
}

TEST_F(HttpConnectionTest, SilentStreamIsPingedBetweenEvents) {
  api_.engine.hold = true;
  TestClient client(server_->address());
  client.Send(PostBytes("/v1/completions", kLongStream));
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  EXPECT_THAT(client.ReadUntil(": ping\n\n"), HasSubstr("text/event-stream"));
  SendToken(key, 'x', true);
  EXPECT_THAT(client.ReadUntil("[DONE]\n\n"), HasSubstr("\"text\":\"x\""));
}

TEST_F(HttpConnectionTest, Http10GetsAPlainStream) {
  TestClient client(server_->address());
  const std::string body = R"({"prompt":"abc","max_tokens":2,"stream":true})";
  client.Send("POST /v1/completions HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body);
  const std::string all = client.ReadToClose();
  EXPECT_THAT(all, HasSubstr("[DONE]"));
  EXPECT_THAT(all, testing::Not(HasSubstr("chunked")));
}

TEST_F(HttpConnectionTest, LargeBodyIs413) {
  TestClient client(server_->address());
  client.Send("POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
  EXPECT_EQ(Parse(client.ReadResponse()).status, 413);
}

TEST_F(HttpConnectionTest, LargeChunkedBodyIs413) {
  TestClient client(server_->address());
  client.Send("POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" +
              std::string(2000, 'x') + "\r\n");
  EXPECT_EQ(Parse(client.ReadResponse()).status, 413);
}

TEST_F(HttpConnectionTest, LargeHeaderIs431) {
  TestClient client(server_->address());
  client.Send("GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + std::string(3000, 'a') + "\r\n\r\n");
  EXPECT_EQ(Parse(client.ReadResponse()).status, 431);
}

TEST_F(HttpConnectionTest, ManyHeadersAre431) {
  std::string headers;
  for (int i = 0; i < 20; ++i) headers += "X-" + std::to_string(i) + ": a\r\n";
  TestClient client(server_->address());
  client.Send("GET /health HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
  EXPECT_EQ(Parse(client.ReadResponse()).status, 431);
}

TEST_F(HttpConnectionTest, TwoFramingsAtOnceAre400) {
  TestClient client(server_->address());
  client.Send(
      "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: "
      "chunked\r\n\r\n"
      "0\r\n\r\n");
  EXPECT_EQ(Parse(client.ReadResponse()).status, 400);
}

TEST_F(HttpConnectionTest, GarbageIs400) {
  TestClient client(server_->address());
  client.Send("\x16\x03\x01\x02garbage\r\n\r\n");
  EXPECT_EQ(Parse(client.ReadResponse()).status, 400);
}

TEST_F(HttpConnectionTest, SlowHeaderIsCut) {
  TestClient client(server_->address());
  client.Send("GET /health HTTP/1.1\r\nX-Slow: ");
  EXPECT_EQ(client.ReadToClose(), "");
}

TEST_F(HttpConnectionTest, StalledBodyIsCut) {
  TestClient client(server_->address());
  client.Send("POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{");
  EXPECT_EQ(client.ReadToClose(), "");
}

TEST_F(HttpConnectionTest, IdleConnectionIsClosed) {
  TestClient client(server_->address());
  EXPECT_EQ(client.ReadToClose(), "");
}

TEST_F(HttpConnectionTest, ExpectationIsMetBeforeTheBody) {
  TestClient client(server_->address());
  client.Send(
      "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send(R"({"prompt":"ab"})");
  EXPECT_EQ(Parse(client.ReadResponse()).json()["count"], 2);
}

TEST_F(HttpConnectionTest, RequestIdIsEchoedOnErrorsToo) {
  TestClient client(server_->address());
  client.Send("GET /none HTTP/1.1\r\nHost: x\r\nX-Request-Id: me-1\r\n\r\n");
  EXPECT_THAT(client.ReadResponse(), HasSubstr("x-request-id: me-1\r\n"));
}

TEST_F(HttpConnectionTest, ClientThatNeverReadsIsCut) {
  api_.engine.script = std::string(60, 'x');
  TestClient client(server_->address(), /*receive_bytes=*/4096);
  // About 10 MB, more than the kernel takes.
  client.Send(PostBytes("/v1/completions",
                        R"({"prompt":"a","max_tokens":60,"n":128,"logprobs":20,"stream":true,
                            "return_tokens_as_token_ids":true})"));
  api_.engine.WaitForRequest(0);
  // Returns once the session is gone, long before this deadline.
  const absl::Time begin = absl::Now();
  server_->Shutdown(begin + absl::Seconds(60));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(30));
  EXPECT_THAT(client.ReadToClose(), testing::Not(HasSubstr("[DONE]")));
}

TEST_F(HttpConnectionTest, ShutdownLetsTheRequestUnderWayEnd) {
  api_.engine.hold = true;
  TestClient client(server_->address());
  TestClient idle(server_->address());
  client.Send(PostBytes("/v1/completions", kLong));
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  std::thread ending([this] { server_->Shutdown(absl::Now() + absl::Seconds(20)); });
  EXPECT_EQ(idle.ReadToClose(), "");
  SendToken(key, 'x', true);
  const std::string response = client.ReadResponse();
  EXPECT_THAT(response, HasSubstr("\"text\":\"x\""));
  EXPECT_THAT(response, HasSubstr("Connection: close"));
  ending.join();
  EXPECT_FALSE(TestClient(server_->address()).connected());
}

TEST(HttpServerTest, PortInUseIsOneLineWithTheRemedy) {
  auto first = HttpServer::Create({.host = "127.0.0.1", .port_flag = "--port"});
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string address = (*first)->address();
  const uint32_t port = std::stoul(address.substr(address.rfind(':') + 1));
  auto second = HttpServer::Create({.host = "127.0.0.1", .port = port, .port_flag = "--port"});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("pass another --port"));
}

}  // namespace
}  // namespace mili::router
