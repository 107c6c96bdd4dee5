// StreamTurn: whose turn it is to write a streamed body. The connection's strand writes, and while
// it waits for news, whoever brings them does, on their own thread: that spares a change of thread
// for each piece. Thread-safe; never blocks on the socket. Private to http/*.cc.
#pragma once

#include <memory>
#include <string>

#include <absl/time/time.h>

#include "common/base/mutex.h"
#include "router/api/http/exchange.h"
#include "router/api/http/head.h"

namespace mili::router {

class StreamTurn {
 public:
  // What a bringer left to the strand.
  struct Left {
    std::string unsent;  // bytes the socket would not take at once
    bool done = false;   // the body's last byte was sent or is among `unsent`
    // When a bringer last wrote; InfinitePast if none did.
    absl::Time last_write = absl::InfinitePast();
  };

  // From now on the strand neither writes to the non-blocking socket `fd` nor closes it, until
  // Reclaim.
  void Lend(int fd, ResponseFraming framing, std::shared_ptr<HttpStreamSource> source);
  // The turn is the strand's again. Not lent: nothing is left.
  Left Reclaim();

  // Writes the source's next piece if the turn is lent. False: the strand must be told, either
  // because the turn is its own or because something is left to it.
  bool Write();

 private:
  Mutex mutex_;
  std::shared_ptr<HttpStreamSource> source_ MILI_GUARDED_BY(mutex_);  // null: not lent
  int fd_ MILI_GUARDED_BY(mutex_) = -1;
  ResponseFraming framing_ MILI_GUARDED_BY(mutex_);
  Left left_ MILI_GUARDED_BY(mutex_);
};

}  // namespace mili::router
