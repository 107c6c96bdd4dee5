#include "worker/service/metrics_server.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <utility>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "common/base/strings.h"

namespace mili::worker {
namespace {

constexpr size_t kMaxRequestBytes = 8 << 10;
constexpr std::chrono::milliseconds kPatience(2000);

absl::Status Failure(const std::string& address, const char* cause) {
  return absl::UnavailableError(
      absl::StrCat("cannot serve metrics on ", address, ": ", cause,
                   "; choose another --metrics-port (0: any free one) or --no-metrics"));
}

std::string Response(std::string_view status, std::string_view type, std::string_view body) {
  return absl::StrCat("HTTP/1.1 ", ToAbsl(status), "\r\nContent-Type: ", ToAbsl(type),
                      "\r\nContent-Length: ", body.size(), "\r\nConnection: close\r\n\r\n",
                      ToAbsl(body));
}

int PortOf(int fd) {
  sockaddr_storage storage = {};
  socklen_t size = sizeof(storage);
  getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size);
  return storage.ss_family == AF_INET6 ? ntohs(reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port)
                                       : ntohs(reinterpret_cast<sockaddr_in*>(&storage)->sin_port);
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const std::string& address,
                                                                    Pages pages) {
  const size_t colon = address.find_last_of(':');
  if (colon == std::string::npos) return Failure(address, "expected HOST:PORT");
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const std::string host = address.substr(0, colon);
  const int error = getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found);
  if (error != 0) return Failure(address, gai_strerror(error));
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  const bool is_bound =
      fd >= 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 16) == 0;
  const int bind_error = errno;
  freeaddrinfo(found);
  int wake[2] = {-1, -1};
  if (!is_bound || pipe2(wake, O_CLOEXEC) != 0) {
    if (fd >= 0) close(fd);
    return Failure(address, std::strerror(bind_error));
  }
  return std::unique_ptr<MetricsServer>(new MetricsServer(absl::StrCat(host, ":", PortOf(fd)), fd,
                                                          wake[0], wake[1], std::move(pages)));
}

MetricsServer::MetricsServer(std::string address, int listen_fd, int wake_read_fd,
                             int wake_write_fd, Pages pages)
    : address_(std::move(address)),
      listen_fd_(listen_fd),
      wake_read_fd_(wake_read_fd),
      wake_write_fd_(wake_write_fd),
      pages_(std::move(pages)),
      thread_([this] { Main(); }) {}

MetricsServer::~MetricsServer() {
  close(wake_write_fd_);  // the other end sees the hang-up
  thread_.join();
  close(wake_read_fd_);
  close(listen_fd_);
}

void MetricsServer::Main() {
  for (;;) {
    pollfd fds[] = {{listen_fd_, POLLIN, 0}, {wake_read_fd_, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
    if (fds[1].revents != 0) return;
    if (fds[0].revents == 0) continue;
    const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) continue;
    Serve(fd);
    close(fd);
  }
}

void MetricsServer::Serve(int fd) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  // True once the socket is ready; false when time is up or the server must end.
  const auto wait_for = [&](int16_t events) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd fds[] = {{fd, events, 0}, {wake_read_fd_, POLLIN, 0}};
    return poll(fds, 2, static_cast<int>(left.count())) > 0 && fds[1].revents == 0;
  };
  std::string request;
  while (request.find("\r\n\r\n") == std::string::npos) {
    char bytes[1024];
    if (request.size() > kMaxRequestBytes || !wait_for(POLLIN)) return;
    const ssize_t count = recv(fd, bytes, sizeof(bytes), 0);
    if (count <= 0) return;
    request.append(bytes, static_cast<size_t>(count));
  }
  const std::string answer = Answer(request);
  std::string_view rest = answer;
  while (!rest.empty() && wait_for(POLLOUT)) {
    const ssize_t count = send(fd, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (count <= 0) return;
    rest.remove_prefix(static_cast<size_t>(count));
  }
  shutdown(fd, SHUT_WR);
}

std::string MetricsServer::Answer(const std::string& request) const {
  const std::string line = request.substr(0, request.find("\r\n"));
  const size_t first = line.find(' ');
  const std::string method = line.substr(0, first);
  std::string path = first == std::string::npos ? "" : line.substr(first + 1);
  path = path.substr(0, path.find_first_of(" ?"));
  constexpr std::string_view kText = "text/plain; charset=utf-8";
  if (method != "GET") return Response("405 Method Not Allowed", kText, "expected GET\n");
  if (path == "/metrics") {
    return Response("200 OK", "text/plain; version=0.0.4; charset=utf-8", pages_.metrics());
  }
  if (path == "/health") {
    const std::string reason = pages_.health();
    return reason.empty() ? Response("200 OK", kText, "ok\n")
                          : Response("503 Service Unavailable", kText, reason + "\n");
  }
  return Response("404 Not Found", kText, "expected /metrics or /health\n");
}

}  // namespace mili::worker
