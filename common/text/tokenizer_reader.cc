#include "common/text/tokenizer_reader.h"

#include <cmath>
#include <string>
#include <utility>

#include <absl/strings/escaping.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/text/json_cursor.h"
#include "common/text/merge_reader.h"

namespace mili::text {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 32;
// Values in the tree: real files have some thousands, for their added tokens.
constexpr size_t kMaxTreeValues = 1u << 20;

bool IsKnownPart(std::string_view key) {
  for (const std::string_view known : {"version", "added_tokens", "normalizer", "pre_tokenizer",
                                       "post_processor", "decoder", "model"}) {
    if (key == known) return true;
  }
  return false;
}

absl::Status Invalid(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: ", what));
}

class Reader {
 public:
  explicit Reader(std::string_view text) : json_(text) {}

  absl::StatusOr<RawTokenizer> Read();

 private:
  // What the members of an object are to the reader.
  enum class Place { kTop, kModel, kElsewhere };

  // The value that comes next, into `out`; null: it is only checked. `depth` containers are open
  // around it.
  absl::Status Value(size_t depth, Place place, Json* out);
  absl::Status Object(size_t depth, Place place, Json* out);
  absl::Status Member(size_t depth, Place place, Json* object);
  absl::Status Array(size_t depth, Json* out);
  absl::Status Scalar(Json* out);
  absl::Status Put(Json value, Json* out);

  // The name of a member, and the colon behind it.
  absl::StatusOr<std::string_view> Key();
  // The entries of a container, each read by `entry`, through `close`.
  template <typename Entry>
  absl::Status Entries(char close, Entry entry);

  absl::Status Vocab(size_t depth);
  absl::Status Merges(size_t depth);
  absl::Status ReadMerges();

  absl::Status NoJson() const {
    return Invalid(absl::StrCat("not JSON at byte ", json_.position() + 1));
  }

