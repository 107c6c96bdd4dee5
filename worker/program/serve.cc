#include "worker/program/serve.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <variant>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "common/base/mailbox.h"
#include "common/base/status_macros.h"
#include "common/base/version.h"
#include "common/config/ready_pipe.h"
#include "common/wire/poller_hold.h"
#include "common/wire/worker_wire.h"
#include "worker/engine/engine.h"
#include "worker/program/load.h"
#include "worker/program/worker_metrics.h"
#include "worker/service/load_state.h"
#include "worker/service/metrics_server.h"
#include "worker/service/server.h"
#include "worker/service/worker_service.h"

namespace mili::worker {
namespace {

constexpr absl::Duration kSignOfLife = absl::Seconds(1);
constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);

struct SignalNews {
  int number;
};
struct ProgressNews {
  uint64_t loaded_bytes;
  uint64_t total_bytes;
};
struct LoadedNews {
  absl::StatusOr<LoadedModel> model;
};
struct DeviceLostNews {
  absl::Status cause;
};
using News = std::variant<SignalNews, ProgressNews, LoadedNews, DeviceLostNews>;

// Turns SIGTERM and SIGINT into news. A second signal ends the process at once.
class SignalWatcher {
 public:
  // Blocks the signals in the calling thread, so make it before any other thread.
  SignalWatcher(bool takes_interrupt, Mailbox<News>* news) : news_(news) {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    // Ctrl-C reaches every process of a terminal; under a supervisor, stopping is its decision.
    if (takes_interrupt) {
      sigaddset(&signals_, SIGINT);
    } else {
      signal(SIGINT, SIG_IGN);
    }
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::thread([this] { Main(); });
  }
  ~SignalWatcher() {
    is_ending_ = true;
    pthread_kill(thread_.native_handle(), SIGTERM);
    thread_.join();
  }

 private:
  void Main() {
    bool is_second = false;
    for (int number = 0; sigwait(&signals_, &number) == 0;) {
      if (is_ending_) return;
      if (is_second) _exit(1);
      is_second = true;
      news_->Post(SignalNews{number});
    }
  }

  Mailbox<News>* const news_;
  sigset_t signals_;
  std::atomic<bool> is_ending_{false};
  std::thread thread_;
};

// Everything a serving worker owns, in the order in which it comes to life.
class App {
 public:
  explicit App(const Settings& settings)
      : settings_(settings),
        log_({.format = settings.log_format, .program = "mili-worker"}),
        news_(0),
        signals_(!settings.die_with_parent, &news_),
        ready_pipe_(settings.ready_fd),
        service_(&load_state_, &log_) {}

  ~App() {
    is_cancelled_ = true;
    if (loader_.joinable()) loader_.join();
    metrics_server_ = nullptr;
    server_ = nullptr;  // no call reaches the engine from here on
    engine_ = nullptr;
  }

  absl::Status Run() {
    MILI_ASSIGN_OR_RETURN(device_, OpenDevice(settings_));
    if (!device_.fallback.empty()) log_.Info("computing on the CPU: " + device_.fallback);
    MILI_RETURN_IF_ERROR(Bind());
    loader_ = std::thread([this] { Load(); });
    bool is_loading = true;
    for (;;) {
      const absl::Time deadline = is_loading ? absl::Now() + kSignOfLife : absl::InfiniteFuture();
      std::optional<News> news = news_.Take(deadline);
      if (!news) {
        load_state_.Touch();
      } else if (const auto* progress = std::get_if<ProgressNews>(&*news)) {
        ready_pipe_.Loading(progress->loaded_bytes, progress->total_bytes);
      } else if (auto* loaded = std::get_if<LoadedNews>(&*news)) {
        is_loading = false;
        MILI_RETURN_IF_ERROR(OnLoaded(std::move(loaded->model)));
      } else if (const auto* lost = std::get_if<DeviceLostNews>(&*news)) {
        server_->SetServing(false);
        return lost->cause;  // nothing more can be computed in this process
      } else {
        Stop(std::get<SignalNews>(*news).number);
        return absl::OkStatus();
      }
    }
  }

 private:
  absl::Status Bind() {
    MILI_ASSIGN_OR_RETURN(server_, Server::Start(settings_.listen, &service_));
    ReadyPipe::Fields addresses = {{"worker", server_->address()}};
    if (settings_.serve_metrics) {
      const std::string address = absl::StrCat(settings_.metrics_host, ":", settings_.metrics_port);
      MILI_ASSIGN_OR_RETURN(
          metrics_server_,
          MetricsServer::Start(address, {.metrics = [this] { return metrics_.Render(); },
                                         .health = [this] { return NotHealthy(); }}));
      addresses.push_back({"metrics", metrics_server_->address()});
    }
    ready_pipe_.Listening(addresses);
    log_.Info("listening", {{"address", server_->address()},
                            {"metrics", metrics_server_ ? metrics_server_->address() : "off"}});
    return absl::OkStatus();
  }

  std::string NotHealthy() const {
    const LoadState::Snapshot state = load_state_.Get();
    if (!state.failure.ok()) return std::string(state.failure.message());
    return state.loaded == nullptr ? "the model is still being loaded" : "";
  }

