#include "tools/mili/command.h"

#include <cstdio>
#include <string>

#include "tools/mili/exit_codes.h"

namespace mili {
namespace {

void PrintError(const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "mili: %s\n", message.c_str());
}

}  // namespace

std::optional<int> ParseFlags(FlagTable& table, const CommandLineArgs& args) {
  const auto outcome = table.Parse(args.argc, args.argv, args.environ);
  if (!outcome.ok()) {
    PrintError(std::string(outcome.status().message()));
    return kExitUsage;
  }
  for (const std::string& warning : outcome->warnings) PrintError("warning: " + warning);
  if (outcome->action == FlagTable::Action::kRun) return std::nullopt;
  std::fwrite(outcome->print.data(), 1, outcome->print.size(), stdout);
  return std::fflush(stdout) == 0 ? kExitOk : kExitFailure;
}

int Fail(const absl::Status& status) {
  std::string message(status.message());
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  PrintError(message);
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return kExitUnreachable;
    case absl::StatusCode::kCancelled:
      return kExitInterrupted;
    default:
      return kExitFailure;
  }
}

}  // namespace mili
