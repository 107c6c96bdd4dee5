#include "common/formats/hf_tokenizer.h"

#include <filesystem>
#include <system_error>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/formats/file.h"
#include "common/formats/json.h"
#include "common/formats/json_text.h"

namespace mili {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxTokenizerBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxTemplateBytes = uint64_t{1} << 20;

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

// A token is a string, or an object with the string in "content".
absl::Status ReadToken(const JsonFields& fields, const char* field, std::string& token) {
  const json* value = fields.Find(field);
  if (value == nullptr || !token.empty()) return absl::OkStatus();
  if (value->is_object() && value->contains("content")) value = &(*value)["content"];
  if (!value->is_string()) return fields.Wrong(field, "a string or an object with \"content\"");
  token = value->get<std::string>();
  return absl::OkStatus();
}

// A template is a string, or a list of {name, template} of which "default" counts.
absl::Status ReadChatTemplate(const JsonFields& fields, std::string& chat_template) {
  const json* value = fields.Find("chat_template");
  if (value == nullptr || !chat_template.empty()) return absl::OkStatus();
  if (value->is_string()) {
    chat_template = value->get<std::string>();
    return absl::OkStatus();
  }
  if (!value->is_array()) {
    return fields.Wrong("chat_template", "a string or a list of {name, template}");
  }
  for (const json& entry : *value) {
    const bool shaped = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                        entry.contains("template") && entry["template"].is_string();
    if (!shaped) return fields.Wrong("chat_template", "a list of {name, template}");
    if (entry["name"] == "default") chat_template = entry["template"].get<std::string>();
  }
  return absl::OkStatus();
}

absl::Status LoadConfigs(const std::string& directory, TokenizerBundle& bundle) {
  // A template file wins over the field, as in transformers.
  const std::string jinja = directory + "/chat_template.jinja";
  if (Exists(jinja)) {
    MILI_ASSIGN_OR_RETURN(bundle.chat_template, ReadTextFile(jinja, kMaxTemplateBytes));
    if (!IsUtf8(bundle.chat_template)) {
      return absl::InvalidArgumentError(absl::StrCat(jinja, ": is no UTF-8"));
    }
  }
  for (const char* name : {"/tokenizer_config.json", "/special_tokens_map.json"}) {
    const std::string path = directory + name;
    if (!Exists(path)) continue;
    MILI_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxConfigBytes));
    MILI_RETURN_IF_ERROR(ApplyTokenizerConfig(text, path, bundle));
  }
  if (bundle.chat_template.size() > kMaxTemplateBytes) {
    return absl::InvalidArgumentError(absl::StrCat(directory, ": the chat template has ",
                                                   bundle.chat_template.size(),
                                                   " bytes; at most 1 MiB expected"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ApplyTokenizerConfig(std::string_view text, std::string_view file,
                                  TokenizerBundle& bundle) {
  MILI_ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, file));
  const JsonFields fields(object, file);
  MILI_RETURN_IF_ERROR(ReadToken(fields, "bos_token", bundle.bos_token));
  MILI_RETURN_IF_ERROR(ReadToken(fields, "eos_token", bundle.eos_token));
  MILI_RETURN_IF_ERROR(ReadToken(fields, "pad_token", bundle.pad_token));
  MILI_RETURN_IF_ERROR(ReadToken(fields, "unk_token", bundle.unk_token));
  return ReadChatTemplate(fields, bundle.chat_template);
}

absl::StatusOr<std::optional<TokenizerBundle>> LoadHfTokenizer(const std::string& directory) {
  const std::string path = directory + "/tokenizer.json";
  if (!Exists(path)) {
    for (const char* other : {"/tokenizer.model", "/vocab.json"}) {
      if (!Exists(directory + other)) continue;
      return absl::UnimplementedError(
          absl::StrCat(directory, ": the tokenizer is in ", other + 1,
                       ", which is not supported; expected a tokenizer.json"));
    }
    return std::nullopt;
  }
  TokenizerBundle bundle;
  MILI_ASSIGN_OR_RETURN(bundle.tokenizer_json, ReadTextFile(path, kMaxTokenizerBytes));
  MILI_RETURN_IF_ERROR(LoadConfigs(directory, bundle));
  return bundle;
}

}  // namespace mili
