// `mili tokenize`: text to token ids and back, with a model's own files or through a server.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "common/base/status_macros.h"
#include "common/formats/file.h"
#include "common/formats/hf_tokenizer.h"
#include "common/formats/json_text.h"
#include "common/formats/model_source.h"
#include "common/text/tokenizer.h"
#include "tools/mili/answer.h"
#include "tools/mili/client.h"
#include "tools/mili/command.h"
#include "tools/mili/exit_codes.h"
#include "tools/mili/json_line.h"
#include "tools/mili/line_input.h"
#include "tools/mili/model_path.h"
#include "tools/mili/token_ids.h"

namespace mili {
namespace {

constexpr char kUsage[] =
    R"(mili tokenize MODEL TEXT: print the token ids of a text.

  mili tokenize model.gguf "Hello, world"
  mili tokenize ./Qwen3-0.6B --decode "[9707, 11, 1879]"
  mili tokenize model.gguf --jsonl < texts.jsonl > ids.jsonl
  mili tokenize --server 127.0.0.1:50051 "Hello"

MODEL needs its tokenizer only: a GGUF file, a model's directory, or one that holds tokenizer.json.
With --jsonl each line of stdin is a JSON string and each line of stdout a JSON array of ids; with
--decode the other way. Without TEXT and --jsonl all of stdin is the text.

Exit codes: 0 done; 1 bad input or no such tokenizer, the last line says which line of the input; 2
a flag is wrong; 3 no server answers.)";

struct Flags {
  std::string model;
  std::string server;
  std::vector<std::string> rest;  // MODEL is TEXT if there is a server
  bool jsonl = false;
  bool decode = false;
  bool pieces = false;
  bool add_special_tokens = true;
  bool parse_special = true;
  bool skip_special_tokens = false;
};

// Whoever knows the tokenizer.
struct Coder {
  std::function<absl::StatusOr<std::vector<uint32_t>>(const std::string& text)> encode;
  std::function<absl::StatusOr<std::string>(const std::vector<uint32_t>& ids)> decode;
  std::function<std::string(uint32_t id)> spelling;  // null: not known
};

// A directory needs no weights, a tokenizer.json may stand alone.
absl::StatusOr<std::optional<TokenizerBundle>> LoadTokenizerFrom(const std::string& path) {
  constexpr uint64_t kMaxTokenizerBytes = 256 << 20;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return LoadHfTokenizer(path);
  if (absl::EndsWith(path, ".json")) {
    TokenizerBundle bundle;
    MILI_ASSIGN_OR_RETURN(bundle.tokenizer_json, ReadTextFile(path, kMaxTokenizerBytes));
    return bundle;
  }
  MILI_ASSIGN_OR_RETURN(const auto source, ModelSource::Open(path));
  return source->LoadTokenizer();
}

absl::StatusOr<Coder> CoderOfModel(const Flags& flags) {
  MILI_RETURN_IF_ERROR(CheckModelPath(flags.model));
  MILI_ASSIGN_OR_RETURN(const std::optional<TokenizerBundle> bundle,
                        LoadTokenizerFrom(flags.model));
  if (!bundle) {
    return absl::NotFoundError(absl::StrCat(
        flags.model, " comes without a tokenizer; there must be a tokenizer.json beside it"));
  }
  MILI_ASSIGN_OR_RETURN(std::shared_ptr<Tokenizer> tokenizer,
                        Tokenizer::FromJson(bundle->tokenizer_json));
  const EncodeOptions options{.add_special_tokens = flags.add_special_tokens,
                              .parse_special = flags.parse_special};
  return Coder{.encode = [tokenizer, options](
                             const std::string& text) -> absl::StatusOr<std::vector<uint32_t>> {
                 return tokenizer->Encode(text, options);
               },
               .decode = [tokenizer, skip = flags.skip_special_tokens](
                             const std::vector<uint32_t>& ids) -> absl::StatusOr<std::string> {
                 for (const uint32_t id : ids) {
                   if (id >= tokenizer->vocab_size()) {
                     return absl::InvalidArgumentError(
                         absl::StrCat("token id ", id, " is not below ", tokenizer->vocab_size()));
                   }
                 }
                 return tokenizer->Decode(ids, skip);
               },
               .spelling = [tokenizer](uint32_t id) { return tokenizer->SpellingOf(id); }};
}

Coder CoderOfServer(const Flags& flags) {
  const auto client = std::make_shared<Client>(flags.server);
  return Coder{.encode = [client, add = flags.add_special_tokens](
                             const std::string& text) -> absl::StatusOr<std::vector<uint32_t>> {
                 v1::TokenizeRequest request;
                 request.set_text(text);
                 request.set_add_special_tokens(add);
                 v1::TokenizeResponse response;
                 MILI_RETURN_IF_ERROR(client->Tokenize(request, &response));
                 return std::vector<uint32_t>(response.token_ids().begin(),
                                              response.token_ids().end());
               },
               .decode = [client, skip = flags.skip_special_tokens](
                             const std::vector<uint32_t>& ids) -> absl::StatusOr<std::string> {
                 v1::DetokenizeRequest request;
                 request.mutable_token_ids()->Add(ids.begin(), ids.end());
                 request.set_skip_special_tokens(skip);
                 v1::DetokenizeResponse response;
                 MILI_RETURN_IF_ERROR(client->Detokenize(request, &response));
                 return response.text();
               },
               .spelling = nullptr};
}

absl::Status WriteOut(std::string* out) {
  const bool is_written = std::fwrite(out->data(), 1, out->size(), stdout) == out->size();
  out->clear();
  if (is_written && std::fflush(stdout) == 0) return absl::OkStatus();
  return absl::InternalError("cannot write to stdout");
}

absl::Status ConvertLine(const Flags& flags, const Coder& coder, std::string_view line,
                         std::string* out) {
  if (flags.decode) {
    MILI_ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, ParseJsonIds(line));
    MILI_ASSIGN_OR_RETURN(const std::string text, coder.decode(ids));
    AppendJsonString(text, *out);
  } else {
    MILI_ASSIGN_OR_RETURN(const std::string text, ParseJsonString(line));
    MILI_ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, coder.encode(text));
    AppendJsonIds(ids, out);
  }
  *out += '\n';
  return absl::OkStatus();
}

