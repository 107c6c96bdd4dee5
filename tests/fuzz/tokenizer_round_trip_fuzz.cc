// Any bytes as text, through a tokenizer that changes nothing (no normalizer, every byte known, no
// token that strips): Decode(Encode(text)) is the text, invalid UTF-8 replaced.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/check.h"
#include "common/text/byte_level.h"
#include "common/text/tokenizer.h"
#include "common/text/utf8.h"

namespace {

using mili::Tokenizer;

// `pattern` and `ids` as JSON; merges that make words of a few bytes.
std::unique_ptr<Tokenizer> MakeTokenizer(const std::string& pre_tokenizer, bool ignore_merges) {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelling;
    mili::text::AppendCodePoint(mili::text::ByteLevelChar(static_cast<uint8_t>(byte)), spelling);
    if (spelling == "\"" || spelling == "\\") spelling = "\\" + spelling;
    vocab += "\"" + spelling + "\":" + std::to_string(byte) + ",";
  }
  vocab +=
      R"("th":256,"the":257,"he":258,"Ġthe":259,"Ġt":260,"ĠĠ":261,"ĠĠĠĠ":262,"12":263,"Ġa":264)";
  const std::string merges = R"("t h","h e","Ġt he","Ġ t","Ġ Ġ","ĠĠ ĠĠ","1 2","th e","Ġ a")";
  const std::string added =
      R"([{"id":265,"content":"<|end|>","single_word":false,"lstrip":false,"rstrip":false,)"
      R"("normalized":false,"special":true},{"id":266,"content":"<|e","single_word":true,)"
      R"("lstrip":false,"rstrip":false,"normalized":true,"special":false}])";
  auto tokenizer = Tokenizer::FromJson(
      R"({"added_tokens":)" + added + R"(,"pre_tokenizer":)" + pre_tokenizer +
      R"(,"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","ignore_merges":)" +
      (ignore_merges ? "true" : "false") + R"(,"vocab":{)" + vocab + R"(},"merges":[)" + merges +
      "]}}");
  MILI_CHECK(tokenizer.ok(), "the tokenizer of this fuzz target is fine");
  return *std::move(tokenizer);
}

std::string Split(const std::string& digits) {
  return R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":)"
         R"("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N})" +
         digits +
         R"(| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},)"
         R"("behavior":"Isolated","invert":false},)"
         R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<const Tokenizer> kTokenizers[] = {
      MakeTokenizer(R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})", false),
      MakeTokenizer(Split(""), false), MakeTokenizer(Split("{1,3}"), true)};
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::string text;
  mili::text::AppendLossy(bytes, text);
  for (const auto& tokenizer : kTokenizers) {
    for (const bool parse_special : {false, true}) {
      const auto ids = tokenizer->Encode(bytes, {.parse_special = parse_special});
      if (tokenizer->Decode(ids, /*skip_special_tokens=*/false) != text) std::abort();
    }
  }
  return 0;
}
