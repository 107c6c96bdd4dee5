#include "router/app.h"

#include <algorithm>
#include <random>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "common/base/status_macros.h"
#include "common/base/version.h"
#include "common/wire/poller_hold.h"
#include "router/dispatch/grpc_group_client.h"

namespace mili::router {
namespace {

// For the last bytes of answers that are complete.
constexpr absl::Duration kFlushTime = absl::Seconds(3);

// An output thread writes some 100,000 pieces a second; a GPU's worker has CPUs to spare.
constexpr int kCpusAnOutputThread = 4;
constexpr int kMaxNumOutputThreads = 8;

uint64_t RandomSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

// Hears the end of the warm-up.
class App::WarmUpSink final : public TokenSink {
 public:
  explicit WarmUpSink(Mailbox<News>* news) : news_(news) {}
  void OnTokens(std::vector<TokenEvent> events) override {
    for (const TokenEvent& event : events) {
      if (event.finish.has_value()) news_->Post(WarmedUp{});
    }
  }

 private:
  Mailbox<News>* const news_;
};

App::App(const Settings& settings)
    : settings_(settings),
      log_({.format = settings.log_format, .program = "mili-router"}),
      signals_(!settings.die_with_parent, [this] { news_.Post(DrainAsked{}); }),
      ready_pipe_(settings.ready_fd),
      metrics_(&metrics_registry_, [this](size_t group_idx, const GroupSnapshot& snapshot) {
        news_.Post(GroupChanged{group_idx, snapshot});
      }) {}

App::~App() {
  stop_loading_.Stop();
  if (loader_.joinable()) loader_.join();
  // Nobody may call into what is about to go: network first, then loops, then the rest.
  const absl::Time deadline = absl::Now() + kFlushTime;
  if (engine_ != nullptr) engine_->Stop();
  if (http_ != nullptr) http_->Shutdown(deadline);
  if (admin_ != nullptr) admin_->Shutdown(deadline);
  if (grpc_ != nullptr) grpc_->Shutdown(deadline);
  if (admin_grpc_ != nullptr) admin_grpc_->Shutdown(deadline);
  frontend_ = nullptr;
}

absl::Status App::Run() {
  MILI_RETURN_IF_ERROR(MakeEngine());
  MILI_RETURN_IF_ERROR(Bind());
  return Serve();
}

absl::Status App::MakeEngine() {
  EngineOptions options;
  options.scheduler.policy = settings_.scheduling_policy == "priority"
                                 ? SchedulerOptions::Policy::kPriority
                                 : SchedulerOptions::Policy::kFcfs;
  options.scheduler.run_ahead_depth = settings_.run_ahead_depth;
  options.scheduler.max_num_seqs = settings_.max_num_seqs;
  options.scheduler.max_num_batched_tokens = settings_.max_num_batched_tokens;
  options.max_num_queued_reqs = settings_.max_num_queued_reqs;
  options.max_num_queued_tokens = settings_.max_num_queued_tokens;
  options.log = [this](const std::string& line) { log_.Info(line); };
  std::vector<std::unique_ptr<GroupClient>> clients;
  for (const std::string& worker : settings_.workers) {
    MILI_ASSIGN_OR_RETURN(std::unique_ptr<GroupClient> client,
                          MakeGrpcGroupClient({.addresses = {worker}}));
    clients.push_back(std::move(client));
  }
  engine_ =
      std::make_unique<RouterEngine>(std::move(options), std::move(clients), &metrics_, &clock_);
  state_ = std::make_unique<ServerState>(
      engine_.get(), ServerState::Facts{.started = absl::Now(),
                                        .settings = settings_.all,
                                        .drain = [this] { news_.Post(DrainAsked{}); }});
  Frontend::Options frontend;
  frontend.limits.max_logprobs = settings_.max_logprobs;
  frontend.limits.default_max_tokens = settings_.default_max_tokens;
  const auto or_none = [](absl::Duration d) {
    return d > absl::ZeroDuration() ? d : absl::InfiniteDuration();
  };
  frontend.limits.request_timeout = or_none(settings_.request_timeout);
  frontend.limits.queue_timeout = or_none(settings_.queue_timeout);
  frontend.log_requests = settings_.log_requests;
  frontend.seed = RandomSeed();
  frontend.num_output_threads =
      std::clamp(PollerHold::NumUsableCpus() / kCpusAnOutputThread, 1, kMaxNumOutputThreads);
  frontend_ = std::make_unique<Frontend>(frontend, engine_.get(), &model_, &log_, &clock_);
  return absl::OkStatus();
}

absl::Status App::Bind() {
  inference_ = MakeInferenceService(frontend_.get());
  control_ = MakeControlService(state_.get(), &model_);
  const auto render_metrics = [this] { return metrics_registry_.Render(); };
  routes_ = std::make_unique<Routes>(Routes::Options{.metrics = render_metrics}, frontend_.get(),
                                     state_.get(), &model_);
  admin_routes_ =
      std::make_unique<Routes>(Routes::Options{.metrics = render_metrics, .admin_only = true},
                               frontend_.get(), state_.get(), &model_);
  const auto handler_of = [](Routes* routes) {
    return [routes](HttpRequest request, std::shared_ptr<HttpExchange> exchange) {
      routes->Handle(std::move(request), std::move(exchange));
    };
  };
  MILI_ASSIGN_OR_RETURN(http_, HttpServer::Create({.host = settings_.host,
                                                   .port = settings_.port,
                                                   .port_flag = "--port",
                                                   .handler = handler_of(routes_.get())}));
  MILI_ASSIGN_OR_RETURN(grpc_, GrpcServer::Create({.host = settings_.grpc_host,
                                                   .port = settings_.grpc_port,
                                                   .port_flag = "--grpc-port",
                                                   .services = {inference_.get()},
                                                   .health_names = {"mili.v1.Inference"}}));
  MILI_ASSIGN_OR_RETURN(admin_grpc_, GrpcServer::Create({.kind = GrpcServer::Kind::kAdmin,
                                                         .services = {control_.get()},
                                                         .health_names = {"mili.v1.Control"}}));
  MILI_ASSIGN_OR_RETURN(
      admin_,
      HttpServer::Create({.host = settings_.host,
                          .port = settings_.admin_port,
                          .port_flag = "--admin-port",
                          .handler = handler_of(admin_routes_.get()),
                          .take_http2 = [this](int fd) { admin_grpc_->TakeConnection(fd); }}));
  admin_grpc_->SetServing(true);
  http_->Start();
  admin_->Start();
  log_.Info("listening", {{"http", http_->address()},
                          {"grpc", grpc_->address()},
                          {"admin", admin_->address()},
                          {"workers", absl::StrJoin(settings_.workers, ",")}});
  ready_pipe_.Listening(
      {{"http", http_->address()}, {"grpc", grpc_->address()}, {"admin", admin_->address()}});
  return absl::OkStatus();
}

absl::Status App::Serve() {
  // With a name given, dashboards find every metric before the first worker is there.
  if (!settings_.served_model_name.empty()) metrics_.Register(settings_.served_model_name);
  engine_->Start();
  // Beside the worker's loading.
  loader_ = std::thread(
      [this] { news_.Post(AssetsLoaded{LoadTextAssets(settings_, &stop_loading_, &log_)}); });
  while (std::optional<News> news = news_.Take()) {
    if (std::holds_alternative<DrainAsked>(*news)) break;
    if (auto* changed = std::get_if<GroupChanged>(&*news)) MILI_RETURN_IF_ERROR(Handle(*changed));
    if (auto* loaded = std::get_if<AssetsLoaded>(&*news)) MILI_RETURN_IF_ERROR(Handle(*loaded));
    if (std::holds_alternative<WarmedUp>(*news)) is_warming_up_ = false;
    TellReadiness();
  }
  Drain();
  return absl::OkStatus();
}

absl::Status App::Handle(const GroupChanged& news) {
  if (!news.snapshot.is_ready) return absl::OkStatus();
  facts_ = *news.snapshot.facts;
  MILI_RETURN_IF_ERROR(MaybeServeModel());
  WarmUp(news.snapshot);
  return absl::OkStatus();
}

absl::Status App::Handle(AssetsLoaded& news) {
  loader_.join();
  MILI_RETURN_IF_ERROR(news.assets.status());
  assets_ = *std::move(news.assets);
  if (!assets_->no_chat_reason.empty()) {
    log_.Warning("conversations are off", {{"reason", assets_->no_chat_reason}});
  }
  MILI_RETURN_IF_ERROR(MaybeServeModel());
  for (const GroupSnapshot& group : engine_->Groups()) {
    if (group.is_ready) WarmUp(group);
  }
  return absl::OkStatus();
}

absl::Status App::MaybeServeModel() {
  if (!assets_.has_value() || !facts_.has_value()) return absl::OkStatus();
  MILI_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model,
                        MakeServedModel(settings_, *assets_, *facts_, state_->facts().started));
  metrics_.Register(model->name);
  model_.Set(model);
  if (!is_start_printed_) PrintStart(*model);
  is_start_printed_ = true;
  return absl::OkStatus();
}

// One token through the whole path before traffic is asked for; metrics do not see it. Not where
// requests are under way: their tokens show the same.
void App::WarmUp(const GroupSnapshot& snapshot) {
  if (is_warming_up_ || model_.Get() == nullptr || snapshot.epoch == warmed_epoch_) return;
  warmed_epoch_ = snapshot.epoch;
  if (snapshot.has_produced_token || engine_->num_active_requests() > 0) return;
  Engine::Admission admission = engine_->Admit(4, 1);
  if (admission.ticket == nullptr) return;
  auto request = std::make_shared<Request>();
  request->key = RequestKey(0);  // the frontend counts from 1
  request->request_id = "warm-up";
  request->prompt_token_ids = {0};
  request->sampling.temperature = 0;
  request->max_tokens = 1;
  request->arrival = absl::Now();
  request->ticket = std::move(admission.ticket);
  metrics_.Mute(true);
  is_warming_up_ = true;
  if (!engine_->Submit(std::move(request), std::make_shared<WarmUpSink>(&news_)).ok()) {
    is_warming_up_ = false;
  }
}

void App::TellReadiness() {
  if (!is_warming_up_) metrics_.Mute(false);
  const absl::Status ready =
      model_.Get() == nullptr ? absl::UnavailableError("the model is loading") : state_->Ready();
  const bool is_ready = ready.ok() && !is_warming_up_;
  if (is_ready == is_ready_told_) return;
  is_ready_told_ = is_ready;
  grpc_->SetServing(is_ready);
  if (is_ready) {
    log_.Info("ready", {{"model", model_.Get()->name}});
    ready_pipe_.Ready();
  } else {
    log_.Warning("not ready", {{"reason", std::string(ready.message())}});
    ready_pipe_.NotReady(std::string(ready.message()));
  }
}

void App::PrintStart(const ServedModel& model) {
  const WorkerFacts& f = model.facts;
  const uint64_t num_tokens = uint64_t{f.num_pages} * f.page_size_tokens;
  const auto concurrency = [&f](uint64_t context) -> std::string {
    if (context > f.max_model_len || f.page_size_tokens == 0) return "beyond max_model_len";
    const uint64_t pages = (context + f.page_size_tokens - 1) / f.page_size_tokens;
    return absl::StrCat(std::min<uint64_t>(f.num_slots, f.num_pages / pages));
  };
  log_.Info("serving",
            {{"version", kVersion},
             {"git", kGitRevision},
             {"worker_build", f.build},
             {"model", model.name},
             {"path", f.model_path},
             {"architecture", f.architecture},
             {"dtype", f.weight_dtype},
             {"device", f.device},
             {"workers", absl::StrCat(settings_.workers.size())},
             {"weights_mib", absl::StrCat(f.weights_bytes >> 20)},
             {"kv", absl::StrCat(f.num_pages, " pages x ", f.page_size_tokens, " = ", num_tokens,
                                 " tokens, ", f.kv_dtype, ", ", f.kv_bytes >> 20, " MiB")},
             {"workspace_mib", absl::StrCat(f.workspace_bytes >> 20)},
             {"max_model_len", absl::StrCat(f.max_model_len)},
             {"slots", absl::StrCat(f.num_slots)},
             {"concurrency_at_4k", concurrency(4096)},
             {"concurrency_at_32k", concurrency(32768)},
             {"tokenizer", model.tokenizer == nullptr ? "none: token ids only" : "yes"},
             {"chat", model.encode_chat == nullptr ? "no" : "yes"},
             {"sampling_defaults", ToJson(model.defaults)},
             {"auth", "off"}});
}

// Not ready -> (grace) -> refuse new work -> let the rest end -> stop. The rest is the
// destructor's.
void App::Drain() {
  state_->SetDraining();
  grpc_->SetServing(false);
  ready_pipe_.NotReady("draining");
  log_.Info("draining",
            {{"active_requests", absl::StrCat(engine_->num_active_requests())},
             {"limit_s", absl::StrCat(absl::ToInt64Seconds(settings_.shutdown_timeout))}});
  const auto wait_until = [this](absl::Time deadline, bool for_drained) {
    while (std::optional<News> news = news_.Take(deadline)) {
      if (for_drained && std::holds_alternative<Drained>(*news)) return true;
    }
    return false;
  };
  if (settings_.drain_grace > absl::ZeroDuration()) {
    wait_until(absl::Now() + settings_.drain_grace, false);
  }
  engine_->Drain([this] { news_.Post(Drained{}); });
  if (!wait_until(absl::Now() + settings_.shutdown_timeout, true)) {
    log_.Warning("the time to drain is over; ending what is left",
                 {{"active_requests", absl::StrCat(engine_->num_active_requests())}});
  }
  log_.Info("stopping");
}

}  // namespace mili::router
