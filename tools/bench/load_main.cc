// mili-load: a closed-loop load generator. Each of --concurrency clients sends its next request as
// soon as its last is answered; prompts are random token ids from --seed, so runs repeat.
#include <algorithm>
#include <cstdio>
#include <latch>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "common/base/mutex.h"
#include "common/base/strings.h"
#include "common/config/flag_table.h"
#include "common/wire/grpc_process.h"
#include "tools/bench/load_client.h"

extern char** environ;

namespace mili::bench {
namespace {

struct LoadOptions {
  std::string grpc;
  std::string http;
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

// `all_warm` opens once every client has connected and sent its warm-ups.
void RunClient(const LoadOptions& options, LoadTotals& totals, std::latch& all_warm) {
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
  all_warm.arrive_and_wait();
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

int Report(const LoadOptions& options, LoadTotals& totals, absl::Duration elapsed) {
  MutexLock lock(totals.mutex);
  const double tokens_per_s =
      static_cast<double>(totals.num_tokens) / absl::ToDoubleSeconds(elapsed);
  const double ttft_p50 = Quantile(totals.first_token_ms, 0.5);
  const double itl_p50 = Quantile(totals.inter_token_ms, 0.5);
  if (options.json) {
    std::printf(
        "{\"concurrency\":%u,\"requests\":%u,\"errors\":%zu,\"output_tokens\":%llu,"
        "\"tokens_per_s\":%.3f,\"ttft_ms_p50\":%.3f,\"ttft_ms_p99\":%.3f,\"itl_ms_p50\":%.3f,"
        "\"itl_ms_p99\":%.3f,\"e2e_ms_p50\":%.3f}\n",
        options.concurrency, options.num_requests, totals.errors.size(),
        static_cast<unsigned long long>(totals.num_tokens), tokens_per_s, ttft_p50,
        Quantile(totals.first_token_ms, 0.99), itl_p50, Quantile(totals.inter_token_ms, 0.99),
        Quantile(totals.total_ms, 0.5));
  } else {
    std::printf(
        "%u requests, %u at a time: %.1f tokens/s, TTFT p50 %.2f p99 %.2f ms, "
        "ITL p50 %.3f p99 %.3f ms, %zu errors\n",
        options.num_requests, options.concurrency, tokens_per_s, ttft_p50,
        Quantile(totals.first_token_ms, 0.99), itl_p50, Quantile(totals.inter_token_ms, 0.99),
        totals.errors.size());
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
  std::latch all_warm(options.concurrency + 1);
  std::vector<std::thread> clients;
  for (uint32_t i = 0; i < options.concurrency; ++i) {
    clients.emplace_back([&] { RunClient(options, totals, all_warm); });
  }
  all_warm.arrive_and_wait();
  const absl::Time start = absl::Now();
  for (std::thread& client : clients) client.join();
  return Report(options, totals, absl::Now() - start);
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