  JsonCursor json_;
  RawTokenizer raw_;
  std::optional<JsonCursor> merges_;  // at their list, if it comes before the vocabulary
  size_t num_values_ = 0;             // in the tree
};

absl::StatusOr<RawTokenizer> Reader::Read() {
  raw_.parts = std::make_unique<Json>();
  if (json_.Peek() != '{') return json_.AtEnd() ? NoJson() : Invalid("not an object");
  MILI_RETURN_IF_ERROR(Value(0, Place::kTop, raw_.parts.get()));
  if (!json_.AtEnd()) return NoJson();
  if (merges_ && raw_.vocabulary) {
    json_ = *std::move(merges_);
    MILI_RETURN_IF_ERROR(ReadMerges());
  }
  return std::move(raw_);
}

absl::Status Reader::Value(size_t depth, Place place, Json* out) {
  const char first = json_.Peek();
  if (first != '{' && first != '[') return Scalar(out);
  if (depth == kMaxDepth) return Invalid(absl::StrCat("nested deeper than ", kMaxDepth));
  return first == '{' ? Object(depth + 1, place, out) : Array(depth + 1, out);
}

template <typename Entry>
absl::Status Reader::Entries(char close, Entry entry) {
  if (json_.Take(close)) return absl::OkStatus();
  do {
    MILI_RETURN_IF_ERROR(entry());
  } while (json_.Take(','));
  return json_.Take(close) ? absl::OkStatus() : NoJson();
}

absl::StatusOr<std::string_view> Reader::Key() {
  const std::optional<std::string_view> key = json_.String();
  if (!key || !json_.Take(':')) return NoJson();
  return *key;
}

absl::Status Reader::Object(size_t depth, Place place, Json* out) {
  json_.Take('{');
  if (out != nullptr) MILI_RETURN_IF_ERROR(Put(Json::object(), out));
  return Entries('}', [&] { return Member(depth, place, out); });
}

absl::Status Reader::Member(size_t depth, Place place, Json* object) {
  MILI_ASSIGN_OR_RETURN(const std::string_view view, Key());
  if (object == nullptr || (place == Place::kTop && !IsKnownPart(view))) {
    return Value(depth, Place::kElsewhere, nullptr);
  }
  const std::string key(view);
  const bool in_model = place == Place::kModel;
  const bool seen = (in_model && key == "vocab" && raw_.vocabulary) ||
                    (in_model && key == "merges" && (raw_.merges || merges_));
  if (seen || object->contains(key)) {
    return Invalid(
        absl::StrCat(in_model ? "model." : "", absl::CHexEscape(key), " is there twice"));
  }
  const char first = json_.Peek();
  if (in_model && (first == '{' || first == '[')) {
    if (key == "vocab") return Vocab(depth);
    if (key == "merges") return Merges(depth);
  }
  const Place inside = place == Place::kTop && key == "model" ? Place::kModel : Place::kElsewhere;
  return Value(depth, inside, &(*object)[key]);
}

absl::Status Reader::Array(size_t depth, Json* out) {
  json_.Take('[');
  if (out != nullptr) MILI_RETURN_IF_ERROR(Put(Json::array(), out));
  return Entries(']', [&] {
    if (out != nullptr) out->push_back(nullptr);
    return Value(depth, Place::kElsewhere, out != nullptr ? &out->back() : nullptr);
  });
}

absl::Status Reader::Scalar(Json* out) {
  if (json_.Peek() == '"') {
    const std::optional<std::string_view> string = json_.String();
    if (!string) return NoJson();
    return out == nullptr ? absl::OkStatus() : Put(std::string(*string), out);
  }
  if (json_.Take("null")) return Put(nullptr, out);
  if (json_.Take("true")) return Put(true, out);
  if (json_.Take("false")) return Put(false, out);
  if (const std::optional<uint64_t> value = json_.Unsigned()) return Put(*value, out);
  const std::optional<std::string_view> number = json_.Number();
  int64_t integer = 0;
  double value = 0;
  if (!number) return NoJson();
  if (absl::SimpleAtoi(ToAbsl(*number), &integer)) return Put(integer, out);
  if (!absl::SimpleAtod(ToAbsl(*number), &value) || !std::isfinite(value)) return NoJson();
  return Put(value, out);
}

absl::Status Reader::Put(Json value, Json* out) {
  if (out == nullptr) return absl::OkStatus();
  if (++num_values_ > kMaxTreeValues) {
    return Invalid(
        absl::StrCat("more than ", kMaxTreeValues, " values beside vocabulary and merges"));
  }
  *out = std::move(value);
  return absl::OkStatus();
}

absl::Status Reader::Vocab(size_t depth) {
  if (!json_.Take('{')) return Invalid("model.vocab is no object of tokens and their ids");
  raw_.vocabulary = std::make_unique<Vocabulary>();
  raw_.vocabulary->ReserveForFile(json_.size_bytes());
  MILI_RETURN_IF_ERROR(Entries('}', [&]() -> absl::Status {
    const std::optional<std::string_view> key = json_.String();
    if (!key || !json_.Take(':')) return NoJson();
    const std::string_view token = *key;
    if (const std::optional<uint64_t> id = json_.Unsigned()) {
      const absl::Status status = raw_.vocabulary->Add(token, *id);
      return status.ok() ? status : Invalid(std::string(status.message()));
    }
    const std::string name = absl::CHexEscape(ToAbsl(token));
    MILI_RETURN_IF_ERROR(Value(depth + 1, Place::kElsewhere, nullptr));
    return Invalid(absl::StrCat("model.vocab[\"", name, "\"] is no id"));
  }));
  const absl::Status status = raw_.vocabulary->Finish();
  return status.ok() ? status : Invalid(absl::StrCat("model.vocab: ", status.message()));
}

absl::Status Reader::Merges(size_t depth) {
  if (json_.Peek() != '[') return Invalid("model.merges is no list");
  if (raw_.vocabulary) return ReadMerges();
  merges_ = json_;
  return Value(depth, Place::kElsewhere, nullptr);
}

absl::Status Reader::ReadMerges() {
  json_.Take('[');
  MergeReader reader(*raw_.vocabulary, raw_.merges.emplace());
  const auto named = [](const absl::Status& status) {
    return status.ok() ? status : Invalid(std::string(status.message()));
  };
  MILI_RETURN_IF_ERROR(Entries(']', [&] { return named(reader.Read(json_)); }));
  return named(reader.Finish());
}

}  // namespace

absl::StatusOr<RawTokenizer> ReadRawTokenizer(std::string_view json) { return Reader(json).Read(); }

}  // namespace mili::text
