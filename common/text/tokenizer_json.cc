#include "common/text/tokenizer_json.h"

#include <optional>
#include <string>

#include <absl/container/flat_hash_map.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/text/tokenizer_reader.h"

namespace mili::text {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxSteps = 16;
constexpr size_t kMaxAddedTokenBytes = 4096;

// A value of the file with its name, for messages: "pre_tokenizer.pretokenizers[0]".
struct Part {
  const Json& json;
  std::string name;

  bool is_null() const { return json.is_null(); }
  Part at(const std::string& key) const {
    static const Json kNull;
    const auto found = json.is_object() ? json.find(key) : json.end();
    return {json.is_object() && found != json.end() ? *found : kNull,
            name.empty() ? key : absl::StrCat(name, ".", key)};
  }
  Part at(size_t index) const { return {json[index], absl::StrCat(name, "[", index, "]")}; }
};

std::string Shown(const Json& json) {
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 200) text = text.substr(0, 200) + "...";
  return text;
}

absl::Status Invalid(const Part& part, const std::string& expected) {
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: ", part.name, " is ",
                                                 Shown(part.json), "; expected ", expected));
}

absl::Status Unsupported(const Part& part, const std::string& supported) {
  return absl::UnimplementedError(absl::StrCat("tokenizer.json: ", part.name, " is ",
                                               Shown(part.json), "; supported: ", supported));
}

absl::StatusOr<bool> ReadBool(const Part& part, std::optional<bool> if_missing = std::nullopt) {
  if (part.is_null() && if_missing) return *if_missing;
  if (!part.json.is_boolean()) return Invalid(part, "true or false");
  return part.json.get<bool>();
}

absl::StatusOr<std::string> ReadString(const Part& part) {
  if (!part.json.is_string()) return Invalid(part, "a string");
  return part.json.get<std::string>();
}

absl::StatusOr<TokenId> ReadId(const Part& part) {
  if (!part.json.is_number_unsigned() || part.json.get<uint64_t>() >= Vocabulary::kMaxIds) {
    return Invalid(part, absl::StrCat("an id below ", Vocabulary::kMaxIds));
  }
  return part.json.get<TokenId>();
}

absl::StatusOr<size_t> ReadListSize(const Part& part, size_t max) {
  if (!part.json.is_array()) return Invalid(part, "a list");
  if (part.json.size() > max) return Invalid(part, absl::StrCat("at most ", max, " entries"));
  return part.json.size();
}

// ---- normalizer ----

absl::Status ReadNormalizer(const Part& part, TokenizerSpec& spec) {
  if (part.is_null()) return absl::OkStatus();
  const Part type = part.at("type");
  if (type.json == "NFC") {
    spec.nfc = true;
    return absl::OkStatus();
  }
  if (type.json != "Sequence") return Unsupported(type, "NFC, Sequence, none");
  const Part list = part.at("normalizers");
  MILI_ASSIGN_OR_RETURN(const size_t size, ReadListSize(list, kMaxSteps));
  for (size_t i = 0; i < size; ++i) MILI_RETURN_IF_ERROR(ReadNormalizer(list.at(i), spec));
  return absl::OkStatus();
}

// ---- pre_tokenizer ----

absl::Status ReadSplit(const Part& part, TokenizerSpec& spec) {
  const Part regex = part.at("pattern").at("Regex");
  if (!regex.json.is_string()) return Unsupported(part.at("pattern"), "{\"Regex\": ...}");
  const std::optional<SplitStep> step = StepOfPattern(regex.json.get_ref<const std::string&>());
  if (!step) return Unsupported(regex, "the patterns of GPT-2, Qwen2 and Llama 3");
  MILI_ASSIGN_OR_RETURN(const bool invert, ReadBool(part.at("invert"), false));
  // The patterns leave no character out, so that removing what does not match removes nothing.
  const Part behavior = part.at("behavior");
  if (behavior.json != (invert ? "Removed" : "Isolated")) {
    return Unsupported(behavior, "Isolated, or Removed with invert");
  }
  spec.steps.push_back(*step);
  return absl::OkStatus();
}