// Whether a read would wait: what is done so far must go out first.
bool WouldWait(int fd) {
  pollfd waiting = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&waiting, 1, 0) == 0;
}

absl::Status ConvertLines(const Flags& flags, const Coder& coder) {
  constexpr size_t kReadBytes = 256 * 1024;
  std::string held;  // the line under way
  size_t searched = 0;
  std::string out;
  uint64_t line_number = 0;
  const auto convert = [&](std::string_view line) {
    ++line_number;
    const absl::Status status = ConvertLine(flags, coder, line, &out);
    if (status.ok()) return status;
    if (absl::Status written = WriteOut(&out); !written.ok()) return written;
    return absl::Status(status.code(), absl::StrCat("line ", line_number, ": ", status.message()));
  };
  while (true) {
    if (!out.empty() && (out.size() > kReadBytes || WouldWait(STDIN_FILENO))) {
      MILI_RETURN_IF_ERROR(WriteOut(&out));
    }
    const size_t old_size = held.size();
    held.resize(old_size + kReadBytes);
    const ssize_t num_read = read(STDIN_FILENO, held.data() + old_size, kReadBytes);
    held.resize(old_size + static_cast<size_t>(std::max<ssize_t>(num_read, 0)));
    if (num_read < 0 && errno == EINTR) continue;
    if (num_read <= 0) break;
    size_t begin = 0;
    for (size_t end; (end = held.find('\n', std::max(begin, searched))) != std::string::npos;) {
      MILI_RETURN_IF_ERROR(convert(std::string_view(held).substr(begin, end - begin)));
      begin = end + 1;
    }
    held.erase(0, begin);
    searched = held.size();
  }
  if (!held.empty()) MILI_RETURN_IF_ERROR(convert(held));
  return WriteOut(&out);
}

