#include "common/text/tokenizer_reader.h"

#include <utility>

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "common/base/strings.h"

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

class Reader : public nlohmann::json_sax<Json> {
 public:
  absl::StatusOr<RawTokenizer> Finish(bool parsed) && {
    if (!status_.ok()) return status_;
    if (!parsed) return absl::InvalidArgumentError("tokenizer.json: not JSON");
    raw_.parts = std::make_unique<Json>(std::move(root_));
    return std::move(raw_);
  }

  bool null() override { return Value(nullptr); }
  bool boolean(bool value) override { return Value(value); }
  bool number_integer(number_integer_t value) override { return Value(value); }
  bool number_float(number_float_t value, const string_t&) override { return Value(value); }
  bool binary(binary_t&) override { return Fail("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (InVocab()) return Check(raw_.vocabulary->Add(token_, value));
    return Value(value);
  }

  bool string(string_t& value) override {
    if (InMerges()) return Check(raw_.merges->AddLine(value));
    if (InMerge()) {
      if (num_merge_parts_ == 2) return Fail(absl::StrCat(Where(), " has more than two tokens"));
      merge_[num_merge_parts_++] = std::move(value);
      return true;
    }
    return Value(std::move(value));
  }

  bool key(string_t& key) override {
    if (InVocab()) {
      token_ = std::move(key);
      return true;
    }
    if (Skipping()) return true;
    const bool ignored = path_.size() == 1 && !IsKnownPart(key);
    if (!ignored && path_.back()->contains(key)) {
      return Fail(absl::StrCat("\"", absl::CHexEscape(key), "\" is there twice"));
    }
    is_model_ = path_.size() == 1 && key == "model";
    key_ = std::move(key);
    skip_next_ = ignored;
    return true;
  }

  bool start_object(size_t) override { return Open(Json::object()); }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_array() override { return Close(); }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail(absl::StrCat("not JSON at byte ", position));
  }

 private:
  // Where the reader is: depth_ open containers, of which those in path_ are part of the tree.
  bool InVocab() const { return special_ == Special::kVocab; }
  bool InMerges() const { return special_ == Special::kMerges && depth_ == special_depth_; }
  bool InMerge() const { return special_ == Special::kMerges && depth_ == special_depth_ + 1; }
  bool Skipping() const { return special_ == Special::kSkip; }

