// Session: a server to talk to for the life of one command: one that runs already (--server), or a
// router and a worker of this command's own, on a private socket and free ports.
#pragma once

#include <memory>
#include <string>

#include <absl/status/statusor.h>

#include "common/config/flag_table.h"
#include "tools/mili/client.h"
#include "tools/mili/server_flags.h"
#include "tools/mili/signal_fd.h"

namespace mili {

struct SessionFlags {
  std::string server;  // of --server; empty: a pair of our own for pair.model
  ServerFlags pair;
};

// MODEL, --server and the worker's settings.
void AddSessionFlags(FlagTable& table, SessionFlags& flags);

// INVALID_ARGUMENT unless exactly one of MODEL and --server is given.
absl::Status CheckSessionFlags(const SessionFlags& flags);

class Session {
 public:
  // Starts and waits until a token can come out, if it must; progress on stderr. CANCELLED if
  // `interrupts` came meanwhile. SIGCHLD is blocked from here on.
  static absl::StatusOr<std::unique_ptr<Session>> Open(const SessionFlags& flags,
                                                       const FlagTable& table,
                                                       const char* const* environ,
                                                       const SignalFd& interrupts);
  virtual ~Session() = default;

  virtual Client& client() = 0;
};

}  // namespace mili
