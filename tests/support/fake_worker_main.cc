// mili-fake-worker: a worker process without a model, for tests of the router over real processes:
// the real service and engine over FakeBackend. Flags as mili-worker's, and --delay-us a step.
#include <signal.h>

#include <cstdio>
#include <mutex>
#include <optional>
#include <string>

#include <absl/time/clock.h>

#include "common/config/flag_table.h"
#include "common/config/ready_pipe.h"
#include "common/obs/log.h"
#include "tests/support/fake_backend.h"
#include "worker/engine/engine.h"
#include "worker/service/load_state.h"
#include "worker/service/server.h"
#include "worker/service/worker_service.h"

extern char** environ;

namespace mili::worker {
namespace {

struct FakeSettings {
  std::string listen = "127.0.0.1:0";
  int32_t ready_fd = -1;
  bool die_with_parent = false;
  uint32_t delay_us = 0;
  SlotTable::Limits limits = {.num_slots = 32,
                              .num_pages = 1024,
                              .page_size_tokens = 16,
                              .max_num_batched_tokens = 512,
                              .max_model_len = 2048,
                              .vocab_size = 1000};
};

void AddFlags(FakeSettings& s, FlagTable& table) {
  table.Add({"listen", &s.listen, "ADDRESS", "Where routers attach."});
  table.Add({"ready-fd", &s.ready_fd, "FD", "Tells a supervisor of progress."});
  table.Add({"die-with-parent", &s.die_with_parent, "", "Ends when the starting process ends."});
  table.Add({"delay-us", &s.delay_us, "N", "How long each step takes."});
  table.Add({"max-num-seqs", &s.limits.num_slots, "N", "Slots."});
  table.Add({"num-pages", &s.limits.num_pages, "N", "KV pages."});
  table.Add({"page-size", &s.limits.page_size_tokens, "N", "Tokens in a page."});
  table.Add({"max-num-batched-tokens", &s.limits.max_num_batched_tokens, "N", "Tokens a step."});
  table.Add({"max-model-len", &s.limits.max_model_len, "N", "Longest context."});
  table.Add({"vocab-size", &s.limits.vocab_size, "N", "Token ids are below it."});
}

WorkerFacts FactsOf(const FakeSettings& s) {
  WorkerFacts facts;
  facts.build = "fake";
  facts.model_digest = "fake";
  facts.model_name = "fake";
  facts.model_path = "fake";
  facts.architecture = "llama";
  facts.weight_dtype = "f32";
  facts.kv_dtype = "f32";
  facts.device = "fake";
  facts.page_size_tokens = s.limits.page_size_tokens;
  facts.num_pages = s.limits.num_pages;
  facts.num_slots = s.limits.num_slots;
  facts.max_num_batched_tokens = s.limits.max_num_batched_tokens;
  facts.max_model_len = s.limits.max_model_len;
  facts.vocab_size = s.limits.vocab_size;
  facts.eos_token_ids = {2};
  return facts;
}

// A step takes as long as it is told to: waits on an event that nobody sets.
void Delay(uint32_t delay_us) {
  if (delay_us == 0) return;
  Mailbox<int> never(1);
  never.Take(absl::Now() + absl::Microseconds(delay_us));
}

int Serve(const FakeSettings& settings) {
  if (settings.die_with_parent) DieWithParent();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  FakeBackend backend({.vocab_size = settings.limits.vocab_size,
                       .num_pages = settings.limits.num_pages,
                       .page_size_tokens = settings.limits.page_size_tokens,
                       .before_step = [&](const StepBatch&) { Delay(settings.delay_us); },
                       .is_nan = {}});
  Engine engine({.limits = settings.limits, .on_step = {}}, &backend);
  Logger log({.program = "mili-fake-worker"});
  LoadState load_state;
  WorkerService service(&load_state, &log);
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(settings.listen, &service);
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", std::string(server.status().message()).c_str());
    return 1;
  }
  ReadyPipe ready_pipe(settings.ready_fd);
  ready_pipe.Listening({{"worker", (*server)->address()}});
  Loaded loaded;
  loaded.facts = FactsOf(settings);
  loaded.engine = &engine;
  load_state.SetLoaded(std::move(loaded));
  (*server)->SetServing(true);
  ready_pipe.Ready();
  int number = 0;
  sigwait(&signals, &number);
  engine.Shutdown(absl::UnavailableError("the worker is shutting down"));
  (*server)->Shutdown(absl::Seconds(1));
  return 0;
}

}  // namespace
}  // namespace mili::worker

int main(int argc, char** argv) {
  mili::worker::FakeSettings settings;
  mili::FlagTable table("mili-fake-worker", "mili-fake-worker [flags]\n");
  mili::worker::AddFlags(settings, table);
  const absl::StatusOr<mili::FlagTable::Outcome> outcome = table.Parse(argc, argv, environ);
  if (!outcome.ok()) {
    std::fprintf(stderr, "%s\n", std::string(outcome.status().message()).c_str());
    return 2;
  }
  if (outcome->action == mili::FlagTable::Action::kExit) {
    std::fputs(outcome->print.c_str(), stdout);
    return 0;
  }
  return mili::worker::Serve(settings);
}
