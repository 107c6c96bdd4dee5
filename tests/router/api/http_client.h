// A blunt HTTP client for tests: a blocking socket that sends what it is told and reads to the end
// of the answer, so that broken, slow and vanishing clients can be played.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace mili::router {

class TestClient {
 public:
  // `receive_bytes`: how much the kernel may take for a client that does not read; 0: its default.
  explicit TestClient(const std::string& address, int receive_bytes = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (receive_bytes > 0) {
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0;
  }
  ~TestClient() { Close(); }

  bool connected() const { return connected_; }
  void Send(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }
  // Reads until `mark` was seen (it is in the result) or the server closes.
  std::string ReadUntil(const std::string& mark) {
    while (unread_.find(mark) == std::string::npos) {
      if (!ReadSome()) return std::exchange(unread_, "");
    }
    const size_t end = unread_.find(mark) + mark.size();
    std::string result = unread_.substr(0, end);
    unread_.erase(0, end);
    return result;
  }
  std::string ReadToClose() {
    while (ReadSome()) {
    }
    return std::exchange(unread_, "");
  }
  // One response with a Content-Length: head and body.
  std::string ReadResponse() {
    std::string response = ReadUntil("\r\n\r\n");
    const size_t at = response.find("Content-Length: ");
    if (at == std::string::npos) return response;
    const size_t length = std::stoul(response.substr(at + 16));
    while (unread_.size() < length && ReadSome()) {
    }
    response += unread_.substr(0, length);
    unread_.erase(0, length);
    return response;
  }
  void CloseHalf() { ::shutdown(fd_, SHUT_WR); }
  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  // Ends the connection with RST.
  void Reset() {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    Close();
  }

 private:
  bool ReadSome() {
    char bytes[4096];
    const ssize_t n = ::recv(fd_, bytes, sizeof(bytes), 0);
    if (n <= 0) return false;
    unread_.append(bytes, static_cast<size_t>(n));
    return true;
  }

  int fd_ = -1;
  bool connected_ = false;
  std::string unread_;
};

}  // namespace mili::router
