#include "router/api/http/server.h"

#include <csignal>
#include <thread>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include "router/api/http/session.h"

namespace mili::router {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

std::string Join(const std::string& host, unsigned port) {
  const bool is_v6 = host.find(':') != std::string::npos;
  return is_v6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::Status Refusal(const HttpServer::Options& options, const error_code& error) {
  return absl::UnavailableError(absl::StrCat(
      "cannot listen for HTTP on ", Join(options.host, options.port), ": ", error.message(),
      "; pass another ", options.port_flag, " (0: any free one) or --host"));
}

}  // namespace

struct HttpServer::State {
  explicit State(Options options_in)
      : options(std::move(options_in)),
        io(static_cast<int>(options.num_threads)),
        acceptor(asio::make_strand(io)),
        retry(acceptor.get_executor()) {
    shared.limits = options.limits;
    shared.handler = options.handler;
    shared.take_http2 = options.take_http2;
  }

  void Accept() {
    acceptor.async_accept(asio::make_strand(io), [this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || shared.closing) return;
      if (error) {
        // Out of descriptors, most likely: others must end first.
        retry.expires_after(std::chrono::milliseconds(100));
        retry.async_wait([this](error_code stopped) {
          if (!stopped) Accept();
        });
        return;
      }
      size_t num_sessions;
      {
        MutexLock lock(shared.mutex);
        num_sessions = shared.sessions.size();
      }
      // Beyond the limit the connection is closed at once: there is no thread to wait in.
      if (num_sessions < shared.limits.max_connections) {
        std::make_shared<HttpSession>(std::move(socket), &shared)->Start();
      }
      Accept();
    });
  }

  Options options;
  HttpShared shared;  // outlives the sessions, the last of which `io` destroys
  asio::io_context io;
  tcp::acceptor acceptor;
  asio::steady_timer retry;
  std::string address;
  std::vector<std::thread> threads;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Create(Options options) {
  auto state = std::make_unique<State>(std::move(options));
  const Options& o = state->options;
  error_code error;
  tcp::resolver resolver(state->io);
  const auto found =
      resolver.resolve(o.host, std::to_string(o.port),
                       tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) return Refusal(o, error);
  const tcp::endpoint endpoint = found.begin()->endpoint();
  state->acceptor.open(endpoint.protocol(), error);
  if (error) return Refusal(o, error);
  state->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  state->acceptor.bind(endpoint, error);
  if (error) return Refusal(o, error);
  state->acceptor.listen(1024, error);
  if (error) return Refusal(o, error);
  state->address = Join(o.host, state->acceptor.local_endpoint(error).port());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() { Shutdown(absl::Now()); }

void HttpServer::Start() {
  state_->Accept();
  for (size_t i = 0; i < state_->options.num_threads; ++i) {
    state_->threads.emplace_back([io = &state_->io] {
      const auto stay = asio::make_work_guard(*io);
      io->run();
    });
  }
}

void HttpServer::Shutdown(absl::Time deadline) {
  HttpShared& shared = state_->shared;
  shared.closing = true;
  asio::post(state_->acceptor.get_executor(), [this] {
    error_code ignored;
    state_->acceptor.close(ignored);
    state_->retry.cancel();
  });
  if (!state_->threads.empty()) {
    MutexLock lock(shared.mutex);
    for (HttpSession* session : shared.sessions) session->CloseIfIdle();
    while (!shared.sessions.empty()) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) break;
      shared.changed.WaitFor(shared.mutex, left);
    }
    // What a session holds is let go on its own strand, so each is seen to its end.
    for (HttpSession* session : shared.sessions) session->Cut();
    while (!shared.sessions.empty()) shared.changed.Wait(shared.mutex);
  }
  state_->io.stop();
  for (std::thread& thread : state_->threads) thread.join();
  state_->threads.clear();
}

const std::string& HttpServer::address() const { return state_->address; }

}  // namespace mili::router
