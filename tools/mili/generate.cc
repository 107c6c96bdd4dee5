// `mili generate`: one prompt, one answer.
#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "common/base/status_macros.h"
#include "common/formats/file.h"
#include "tools/mili/answer.h"
#include "tools/mili/answer_json.h"
#include "tools/mili/command.h"
#include "tools/mili/exit_codes.h"
#include "tools/mili/interrupts.h"
#include "tools/mili/line_input.h"
#include "tools/mili/sampling_flags.h"
#include "tools/mili/session.h"
#include "tools/mili/token_ids.h"

namespace mili {
namespace {

constexpr char kUsage[] =
    R"(mili generate MODEL -p TEXT: continue a prompt and print what comes.

  mili generate model.gguf -p "The sky is blue because" --max-tokens 32
  mili generate --server 127.0.0.1:50051 --chat -p "Why is the sky blue?"
  echo "Once upon a time" | mili generate model.gguf --temperature 0.8 --seed 7
  mili generate model.gguf --prompt-ids 1,2,3 --json

The answer goes to stdout, counts and speed to stderr. Without --server a router and a worker are
started for this one command.

Exit codes: 0 answered; 1 refused or failed; 2 a flag is wrong; 3 no server answers or it cannot
serve now; 130 interrupted.)";

struct Flags {
  SessionFlags session;
  SamplingFlags sampling;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::string prompt_ids;
  bool chat = false;
  std::string system;
  uint32_t num_choices = 1;
  std::optional<uint32_t> logprobs;
  bool json = false;
  bool stream = true;
  bool quiet = false;
};

void AddFlags(FlagTable& table, Flags& flags) {
  table.AddPositional("MODEL", &flags.session.pair.model,
                      "A GGUF file or a directory with safetensors files; or use --server.", false);
  table.AddSection("Prompt (one of these, or stdin)");
  table.Add({.name = "prompt",
             .target = &flags.prompt,
             .value_name = "TEXT",
             .help = "The text to continue.",
             .short_name = 'p'});
  table.Add({.name = "prompt-file",
             .target = &flags.prompt_file,
             .value_name = "PATH",
             .help = "A file that holds the prompt; - is stdin.",
             .short_name = 'f'});
  table.Add({.name = "prompt-ids",
             .target = &flags.prompt_ids,
             .value_name = "IDS",
             .help = "The prompt as token ids: 1,2,3."});
  table.Add({.name = "chat",
             .target = &flags.chat,
             .value_name = "",
             .help = "Send the prompt as a user's message, through the model's chat template."});
  table.Add({.name = "system",
             .target = &flags.system,
             .value_name = "TEXT",
             .help = "With --chat: the system message before it."});
  AddSamplingFlags(table, flags.sampling);
  table.AddSection("Answer");
  table.Add({.name = "n",
             .target = &flags.num_choices,
             .value_name = "N",
             .help = "Number of answers.",
             .min_value = 1,
             .max_value = 128});
  table.Add({.name = "logprobs",
             .target = &flags.logprobs,
             .value_name = "K",
             .help = "With --json: the logprob of each token and of K alternatives.",
             .max_value = 20});
  table.Add({.name = "json",
             .target = &flags.json,
             .value_name = "",
             .help = "Print one JSON object: text, token ids, how it ended, counts, times. With "
                     "--stream one for each piece."});
  table.Add({.name = "stream",
             .target = &flags.stream,
             .value_name = "",
             .help = "Print as tokens come. Off by itself with --json or several answers."});
  table.Add({.name = "quiet",
             .target = &flags.quiet,
             .value_name = "",
             .help = "No counts and speed on stderr.",
             .short_name = 'q'});
  AddSessionFlags(table, flags.session);
}

absl::Status CheckFlags(const Flags& flags) {
  MILI_RETURN_IF_ERROR(CheckSessionFlags(flags.session));
  const int num_prompts = (flags.prompt ? 1 : 0) + (flags.prompt_file.empty() ? 0 : 1) +
                          (flags.prompt_ids.empty() ? 0 : 1);
  if (num_prompts > 1) {
    return absl::InvalidArgumentError(
        "give one prompt: --prompt, --prompt-file or --prompt-ids, not several");
  }
  if (flags.chat && !flags.prompt_ids.empty()) {
    return absl::InvalidArgumentError("--chat needs text, not --prompt-ids");
  }
  if (!flags.system.empty() && !flags.chat) {
    return absl::InvalidArgumentError("--system belongs to --chat; add it");
  }
  if (flags.logprobs && !flags.json) {
    return absl::InvalidArgumentError("--logprobs are shown in JSON only; add --json");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadAll(const std::string& path) {
  constexpr uint64_t kMaxPromptBytes = 64 << 20;
  return path == "-" ? ReadStdin() : ReadTextFile(path, kMaxPromptBytes);
}

// Puts the prompt into the request.
absl::Status SetPrompt(const Flags& flags, v1::GenerateRequest* request) {
  if (!flags.prompt_ids.empty()) {
    MILI_ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, ParseTokenIds(flags.prompt_ids));
    request->mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
    return absl::OkStatus();
  }
  std::string text;
  if (flags.prompt) {
    text = *flags.prompt;
  } else {
    const bool is_file = !flags.prompt_file.empty();
    if (!is_file && isatty(STDIN_FILENO) == 1) {
      return absl::InvalidArgumentError("there is no prompt; give one with -p TEXT");
    }
    MILI_ASSIGN_OR_RETURN(text, ReadAll(is_file ? flags.prompt_file : "-"));
    // The line end of `echo` is not meant.
    if (!is_file && !text.empty() && text.back() == '\n') text.pop_back();
  }
  if (!flags.chat) {
    request->set_text(text);
    return absl::OkStatus();
  }
  const auto add = [&](const char* role, const std::string& content) {
    v1::Message* message = request->mutable_messages()->add_messages();
    message->set_role(role);
    message->set_content(content);
  };
  if (!flags.system.empty()) add("system", flags.system);
  add("user", text);
  return absl::OkStatus();
}

absl::Status StreamText(Client& client, const v1::GenerateRequest& request, bool is_quiet) {
  Answer answer(stdout, isatty(STDOUT_FILENO) == 1);
  const absl::Status status =
      client.Stream(request, [&](const auto& message) { answer.Take(message); });
  const bool is_open_line = answer.text().empty() ? status.ok() : answer.text().back() != '\n';
  if (is_open_line) std::fputc('\n', stdout);
  std::fflush(stdout);
  MILI_RETURN_IF_ERROR(status);
  if (!is_quiet) std::fprintf(stderr, "%s\n", answer.Statistics().c_str());
  return absl::OkStatus();
}

absl::Status StreamJson(Client& client, const v1::GenerateRequest& request) {
  return client.Stream(request, [](const v1::GenerateStreamResponse& message) {
    std::printf("%s\n", JsonOf(message).c_str());
    std::fflush(stdout);
  });
}

absl::Status PrintWhole(Client& client, const v1::GenerateRequest& request, const Flags& flags) {
  v1::GenerateResponse response;
  const absl::Time begin = absl::Now();
  MILI_RETURN_IF_ERROR(client.Generate(request, &response));
  const absl::Duration took = absl::Now() - begin;
  if (flags.json) {
    std::printf("%s\n", JsonOf(response, took).c_str());
    return absl::OkStatus();
  }
  const bool is_terminal = isatty(STDOUT_FILENO) == 1;
  for (const v1::Choice& choice : response.choices()) {
    if (response.choices_size() > 1) std::printf("--- %u\n", choice.index());
    std::string text = ForTerminal(choice.text(), is_terminal);
    if (text.empty()) text = FormatTokenIds(choice.token_ids());
    std::printf("%s\n", text.c_str());
  }
  if (!flags.quiet) {
    std::fflush(stdout);
    const uint32_t num_tokens = response.usage().completion_tokens();
    std::fprintf(stderr, "[%u prompt tokens, %u tokens, %.1f tokens/s]\n",
                 response.usage().prompt_tokens(), num_tokens,
                 num_tokens / absl::ToDoubleSeconds(took));
  }
  return absl::OkStatus();
}

}  // namespace

int RunGenerate(const CommandLineArgs& args) {
  Flags flags;
  FlagTable table("mili generate", kUsage);
  AddFlags(table, flags);
  if (const std::optional<int> code = ParseFlags(table, args)) return *code;
  v1::GenerateRequest request;
  absl::Status status = CheckFlags(flags);
  if (status.ok()) status = SetPrompt(flags, &request);
  if (!status.ok()) {
    Fail(status);
    return absl::IsInvalidArgument(status) ? kExitUsage : kExitFailure;
  }
  Apply(flags.sampling, &request);
  request.set_n(flags.num_choices);
  request.set_return_token_ids(flags.json);
  if (flags.logprobs) request.set_logprobs(*flags.logprobs);

  const SignalFd interrupts({SIGINT, SIGTERM, SIGHUP});
  const auto session = Session::Open(flags.session, table, args.environ, interrupts);
  if (!session.ok()) return Fail(session.status());
  Client& client = (*session)->client();
  const InterruptGuard guard(interrupts, [&](int) { client.Cancel(); });
  const bool is_streamed =
      table.IsSet("stream") ? flags.stream : !flags.json && flags.num_choices == 1;
  if (!is_streamed) {
    status = PrintWhole(client, request, flags);
  } else if (flags.json) {
    status = StreamJson(client, request);
  } else if (flags.num_choices == 1) {
    status = StreamText(client, request, flags.quiet);
  } else {
    status = absl::InvalidArgumentError(
        "several answers cannot be streamed as text; add --json, or leave --stream out");
  }
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace mili
