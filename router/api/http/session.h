// HttpSession: one connection, from the first byte to the last. All of it runs on the connection's
// strand, but for the exchange's methods, which any thread may call, and for pieces of a stream
// that the strand waits for (StreamTurn). Private to http/*.cc.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <set>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "common/base/mutex.h"
#include "router/api/http/head.h"
#include "router/api/http/server.h"
#include "router/api/http/stream_turn.h"

namespace mili::router {

// What sessions share: limits, the handler, and who is there. Outlives them.
struct HttpShared {
  HttpLimits limits;
  HttpHandler handler;
  std::function<void(int fd)> take_http2;
  std::atomic<bool> closing = false;
  Mutex mutex;
  CondVar changed;
  std::set<class HttpSession*> sessions MILI_GUARDED_BY(mutex);
};

class SessionExchange;

class HttpSession final : public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(boost::asio::ip::tcp::socket socket, HttpShared* shared);
  ~HttpSession();

  // Serves until the end of the connection.
  void Start();
  // Ends the connection if it waits for a request; any thread.
  void CloseIfIdle();
  // Ends the connection and what is under way on it; any thread.
  void Cut();
  // Something changed in the exchange; any thread.
  void Notify();

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  using Awaitable = boost::asio::awaitable<void>;

  Awaitable Run();
  boost::asio::awaitable<bool> IsHttp2();
  // Reads one request; false: the connection is over (an error was answered if it could be).
  boost::asio::awaitable<bool> ReadRequest(Parser& parser);
  boost::asio::awaitable<bool> ReadHead(Parser& parser);
  boost::asio::awaitable<bool> ReadBody(Parser& parser);
  // Answers it; false: the connection is over.
  boost::asio::awaitable<bool> Serve(Parser& parser);
  boost::asio::awaitable<bool> ServeStream(SessionExchange& exchange);
  boost::asio::awaitable<bool> Write(std::string bytes);
  boost::asio::awaitable<bool> Refuse(int code, std::string message);
  boost::asio::awaitable<bool> RefuseBody();
  // Waits until Notify has something for the strand, or until `timeout` has passed.
  Awaitable WaitForNews(absl::Duration timeout);

  // Looks out for the client's going away while it waits for its answer.
  void WatchRead();
  void OnReadable();
  void WatchError();
  void OnGone();

  boost::beast::tcp_stream stream_;
  HttpShared* const shared_;
  boost::beast::flat_buffer buffer_;
  StreamTurn turn_;  // any thread
  boost::asio::steady_timer news_timer_;
  bool has_news_ = false;  // on the strand
  bool idle_ = true;
  bool gone_ = false;
  bool probe_half_closed_ = false;
  uint64_t watch_idx_ = 0;  // of the request watched over; later ones make a watch void
  std::shared_ptr<SessionExchange> exchange_;
  ResponseFraming framing_;
  std::string request_id_;
};

}  // namespace mili::router
