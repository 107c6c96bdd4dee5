// mili-tokenizer-bench: times the tokenizer, one command a line on stdin, one JSON object a line on
// stdout, so that a script can take turns with other tokenizers (tools/bench/tokenizer_peers).
//   load PATH    a tokenizer.json, read and made ready; caches are cold after it
//   text PATH    what the next commands work on
//   encode, count, decode, stream    stream: decode token by token
//   dump PATH    write the ids of the last encode, 4 bytes each, to this file
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "common/formats/file.h"
#include "common/text/tokenizer.h"

namespace mili::bench {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;

class Bench {
 public:
  // INVALID_ARGUMENT for an unknown command; else what the files make of it.
  absl::Status Run(const std::string& command, const std::string& argument) {
    if (command == "load") tokenizer_ = nullptr;  // the one before; its end is not of this load
    const auto start = std::chrono::steady_clock::now();
    size_t count = 0;  // tokens, or bytes of decoded text
    if (command == "load") {
      auto json = ReadTextFile(argument, kMaxFileBytes);
      if (!json.ok()) return json.status();
      auto tokenizer = Tokenizer::FromJson(*json);
      if (!tokenizer.ok()) return tokenizer.status();
      tokenizer_ = *std::move(tokenizer);
      count = tokenizer_->vocab_size();
    } else if (command == "text") {
      auto text = ReadTextFile(argument, kMaxFileBytes);
      if (!text.ok()) return text.status();
      text_ = *std::move(text);
      count = text_.size();
    } else if (tokenizer_ == nullptr) {
      return absl::InvalidArgumentError("load a tokenizer first");
    } else if (command == "count") {
      count = tokenizer_->Count(text_, {});
    } else if (command == "encode") {
      ids_ = tokenizer_->Encode(text_, {});
      count = ids_.size();
    } else if (command == "decode") {
      count = tokenizer_->Decode(ids_, /*skip_special_tokens=*/false).size();
    } else if (command == "dump") {
      count = ids_.size();
      std::ofstream file(argument, std::ios::binary);
      file.write(reinterpret_cast<const char*>(ids_.data()),
                 static_cast<std::streamsize>(count * sizeof(TokenId)));
      if (!file.flush()) return absl::InvalidArgumentError("cannot write there");
    } else if (command == "stream") {
      IncrementalDetokenizer detokenizer(*tokenizer_, /*skip_special_tokens=*/false);
      std::string piece;
      for (const TokenId id : ids_) {
        piece.clear();
        detokenizer.Push(id, piece);
        count += piece.size();
      }
      piece.clear();
      detokenizer.Flush(piece);
      count += piece.size();
    } else {
      return absl::InvalidArgumentError(
          "commands: load, text, encode, count, decode, stream, dump");
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    std::printf("{\"seconds\": %.9f, \"count\": %zu}\n", elapsed.count(), count);
    std::fflush(stdout);
    return absl::OkStatus();
  }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  std::string text_;
  std::vector<TokenId> ids_;
};

int Run() {
  Bench bench;
  for (std::string line; std::getline(std::cin, line);) {
    const size_t space = line.find(' ');
    const std::string argument = space == line.npos ? "" : line.substr(space + 1);
    const absl::Status status = bench.Run(line.substr(0, space), argument);
    if (!status.ok()) {
      std::fprintf(stderr, "%s: %s\n", line.c_str(), std::string(status.message()).c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace mili::bench

int main() { return mili::bench::Run(); }
