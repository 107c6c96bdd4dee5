#include "common/formats/gguf_tokenizer.h"

#include <string>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/formats/gguf_vocabulary.h"
#include "common/formats/json_text.h"

namespace mili {
namespace {

constexpr uint64_t kMaxTemplateBytes = uint64_t{1} << 20;

// What a name in tokenizer.ggml.pre stands for: parts of a tokenizer.json.
struct PreTokenizer {
  std::string_view normalizer;
  std::string_view pre_tokenizer;
  bool ignore_merges;
  bool adds_bos;  // unless tokenizer.ggml.add_bos_token says otherwise
};

constexpr std::string_view kByteLevelWithRegex =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
constexpr std::string_view kDigitsThenByteLevel =
    R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},)"
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]})";
constexpr std::string_view kQwen2 =
    R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":)"
    R"("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|)"
    R"( ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},)"
    R"("behavior":"Isolated","invert":false},)"
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}]})";
constexpr std::string_view kLlama3 =
    R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":)"
    R"("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|)"
    R"( ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},)"
    R"("behavior":"Isolated","invert":false},)"
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]})";

std::optional<PreTokenizer> PreTokenizerOf(std::string_view pre) {
  constexpr std::string_view kNone = "null";
  constexpr std::string_view kNfc = R"({"type":"NFC"})";
  if (pre == "gpt-2") return PreTokenizer{kNone, kByteLevelWithRegex, false, false};
  if (pre == "smollm") return PreTokenizer{kNone, kDigitsThenByteLevel, false, false};
  if (pre == "qwen2" || pre == "deepseek-r1-qwen") return PreTokenizer{kNfc, kQwen2, false, false};
  if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3") {
    return PreTokenizer{kNone, kLlama3, true, true};
  }
  return std::nullopt;
}

void AppendAddedTokens(const GgufVocabulary& vocabulary, std::string& json) {
  const char* separator = "";
  for (uint32_t id = 0; id < vocabulary.tokens->size(); ++id) {
    const int64_t type = vocabulary.types[id];
    // The library forbids empty added tokens.
    if (type == GgufVocabulary::kNormal || type == GgufVocabulary::kUnused ||
        (*vocabulary.tokens)[id].empty())
      continue;
    absl::StrAppend(&json, separator, "{\"id\":", id, ",\"content\":");
    AppendJsonString((*vocabulary.tokens)[id], json);
    absl::StrAppend(&json,
                    ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                    "\"normalized\":false,\"special\":",
                    type == GgufVocabulary::kUserDefined ? "false" : "true", "}");
    separator = ",";
  }
}

void AppendModel(const GgufVocabulary& vocabulary, bool ignore_merges, std::string& json) {
  absl::StrAppend(&json,
                  "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                  "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                  "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":",
                  ignore_merges ? "true" : "false", ",\"vocab\":{");
  const char* separator = "";
  for (uint32_t id = 0; id < vocabulary.num_bpe_tokens; ++id) {
    // An unused id has no text: it pads the embedding.
    if (vocabulary.types[id] == GgufVocabulary::kUnused) continue;
    json += separator;
    AppendJsonString((*vocabulary.tokens)[id], json);
    absl::StrAppend(&json, ":", id);
    separator = ",";
  }
  json += "},\"merges\":[";
  separator = "";
  for (const std::string& merge : *vocabulary.merges) {
    const size_t space = GgufMergeSpace(merge);
    absl::StrAppend(&json, separator, "[");
    AppendJsonString(std::string_view(merge).substr(0, space), json);
    json += ',';
    AppendJsonString(std::string_view(merge).substr(space + 1), json);
    json += ']';
    separator = ",";
  }
  json += "]}";
}

// Adds BOS before and EOS after every text, as far as there are any.
void AppendPostProcessor(const GgufVocabulary& vocabulary, std::optional<TokenId> bos,
                         std::optional<TokenId> eos, std::string& json) {
  constexpr char kByteLevel[] =
      R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true})";
  if (!bos && !eos) {
    json += kByteLevel;
    return;
  }
  const auto piece = [&](std::optional<TokenId> id) {
    if (!id) return;
    json += R"({"SpecialToken":{"id":)";
    AppendJsonString((*vocabulary.tokens)[*id], json);
    json += R"(,"type_id":0}})";
  };
  const auto sequence = [&](const char* name) {
    piece(bos);
    absl::StrAppend(&json, bos ? "," : "", R"({"Sequence":{"id":")", name, R"(","type_id":0}})",
                    eos ? "," : "");
    piece(eos);
  };
  absl::StrAppend(&json, R"({"type":"Sequence","processors":[)", kByteLevel,
                  R"(,{"type":"TemplateProcessing","single":[)");
  sequence("A");
  json += R"(],"pair":[)";
  sequence("A");
  json += ',';
  sequence("B");
  json += R"(],"special_tokens":{)";
  const char* separator = "";
  for (const auto& id : {bos, eos == bos ? std::nullopt : eos}) {
    if (!id) continue;
    const std::string& text = (*vocabulary.tokens)[*id];
    json += separator;
    AppendJsonString(text, json);
    json += R"(:{"id":)";
    AppendJsonString(text, json);
    absl::StrAppend(&json, ",\"ids\":[", *id, "],\"tokens\":[");
    AppendJsonString(text, json);
    json += "]}";
    separator = ",";
  }
  json += "}}]}";
}

