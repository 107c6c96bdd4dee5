// App: everything that a running mili-router owns, in the order in which it comes to life, and the
// written order in which it ends. Its Run is the main thread: it hears of signals, workers and
// drains through one mailbox.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "common/base/clock.h"
#include "common/base/mailbox.h"
#include "common/config/ready_pipe.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/wire/poller_hold.h"
#include "router/api/frontend.h"
#include "router/api/grpc/control_service.h"
#include "router/api/grpc/grpc_server.h"
#include "router/api/grpc/inference_service.h"
#include "router/api/http/routes.h"
#include "router/api/http/server.h"
#include "router/api/scheduler_metrics.h"
#include "router/loop/router_engine.h"
#include "router/model_loader.h"
#include "router/settings.h"
#include "router/signals.h"

namespace mili::router {

class App {
 public:
  explicit App(const Settings& settings);
  ~App();

  // Serves until SIGTERM, SIGINT or Control.Drain. An error is why it could not start.
  absl::Status Run();

 private:
  struct DrainAsked {};  // a signal, or Control.Drain
  struct Drained {};
  struct WarmedUp {};
  struct GroupChanged {
    size_t group_idx = 0;
    GroupSnapshot snapshot;
  };
  struct AssetsLoaded {
    absl::StatusOr<TextAssets> assets;
  };
  using News = std::variant<DrainAsked, Drained, WarmedUp, GroupChanged, AssetsLoaded>;
  class WarmUpSink;

  absl::Status MakeEngine();
  absl::Status Bind();
  absl::Status Serve();
  void Drain();

  absl::Status Handle(const GroupChanged& news);
  absl::Status Handle(AssetsLoaded& news);
  void WarmUp(const GroupSnapshot& snapshot);
  // Makes the model known once both its text and a worker are there.
  absl::Status MaybeServeModel();
  void TellReadiness();
  void PrintStart(const ServedModel& model);

  const Settings settings_;
  Logger log_;
  RealClock clock_;
  Mailbox<News> news_{0};
  SignalWatcher signals_;   // before any other thread
  PollerHold poller_hold_;  // before any channel or server
  ReadyPipe ready_pipe_;
  MetricsRegistry metrics_registry_;
  SchedulerMetrics metrics_;
  ModelSlot model_;
  std::unique_ptr<RouterEngine> engine_;
  std::unique_ptr<ServerState> state_;
  std::unique_ptr<Frontend> frontend_;
  std::unique_ptr<v1::Inference::CallbackService> inference_;
  std::unique_ptr<v1::Control::CallbackService> control_;
  std::unique_ptr<Routes> routes_;
  std::unique_ptr<Routes> admin_routes_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<GrpcServer> admin_grpc_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<HttpServer> admin_;
  StopLatch stop_loading_;
  std::thread loader_;

  // Of the main thread.
  std::optional<TextAssets> assets_;
  std::optional<WorkerFacts> facts_;
  Epoch warmed_epoch_;  // the epoch that a warm-up was sent to
  bool is_warming_up_ = false;
  bool is_ready_told_ = false;
  bool is_start_printed_ = false;
};

}  // namespace mili::router