absl::Status ConvertOne(const Flags& flags, const Coder& coder) {
  const std::string input = flags.rest.empty() ? ReadStdin() : absl::StrJoin(flags.rest, " ");
  std::string out;
  if (flags.decode) {
    MILI_ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, ParseTokenIds(input));
    MILI_ASSIGN_OR_RETURN(const std::string text, coder.decode(ids));
    out = ForTerminal(text, isatty(STDOUT_FILENO) == 1);
  } else {
    MILI_ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, coder.encode(input));
    if (flags.pieces) {
      for (const uint32_t id : ids) absl::StrAppend(&out, id, "\t", coder.spelling(id), "\n");
      return WriteOut(&out);
    }
    AppendJsonIds(ids, &out);
  }
  out += '\n';
  return WriteOut(&out);
}

absl::Status CheckFlags(Flags& flags) {
  if (!flags.server.empty() && !flags.model.empty()) {
    // With a server there is no MODEL: the first argument is text.
    flags.rest.insert(flags.rest.begin(), std::exchange(flags.model, {}));
  }
  if (flags.server.empty() && flags.model.empty()) {
    return absl::InvalidArgumentError(
        "whose tokenizer? Give MODEL, or --server HOST:PORT of a running server");
  }
  if (flags.jsonl && !flags.rest.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--jsonl reads stdin; \"", flags.rest[0], "\" is one argument too many"));
  }
  if (flags.pieces && (flags.jsonl || flags.decode || !flags.server.empty())) {
    return absl::InvalidArgumentError("--pieces shows the tokens of one TEXT of MODEL only");
  }
  if (!flags.parse_special && !flags.server.empty()) {
    return absl::InvalidArgumentError("--no-parse-special works with MODEL only, not --server");
  }
  return absl::OkStatus();
}

}  // namespace

int RunTokenize(const CommandLineArgs& args) {
  Flags flags;
  FlagTable table("mili tokenize", kUsage);
  table.AddPositional("MODEL", &flags.model, "A GGUF file, or a directory with tokenizer.json.",
                      false);
  table.AddPositional("TEXT", &flags.rest, "The text; with --decode token ids as 1,2,3.", false);
  table.Add({.name = "jsonl",
             .target = &flags.jsonl,
             .value_name = "",
             .help = "Read JSON lines from stdin, write JSON lines to stdout."});
  table.Add({.name = "decode",
             .target = &flags.decode,
             .value_name = "",
             .help = "Token ids to text.",
             .short_name = 'd'});
  table.Add({.name = "pieces",
             .target = &flags.pieces,
             .value_name = "",
             .help = "One token a line: its id and how the vocabulary spells it."});
  table.Add({.name = "add-special-tokens",
             .target = &flags.add_special_tokens,
             .value_name = "",
             .help = "Add what the model wants at the beginning of a text (BOS), if it does."});
  table.Add({.name = "parse-special",
             .target = &flags.parse_special,
             .value_name = "",
             .help = "Take <|im_start|> and its like in the text for the tokens they name."});
  table.Add({.name = "skip-special-tokens",
             .target = &flags.skip_special_tokens,
             .value_name = "",
             .help = "With --decode: leave them out of the text."});
  table.Add({.name = "server",
             .target = &flags.server,
             .value_name = "HOST:PORT",
             .help = "gRPC address of a running server, in place of MODEL."});
  if (const std::optional<int> code = ParseFlags(table, args)) return *code;
  if (absl::Status status = CheckFlags(flags); !status.ok()) {
    Fail(status);
    return kExitUsage;
  }
  absl::StatusOr<Coder> coder =
      flags.server.empty() ? CoderOfModel(flags) : absl::StatusOr<Coder>(CoderOfServer(flags));
  if (!coder.ok()) return Fail(coder.status());
  const absl::Status status = flags.jsonl ? ConvertLines(flags, *coder) : ConvertOne(flags, *coder);
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace mili
