#include "worker/program/settings.h"

#include <utility>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include "common/base/status_macros.h"
#include "common/config/flag_table.h"

namespace mili::worker {
namespace {

constexpr char kUsage[] =
    "mili-worker MODEL [flags]\n"
    "\n"
    "Holds one model's weights and KV pages and computes what a mili-router plans.\n"
    "MODEL is a GGUF file or a directory with safetensors.\n";

// Flags whose text needs reading once more.
struct RawSettings {
  std::string log_format = "text";
  std::vector<std::string> bench_concurrency = {"1", "8"};
};

void AddServing(Settings& s, RawSettings& raw, FlagTable& table) {
  table.AddSection("Model");
  table.Add({"model", &s.model, "PATH", "The model; the same as the positional argument."});
  table.Add({"load-format",
             &s.load_format,
             "auto|safetensors|gguf",
             "What the model must be stored as.",
             {"auto", "safetensors", "gguf"}});
  table.Add(
      {"quantization",
       &s.quantization,
       "none|q8_0|q4_k|fp8",
       "Quantise the matrices of a model stored as f32, f16 or bf16 while they are read; fp8 on a "
       "GPU, the others on a CPU.",
       {"none", "q8_0", "q4_k", "fp8"}});
  table.AddSection("Serving");
  table.Add({"listen", &s.listen, "ADDRESS",
             "Where routers attach: HOST:PORT (port 0: any free one) or unix:/PATH."});
  table.Add({"metrics-host", &s.metrics_host, "HOST", "Where /metrics and /health are served."});
  table.Add(
      {"metrics-port", &s.metrics_port, "PORT", "Port of /metrics and /health; 0: any free one."});
  table.Add(
      {"metrics", &s.serve_metrics, "", "Serve /metrics and /health (--no-metrics: do not)."});
  table.Add({"log-format",
             &raw.log_format,
             "text|json",
             "Form of the log lines on stderr.",
             {"text", "json"}});
  table.Add({"shutdown-timeout", &s.shutdown_timeout, "SECONDS",
             "On SIGTERM, how long calls under way may take to end."});
  table.Add({"ready-fd",
             &s.ready_fd,
             "FD",
             "Tells a supervisor of progress, a line an event.",
             {},
             0,
             true});
  table.Add({"die-with-parent",
             &s.die_with_parent,
             "",
             "Ends when the starting process ends.",
             {},
             0,
             true});
}

void AddLimits(Settings& s, FlagTable& table) {
  table.AddSection("Device");
  table.Add({"device",
             &s.device,
             "auto|cuda|cpu",
             "What computes; auto takes an NVIDIA GPU if there is one that can be used.",
             {"auto", "cuda", "cpu"}});
  table.Add({"gpu-tuning", &s.gpu_tuning, "",
             "Time a GPU's kernels for matrix products at start, or take what earlier starts found "
             "(--no-gpu-tuning: choose by rule)."});
  table.AddSection("Memory and limits");
  table.Add({"max-model-len", &s.max_model_len, "N",
             "Longest context in tokens; 0: the model's own, cut to what the KV cache holds."});
  table.Add({"max-num-seqs", &s.max_num_seqs, "N",
             "Sequences computed side by side; 0: 32 on a CPU, 256 on a GPU."});
  table.Add({"max-num-batched-tokens", &s.max_num_batched_tokens, "N",
             "Tokens that one step computes at most; 0: 512 on a CPU, on a GPU 2048 to 8192, "
             "the more the smaller the model."});
  table.Add({"gpu-memory-utilization",
             &s.gpu_memory_utilization,
             "SHARE",
             "Share of a GPU's memory that may be in use, by this program or others.",
             {},
             0,
             false,
             0.01,
             1});
  table.Add({"kv-cache-memory-bytes", &s.kv_cache_memory_bytes, "SIZE",
             "Memory for the KV cache; 0: a quarter of what is free, on a GPU all of it."});
  table.Add({"page-size", &s.page_size, "N", "Tokens in a KV page; always 16 on a GPU."});
  table.AddSection("CPU");
  table.Add({"cpu-kernels",
             &s.cpu_kernels,
             "fast|reference",
             "Fast kernels, or plain fp32 loops that define what is right.",
             {"fast", "reference"}});
  table.Add({"cpu-isa",
             &s.cpu_isa,
             "auto|amx|avx512_vnni|avx_vnni|avx2|neon_dot|portable",
             "Instruction set of the fast kernels.",
             {"auto", "amx", "avx512_vnni", "avx_vnni", "avx2", "neon_dot", "portable"}});
  table.Add({"threads", &s.threads, "N",
             "Threads that compute; 0: one a physical core, within affinity and cgroup quota."});
}

void AddTools(Settings& s, RawSettings& raw, FlagTable& table) {
  table.AddSection("Without a router");
  table.Add({"self-check", &s.self_check, "",
             "Compare the kernels with the reference on random shapes and exit."});
  table.Add({"bench", &s.bench, "", "Measure the engine in this process and exit."});
  table.Add({"bench-prompt-tokens", &s.bench_prompt_tokens, "N", "Length of each prompt."});
  table.Add({"bench-output-tokens", &s.bench_output_tokens, "N", "Tokens each sequence produces."});
  table.Add({"bench-concurrency", &raw.bench_concurrency, "N[,N...]",
             "Sequences side by side; several are measured one after another."});
  table.Add({"bench-repeat", &s.bench_repeat, "N", "Runs of each; the medians are printed."});
  table.Add({"json", &s.json, "", "Print the measurements as one JSON object."});
}

absl::Status ReadConcurrency(const std::vector<std::string>& texts, std::vector<uint32_t>* to) {
  to->clear();
  for (const std::string& text : texts) {
    for (const absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
      uint32_t value = 0;
      if (!absl::SimpleAtoi(part, &value) || value == 0 || value > 4096) {
        return absl::InvalidArgumentError(
            absl::StrCat("--bench-concurrency is ", part, "; expected 1 to 4096"));
      }
      to->push_back(value);
    }
  }
  return absl::OkStatus();
}

absl::Status Check(const Settings& s) {
  if (s.model.empty() && !s.self_check) {
    return absl::InvalidArgumentError("no model given; expected a GGUF file or a directory");
  }
  if (s.metrics_port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("--metrics-port is ", s.metrics_port, "; expected 0 to 65535"));
  }
  if (s.shutdown_timeout < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("--shutdown-timeout is negative; expected 0 or more");
  }
  if (s.bench &&
      (s.bench_prompt_tokens == 0 || s.bench_output_tokens == 0 || s.bench_repeat == 0)) {
    return absl::InvalidArgumentError("--bench-*: expected numbers of at least 1");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<Settings>> ReadSettings(int argc, const char* const* argv,
                                                     const char* const* environ,
                                                     std::string* print) {
  Settings settings;
  RawSettings raw;
  std::string positional;
  FlagTable table("mili-worker", kUsage);
  table.AddPositional("MODEL", &positional, "GGUF file or directory with safetensors.", false);
  AddServing(settings, raw, table);
  AddLimits(settings, table);
  AddTools(settings, raw, table);
  MILI_ASSIGN_OR_RETURN(const FlagTable::Outcome outcome, table.Parse(argc, argv, environ));
  if (outcome.action == FlagTable::Action::kExit) {
    *print = outcome.print;
    return std::optional<Settings>();
  }
  if (!positional.empty()) {
    if (!settings.model.empty() && settings.model != positional) {
      return absl::InvalidArgumentError("two models given: --model and the argument");
    }
    settings.model = positional;
  }
  settings.log_format = raw.log_format == "json" ? LogFormat::kJson : LogFormat::kText;
  MILI_RETURN_IF_ERROR(ReadConcurrency(raw.bench_concurrency, &settings.bench_concurrency));
  MILI_RETURN_IF_ERROR(Check(settings));
  return std::optional<Settings>(std::move(settings));
}

}  // namespace mili::worker
