// `mili chat`: a conversation.
#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "tools/mili/answer.h"
#include "tools/mili/command.h"
#include "tools/mili/exit_codes.h"
#include "tools/mili/interrupts.h"
#include "tools/mili/line_input.h"
#include "tools/mili/sampling_flags.h"
#include "tools/mili/session.h"

namespace mili {
namespace {

constexpr char kUsage[] =
    R"(mili chat MODEL: talk with a model.

  mili chat SmolLM2-135M-Instruct.Q4_1.gguf
  mili chat --server 127.0.0.1:50051 --system "Answer in one sentence."
  echo "Why is the sky blue?" | mili chat model.gguf

Each line is a message; the model sees the whole conversation. Ctrl-C stops the answer, Ctrl-D or
/exit ends the program. /reset forgets the conversation, /system TEXT sets the system message and
forgets, /help lists these. Answers go to stdout, counts and speed to stderr.

Exit codes: 0 ended by you; 1 a message was refused or failed, while input was no terminal; 2 a flag
is wrong; 3 no server answers or it cannot serve now; 130 interrupted.)";

constexpr char kCommands[] =
    "/exit           end (also Ctrl-D)\n"
    "/reset          forget the conversation\n"
    "/system TEXT    set the system message, and forget the conversation\n"
    "Ctrl-C          stop the answer\n";

struct Flags {
  SessionFlags session;
  SamplingFlags sampling;
  std::string system;
  std::optional<std::string> prompt;
  std::string thinking = "auto";
  bool quiet = false;
};

class Conversation {
 public:
  Conversation(const Flags& flags, Client& client, const SignalFd& interrupts)
      : flags_(flags), client_(client), interrupts_(interrupts) {
    Reset(flags.system);
  }

  // Sends `text` and prints the answer. A refused message is forgotten, a stopped answer is kept as
  // far as it came.
  absl::Status Ask(const std::string& text) {
    Append("user", text);
    v1::GenerateRequest request;
    Apply(flags_.sampling, &request);
    *request.mutable_messages() = messages_;
    Answer answer(stdout, isatty(STDOUT_FILENO) == 1);
    client_.ForgetCancel();
    absl::Status status;
    {
      const InterruptGuard guard(interrupts_, [this](int signal) {
        last_signal_ = signal;
        client_.Cancel();
      });
      status = client_.Stream(request, [&](const auto& message) { answer.Take(message); });
    }
    const bool is_open_line = !answer.text().empty() && answer.text().back() != '\n';
    if (is_open_line) std::fputc('\n', stdout);
    std::fflush(stdout);
    if (answer.text().empty() && !status.ok()) {
      messages_.mutable_messages()->RemoveLast();
    } else {
      Append("assistant", answer.text());
    }
    if (!flags_.quiet && (status.ok() || absl::IsCancelled(status))) {
      std::fprintf(stderr, "%s\n", answer.Statistics().c_str());
    }
    return status;
  }

  // Forgets everything; `system` may be empty.
  void Reset(const std::string& system) {
    system_ = system;
    messages_.clear_messages();
    if (flags_.thinking != "auto") messages_.set_enable_thinking(flags_.thinking == "on");
    if (!system.empty()) Append("system", system);
  }

  const std::string& system() const { return system_; }
  int last_signal() const { return last_signal_; }

 private:
  void Append(const char* role, const std::string& content) {
    v1::Message* message = messages_.add_messages();
    message->set_role(role);
    message->set_content(content);
  }

