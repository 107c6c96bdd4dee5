// What the HTTP server and the routes behind it say to each other. No Beast in here.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace mili::router {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET"
  std::string target;  // as sent: path and query
  std::string content_type;
  std::string request_id;  // X-Request-Id; empty if there is none
  std::string body;
};

struct HttpReply {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;
  std::string body;
};

// The pieces of a streamed body, asked for by the connection's thread one after the other.
class HttpStreamSource {
 public:
  virtual ~HttpStreamSource() = default;
  struct Piece {
    std::string bytes;  // empty: nothing new yet
    bool done = false;  // the body ends after these
  };
  virtual Piece Next() = 0;
};

// One request under way. Thread-safe. Whoever answers calls Reply or Stream once.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual void Reply(HttpReply reply) = 0;
  // Begins a body of server-sent events; `headers` are added to those that every stream has.
  virtual void Stream(HttpHeaders headers, std::shared_ptr<HttpStreamSource> source) = 0;
  // The source has something new.
  virtual void Wake() = 0;
  // `gone` is called at most once, on any thread, when the client is gone before the answer's end.
  // What it holds is let go when the exchange ends.
  virtual void OnGone(std::function<void()> gone) = 0;
};

// Called on a network thread; must not block.
using HttpHandler = std::function<void(HttpRequest, std::shared_ptr<HttpExchange>)>;

}  // namespace mili::router
