#include "router/api/http/session.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/read.hpp>

#include "router/api/http/errors.h"
#include "router/api/http/session_exchange.h"

namespace mili::router {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

// Errors as values: no exception leaves Asio.
constexpr auto kAwait = asio::experimental::as_tuple(asio::use_awaitable);
constexpr size_t kReadBytes = 16 * 1024;
constexpr std::chrono::seconds kLinger{2};
constexpr size_t kMaxLingerBytes = 16 * 1024 * 1024;
constexpr char kContinue[] = "HTTP/1.1 100 Continue\r\n\r\n";

auto ToChrono(absl::Duration duration) { return absl::ToChronoNanoseconds(duration); }

}  // namespace

HttpSession::HttpSession(asio::ip::tcp::socket socket, HttpShared* shared)
    : stream_(std::move(socket)), shared_(shared), news_timer_(stream_.get_executor()) {
  MutexLock lock(shared_->mutex);
  shared_->sessions.insert(this);
}

HttpSession::~HttpSession() {
  MutexLock lock(shared_->mutex);
  shared_->sessions.erase(this);
  shared_->changed.NotifyAll();
}

void HttpSession::Start() {
  asio::co_spawn(
      stream_.get_executor(), [self = shared_from_this()] { return self->Run(); }, asio::detached);
}

void HttpSession::CloseIfIdle() {
  auto self = weak_from_this().lock();
  if (self == nullptr) return;  // ending already
  const auto executor = stream_.get_executor();
  asio::post(executor, [self = std::move(self)] {
    if (self->idle_) self->stream_.close();
  });
}

void HttpSession::Cut() {
  auto self = weak_from_this().lock();
  if (self == nullptr) return;
  const auto executor = stream_.get_executor();
  asio::post(executor, [self = std::move(self)] {
    self->OnGone();
    self->turn_.Reclaim();
    self->stream_.close();
  });
}

void HttpSession::Notify() {
  if (turn_.Write()) return;
  asio::post(stream_.get_executor(), [self = shared_from_this()] {
    self->has_news_ = true;
    self->news_timer_.cancel();
  });
}

HttpSession::Awaitable HttpSession::WaitForNews(absl::Duration timeout) {
  if (!has_news_) {
    news_timer_.expires_after(ToChrono(timeout));
    co_await news_timer_.async_wait(kAwait);
  }
  has_news_ = false;
}

HttpSession::Awaitable HttpSession::Run() {
  error_code ignored;
  stream_.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  stream_.socket().non_blocking(true, ignored);
  if (shared_->take_http2 != nullptr && co_await IsHttp2()) {
    stream_.socket().native_non_blocking(true, ignored);
    const int fd = stream_.socket().release(ignored);
    if (!ignored) shared_->take_http2(fd);
    co_return;
  }
  while (!shared_->closing) {
    Parser parser;
    parser.header_limit(shared_->limits.max_header_bytes);
    parser.body_limit(shared_->limits.max_body_bytes);
    idle_ = true;
    if (!co_await ReadRequest(parser)) break;
    idle_ = false;
    if (!co_await Serve(parser)) break;
  }
  // The client still reads what was written; a close with unread input would destroy it.
  stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  stream_.close();
}

// Whether the client opens with HTTP/2's preface; nothing is taken from the socket.
asio::awaitable<bool> HttpSession::IsHttp2() {
  news_timer_.expires_after(ToChrono(shared_->limits.header_timeout));
  news_timer_.async_wait([self = shared_from_this()](error_code stopped) {
    if (!stopped) self->stream_.close();
  });
  const auto [error] = co_await stream_.socket().async_wait(asio::socket_base::wait_read, kAwait);
  news_timer_.cancel();
  if (error) co_return false;
  char first[3];
  const ssize_t n =
      ::recv(stream_.socket().native_handle(), first, sizeof(first), MSG_PEEK | MSG_DONTWAIT);
  co_return n == 3 && first[0] == 'P' && first[1] == 'R' && first[2] == 'I';
}

