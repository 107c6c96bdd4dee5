// ServerFlags: the settings of the router and the worker as `mili serve`, and the commands that
// start a pair of their own, take them; and how they are handed on to the two programs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "common/config/flag_table.h"
#include "tools/mili/supervisor.h"

namespace mili {

struct ServerFlags {
  std::string model;
  std::string served_model_name;
  // Router.
  std::string host = "127.0.0.1";
  uint32_t port = 8000;
  uint32_t grpc_port = 50051;
  uint32_t admin_port = 9400;
  uint32_t metrics_port = 9401;
  absl::Duration request_timeout = absl::ZeroDuration();
  absl::Duration queue_timeout = absl::Seconds(60);
  absl::Duration shutdown_timeout = absl::Seconds(60);
  uint32_t max_num_queued_reqs = 1024;
  std::string scheduling_policy = "fcfs";
  uint32_t run_ahead_depth = 2;
  uint32_t default_max_tokens = 1024;
  std::string generation_config = "auto";
  std::string chat_template;
  std::string log_requests = "none";
  uint64_t max_num_queued_tokens = 0;
  uint32_t max_logprobs = 20;
  absl::Duration drain_grace = absl::ZeroDuration();
  // Worker.
  std::string load_format = "auto";
  std::string quantization = "none";
  std::string device = "auto";
  double gpu_memory_utilization = 0.9;
  bool gpu_tuning = true;
  uint32_t max_model_len = 0;
  uint32_t max_num_seqs = 0;            // 0: the worker's, which depends on the device
  uint32_t max_num_batched_tokens = 0;  // as above
  uint64_t kv_cache_memory_bytes = 0;
  uint32_t page_size = 16;
  std::string cpu_kernels = "fast";
  std::string cpu_isa = "auto";
  uint32_t threads = 0;
  // Both.
  std::string log_format = "text";
  // Of mili serve itself; for tests.
  std::string router_program;
  std::string worker_program;
};

// The worker's settings: for every command that may start one.
void AddWorkerFlags(FlagTable& table, ServerFlags& flags);
// The router's settings and the rest: for `mili serve`.
void AddRouterFlags(FlagTable& table, ServerFlags& flags);
// Where the two programs are, hidden.
void AddProgramFlags(FlagTable& table, ServerFlags& flags);

// Whether the pair listens where the flags say, or on free ports for this program alone.
enum class Ports { kPublic, kPrivate };

// What to start: `socket_dir` holds the worker's socket. `table` knows what was set.
Supervisor::Options MakePair(const FlagTable& table, const ServerFlags& flags, Ports ports,
                             const std::string& socket_dir, const char* const* environ);

}  // namespace mili
