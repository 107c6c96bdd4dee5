// mili-router: takes requests, schedules them, and has workers compute them. Flags are read here
// and nowhere else.
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include <google/protobuf/stubs/logging.h>

#include "common/config/ready_pipe.h"
#include "common/wire/grpc_process.h"
#include "router/app.h"
#include "router/settings.h"

extern char** environ;

int main(int argc, char** argv) {
  mili::PrepareGrpc();
  // Protobuf would write a line for every client that sends what is no UTF-8.
  google::protobuf::SetLogHandler(nullptr);
  const auto fail = [](const absl::Status& status, int code) {
    std::fprintf(stderr, "mili-router: %s\n", std::string(status.message()).c_str());
    return code;
  };
  std::string print;
  std::vector<std::string> warnings;
  absl::StatusOr<std::optional<mili::router::Settings>> settings =
      mili::router::ReadSettings(argc, argv, environ, &print, &warnings);
  if (!settings.ok()) return fail(settings.status(), 2);
  if (!settings->has_value()) {
    std::fputs(print.c_str(), stdout);
    return 0;
  }
  for (const std::string& warning : warnings) {
    std::fprintf(stderr, "mili-router: %s\n", warning.c_str());
  }
  if ((*settings)->die_with_parent) mili::DieWithParent();
  const absl::Status status = mili::router::App(**settings).Run();
  return status.ok() ? 0 : fail(status, 1);
}
