#include "tests/common/text/test_tokenizers.h"

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include <nlohmann/json.hpp>

namespace mili::text {
namespace {

std::string FolderOf(const std::string& name) {
  return std::string(MILI_TEST_DATA) + "/tokenizers/" + name;
}

}  // namespace

const std::vector<std::string>& TestTokenizerNames() {
  static const std::vector<std::string> kNames = {"gpt2", "llama3", "partial", "qwen", "smollm"};
  return kNames;
}

std::string ReadFileOrDie(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) {
    std::cerr << path << ": cannot be read\n";
    std::abort();
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

std::unique_ptr<Tokenizer> LoadTestTokenizer(const std::string& name) {
  auto tokenizer = Tokenizer::FromJson(ReadFileOrDie(FolderOf(name) + "/tokenizer.json"));
  if (!tokenizer.ok()) {
    std::cerr << name << ": " << tokenizer.status() << "\n";
    std::abort();
  }
  return *std::move(tokenizer);
}

std::vector<Golden> ReadGoldens(const std::string& name) {
  std::istringstream lines(ReadFileOrDie(FolderOf(name) + "/golden.jsonl"));
  std::vector<Golden> goldens;
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    goldens.push_back(
        {json["text"],
         {.add_special_tokens = json["add_special"], .parse_special = json["parse_special"]},
         json["ids"],
         json["decoded"],
         json["skipped"]});
  }
  return goldens;
}

}  // namespace mili::text
