// `mili`: the program people call. It starts the other two or talks to a server; it links neither.
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "common/base/version.h"
#include "common/config/flag_value.h"
#include "common/wire/grpc_process.h"
#include "tools/mili/command.h"
#include "tools/mili/exit_codes.h"

extern char** environ;

namespace {

constexpr char kHelp[] =
    R"(mili: serve open large language models, and talk to them.

  mili serve MODEL          serve a model over HTTP and gRPC on this machine
  mili chat MODEL           talk with a model
  mili generate MODEL -p T  continue a prompt
  mili tokenize MODEL TEXT  turn text into token ids, or back
  mili inspect MODEL        show what a model is and how much memory it takes

  mili COMMAND --help       all about one command
  mili --version            print the version

MODEL is a GGUF file, or a directory with config.json and safetensors files. chat, generate and
tokenize also talk to a running server: --server HOST:PORT in place of MODEL.

Exit codes: 0 done; 1 failed, the last line on stderr says why; 2 a flag, argument or setting is
wrong; 3 no server answers, or it cannot serve now; 130 and 143 ended by Ctrl-C or SIGTERM.
)";

struct Command {
  std::string_view name;
  int (*run)(const mili::CommandLineArgs& args);
};
constexpr Command kCommands[] = {
    {"serve", mili::RunServe},       {"generate", mili::RunGenerate}, {"chat", mili::RunChat},
    {"tokenize", mili::RunTokenize}, {"inspect", mili::RunInspect},
};

int UnknownCommand(const char* word) {
  std::string_view nearest;
  for (const Command& command : kCommands) {
    if (mili::EditDistance(word, command.name) <= 2) nearest = command.name;
  }
  if (nearest.empty()) {
    std::fprintf(stderr, "mili: no command %s; mili --help lists them\n", word);
  } else {
    std::fprintf(stderr, "mili: no command %s; did you mean mili %s?\n", word, nearest.data());
  }
  return mili::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  mili::PrepareGrpc();
  const std::string_view word = argc < 2 ? "" : argv[1];
  if (word == "--version") {
    std::printf("mili %s (git %s)\n", mili::kVersion, mili::kGitRevision);
    return mili::kExitOk;
  }
  if (word == "--help" || word == "-h" || word == "help") {
    std::fputs(kHelp, stdout);
    return mili::kExitOk;
  }
  if (word.empty()) {
    std::fputs(kHelp, stderr);
    return mili::kExitUsage;
  }
  for (const Command& command : kCommands) {
    if (command.name == word) return command.run({argc - 1, argv + 1, environ});
  }
  return UnknownCommand(argv[1]);
}
