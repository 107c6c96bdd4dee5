#include "router/api/http/stream_turn.h"

#include <sys/socket.h>

#include <utility>

#include <absl/time/clock.h>

namespace mili::router {

void StreamTurn::Lend(int fd, ResponseFraming framing, std::shared_ptr<HttpStreamSource> source) {
  MutexLock lock(mutex_);
  fd_ = fd;
  framing_ = framing;
  source_ = std::move(source);
}

StreamTurn::Left StreamTurn::Reclaim() {
  std::shared_ptr<HttpStreamSource> source;  // may end here, after the lock
  MutexLock lock(mutex_);
  source = std::move(source_);
  return std::exchange(left_, {});
}

bool StreamTurn::Write() {
  MutexLock lock(mutex_);
  if (source_ == nullptr || left_.done || !left_.unsent.empty()) return false;
  const HttpStreamSource::Piece piece = source_->Next();
  const std::string bytes = RenderStreamPiece(piece, framing_);
  left_.done = piece.done;
  if (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    // The strand meets the same error, or waits for room.
    left_.unsent = bytes.substr(n < 0 ? 0 : static_cast<size_t>(n));
    left_.last_write = absl::Now();
  }
  return !left_.done && left_.unsent.empty();
}

}  // namespace mili::router