asio::awaitable<bool> HttpSession::ReadRequest(Parser& parser) {
  framing_ = {};
  request_id_.clear();
  if (!co_await ReadHead(parser)) co_return false;
  idle_ = false;
  const auto& request = parser.get();
  framing_.http10 = request.version() < 11;
  framing_.keep_alive = request.keep_alive();
  framing_.is_head = request.method() == http::verb::head;
  request_id_ = CleanRequestId(std::string(request["X-Request-Id"]));
  size_t num_headers = 0;
  for (auto it = request.begin(); it != request.end(); ++it) ++num_headers;
  if (num_headers > shared_->limits.max_headers) co_return co_await Refuse(431, "too many headers");
  if (const auto expect = request[http::field::expect]; !expect.empty()) {
    if (!beast::iequals(expect, "100-continue")) {
      co_return co_await Refuse(417, "only Expect: 100-continue is known");
    }
    if (!framing_.http10 && !co_await Write(kContinue)) co_return false;
  }
  co_return co_await ReadBody(parser);
}

asio::awaitable<bool> HttpSession::ReadHead(Parser& parser) {
  if (buffer_.size() == 0) {
    stream_.expires_after(ToChrono(shared_->limits.keep_alive));
    const auto [error, n] = co_await stream_.async_read_some(buffer_.prepare(kReadBytes), kAwait);
    if (error) co_return false;
    buffer_.commit(n);
  }
  idle_ = false;
  stream_.expires_after(ToChrono(shared_->limits.header_timeout));
  const auto [error, n] = co_await http::async_read_header(stream_, buffer_, parser, kAwait);
  if (!error) co_return true;
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    co_return co_await Refuse(431, "the header is too large");
  }
  if (error == http::error::body_limit) co_return co_await RefuseBody();
  if (error == beast::error::timeout) {
    // The socket is closed already; the client was too slow to be told.
    co_return false;
  }
  if (error == http::error::end_of_stream ||
      error.category() != http::make_error_code(http::error::end_of_stream).category()) {
    co_return false;
  }
  co_return co_await Refuse(400, "the request is no valid HTTP/1.1");
}

asio::awaitable<bool> HttpSession::ReadBody(Parser& parser) {
  while (!parser.is_done()) {
    stream_.expires_after(ToChrono(shared_->limits.body_timeout));
    const auto [error, n] = co_await http::async_read_some(stream_, buffer_, parser, kAwait);
    if (!error) continue;
    if (error == http::error::body_limit) co_return co_await RefuseBody();
    if (error == beast::error::timeout || error == http::error::partial_message) co_return false;
    if (error.category() == http::make_error_code(http::error::body_limit).category()) {
      co_return co_await Refuse(400, "the body's framing is no valid HTTP/1.1");
    }
    co_return false;
  }
  co_return true;
}

asio::awaitable<bool> HttpSession::RefuseBody() {
  co_return co_await Refuse(
      413, "the body is larger than " + std::to_string(shared_->limits.max_body_bytes) + " bytes");
}

asio::awaitable<bool> HttpSession::Refuse(int code, std::string message) {
  framing_.keep_alive = false;
  if (!co_await Write(RenderReply(ErrorReply(code, message), request_id_, framing_)))
    co_return false;
  error_code ignored;
  stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  // What the client still sends is read away for a moment: closing on unread input would make the
  // kernel throw away the answer.
  stream_.expires_after(kLinger);
  size_t left = kMaxLingerBytes;
  while (left > 0) {
    buffer_.clear();
    const auto [error, n] = co_await stream_.async_read_some(buffer_.prepare(kReadBytes), kAwait);
    if (error) break;
    left -= std::min(left, n);
  }
  co_return false;
}

asio::awaitable<bool> HttpSession::Serve(Parser& parser) {
  stream_.expires_never();
  http::request<http::string_body> message = parser.release();
  HttpRequest request{.method = std::string(message.method_string()),
                      .target = std::string(message.target()),
                      .content_type = std::string(message[http::field::content_type]),
                      .request_id = request_id_,
                      .body = std::move(message.body())};
  has_news_ = false;
  exchange_ = std::make_shared<SessionExchange>([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Notify();
  });
  const std::shared_ptr<SessionExchange> exchange = exchange_;
  probe_half_closed_ = true;
  WatchRead();
  shared_->handler(std::move(request), exchange);
  bool ok = false;
  while (!gone_) {
    if (auto reply = exchange->TakeReply()) {
      framing_.keep_alive = framing_.keep_alive && !shared_->closing;
      probe_half_closed_ = false;
      ok = co_await Write(RenderReply(*reply, request_id_, framing_)) && framing_.keep_alive;
      break;
    }
    if (exchange->source() != nullptr) {
      probe_half_closed_ = false;
      ok = co_await ServeStream(*exchange);
      break;
    }
    co_await WaitForNews(absl::Hours(24));
  }
  ++watch_idx_;
  exchange_.reset();
  exchange->Close(/*gone=*/!ok && framing_.keep_alive);
  if (!ok) co_return false;
  error_code ignored;
  stream_.socket().cancel(ignored);  // only the watch is under way
  co_return !gone_;
}

