// mili-load: a closed-loop load generator. Each of --concurrency clients sends its next request as
// soon as its last is answered; prompts are random token ids from --seed, so runs repeat.
#include <algorithm>
#include <cstdio>
#include <latch>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/clock.h>

#include "common/base/mutex.h"
#include "common/base/strings.h"
#include "common/config/flag_table.h"
#include "common/wire/grpc_process.h"
#include "tools/bench/device_totals.h"
#include "tools/bench/load_client.h"

extern char** environ;

namespace mili::bench {
namespace {

struct LoadOptions {
  std::string grpc;
  std::string http;
  std::string worker_metrics;
  uint32_t concurrency = 1;
  uint32_t num_requests = 8;
  uint32_t num_warm_ups = 1;
  uint32_t warm_up_tokens = 0;
  uint32_t prompt_tokens = 16;
  uint32_t output_tokens = 128;
  uint32_t vocab_size = 1000;
  uint32_t seed = 1;
  bool json = false;
};

// What all clients saw together.
struct LoadTotals {
  Mutex mutex;
  uint32_t num_started MILI_GUARDED_BY(mutex) = 0;
  uint64_t num_tokens MILI_GUARDED_BY(mutex) = 0;
  std::vector<double> first_token_ms MILI_GUARDED_BY(mutex);
  std::vector<double> inter_token_ms MILI_GUARDED_BY(mutex);
  std::vector<double> total_ms MILI_GUARDED_BY(mutex);
  std::vector<std::string> errors MILI_GUARDED_BY(mutex);
};

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

LoadRequest RequestNumber(const LoadOptions& options, uint32_t request_idx) {
  std::mt19937 random(options.seed * 1000003u + request_idx);
  LoadRequest request;
  request.max_tokens = options.output_tokens;
  request.prompt_token_ids.resize(options.prompt_tokens);
  for (TokenId& id : request.prompt_token_ids) id = random() % options.vocab_size;
  return request;
}

// `warm` counts the clients that have connected and sent their warm-ups; all begin at `start`.
void RunClient(const LoadOptions& options, LoadTotals& totals, std::latch& warm,
               std::latch& start) {
  const std::unique_ptr<LoadClient> client =
      options.http.empty() ? NewGrpcLoadClient(options.grpc) : NewHttpLoadClient(options.http);
  for (uint32_t i = 0; i < options.num_warm_ups; ++i) {
    // Prompts of their own, so that no cache knows those that count.
    LoadRequest request = RequestNumber(options, options.num_requests + i);
    if (options.warm_up_tokens > 0) {
      request.prompt_token_ids.resize(options.warm_up_tokens);
      request.max_tokens = options.warm_up_tokens;
    }
    const absl::StatusOr<LoadSample> sample = client->Run(request);
    if (sample.ok()) continue;
    MutexLock lock(totals.mutex);
    totals.errors.push_back(std::string(sample.status().message()));
  }
  warm.count_down();
  start.wait();
  for (;;) {
    uint32_t request_idx = 0;
    {
      MutexLock lock(totals.mutex);
      if (totals.num_started == options.num_requests) return;
      request_idx = totals.num_started++;
    }
    const absl::StatusOr<LoadSample> sample = client->Run(RequestNumber(options, request_idx));
    MutexLock lock(totals.mutex);
    if (!sample.ok()) {
      totals.errors.push_back(std::string(sample.status().message()));
      continue;
    }
    totals.num_tokens += sample->num_tokens;
    totals.first_token_ms.push_back(absl::ToDoubleMilliseconds(sample->first_token));
    totals.total_ms.push_back(absl::ToDoubleMilliseconds(sample->total));
    for (const absl::Duration gap : sample->inter_token) {
      totals.inter_token_ms.push_back(absl::ToDoubleMilliseconds(gap));
    }
  }
}

// Nothing without --worker-metrics, or if that fails, which counts as an error.
std::optional<DeviceTotals> ReadDevice(const LoadOptions& options, LoadTotals& totals) {
  if (options.worker_metrics.empty()) return std::nullopt;
  const absl::StatusOr<DeviceTotals> read = ReadDeviceTotals(options.worker_metrics);
  if (read.ok()) return *read;
  MutexLock lock(totals.mutex);
  totals.errors.push_back(std::string(read.status().message()));
  return std::nullopt;
}

// What the worker's device did meanwhile, as fields of the report.
std::string FieldsOf(const DeviceTotals& device) {
  const double num_steps = std::max(device.num_steps, 1.0);
  return absl::StrFormat(
      ",\"steps\":%.0f,\"tokens_per_step\":%.1f,\"compute_ms_per_step\":%.4f,"
      "\"idle_ms_per_step\":%.4f",
      device.num_steps, device.num_tokens / num_steps, 1e3 * device.compute_s / num_steps,
      1e3 * device.idle_s / num_steps);
}

int Report(const LoadOptions& options, LoadTotals& totals, absl::Duration elapsed,
           const std::optional<DeviceTotals>& device) {
  MutexLock lock(totals.mutex);
  const double tokens_per_s =
      static_cast<double>(totals.num_tokens) / absl::ToDoubleSeconds(elapsed);
  const double ttft_p50 = Quantile(totals.first_token_ms, 0.5);
  const double itl_p50 = Quantile(totals.inter_token_ms, 0.5);
  if (options.json) {
    std::printf(
        "{\"concurrency\":%u,\"requests\":%u,\"errors\":%zu,\"output_tokens\":%llu,"
        "\"tokens_per_s\":%.3f,\"ttft_ms_p50\":%.3f,\"ttft_ms_p99\":%.3f,\"itl_ms_p50\":%.3f,"
        "\"itl_ms_p99\":%.3f,\"e2e_ms_p50\":%.3f%s}\n",
        options.concurrency, options.num_requests, totals.errors.size(),
        static_cast<unsigned long long>(totals.num_tokens), tokens_per_s, ttft_p50,
        Quantile(totals.first_token_ms, 0.99), itl_p50, Quantile(totals.inter_token_ms, 0.99),
        Quantile(totals.total_ms, 0.5), device ? FieldsOf(*device).c_str() : "");
  } else {
    std::printf(
        "%u requests, %u at a time: %.1f tokens/s, TTFT p50 %.2f p99 %.2f ms, "
        "ITL p50 %.3f p99 %.3f ms, %zu errors\n",
        options.num_requests, options.concurrency, tokens_per_s, ttft_p50,
        Quantile(totals.first_token_ms, 0.99), itl_p50, Quantile(totals.inter_token_ms, 0.99),
        totals.errors.size());
    if (device && device->num_steps > 0) {
      std::printf("the device: %.0f steps of %.1f tokens, %.3f ms each, %.3f ms between two\n",
                  device->num_steps, device->num_tokens / device->num_steps,
                  1e3 * device->compute_s / device->num_steps,
                  1e3 * device->idle_s / device->num_steps);
    }
  }
  for (const std::string& error : totals.errors) std::fprintf(stderr, "%s\n", error.c_str());
  return totals.errors.empty() ? 0 : 1;
}

int Run(const LoadOptions& options) {
  if (options.grpc.empty() == options.http.empty()) {
    std::fprintf(stderr, "mili-load: give exactly one of --grpc and --http\n");
    return 2;
  }
  if (options.vocab_size == 0 || options.prompt_tokens == 0) {
    std::fprintf(stderr, "mili-load: --vocab-size and --prompt-tokens must be at least 1\n");
    return 2;
  }
  LoadTotals totals;
  std::latch warm(options.concurrency);
  std::latch start(1);
  std::vector<std::thread> clients;
  for (uint32_t i = 0; i < options.concurrency; ++i) {
    clients.emplace_back([&] { RunClient(options, totals, warm, start); });
  }
  warm.wait();
  const std::optional<DeviceTotals> before = ReadDevice(options, totals);
  const absl::Time start_time = absl::Now();
  start.count_down();
  for (std::thread& client : clients) client.join();
  const absl::Duration elapsed = absl::Now() - start_time;
  const std::optional<DeviceTotals> after = ReadDevice(options, totals);
  std::optional<DeviceTotals> device;
  if (before && after) device = *after - *before;
  return Report(options, totals, elapsed, device);
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
