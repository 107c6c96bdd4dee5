// mili-load: a closed-loop load generator. Each of --concurrency clients sends its next request as
// soon as its last is answered; prompts are random token ids from --seed, so runs repeat.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <latch>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <absl/time/clock.h>

#include "common/base/strings.h"
#include "common/config/flag_table.h"
#include "common/wire/grpc_process.h"
#include "tools/bench/device_totals.h"
#include "tools/bench/load_loop.h"
#include "tools/bench/load_report.h"

extern char** environ;

namespace mili::bench {
namespace {

struct LoadOptions {
  std::string grpc;
  std::string http;
  std::string worker_metrics;
  uint32_t concurrency = 1;
  uint32_t num_threads = 0;
  uint32_t num_requests = 8;
  uint32_t num_warm_ups = 1;
  uint32_t warm_up_tokens = 0;
  uint32_t prompt_tokens = 16;
  uint32_t output_tokens = 128;
  uint32_t vocab_size = 1000;
  uint32_t seed = 1;
  bool json = false;
};

// What the threads share.
struct Shared {
  std::atomic<uint32_t> num_started{0};  // requests
  LoadTotals totals;
};

LoadRequest RequestNumber(const LoadOptions& options, uint32_t request_idx) {
  std::mt19937 random(options.seed * 1000003u + request_idx);
  LoadRequest request;
  request.max_tokens = options.output_tokens;
  request.prompt_token_ids.resize(options.prompt_tokens);
  for (TokenId& id : request.prompt_token_ids) id = random() % options.vocab_size;
  return request;
}

// The clients that one thread drives.
class Clients {
 public:
  Clients(const LoadOptions& options, Shared* shared, uint32_t num_clients)
      : options_(options),
        shared_(shared),
        num_clients_(num_clients),
        loop_(options.http.empty() ? NewGrpcLoadLoop(options.grpc, num_clients)
                                   : NewHttpLoadLoop(options.http, num_clients)) {}

  // `warm` counts the threads whose clients have connected and sent their warm-ups; all begin at
  // `start`.
  void Main(std::latch& warm, std::latch& start) {
    for (uint32_t i = 0; i < num_clients_; ++i) WarmUp(i, 0);
    loop_->Run();
    warm.count_down();
    start.wait();
    for (uint32_t i = 0; i < num_clients_; ++i) SendNext(i);
    loop_->Run();
  }

 private:
  void WarmUp(uint32_t client_idx, uint32_t num_done) {
    if (num_done == options_.num_warm_ups) return;
    // Prompts of their own, so that no cache knows those that count.
    LoadRequest request = RequestNumber(options_, options_.num_requests + num_done);
    if (options_.warm_up_tokens > 0) {
      request.prompt_token_ids.resize(options_.warm_up_tokens);
      request.max_tokens = options_.warm_up_tokens;
    }
    loop_->Start(client_idx, request, [=, this](const absl::StatusOr<LoadSample>& sample) {
      if (!sample.ok()) shared_->totals.AddError(sample.status());
      WarmUp(client_idx, num_done + 1);
    });
  }

  void SendNext(uint32_t client_idx) {
    const uint32_t request_idx = shared_->num_started++;
    if (request_idx >= options_.num_requests) return;
    loop_->Start(client_idx, RequestNumber(options_, request_idx),
                 [=, this](const absl::StatusOr<LoadSample>& sample) {
                   if (sample.ok()) shared_->totals.Add(*sample);
                   if (!sample.ok()) shared_->totals.AddError(sample.status());
                   SendNext(client_idx);
                 });
  }

