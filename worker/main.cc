// mili-worker: one rank of a model. Flags are read here and nowhere else.
#include <cstdio>
#include <optional>
#include <string>

#include "common/wire/grpc_process.h"
#include "worker/program/bench.h"
#include "worker/program/self_check.h"
#include "worker/program/serve.h"
#include "worker/program/settings.h"

extern char** environ;

int main(int argc, char** argv) {
  mili::PrepareGrpc();
  const auto fail = [](const absl::Status& status, int code) {
    std::fprintf(stderr, "mili-worker: %s\n", std::string(status.message()).c_str());
    return code;
  };
  std::string print;
  absl::StatusOr<std::optional<mili::worker::Settings>> settings =
      mili::worker::ReadSettings(argc, argv, environ, &print);
  if (!settings.ok()) return fail(settings.status(), 2);
  if (!settings->has_value()) {
    std::fputs(print.c_str(), stdout);
    return 0;
  }
  absl::Status status;
  if ((*settings)->self_check) {
    status = mili::worker::RunSelfCheck(**settings);
  } else if ((*settings)->bench) {
    status = mili::worker::RunBench(**settings);
  } else {
    status = mili::worker::Serve(**settings);
  }
  if (status.ok()) return 0;
  // What a setting, the model or this build makes impossible stays so: no use in starting again.
  const bool is_lasting = absl::IsInvalidArgument(status) || absl::IsUnimplemented(status);
  return fail(status, is_lasting ? 2 : 1);
}
