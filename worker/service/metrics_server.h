// MetricsServer: GET /metrics and /health over HTTP/1.1 for scrapers and probes, one connection at
// a time on one thread of its own. No keep-alive, 8 KiB of request, 2 s to send it; anything else
// is closed. Not a public server.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include <absl/status/statusor.h>

namespace mili::worker {

class MetricsServer {
 public:
  struct Pages {
    std::function<std::string()> metrics;  // the text of /metrics
    std::function<std::string()> health;   // empty: healthy; else the reason why not
  };
  // `address` is HOST:PORT, port 0 for any free one. UNAVAILABLE saying why it cannot be had.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& address,
                                                              Pages pages);
  ~MetricsServer();

  const std::string& address() const { return address_; }

 private:
  MetricsServer(std::string address, int listen_fd, int wake_read_fd, int wake_write_fd,
                Pages pages);
  void Main();
  void Serve(int fd);
  std::string Answer(const std::string& request) const;

  const std::string address_;
  const int listen_fd_;
  const int wake_read_fd_;  // readable once the server must end
  const int wake_write_fd_;
  const Pages pages_;
  std::thread thread_;
};

}  // namespace mili::worker