absl::StatusOr<std::string> ChatTemplate(const GgufFields& fields) {
  for (const char* key : {"tokenizer.chat_template", "tokenizer.chat_template.default"}) {
    MILI_ASSIGN_OR_RETURN(auto text, fields.OptionalString(key));
    if (!text) continue;
    if (text->size() > kMaxTemplateBytes || !IsUtf8(*text)) {
      return fields.Wrong(key, "expected UTF-8 of at most 1 MiB");
    }
    return *std::move(text);
  }
  return std::string();
}

absl::StatusOr<PreTokenizer> ReadPreTokenizer(const GgufFields& fields) {
  constexpr char kKey[] = "tokenizer.ggml.pre";
  MILI_ASSIGN_OR_RETURN(const auto pre, fields.OptionalString(kKey));
  const auto known = pre ? PreTokenizerOf(*pre) : std::nullopt;
  if (!known) {
    return fields.Unsupported(
        kKey, absl::StrCat(pre ? absl::StrCat("is \"", pre->substr(0, 80), "\"") : "is missing",
                           "; supported are gpt-2, smollm, qwen2, deepseek-r1-qwen, llama-bpe, "
                           "llama3 and llama-v3"));
  }
  return *known;
}

}  // namespace

absl::StatusOr<std::optional<TokenizerBundle>> TokenizerFromGguf(const GgufMetadata& metadata,
                                                                 std::string_view file) {
  const GgufFields fields(metadata, file);
  MILI_ASSIGN_OR_RETURN(const auto model, fields.OptionalString("tokenizer.ggml.model"));
  if (!model || *model == "none" || *model == "no_vocab") return std::nullopt;
  if (*model != "gpt2") {
    return fields.Unsupported(
        "tokenizer.ggml.model",
        absl::StrCat("is \"", model->substr(0, 80), "\"; supported is gpt2, byte-level BPE"));
  }
  MILI_ASSIGN_OR_RETURN(const PreTokenizer pre, ReadPreTokenizer(fields));
  MILI_ASSIGN_OR_RETURN(const GgufVocabulary vocabulary, ReadGgufVocabulary(fields));
  MILI_ASSIGN_OR_RETURN(const auto bos, NamedGgufToken(fields, vocabulary, "bos"));
  MILI_ASSIGN_OR_RETURN(const auto eos, NamedGgufToken(fields, vocabulary, "eos"));
  MILI_ASSIGN_OR_RETURN(const auto pad, NamedGgufToken(fields, vocabulary, "padding"));
  MILI_ASSIGN_OR_RETURN(const auto unk, NamedGgufToken(fields, vocabulary, "unknown"));
  MILI_ASSIGN_OR_RETURN(const auto add_bos, fields.OptionalBool("tokenizer.ggml.add_bos_token"));
  MILI_ASSIGN_OR_RETURN(const auto add_eos, fields.OptionalBool("tokenizer.ggml.add_eos_token"));

  TokenizerBundle bundle;
  MILI_ASSIGN_OR_RETURN(bundle.chat_template, ChatTemplate(fields));
  const auto text_of = [&](std::optional<TokenId> id) {
    return id ? (*vocabulary.tokens)[*id] : std::string();
  };
  bundle.bos_token = text_of(bos);
  bundle.eos_token = text_of(eos);
  bundle.pad_token = text_of(pad);
  bundle.unk_token = text_of(unk);
  std::string& json = bundle.tokenizer_json;
  json = R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)";
  AppendAddedTokens(vocabulary, json);
  absl::StrAppend(&json, "],\"normalizer\":", ToAbsl(pre.normalizer),
                  ",\"pre_tokenizer\":", ToAbsl(pre.pre_tokenizer), ",\"post_processor\":");
  AppendPostProcessor(vocabulary, add_bos.value_or(pre.adds_bos) ? bos : std::nullopt,
                      add_eos.value_or(false) ? eos : std::nullopt, json);
  json += R"(,"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,)"
          R"("use_regex":true},"model":)";
  AppendModel(vocabulary, pre.ignore_merges, json);
  json += '}';
  return bundle;
}

}  // namespace mili
