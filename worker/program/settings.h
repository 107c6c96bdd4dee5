// Settings: what mili-worker was asked to do, validated. Read once in main.cc, then passed down.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "common/obs/log.h"

namespace mili::worker {

struct Settings {
  std::string model;
  std::string load_format = "auto";
  std::string quantization = "none";
  std::string listen = "127.0.0.1:50061";
  std::string metrics_host = "127.0.0.1";
  uint32_t metrics_port = 9401;  // 0: any free one
  bool serve_metrics = true;
  int32_t ready_fd = -1;
  bool die_with_parent = false;

  std::string device = "auto";
  double gpu_memory_utilization = 0.9;
  bool gpu_tuning = true;
  uint32_t max_model_len = 0;
  uint32_t max_num_seqs = 0;            // 0: 32 on a CPU, 256 on a GPU
  uint32_t max_num_batched_tokens = 0;  // 0: 512 on a CPU, 2048 to 8192 on a GPU
  uint64_t kv_cache_memory_bytes = 0;
  uint32_t page_size = 16;

  std::string cpu_kernels = "fast";
  std::string cpu_isa = "auto";
  uint32_t threads = 0;  // 0: as many as there are physical cores to be had

  LogFormat log_format = LogFormat::kText;
  absl::Duration shutdown_timeout = absl::Seconds(5);

  bool self_check = false;
  bool bench = false;
  uint32_t bench_prompt_tokens = 512;
  uint32_t bench_output_tokens = 128;
  std::vector<uint32_t> bench_concurrency = {1, 8};
  uint32_t bench_repeat = 3;
  bool json = false;
};

// Nothing: `print` holds what to show before exit code 0 (--help, --version, --print-config).
// INVALID_ARGUMENT naming the flag.
absl::StatusOr<std::optional<Settings>> ReadSettings(int argc, const char* const* argv,
                                                     const char* const* environ,
                                                     std::string* print);

}  // namespace mili::worker
