#include "router/settings.h"

#include <charconv>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/config/flag_table.h"

namespace mili::router {
namespace {

constexpr char kUsage[] =
    "Usage: mili-router --worker HOST:PORT [flags]\n\n"
    "Takes requests over HTTP and gRPC, schedules them, and has workers compute them.\n";

void AddNetworkFlags(FlagTable& table, Settings& s, std::string& listen) {
  table.AddSection("Workers and model");
  table.Add({.name = "worker",
             .target = &s.workers,
             .value_name = "ADDRESS",
             .help = "A worker's host:port or unix:/path. Repeat it for several replicas."});
  table.Add({.name = "model",
             .target = &s.model,
             .value_name = "PATH",
             .help = "Model directory or GGUF file to read the tokenizer from. Default: ask a "
                     "worker."});
  table.Add({.name = "served-model-name",
             .target = &s.served_model_name,
             .value_name = "NAME",
             .help = "What clients call the model. Default: its file's or directory's name."});
  table.Add({.name = "chat-template",
             .target = &s.chat_template,
             .value_name = "PATH",
             .help = "A Jinja file to use in place of the model's own chat template."});
  table.Add({.name = "generation-config",
             .target = &s.generation_config,
             .value_name = "auto|none|PATH",
             .help = "Sampling defaults: auto takes the model's own generation_config.json."});
  table.AddSection("Where it listens");
  table.Add({.name = "host",
             .target = &s.host,
             .value_name = "ADDRESS",
             .help = "Address of all ports; 0.0.0.0 opens them to other machines."});
  table.Add({.name = "port",
             .target = &s.port,
             .value_name = "PORT",
             .help = "HTTP. 0: any free one.",
             .max_value = 65535});
  table.Add({.name = "grpc-port",
             .target = &s.grpc_port,
             .value_name = "PORT",
             .help = "gRPC. 0: any free one.",
             .max_value = 65535});
  table.Add({.name = "listen",
             .target = &listen,
             .value_name = "HOST:PORT",
             .help = "gRPC, in one word; in place of --host and --grpc-port."});
  table.Add({.name = "admin-port",
             .target = &s.admin_port,
             .value_name = "PORT",
             .help = "Control over gRPC, and /metrics. 0: any free one.",
             .max_value = 65535});
}

void AddRequestFlags(FlagTable& table, Settings& s) {
  table.AddSection("Requests");
  table.Add({.name = "max-num-queued-reqs",
             .target = &s.max_num_queued_reqs,
             .value_name = "N",
             .help = "Sequences that may wait; more are refused.",
             .min_value = 1});
  table.Add({.name = "max-num-queued-tokens",
             .target = &s.max_num_queued_tokens,
             .value_name = "N",
             .help = "Prompt tokens behind the door. 0: no limit."});
  table.Add({.name = "request-timeout",
             .target = &s.request_timeout,
             .value_name = "SECONDS",
             .help = "Whole life of a request. 0: no limit."});
  table.Add({.name = "queue-timeout",
             .target = &s.queue_timeout,
             .value_name = "SECONDS",
             .help = "Longest wait before a request starts; then it is refused with a hint when to "
                     "come again. 0: no limit."});
  table.Add({.name = "max-logprobs",
             .target = &s.max_logprobs,
             .value_name = "N",
             .help = "Most alternatives that a request may ask for.",
             .max_value = 20});
  table.Add({.name = "default-max-tokens",
             .target = &s.default_max_tokens,
             .value_name = "N",
             .help = "Length of an answer whose request sets no max_tokens.",
             .min_value = 1});
  table.AddSection("Scheduling");
  table.Add({.name = "scheduling-policy",
             .target = &s.scheduling_policy,
             .value_name = "fcfs|priority",
             .help = "Who goes first: the first to come, or the lowest priority number.",
             .choices = {"fcfs", "priority"}});
  table.Add({.name = "run-ahead-depth",
             .target = &s.run_ahead_depth,
             .value_name = "N",
             .help = "Steps kept in flight between router and worker.",
             .min_value = 1,
             .max_value = 8});
  table.Add({.name = "max-num-seqs",
             .target = &s.max_num_seqs,
             .value_name = "N",
             .help = "Most sequences that run at once. 0: as many as the worker has slots."});
  table.Add({.name = "max-num-batched-tokens",
             .target = &s.max_num_batched_tokens,
             .value_name = "N",
             .help = "Most tokens of one step. 0: as many as the worker takes."});
}

void AddOperationFlags(FlagTable& table, Settings& s, std::string& log_format,
                       std::string& log_requests) {
  table.AddSection("Operation");
  table.Add({.name = "shutdown-timeout",
             .target = &s.shutdown_timeout,
             .value_name = "SECONDS",
             .help = "How long running requests may take to end after SIGTERM; a second signal "
                     "ends at once."});
  table.Add({.name = "drain-grace",
             .target = &s.drain_grace,
             .value_name = "SECONDS",
             .help = "How long new requests are still taken after SIGTERM, while load balancers "
                     "look away."});
  table.Add({.name = "log-format",
             .target = &log_format,
             .value_name = "text|json",
             .help = "Form of log lines, all on stderr.",
             .choices = {"text", "json"}});
  table.Add({.name = "log-requests",
             .target = &log_requests,
             .value_name = "none|meta|full",
             .help = "What is logged of a request: nothing; id, counts and times; or its text too.",
             .choices = {"none", "meta", "full"}});
  table.Add({.name = "ready-fd",
             .target = &s.ready_fd,
             .value_name = "FD",
             .help = "Descriptor on which to tell addresses and readiness.",
             .hidden = true,
             .min_value = -1});
  table.Add({.name = "die-with-parent",
             .target = &s.die_with_parent,
             .value_name = "",
             .help = "End when the program that started this one ends.",
             .hidden = true});
}

absl::Status ReadListen(std::string_view listen, Settings* s) {
  const size_t colon = listen.rfind(':');
  uint32_t port = 0;
  const char* end = listen.data() + listen.size();
  if (colon == std::string_view::npos || colon == 0 ||
      std::from_chars(listen.data() + colon + 1, end, port).ptr != end ||
      colon + 1 == listen.size() || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("--listen: expected HOST:PORT, found \"", ToAbsl(listen), "\""));
  }
  s->grpc_host = std::string(listen.substr(0, colon));
  s->grpc_port = port;
  return absl::OkStatus();
}

absl::Status Check(const Settings& s) {
  if (s.workers.empty()) {
    return absl::InvalidArgumentError(
        "no worker is named; pass --worker HOST:PORT (or start both with `mili serve MODEL`)");
  }
  for (const absl::Duration d :
       {s.request_timeout, s.queue_timeout, s.shutdown_timeout, s.drain_grace}) {
    if (d < absl::ZeroDuration()) {
      return absl::InvalidArgumentError("a time limit is negative; expected 0 or more");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<Settings>> ReadSettings(int argc, const char* const* argv,
                                                     const char* const* environ, std::string* print,
                                                     std::vector<std::string>* warnings) {
  Settings s;
  std::string listen;
  std::string log_format = "text";
  std::string log_requests = "none";
  FlagTable table("mili-router", kUsage);
  AddNetworkFlags(table, s, listen);
  AddRequestFlags(table, s);
  AddOperationFlags(table, s, log_format, log_requests);
  MILI_ASSIGN_OR_RETURN(FlagTable::Outcome outcome, table.Parse(argc, argv, environ));
  *warnings = std::move(outcome.warnings);
  if (outcome.action == FlagTable::Action::kExit) {
    *print = std::move(outcome.print);
    return std::optional<Settings>();
  }
  if (!listen.empty()) MILI_RETURN_IF_ERROR(ReadListen(listen, &s));
  if (s.grpc_host.empty()) s.grpc_host = s.host;
  s.log_format = log_format == "json" ? LogFormat::kJson : LogFormat::kText;
  s.log_requests = log_requests == "full"   ? LogRequests::kFull
                   : log_requests == "meta" ? LogRequests::kMeta
                                            : LogRequests::kNone;
  s.all = table.Settings();
  MILI_RETURN_IF_ERROR(Check(s));
  return std::optional<Settings>(std::move(s));
}

}  // namespace mili::router
