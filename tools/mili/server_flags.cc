#include "tools/mili/server_flags.h"

#include <absl/strings/str_cat.h>

#include "tools/mili/model_path.h"
#include "tools/mili/programs.h"

namespace mili {
namespace {

constexpr const char* kWorkerFlags[] = {
    "load-format",
    "quantization",
    "device",
    "gpu-tuning",
    "max-model-len",
    "max-num-seqs",
    "max-num-batched-tokens",
    "gpu-memory-utilization",
    "kv-cache-memory-bytes",
    "page-size",
    "cpu-kernels",
    "cpu-isa",
    "threads",
};
constexpr const char* kRouterFlags[] = {
    "host",
    "port",
    "grpc-port",
    "admin-port",
    "served-model-name",
    "chat-template",
    "generation-config",
    "max-num-queued-reqs",
    "max-num-queued-tokens",
    "request-timeout",
    "queue-timeout",
    "max-logprobs",
    "default-max-tokens",
    "scheduling-policy",
    "run-ahead-depth",
    "shutdown-timeout",
    "drain-grace",
    "log-requests",
};

void Append(const std::vector<std::string>& more, std::vector<std::string>* all) {
  all->insert(all->end(), more.begin(), more.end());
}

}  // namespace

void AddWorkerFlags(FlagTable& table, ServerFlags& flags) {
  table.AddSection("Model and memory");
  table.Add({.name = "load-format",
             .target = &flags.load_format,
             .value_name = "auto|safetensors|gguf",
             .help = "What the model must be stored as.",
             .choices = {"auto", "safetensors", "gguf"}});
  table.Add({.name = "quantization",
             .target = &flags.quantization,
             .value_name = "none|q8_0|q4_k|fp8",
             .help = "Quantise the matrices of a model stored as f32, f16 or bf16 while they are "
                     "read; mili inspect shows the outcome.",
             .choices = {"none", "q8_0", "q4_k", "fp8"}});
  table.Add({.name = "device",
             .target = &flags.device,
             .value_name = "auto|cuda|cpu",
             .help = "What computes; auto takes an NVIDIA GPU if there is one that can be used.",
             .choices = {"auto", "cuda", "cpu"}});
  table.Add({.name = "gpu-tuning",
             .target = &flags.gpu_tuning,
             .value_name = "",
             .help = "Time a GPU's kernels for matrix products at start, or take what earlier "
                     "starts found (--no-gpu-tuning: choose by rule)."});
  table.Add({.name = "max-model-len",
             .target = &flags.max_model_len,
             .value_name = "TOKENS",
             .help = "Longest sequence, prompt and answer. 0: the model's own, cut to what the KV "
                     "pages hold."});
  table.Add({.name = "max-num-seqs",
             .target = &flags.max_num_seqs,
             .value_name = "N",
             .help = "Most sequences that run at once. 0: 32 on a CPU, 256 on a GPU.",
             .max_value = 4096});
  table.Add({.name = "max-num-batched-tokens",
             .target = &flags.max_num_batched_tokens,
             .value_name = "N",
             .help = "Most tokens that one step computes. 0: 512 on a CPU, on a GPU "
                     "2048 to 8192, the more the smaller the model."});
  table.Add({.name = "gpu-memory-utilization",
             .target = &flags.gpu_memory_utilization,
             .value_name = "SHARE",
             .help = "Share of a GPU's memory that may be in use, by the worker or others.",
             .min_value = 0.01,
             .max_value = 1});
  table.Add({.name = "kv-cache-memory-bytes",
             .target = &flags.kv_cache_memory_bytes,
             .value_name = "SIZE",
             .help = "Memory for KV pages, as 4GiB. 0: a quarter of what is free, on a GPU all "
                     "that may be used; at most what --max-num-seqs full contexts need."});
  table.Add({.name = "page-size",
             .target = &flags.page_size,
             .value_name = "TOKENS",
             .help = "Tokens of one KV page; on a GPU always 16.",
             .min_value = 1,
             .max_value = 1024});
  table.AddSection("CPU");
  table.Add({.name = "cpu-kernels",
             .target = &flags.cpu_kernels,
             .value_name = "fast|reference",
             .help = "Which kernels compute: vectorised ones, or plain fp32 loops that define what "
                     "is right.",
             .choices = {"fast", "reference"}});
  table.Add(
      {.name = "cpu-isa",
       .target = &flags.cpu_isa,
       .value_name = "auto|amx|avx512_vnni|avx_vnni|avx2|neon_dot|portable",
       .help = "Instruction set of the fast kernels; auto takes the best that this machine "
               "has.",
       .choices = {"auto", "amx", "avx512_vnni", "avx_vnni", "avx2", "neon_dot", "portable"}});
  table.Add({.name = "threads",
             .target = &flags.threads,
             .value_name = "N",
             .help = "Threads that compute. 0: one for each physical core that this process may "
                     "use.",
             .max_value = 1024});
}

void AddRouterFlags(FlagTable& table, ServerFlags& flags) {
  table.AddSection("Where it listens");
  table.Add({.name = "host",
             .target = &flags.host,
             .value_name = "ADDRESS",
             .help = "Address of all ports; 0.0.0.0 opens them to other machines."});
  table.Add({.name = "port",
             .target = &flags.port,
             .value_name = "PORT",
             .help = "HTTP. 0: any free one.",
             .max_value = 65535});
  table.Add({.name = "grpc-port",
             .target = &flags.grpc_port,
             .value_name = "PORT",
             .help = "gRPC. 0: any free one.",
             .max_value = 65535});
  table.Add({.name = "admin-port",
             .target = &flags.admin_port,
             .value_name = "PORT",
             .help = "Control over gRPC. 0: any free one.",
             .max_value = 65535});
  table.Add({.name = "metrics-port",
             .target = &flags.metrics_port,
             .value_name = "PORT",
             .help = "The worker's /metrics; the router's is on --port. 0: any free one.",
             .max_value = 65535});
  table.AddSection("Requests");
  table.Add({.name = "served-model-name",
             .target = &flags.served_model_name,
             .value_name = "NAME",
             .help = "What clients call the model. Default: its file's or directory's name."});
  table.Add({.name = "request-timeout",
             .target = &flags.request_timeout,
             .value_name = "SECONDS",
             .help = "Whole life of a request. 0: no limit."});
  table.Add({.name = "queue-timeout",
             .target = &flags.queue_timeout,
             .value_name = "SECONDS",
             .help = "Longest wait before a request starts; then it is refused with a hint when to "
                     "come again."});
  table.Add({.name = "max-num-queued-reqs",
             .target = &flags.max_num_queued_reqs,
             .value_name = "N",
             .help = "Sequences that may wait; more are refused.",
             .min_value = 1});
  table.Add({.name = "max-num-queued-tokens",
             .target = &flags.max_num_queued_tokens,
             .value_name = "N",
             .help = "Prompt tokens behind the door. 0: no limit."});
  table.Add({.name = "max-logprobs",
             .target = &flags.max_logprobs,
             .value_name = "N",
             .help = "Most alternatives that a request may ask for.",
             .max_value = 20});
  table.Add({.name = "scheduling-policy",
             .target = &flags.scheduling_policy,
             .value_name = "fcfs|priority",
             .help = "Who goes first: the first to come, or the lowest priority number.",
             .choices = {"fcfs", "priority"}});
  table.Add({.name = "default-max-tokens",
             .target = &flags.default_max_tokens,
             .value_name = "N",
             .help = "Length of an answer whose request sets no max_tokens.",
             .min_value = 1});
  table.Add({.name = "generation-config",
             .target = &flags.generation_config,
             .value_name = "auto|none|PATH",
             .help = "Sampling defaults: auto takes the model's own generation_config.json."});
  table.Add({.name = "chat-template",
             .target = &flags.chat_template,
             .value_name = "PATH",
             .help = "A Jinja file to use in place of the model's own chat template."});
  table.Add({.name = "run-ahead-depth",
             .target = &flags.run_ahead_depth,
             .value_name = "N",
             .help = "Steps kept in flight between router and worker.",
             .min_value = 1,
             .max_value = 8});
  table.AddSection("Operation");
  table.Add({.name = "shutdown-timeout",
             .target = &flags.shutdown_timeout,
             .value_name = "SECONDS",
             .help = "How long running requests may take to end after the first Ctrl-C or SIGTERM; "
                     "a second one ends at once."});
  table.Add({.name = "drain-grace",
             .target = &flags.drain_grace,
             .value_name = "SECONDS",
             .help = "How long new requests are still taken after SIGTERM, while load balancers "
                     "look away."});
  table.Add({.name = "log-format",
             .target = &flags.log_format,
             .value_name = "text|json",
             .help = "Form of log lines, all on stderr.",
             .choices = {"text", "json"}});
  table.Add({.name = "log-requests",
             .target = &flags.log_requests,
             .value_name = "none|meta|full",
             .help = "What is logged of a request: nothing; id, counts and times; or its text too.",
             .choices = {"none", "meta", "full"}});
}

void AddProgramFlags(FlagTable& table, ServerFlags& flags) {
  flags.router_program = ProgramBeside("mili-router");
  flags.worker_program = ProgramBeside("mili-worker");
  table.Add({.name = "router-program",
             .target = &flags.router_program,
             .value_name = "PATH",
             .help = "The router to start.",
             .hidden = true});
  table.Add({.name = "worker-program",
             .target = &flags.worker_program,
             .value_name = "PATH",
             .help = "The worker to start.",
             .hidden = true});
}

Supervisor::Options MakePair(const FlagTable& table, const ServerFlags& flags, Ports ports,
                             const std::string& socket_dir, const char* const* environ) {
  Supervisor::Options options;
  const std::string worker_address = absl::StrCat("unix:", socket_dir, "/worker.sock");
  options.router = {.name = "mili-router",
                    .path = flags.router_program,
                    .args = {"--worker=" + worker_address},
                    .env = ChildEnvironment(environ)};
  options.worker = {.name = "mili-worker",
                    .path = flags.worker_program,
                    .args = {"--model=" + flags.model, "--listen=" + worker_address},
                    .env = ChildEnvironment(environ)};
  for (const char* name : kWorkerFlags) Append(table.Arguments(name), &options.worker.args);
  if (ports == Ports::kPublic) {
    for (const char* name : kRouterFlags) Append(table.Arguments(name), &options.router.args);
    if (flags.served_model_name.empty()) {
      Append({"--served-model-name=" + ModelNameOf(flags.model)}, &options.router.args);
    }
    for (auto* args : {&options.router.args, &options.worker.args}) {
      Append(table.Arguments("log-format"), args);
    }
    Append({"--metrics-host=" + flags.host}, &options.worker.args);
    Append(table.Arguments("metrics-port"), &options.worker.args);
  } else {
    Append({"--host=127.0.0.1", "--port=0", "--grpc-port=0", "--admin-port=0"},
           &options.router.args);
    Append({"--no-metrics"}, &options.worker.args);
  }
  // The router gives up its requests by itself; this is for one that hangs.
  options.drain_limit = flags.drain_grace + flags.shutdown_timeout + absl::Seconds(10);
  return options;
}

}  // namespace mili
