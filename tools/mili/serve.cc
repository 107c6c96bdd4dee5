// `mili serve MODEL`: a router and a worker on this machine, as one.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <absl/strings/str_cat.h>

#include "tools/mili/command.h"
#include "tools/mili/display.h"
#include "tools/mili/exit_codes.h"
#include "tools/mili/model_path.h"
#include "tools/mili/programs.h"
#include "tools/mili/server_flags.h"

namespace mili {
namespace {

constexpr char kUsage[] =
    R"(mili serve MODEL: serve a model on this machine over HTTP and gRPC, until Ctrl-C.

  mili serve SmolLM2-135M-Instruct.Q4_1.gguf
  mili serve ./Qwen3-0.6B --port 8080 --max-num-seqs 8

It starts mili-router and mili-worker, shows their logs as one on stderr, starts a worker that dies
again, and lets running requests end when it is stopped.

Exit codes: 0 stopped as asked; 1 it could not start or go on, the last line says why; 2 a flag or
setting is wrong; 130 or 143 a second Ctrl-C or SIGTERM cut running requests off.)";

}  // namespace

int RunServe(const CommandLineArgs& args) {
  ServerFlags flags;
  FlagTable table("mili serve", kUsage);
  table.AddPositional("MODEL", &flags.model, "A GGUF file, or a directory with safetensors files.",
                      true);
  AddRouterFlags(table, flags);
  AddWorkerFlags(table, flags);
  table.Add({.name = "model",
             .target = &flags.model,
             .value_name = "PATH",
             .help = "The model, where it is not given as an argument."});
  AddProgramFlags(table, flags);
  int32_t ready_fd = -1;
  table.Add({.name = "ready-fd",
             .target = &ready_fd,
             .value_name = "FD",
             .help = "Tell a program that started this one about ports and readiness.",
             .hidden = true});
  if (const std::optional<int> code = ParseFlags(table, args)) return *code;
  if (absl::Status status = CheckModelPath(flags.model); !status.ok()) return Fail(status);

  const SignalFd signals({SIGCHLD, SIGINT, SIGTERM, SIGHUP});
  const absl::StatusOr<SocketDir> socket_dir = SocketDir::Make();
  if (!socket_dir.ok()) return Fail(socket_dir.status());
  absl::Status status;
  int stop_signal = 0;
  {
    Display display({.format = flags.log_format == "json" ? LogFormat::kJson : LogFormat::kText,
                     .is_terminal = isatty(STDERR_FILENO) == 1,
                     .model = flags.served_model_name.empty() ? ModelNameOf(flags.model)
                                                              : flags.served_model_name,
                     .ready_fd = ready_fd});
    Supervisor supervisor(MakePair(table, flags, Ports::kPublic, socket_dir->path(), args.environ),
                          signals, display);
    status = supervisor.Run();
    stop_signal = supervisor.stop_signal();
  }
  if (status.ok()) return kExitOk;
  const int code = Fail(status);
  return absl::IsCancelled(status) && stop_signal == SIGTERM ? kExitTerminated : code;
}

}  // namespace mili
