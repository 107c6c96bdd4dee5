// Settings: what mili-router was asked to do, validated. Read once in main.cc, then passed down.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "common/obs/log.h"
#include "router/api/frontend.h"

namespace mili::router {

struct Settings {
  std::vector<std::string> workers;
  std::string model;              // where to read the tokenizer; empty: ask a worker
  std::string served_model_name;  // empty: the worker's name of the model
  std::string chat_template;      // a Jinja file; empty: the model's own
  std::string generation_config = "auto";

  std::string host = "127.0.0.1";
  uint32_t port = 8000;
  uint32_t grpc_port = 50051;
  uint32_t admin_port = 9400;
  std::string grpc_host;  // of --listen; empty: host

  uint32_t max_num_queued_reqs = 1024;
  uint64_t max_num_queued_tokens = 0;
  absl::Duration request_timeout;  // 0: none
  absl::Duration queue_timeout = absl::Seconds(60);
  uint32_t max_logprobs = 20;
  uint32_t default_max_tokens = 1024;
  std::string scheduling_policy = "fcfs";
  uint32_t run_ahead_depth = 2;
  uint32_t max_num_seqs = 0;
  uint32_t max_num_batched_tokens = 0;

  absl::Duration shutdown_timeout = absl::Seconds(60);
  absl::Duration drain_grace;
  LogFormat log_format = LogFormat::kText;
  LogRequests log_requests = LogRequests::kNone;
  int32_t ready_fd = -1;
  bool die_with_parent = false;

  // As given, for Control.GetServerInfo; secrets masked.
  std::vector<std::pair<std::string, std::string>> all;
};

// Nothing: `print` holds what to show before exit code 0 (--help, --version, --print-config).
// INVALID_ARGUMENT naming the flag. `warnings` are worth a line in the log.
absl::StatusOr<std::optional<Settings>> ReadSettings(int argc, const char* const* argv,
                                                     const char* const* environ, std::string* print,
                                                     std::vector<std::string>* warnings);

}  // namespace mili::router