  void Load() {
    std::atomic<int64_t> next_news_ns{0};
    const auto progress = [&](uint64_t loaded_bytes, uint64_t total_bytes) {
      const int64_t now_ns = absl::GetCurrentTimeNanos();
      int64_t due_ns = next_news_ns.load();
      const bool is_last = loaded_bytes >= total_bytes;
      if (now_ns < due_ns && !is_last) return;
      const int64_t next_ns = now_ns + absl::ToInt64Nanoseconds(kProgressInterval);
      if (!next_news_ns.compare_exchange_strong(due_ns, next_ns) && !is_last) return;
      load_state_.SetProgress(loaded_bytes, total_bytes);
      news_.Post(ProgressNews{loaded_bytes, total_bytes});
    };
    news_.Post(LoadedNews{LoadModel(
        settings_, device_,
        {[this](const MemoryPlan& plan) { PrintPlan(plan); }, progress, &is_cancelled_})});
  }

  absl::Status OnLoaded(absl::StatusOr<LoadedModel> model) {
    if (!model.ok()) {
      load_state_.SetFailed(model.status());
      return model.status();
    }
    model_ = *std::move(model);
    engine_ = MakeEngine(
        model_, [this](const StepStats& stats) { metrics_.OnStep(stats); },
        [this](const absl::Status& cause) { news_.Post(DeviceLostNews{cause}); });
    Loaded loaded;
    loaded.engine = engine_.get();
    if (model_.tokenizer) {
      loaded.tokenizer_bytes = ToProto(*model_.tokenizer).SerializeAsString();
      loaded.tokenizer_digest = Sha256Hex(loaded.tokenizer_bytes);
      model_.facts.tokenizer_digest = loaded.tokenizer_digest;
      model_.tokenizer.reset();
    }
    if (!model_.tokenizer_problem.ok()) {
      log_.Warning("the tokenizer cannot be used; token ids only",
                   {{"reason", std::string(model_.tokenizer_problem.message())}});
    }
    loaded.facts = model_.facts;
    metrics_.OnLoaded(model_.facts);
    PrintStartBlock();
    load_state_.SetLoaded(std::move(loaded));
    server_->SetServing(true);
    ready_pipe_.Ready();
    return absl::OkStatus();
  }

  // Before anything is loaded, so that it stands there when that fails. Loader thread.
  void PrintPlan(const MemoryPlan& plan) {
    if (settings_.log_format != LogFormat::kText) return;
    const std::string block = "memory of " + device_.description + "\n" + Describe(plan);
    std::fputs(block.c_str(), stderr);
  }

  void PrintStartBlock() {
    const WorkerFacts& facts = model_.facts;
    const std::string load_seconds = absl::StrCat(absl::ToDoubleSeconds(facts.load));
    if (settings_.log_format == LogFormat::kText) {
      std::string block = absl::StrCat(
          "mili-worker ", facts.build, "\n",  //
          "model      ", facts.model_name, " (", facts.architecture, ", ", facts.weight_dtype, ", ",
          facts.num_parameters / 1000000, " M parameters) from ", facts.model_path, "\n",  //
          "device     ", facts.device, "\n",                                               //
          "gRPC       ", server_->address(), "\n",                                         //
          "metrics    ", metrics_server_ ? metrics_server_->address() : "off", "\n",       //
          "loaded in  ", load_seconds, " s\n");
      std::fputs(block.c_str(), stderr);
    }
    log_.Info("ready", {{"model", facts.model_name},
                        {"architecture", facts.architecture},
                        {"weights", facts.weight_dtype},
                        {"device", facts.device},
                        {"build", facts.build},
                        {"weights_bytes", std::to_string(facts.weights_bytes)},
                        {"kv_bytes", std::to_string(facts.kv_bytes)},
                        {"workspace_bytes", std::to_string(facts.workspace_bytes)},
                        {"process_bytes", std::to_string(facts.process_bytes)},
                        {"num_pages", std::to_string(facts.num_pages)},
                        {"max_model_len", std::to_string(facts.max_model_len)},
                        {"address", server_->address()},
                        {"load_seconds", load_seconds}});
  }

  // Not ready, then no calls, then what is under way, then everything else (the destructor).
  void Stop(int signal_number) {
    log_.Info("stopping", {{"signal", signal_number == SIGTERM ? "SIGTERM" : "SIGINT"}});
    server_->SetServing(false);
    if (engine_ != nullptr) {
      engine_->Shutdown(absl::UnavailableError("the worker is shutting down"));
    } else {
      is_cancelled_ = true;
      load_state_.SetFailed(absl::UnavailableError("the worker is shutting down"));
    }
    server_->Shutdown(settings_.shutdown_timeout);
  }

  const Settings& settings_;
  Logger log_;
  Mailbox<News> news_;
  SignalWatcher signals_;   // before any other thread
  PollerHold poller_hold_;  // before any server
  ReadyPipe ready_pipe_;
  WorkerMetrics metrics_;
  LoadState load_state_;
  WorkerService service_;
  Device device_;
  std::atomic<bool> is_cancelled_{false};
  LoadedModel model_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<MetricsServer> metrics_server_;
  std::thread loader_;
};

}  // namespace

absl::Status Serve(const Settings& settings) {
  if (settings.die_with_parent) DieWithParent();
  App app(settings);
  return app.Run();
}

}  // namespace mili::worker