  bool Fail(const std::string& what) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat("tokenizer.json: ", what));
    return false;
  }
  bool Check(const absl::Status& status) {
    return status.ok() || Fail(std::string(status.message()));
  }
  std::string Where() const {
    if (InVocab()) return absl::StrCat("model.vocab[\"", absl::CHexEscape(token_), "\"]");
    return absl::StrCat("model.merges[", raw_.merges->size(), "]");
  }

  bool Value(Json value) {
    if (Skipping()) return true;
    if (special_ == Special::kVocab) return Fail(absl::StrCat(Where(), " is no id"));
    if (special_ == Special::kMerges) return Fail(absl::StrCat(Where(), " is no pair of tokens"));
    if (skip_next_) {
      skip_next_ = false;
      return true;
    }
    return Put(std::move(value)) != nullptr;
  }

  // Puts a value into the open container of the tree; null after a failure.
  Json* Put(Json value) {
    if (++num_values_ > kMaxTreeValues) {
      Fail(absl::StrCat("more than ", kMaxTreeValues, " values beside vocabulary and merges"));
      return nullptr;
    }
    if (path_.empty()) {
      if (!value.is_object()) {
        Fail("not an object");
        return nullptr;
      }
      root_ = std::move(value);
      return &root_;
    }
    Json& container = *path_.back();
    if (container.is_array()) {
      container.push_back(std::move(value));
      return &container.back();
    }
    return &(container[key_] = std::move(value));
  }

  bool Open(Json container) {
    if (++depth_ > kMaxDepth) return Fail(absl::StrCat("nested deeper than ", kMaxDepth));
    if (Skipping()) return true;
    if (special_ == Special::kMerges && InMerge() && container.is_array()) {
      num_merge_parts_ = 0;
      return true;
    }
    if (special_ == Special::kVocab) return Fail(absl::StrCat(Where(), " is no id"));
    if (special_ == Special::kMerges) return Fail(absl::StrCat(Where(), " is no pair of tokens"));
    if (skip_next_) {
      skip_next_ = false;
      return Enter(Special::kSkip);
    }
    if (path_.size() == 2 && in_model_ && key_ == "vocab") return OpenVocab(container.is_object());
    if (path_.size() == 2 && in_model_ && key_ == "merges") return OpenMerges(container.is_array());
    if (path_.size() == 1) in_model_ = is_model_;
    Json* const place = Put(std::move(container));
    if (place == nullptr) return false;
    path_.push_back(place);
    return true;
  }

  bool OpenVocab(bool is_object) {
    if (!is_object) return Fail("model.vocab is no object of tokens and their ids");
    if (raw_.vocabulary) return Fail("model.vocab is there twice");
    raw_.vocabulary = std::make_unique<Vocabulary>();
    return Enter(Special::kVocab);
  }

  bool OpenMerges(bool is_array) {
    if (!is_array) return Fail("model.merges is no list");
    if (raw_.merges) return Fail("model.merges is there twice");
    raw_.merges = std::make_unique<MergeList>();
    return Enter(Special::kMerges);
  }

  bool Close() {
    if (InMerge()) {
      if (num_merge_parts_ != 2) return Fail(absl::StrCat(Where(), " is no pair of tokens"));
      raw_.merges->AddPair(merge_[0], merge_[1]);
    } else if (special_ == Special::kNone) {
      path_.pop_back();
    } else if (depth_ == special_depth_) {
      special_ = Special::kNone;
    }
    --depth_;
    return true;
  }

  enum class Special { kNone, kVocab, kMerges, kSkip };
  bool Enter(Special special) {
    special_ = special;
    special_depth_ = depth_;
    return true;
  }

  absl::Status status_;
  RawTokenizer raw_;
  Json root_;
  std::vector<Json*> path_;  // the open containers of the tree; only the last one grows
  size_t depth_ = 0;
  size_t num_values_ = 0;
  std::string key_;
  bool is_model_ = false;   // key_ is the top level's "model"
  bool in_model_ = false;   // path_[1] is the model
  bool skip_next_ = false;  // the value of key_ is not wanted
  Special special_ = Special::kNone;
  size_t special_depth_ = 0;
  std::string token_;
  std::string merge_[2];
  size_t num_merge_parts_ = 0;
};

}  // namespace

absl::Status MergeList::AddLine(std::string_view line) {
  if (line.starts_with("#version")) return absl::OkStatus();
  const size_t space = line.find(' ');
  if (space == line.npos || line.find(' ', space + 1) != line.npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("model.merges[", size(), "] is \"", absl::CHexEscape(ToAbsl(line)),
                     "\"; expected two tokens with one space between"));
  }
  AddPair(line.substr(0, space), line.substr(space + 1));
  return absl::OkStatus();
}

void MergeList::AddPair(std::string_view left, std::string_view right) {
  text_.append(left);
  ends_.push_back(text_.size());
  text_.append(right);
  ends_.push_back(text_.size());
}

MergeList::Merge MergeList::at(size_t rank) const {
  const uint64_t begin = rank == 0 ? 0 : ends_[2 * rank - 1];
  const std::string_view text(text_);
  return {text.substr(begin, ends_[2 * rank] - begin),
          text.substr(ends_[2 * rank], ends_[2 * rank + 1] - ends_[2 * rank])};
}

absl::StatusOr<RawTokenizer> ReadRawTokenizer(std::string_view json) {
  Reader reader;
  const bool parsed = Json::sax_parse(json.begin(), json.end(), &reader);
  return std::move(reader).Finish(parsed);
}

}  // namespace mili::text