asio::awaitable<bool> HttpSession::ServeStream(SessionExchange& exchange) {
  if (framing_.http10) framing_.keep_alive = false;
  const std::shared_ptr<HttpStreamSource> source = exchange.source();
  if (!co_await Write(RenderStreamHead(exchange.stream_headers(), request_id_, framing_))) {
    exchange.Close(/*gone=*/true);
    co_return false;
  }
  absl::Time last_write = absl::Now();
  while (true) {
    has_news_ = false;
    const HttpStreamSource::Piece piece = source->Next();
    std::string bytes = RenderStreamPiece(piece, framing_);
    if (!bytes.empty()) {
      if (!co_await Write(std::move(bytes))) break;
      last_write = absl::Now();
    }
    if (piece.done) co_return framing_.keep_alive && !shared_->closing;
    if (gone_) break;
    if (!piece.bytes.empty()) continue;  // there may be more already
    turn_.Lend(stream_.socket().native_handle(), framing_, source);
    const absl::Time ping_at = last_write + shared_->limits.ping_interval;
    co_await WaitForNews(std::max(ping_at - absl::Now(), absl::ZeroDuration()));
    StreamTurn::Left left = turn_.Reclaim();
    last_write = std::max(last_write, left.last_write);
    if (!left.unsent.empty() && !co_await Write(std::move(left.unsent))) break;
    if (left.done) co_return framing_.keep_alive && !shared_->closing;
    if (gone_) break;
    if (absl::Now() - last_write < shared_->limits.ping_interval) continue;
    // Comments only between events: pieces are whole events.
    // Not within the co_await: GCC 12 destroys an aggregate made there twice.
    bytes = RenderStreamPiece({.bytes = ": ping\n\n"}, framing_);
    if (!co_await Write(std::move(bytes))) break;
    last_write = absl::Now();
  }
  exchange.Close(/*gone=*/true);
  co_return false;
}

// Each write that the client takes a part of is progress. What the kernel takes at once needs no
// timer and no turn of the executor.
asio::awaitable<bool> HttpSession::Write(std::string bytes) {
  error_code refused;
  size_t sent = stream_.socket().write_some(asio::buffer(bytes), refused);
  if (sent == bytes.size()) co_return true;
  while (sent < bytes.size()) {
    stream_.expires_after(ToChrono(shared_->limits.write_timeout));
    const auto [error, n] = co_await stream_.async_write_some(
        asio::buffer(bytes.data() + sent, bytes.size() - sent), kAwait);
    if (error) co_return false;
    sent += n;
  }
  stream_.expires_never();
  co_return true;
}

void HttpSession::WatchRead() {
  stream_.socket().async_wait(asio::socket_base::wait_read,
                              [self = shared_from_this(), watch = watch_idx_](error_code error) {
                                if (!error && watch == self->watch_idx_) self->OnReadable();
                              });
}

void HttpSession::OnReadable() {
  char byte;
  const ssize_t n = ::recv(stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return WatchRead();
  if (n < 0) return OnGone();
  // FIN: the client may only have closed its half, and then it waits for its answer. An interim
  // response, which every client skips, makes the kernel of one that closed both answer with RST.
  if (n == 0 && probe_half_closed_ && !framing_.http10) {
    ::send(stream_.socket().native_handle(), kContinue, sizeof(kContinue) - 1,
           MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  if (n == 0) framing_.keep_alive = false;
  WatchError();
}

void HttpSession::WatchError() {
  stream_.socket().async_wait(asio::socket_base::wait_error,
                              [self = shared_from_this(), watch = watch_idx_](error_code error) {
                                if (!error && watch == self->watch_idx_) self->OnGone();
                              });
}

void HttpSession::OnGone() {
  gone_ = true;
  if (exchange_ != nullptr) exchange_->Close(/*gone=*/true);
  has_news_ = true;
  news_timer_.cancel();
}

}  // namespace mili::router
