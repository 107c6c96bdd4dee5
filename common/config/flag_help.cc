// FlagTable's texts: --help and --print-config.
#include <algorithm>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>

#include "common/config/flag_table.h"
#include "common/config/flag_value.h"

namespace mili {
namespace {

constexpr size_t kWidth = 96;

std::string VariableOf(const std::string& name) {
  return absl::StrCat("MILI_", absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}})));
}

// `text` in lines of at most kWidth, each behind `indent` spaces.
std::string Wrap(const std::string& text, size_t indent) {
  std::string out;
  size_t column = 0;
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (column != 0 && column + 1 + word.size() > kWidth) {
      out += '\n';
      column = 0;
    }
    if (column == 0) {
      out.append(indent, ' ');
      column = indent;
    } else {
      out += ' ';
      ++column;
    }
    absl::StrAppend(&out, word);
    column += word.size();
  }
  return out + "\n";
}

// Whether the value must not be shown: keys and tokens themselves, not files that hold them nor
// numbers of tokens.
bool IsSecret(const FlagTable::Flag& flag) {
  if (std::holds_alternative<std::string*>(flag.target) ||
      std::holds_alternative<std::optional<std::string>*>(flag.target) ||
      std::holds_alternative<std::vector<std::string>*>(flag.target)) {
    if (flag.value_name == "PATH" || flag.value_name == "FILE") return false;
    for (absl::string_view word : absl::StrSplit(flag.name, '-')) {
      if (word == "key" || word == "keys" || word == "token") return true;
    }
  }
  return false;
}

// As YAML reads back the same text.
std::string YamlText(const std::string& text) {
  const bool plain = !text.empty() &&
                     text.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789_./+-") == std::string::npos &&
                     text != "null" && text != "Null" && text != "NULL" && text[0] != '-';
  if (plain) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out + "\"";
}

std::string ShownValue(const FlagTable::Flag& flag) {
  const std::optional<std::string> value = ReadValue(flag);
  if (!value) return "";
  if (IsSecret(flag) && !value->empty() && *value != "[]") return "***";
  return *value;
}

std::string YamlValue(const FlagTable::Flag& flag) {
  const std::optional<std::string> value = ReadValue(flag);
  if (!value) return "~";
  const std::string shown = ShownValue(flag);
  if (shown == "***") return "\"***\"";
  if (auto* const* list = std::get_if<std::vector<std::string>*>(&flag.target)) {
    std::vector<std::string> items;
    for (const std::string& item : **list) items.push_back(YamlText(item));
    return absl::StrCat("[", absl::StrJoin(items, ", "), "]");
  }
  return std::holds_alternative<std::string*>(flag.target) ||
                 std::holds_alternative<std::optional<std::string>*>(flag.target)
             ? YamlText(*value)
             : *value;
}

std::string FlagHelp(const FlagTable::Flag& flag, const std::string& default_text,
                     bool has_variable) {
  const bool is_on_by_default = IsBool(flag.target) && default_text == "true";
  std::string head =
      flag.short_name == 0 ? "  " : absl::StrCat("  -", std::string(1, flag.short_name), ", ");
  absl::StrAppend(&head, "--", is_on_by_default ? "[no-]" : "", flag.name);
  if (!IsBool(flag.target)) absl::StrAppend(&head, " ", flag.value_name);
  std::string body = flag.help;
  if (!flag.choices.empty() && flag.value_name.find('|') == std::string::npos) {
    absl::StrAppend(&body, " One of ", absl::StrJoin(flag.choices, ", "), ".");
  }
  if (IsList(flag.target)) absl::StrAppend(&body, " May be repeated.");
  std::vector<std::string> notes;
  if (IsBool(flag.target)) {
    if (has_variable) notes.push_back(is_on_by_default ? "default: on" : "default: off");
  } else if (!default_text.empty() && default_text != "[]") {
    notes.push_back(absl::StrCat("default: ", default_text));
  }
  if (has_variable) notes.push_back(VariableOf(flag.name));
  if (!notes.empty()) absl::StrAppend(&body, " [", absl::StrJoin(notes, "; "), "]");
  return absl::StrCat(head, "\n", Wrap(body, 6));
}

}  // namespace

std::string FlagTable::Help() const {
  std::string out = absl::StrCat(absl::StripTrailingAsciiWhitespace(usage_), "\n");
  if (!positionals_.empty()) absl::StrAppend(&out, "\nArguments:\n");
  for (const Positional& positional : positionals_) {
    absl::StrAppend(&out, "  ", positional.name, positional.required ? "" : " (optional)", "\n",
                    Wrap(positional.help, 6));
  }
  bool has_section = false;
  for (size_t i = kNumBuiltIn; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (!has_section && !entry.is_section) absl::StrAppend(&out, "\nFlags:\n");
    has_section = true;
    if (entry.is_section) {
      absl::StrAppend(&out, "\n", entry.flag.name, ":\n");
    } else if (!entry.flag.hidden) {
      absl::StrAppend(&out, FlagHelp(entry.flag, entry.default_text, true));
    }
  }
  absl::StrAppend(&out, "\nGeneral:\n");
  for (size_t i = 0; i < kNumBuiltIn; ++i) {
    absl::StrAppend(&out, FlagHelp(entries_[i].flag, entries_[i].default_text, i == kConfigIdx));
  }
  absl::StrAppend(&out, "\n",
                  Wrap("A setting is taken from its flag, else from the MILI_ variable shown with "
                       "it, else from the file of --config, else it has its default.",
                       0));
  return out;
}

std::string FlagTable::PrintConfig() const {
  std::string out;
  for (size_t i = kNumBuiltIn; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (entry.is_section) continue;
    std::string origin;
    switch (entry.origin) {
      case Origin::kDefault:
        origin = "default";
        break;
      case Origin::kYaml:
        origin = config_path_;
        break;
      case Origin::kEnvironment:
        origin = VariableOf(entry.flag.name);
        break;
      case Origin::kFlag:
        origin = "command line";
        break;
    }
    absl::StrAppend(&out, entry.flag.name, ": ", YamlValue(entry.flag), "  # ", origin, "\n");
  }
  return out;
}

std::vector<std::pair<std::string, std::string>> FlagTable::Settings() const {
  std::vector<std::pair<std::string, std::string>> settings;
  for (size_t i = kNumBuiltIn; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (!entry.is_section) settings.emplace_back(entry.flag.name, ShownValue(entry.flag));
  }
  return settings;
}

}  // namespace mili