  const LoadOptions& options_;
  Shared* const shared_;
  const uint32_t num_clients_;
  const std::unique_ptr<LoadLoop> loop_;
};

// Nothing without --worker-metrics, or if that fails, which counts as an error.
std::optional<DeviceTotals> ReadDevice(const LoadOptions& options, LoadTotals& totals) {
  if (options.worker_metrics.empty()) return std::nullopt;
  const absl::StatusOr<DeviceTotals> read = ReadDeviceTotals(options.worker_metrics);
  if (read.ok()) return *read;
  totals.AddError(read.status());
  return std::nullopt;
}

uint32_t NumThreads(const LoadOptions& options) {
  if (options.num_threads > 0) return std::min(options.num_threads, options.concurrency);
  const uint32_t most = std::max(1u, std::thread::hardware_concurrency() / 4);
  return std::min(most, (options.concurrency + 63) / 64);
}

int Run(const LoadOptions& options) {
  if (options.grpc.empty() == options.http.empty()) {
    std::fprintf(stderr, "mili-load: give exactly one of --grpc and --http\n");
    return 2;
  }
  if (options.vocab_size == 0 || options.prompt_tokens == 0 || options.concurrency == 0) {
    std::fprintf(stderr,
                 "mili-load: --vocab-size, --prompt-tokens and --concurrency must be at least 1\n");
    return 2;
  }
  Shared shared;
  const uint32_t num_threads = NumThreads(options);
  std::latch warm(num_threads);
  std::latch start(1);
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < num_threads; ++i) {
    const uint32_t num_clients =
        options.concurrency * (i + 1) / num_threads - options.concurrency * i / num_threads;
    threads.emplace_back(
        [&, num_clients] { Clients(options, &shared, num_clients).Main(warm, start); });
  }
  warm.wait();
  const std::optional<DeviceTotals> before = ReadDevice(options, shared.totals);
  const absl::Time start_time = absl::Now();
  start.count_down();
  for (std::thread& thread : threads) thread.join();
  const absl::Duration elapsed = absl::Now() - start_time;
  const std::optional<DeviceTotals> after = ReadDevice(options, shared.totals);
  std::optional<DeviceTotals> device;
  if (before && after) device = *after - *before;
  const LoadTotals::Run run = {options.concurrency, options.num_requests, elapsed, device};
  return shared.totals.Print(run, options.json) ? 0 : 1;
}

}  // namespace
}  // namespace mili::bench

int main(int argc, char** argv) {
  mili::PrepareGrpc();
  using mili::FlagTable;
  mili::bench::LoadOptions options;
  FlagTable flags("mili-load", "Sends random prompts to a running server and times the answers.");
  flags.Add({"grpc", &options.grpc, "HOST:PORT", "Drive the gRPC interface at this address."});
  flags.Add({"http", &options.http, "HOST:PORT", "Drive the HTTP interface at this address."});
  flags.Add({"worker-metrics", &options.worker_metrics, "HOST:PORT",
             "Where the worker's /metrics is: reports what its device did meanwhile."});
  flags.Add({"concurrency", &options.concurrency, "N", "Requests under way at a time."});
  flags.Add({"threads", &options.num_threads, "N",
             "Threads that drive them; 0: one for 64, at most a quarter of the CPUs."});
  flags.Add({"requests", &options.num_requests, "N", "Requests in all."});
  flags.Add({"warm-up", &options.num_warm_ups, "N",
             "Requests that each client sends before the time begins to count."});
  flags.Add({"warm-up-tokens", &options.warm_up_tokens, "N",
             "Tokens of a warm-up's prompt and of its answer; 0: as many as of the others."});
  flags.Add({"prompt-tokens", &options.prompt_tokens, "N", "Tokens of each prompt."});
  flags.Add({"output-tokens", &options.output_tokens, "N", "Tokens of each answer."});
  flags.Add({"vocab-size", &options.vocab_size, "N", "Prompt ids are below this."});
  flags.Add({"seed", &options.seed, "N", "Seed of the prompts."});
  flags.Add({"json", &options.json, "", "Print one JSON object."});
  const auto outcome = flags.Parse(argc, argv, environ);
  if (!outcome.ok()) {
    std::fprintf(stderr, "mili-load: %s\n", std::string(outcome.status().message()).c_str());
    return 2;
  }
  if (outcome->action == FlagTable::Action::kExit) {
    std::printf("%s", outcome->print.c_str());
    return 0;
  }
  return mili::bench::Run(options);
}