// Appends the steps; `bytes` is set once ByteLevel has turned the pieces into byte-level text.
absl::Status ReadPreTokenizer(const Part& part, TokenizerSpec& spec, bool& bytes) {
  if (bytes) return Unsupported(part, "nothing behind ByteLevel");
  if (spec.steps.size() >= kMaxSteps) {
    return Invalid(part, absl::StrCat("at most ", kMaxSteps, " steps"));
  }
  const Part type = part.at("type");
  if (type.json == "Sequence") {
    const Part list = part.at("pretokenizers");
    MILI_ASSIGN_OR_RETURN(const size_t size, ReadListSize(list, kMaxSteps));
    for (size_t i = 0; i < size; ++i) {
      MILI_RETURN_IF_ERROR(ReadPreTokenizer(list.at(i), spec, bytes));
    }
    return absl::OkStatus();
  }
  if (type.json == "Split") return ReadSplit(part, spec);
  if (type.json == "Digits") {
    MILI_ASSIGN_OR_RETURN(const bool individual, ReadBool(part.at("individual_digits")));
    spec.steps.push_back(individual ? SplitStep::kIndividualDigits : SplitStep::kContiguousDigits);
    return absl::OkStatus();
  }
  if (type.json != "ByteLevel") return Unsupported(type, "Sequence, Split, Digits, ByteLevel");
  MILI_ASSIGN_OR_RETURN(const bool prefix_space, ReadBool(part.at("add_prefix_space")));
  MILI_ASSIGN_OR_RETURN(const bool use_regex, ReadBool(part.at("use_regex"), true));
  if (prefix_space) spec.steps.push_back(SplitStep::kPrefixSpace);
  if (use_regex) spec.steps.push_back(SplitStep::kGpt2);
  bytes = true;
  return absl::OkStatus();
}

// ---- model ----

absl::Status ReadModelOptions(const Part& model, TokenizerSpec& spec) {
  const Part dropout = model.at("dropout");
  if (!dropout.is_null() && !(dropout.json.is_number() && dropout.json.get<double>() == 0)) {
    return Unsupported(dropout, "none");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Part part = model.at(key);
    if (!part.is_null() && part.json != "") return Unsupported(part, "none");
  }
  MILI_ASSIGN_OR_RETURN(const bool byte_fallback, ReadBool(model.at("byte_fallback"), false));
  if (byte_fallback) return Unsupported(model.at("byte_fallback"), "false");
  MILI_ASSIGN_OR_RETURN(spec.bpe.fuse_unknown, ReadBool(model.at("fuse_unk"), false));
  MILI_ASSIGN_OR_RETURN(spec.bpe.ignore_merges, ReadBool(model.at("ignore_merges"), false));
  const Part unknown = model.at("unk_token");
  if (unknown.is_null()) return absl::OkStatus();
  MILI_ASSIGN_OR_RETURN(const std::string spelling, ReadString(unknown));
  // A vocabulary that knows every byte has no use for it, and may lack it.
  spec.bpe.unknown = spec.vocabulary->Find(spelling);
  if (!spec.bpe.unknown && !KnowsEveryByte(FindByteIds(*spec.vocabulary))) {
    return Invalid(unknown, "a token of model.vocab, which lacks some bytes");
  }
  return absl::OkStatus();
}

absl::Status ReadModel(const Part& model, RawTokenizer& raw, TokenizerSpec& spec) {
  if (!model.json.is_object()) return Invalid(model, "an object");
  const Part type = model.at("type");  // files of the first years leave it out
  if (!type.is_null() && type.json != "BPE") return Unsupported(type, "BPE");
  if (!raw.vocabulary) return Invalid(model.at("vocab"), "an object of tokens and their ids");
  if (!raw.merges) return Invalid(model.at("merges"), "a list");
  spec.vocabulary = std::move(raw.vocabulary);
  spec.bpe.merges = *std::move(raw.merges);
  return ReadModelOptions(model, spec);
}

// ---- added_tokens ----

absl::StatusOr<AddedToken> ReadAddedToken(const Part& part) {
  AddedToken token;
  MILI_ASSIGN_OR_RETURN(token.id, ReadId(part.at("id")));
  MILI_ASSIGN_OR_RETURN(token.content, ReadString(part.at("content")));
  if (token.content.size() > kMaxAddedTokenBytes) {
    return Invalid(part.at("content"), absl::StrCat("at most ", kMaxAddedTokenBytes, " bytes"));
  }
  MILI_ASSIGN_OR_RETURN(token.single_word, ReadBool(part.at("single_word")));
  MILI_ASSIGN_OR_RETURN(token.lstrip, ReadBool(part.at("lstrip")));
  MILI_ASSIGN_OR_RETURN(token.rstrip, ReadBool(part.at("rstrip")));
  MILI_ASSIGN_OR_RETURN(token.normalized, ReadBool(part.at("normalized")));
  MILI_ASSIGN_OR_RETURN(token.special, ReadBool(part.at("special")));
  return token;
}

