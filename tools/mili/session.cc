#include "tools/mili/session.h"

#include <signal.h>
#include <unistd.h>

#include <optional>
#include <thread>
#include <utility>

#include "common/base/mailbox.h"
#include "common/base/status_macros.h"
#include "tools/mili/display.h"
#include "tools/mili/interrupts.h"
#include "tools/mili/model_path.h"
#include "tools/mili/programs.h"

namespace mili {
namespace {

// A server that runs already.
class RemoteSession final : public Session {
 public:
  explicit RemoteSession(const std::string& address) : client_(address) {}
  Client& client() override { return client_; }

 private:
  Client client_;
};

// How far the pair has come: its gRPC address once it is ready, or why it never will be.
using StartNews = absl::StatusOr<std::string>;

class PairObserver final : public Display {
 public:
  PairObserver(Display::Options options, Mailbox<StartNews>& news)
      : Display(std::move(options)), news_(news) {}

  void OnListening(const ReadyPipe::Fields& addresses) override {
    Display::OnListening(addresses);
    for (const auto& [name, address] : addresses) {
      if (name == "grpc") grpc_address_ = address;
    }
  }
  void OnReady() override {
    Display::OnReady();
    news_.Post(grpc_address_);
  }

 private:
  Mailbox<StartNews>& news_;
  std::string grpc_address_;
};

// A router and a worker that live as long as this.
class PairSession final : public Session {
 public:
  PairSession(Supervisor::Options options, SocketDir socket_dir, const std::string& model)
      : socket_dir_(std::move(socket_dir)),
        signals_({SIGCHLD}),
        observer_({.is_terminal = isatty(STDERR_FILENO) == 1, .is_quiet = true, .model = model},
                  news_),
        supervisor_(std::move(options), signals_, observer_) {}

  ~PairSession() override {
    client_.reset();
    if (!thread_.joinable()) return;
    supervisor_.Stop();
    thread_.join();
  }

  absl::Status Start(const SignalFd& interrupts) {
    thread_ = std::thread([this] {
      const absl::Status status = supervisor_.Run();
      news_.Post(status.ok() ? absl::AbortedError("the server ended") : status);
    });
    const InterruptGuard guard(interrupts,
                               [this](int) { news_.Post(absl::CancelledError("interrupted")); });
    MILI_ASSIGN_OR_RETURN(const std::string address, *news_.Take());
    client_.emplace(address);
    return absl::OkStatus();
  }

  Client& client() override { return *client_; }

 private:
  const SocketDir socket_dir_;
  const SignalFd signals_;
  Mailbox<StartNews> news_{16};
  PairObserver observer_;
  Supervisor supervisor_;
  std::thread thread_;  // the children die with it
  std::optional<Client> client_;
};

}  // namespace

void AddSessionFlags(FlagTable& table, SessionFlags& flags) {
  table.AddSection("Who answers");
  table.Add({.name = "server",
             .target = &flags.server,
             .value_name = "HOST:PORT",
             .help = "gRPC address of a running server, in place of MODEL."});
  AddWorkerFlags(table, flags.pair);
  AddProgramFlags(table, flags.pair);
}

absl::Status CheckSessionFlags(const SessionFlags& flags) {
  if (flags.server.empty() && flags.pair.model.empty()) {
    return absl::InvalidArgumentError(
        "who shall answer? Give MODEL, or --server HOST:PORT of a running server");
  }
  if (!flags.server.empty() && !flags.pair.model.empty()) {
    return absl::InvalidArgumentError(
        "MODEL and --server exclude each other: a running server has its model");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Session>> Session::Open(const SessionFlags& flags,
                                                       const FlagTable& table,
                                                       const char* const* environ,
                                                       const SignalFd& interrupts) {
  if (!flags.server.empty()) return std::make_unique<RemoteSession>(flags.server);
  MILI_RETURN_IF_ERROR(CheckModelPath(flags.pair.model));
  MILI_ASSIGN_OR_RETURN(SocketDir socket_dir, SocketDir::Make());
  Supervisor::Options options =
      MakePair(table, flags.pair, Ports::kPrivate, socket_dir.path(), environ);
  // Nobody else uses it, so nothing is left to end when it stops.
  options.drain_limit = absl::Seconds(5);
  options.max_failures_before_ready = 1;
  auto session = std::make_unique<PairSession>(std::move(options), std::move(socket_dir),
                                               ModelNameOf(flags.pair.model));
  MILI_RETURN_IF_ERROR(session->Start(interrupts));
  return session;
}

}  // namespace mili
