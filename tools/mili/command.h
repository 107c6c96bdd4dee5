// The subcommands of `mili`. Each reads its own flags from argv (argv[0] is its name), talks to
// stdin, stdout and stderr, and returns an exit code of exit_codes.h.
#pragma once

#include <optional>

#include <absl/status/status.h>

#include "common/config/flag_table.h"

namespace mili {

struct CommandLineArgs {
  int argc = 0;
  const char* const* argv = nullptr;
  const char* const* environ = nullptr;
};

int RunServe(const CommandLineArgs& args);
int RunGenerate(const CommandLineArgs& args);
int RunChat(const CommandLineArgs& args);
int RunTokenize(const CommandLineArgs& args);
int RunInspect(const CommandLineArgs& args);

// Reads the flags; the exit code if the command is to end here (--help, or an error, both printed).
std::optional<int> ParseFlags(FlagTable& table, const CommandLineArgs& args);

// Prints "mili: message" as one line on stderr and returns the code that belongs to the status.
int Fail(const absl::Status& status);

}  // namespace mili