// tokenizers gives ids by itself, whatever the file says: that of the vocabulary, else the next
// free one. A file that says another is taken by no one to mean one thing, so it is refused.
absl::Status ReadAddedTokens(const Part& list, TokenizerSpec& spec) {
  if (list.is_null()) return absl::OkStatus();
  MILI_ASSIGN_OR_RETURN(const size_t size, ReadListSize(list, Vocabulary::kMaxIds));
  absl::flat_hash_map<std::string, TokenId> added;
  auto next = static_cast<TokenId>(spec.vocabulary->size());
  for (size_t i = 0; i < size; ++i) {
    MILI_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(list.at(i)));
    if (token.content.empty()) continue;
    if (added.contains(token.content)) {
      return Invalid(list.at(i), "no content twice");
    }
    const std::optional<TokenId> known = spec.vocabulary->Find(token.content);
    const TokenId id = known ? *known : next++;
    if (id != token.id) {
      return Invalid(list.at(i).at("id"),
                     absl::StrCat(id, known ? ", its id in model.vocab"
                                            : ", the next after model.vocab and those before it"));
    }
    if (!known && spec.vocabulary->Contains(id)) {
      return Invalid(list.at(i).at("id"), "one that model.vocab does not use");
    }
    added.emplace(token.content, id);
    spec.added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

// ---- post_processor, decoder ----

// Appends what a piece {"SpecialToken": {"id": NAME}} of the template stands for.
absl::Status ReadTemplateToken(const Part& piece, const Part& tokens, std::vector<TokenId>& out) {
  const Part name = piece.at("SpecialToken").at("id");
  MILI_ASSIGN_OR_RETURN(const std::string key, ReadString(name));
  const Part ids = tokens.at(key).at("ids");
  MILI_ASSIGN_OR_RETURN(const size_t size, ReadListSize(ids, kMaxSteps));
  for (size_t i = 0; i < size; ++i) {
    MILI_ASSIGN_OR_RETURN(const TokenId id, ReadId(ids.at(i)));
    out.push_back(id);
  }
  return absl::OkStatus();
}

absl::Status ReadTemplate(const Part& part, TokenizerSpec& spec) {
  const Part pieces = part.at("single");
  MILI_ASSIGN_OR_RETURN(const size_t size, ReadListSize(pieces, kMaxSteps));
  bool seen_text = false;
  for (size_t i = 0; i < size; ++i) {
    const Part piece = pieces.at(i);
    const Part sequence = piece.at("Sequence");
    if (sequence.is_null()) {
      MILI_RETURN_IF_ERROR(ReadTemplateToken(piece, part.at("special_tokens"),
                                             seen_text ? spec.suffix : spec.prefix));
    } else if (sequence.at("id").json != "A" || seen_text) {
      return Unsupported(pieces, "the sequence A once, with special tokens around");
    } else {
      seen_text = true;
    }
  }
  if (!seen_text) return Unsupported(pieces, "the sequence A once, with special tokens around");
  return absl::OkStatus();
}

absl::Status ReadPostProcessor(const Part& part, TokenizerSpec& spec, bool& has_template) {
  if (part.is_null()) return absl::OkStatus();
  const Part type = part.at("type");
  if (type.json == "ByteLevel") return absl::OkStatus();  // moves offsets only
  if (type.json == "TemplateProcessing") {
    if (has_template) return Unsupported(part, "one TemplateProcessing");
    has_template = true;
    return ReadTemplate(part, spec);
  }
  if (type.json != "Sequence") {
    return Unsupported(type, "ByteLevel, TemplateProcessing, Sequence, none");
  }
  const Part list = part.at("processors");
  MILI_ASSIGN_OR_RETURN(const size_t size, ReadListSize(list, kMaxSteps));
  for (size_t i = 0; i < size; ++i) {
    MILI_RETURN_IF_ERROR(ReadPostProcessor(list.at(i), spec, has_template));
  }
  return absl::OkStatus();
}

absl::Status ReadDecoder(const Part& part) {
  const Part type = part.at("type");
  if (type.json == "ByteLevel") return absl::OkStatus();
  return Unsupported(type, "ByteLevel");
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadTokenizerJson(std::string_view json) {
  MILI_ASSIGN_OR_RETURN(RawTokenizer raw, ReadRawTokenizer(json));
  const Part file{*raw.parts, ""};
  const Part version = file.at("version");
  if (!version.is_null() && version.json != "1.0") return Unsupported(version, "\"1.0\"");
  TokenizerSpec spec;
  MILI_RETURN_IF_ERROR(ReadModel(file.at("model"), raw, spec));
  MILI_RETURN_IF_ERROR(ReadNormalizer(file.at("normalizer"), spec));
  bool bytes = false;
  const Part pre_tokenizer = file.at("pre_tokenizer");
  if (!pre_tokenizer.is_null()) {
    MILI_RETURN_IF_ERROR(ReadPreTokenizer(pre_tokenizer, spec, bytes));
  }
  if (!bytes) return Unsupported(pre_tokenizer, "one that ends with ByteLevel");
  MILI_RETURN_IF_ERROR(ReadAddedTokens(file.at("added_tokens"), spec));
  bool has_template = false;
  MILI_RETURN_IF_ERROR(ReadPostProcessor(file.at("post_processor"), spec, has_template));
  MILI_RETURN_IF_ERROR(ReadDecoder(file.at("decoder")));
  return spec;
}

}  // namespace mili::text