  const Flags& flags_;
  Client& client_;
  const SignalFd& interrupts_;
  std::string system_;
  v1::Messages messages_;
  int last_signal_ = 0;
};

// Whether `line` was a command; sets `wants_exit` if it was /exit.
bool TakeCommand(const std::string& line, Conversation& conversation, bool* wants_exit) {
  if (line.empty() || line[0] != '/') return false;
  const size_t space = line.find(' ');
  const std::string word = line.substr(0, space);
  const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
  if (word == "/exit" || word == "/quit" || word == "/bye") {
    *wants_exit = true;
  } else if (word == "/reset" || word == "/clear") {
    conversation.Reset(conversation.system());
    std::fputs("(a new conversation)\n", stderr);
  } else if (word == "/system") {
    conversation.Reset(std::string(absl::StripAsciiWhitespace(rest)));
    std::fprintf(stderr, "(a new conversation, %s)\n",
                 conversation.system().empty() ? "without a system message" : "system message set");
  } else if (word == "/help" || word == "/?") {
    std::fputs(kCommands, stderr);
  } else {
    std::fprintf(stderr, "no command %s; these there are:\n%s", word.c_str(), kCommands);
  }
  return true;
}

// Reads and answers until the input ends.
int Talk(Conversation& conversation, const SignalFd& interrupts) {
  const bool is_terminal = isatty(STDIN_FILENO) == 1;
  LineInput input(STDIN_FILENO, interrupts);
  int code = kExitOk;
  bool wants_exit = false;
  if (is_terminal) std::fputs("Type a message; /help lists commands.\n", stderr);
  while (!wants_exit) {
    if (is_terminal) std::fputs("\n> ", stderr);
    const LineInput::Outcome next = input.Next();
    if (next.kind == LineInput::Outcome::Kind::kEnd) break;
    if (next.kind == LineInput::Outcome::Kind::kSignal) {
      if (!is_terminal || next.signal != SIGINT) return kExitInterrupted;
      std::fputs("\n(Ctrl-D or /exit ends)", stderr);
      continue;
    }
    if (absl::StripAsciiWhitespace(next.line).empty()) continue;
    if (TakeCommand(next.line, conversation, &wants_exit)) continue;
    const absl::Status status = conversation.Ask(next.line);
    if (absl::IsCancelled(status)) {
      // In a pipe nobody is left to ask further.
      if (!is_terminal || conversation.last_signal() != SIGINT) return kExitInterrupted;
    } else if (!status.ok()) {
      code = Fail(status);
      if (!is_terminal) return code;
      code = kExitOk;
    }
  }
  if (is_terminal && !wants_exit) std::fputc('\n', stderr);
  return code;
}

}  // namespace

int RunChat(const CommandLineArgs& args) {
  Flags flags;
  FlagTable table("mili chat", kUsage);
  table.AddPositional("MODEL", &flags.session.pair.model,
                      "A GGUF file or a directory with safetensors files; or use --server.", false);
  table.AddSection("Conversation");
  table.Add({.name = "system",
             .target = &flags.system,
             .value_name = "TEXT",
             .help = "The system message. Without it the model's template decides."});
  table.Add({.name = "prompt",
             .target = &flags.prompt,
             .value_name = "TEXT",
             .help = "Ask only this, print the answer and end.",
             .short_name = 'p'});
  table.Add({.name = "thinking",
             .target = &flags.thinking,
             .value_name = "auto|on|off",
             .help = "Whether the model may think first, where its template has the switch.",
             .choices = {"auto", "on", "off"}});
  table.Add({.name = "quiet",
             .target = &flags.quiet,
             .value_name = "",
             .help = "No counts and speed on stderr.",
             .short_name = 'q'});
  AddSamplingFlags(table, flags.sampling);
  AddSessionFlags(table, flags.session);
  if (const std::optional<int> code = ParseFlags(table, args)) return *code;
  if (absl::Status status = CheckSessionFlags(flags.session); !status.ok()) {
    Fail(status);
    return kExitUsage;
  }
  const SignalFd interrupts({SIGINT, SIGTERM, SIGHUP});
  const auto session = Session::Open(flags.session, table, args.environ, interrupts);
  if (!session.ok()) return Fail(session.status());
  Conversation conversation(flags, (*session)->client(), interrupts);
  if (!flags.prompt) return Talk(conversation, interrupts);
  const absl::Status status = conversation.Ask(*flags.prompt);
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace mili
