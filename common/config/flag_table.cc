#include "common/config/flag_table.h"

#include <algorithm>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/base/version.h"
#include "common/config/flag_value.h"

namespace mili {

FlagTable::FlagTable(std::string program, std::string usage)
    : program_(std::move(program)), usage_(std::move(usage)) {
  Add({.name = "help",
       .target = &help_,
       .value_name = "",
       .help = "Print this and end.",
       .short_name = 'h'});
  Add({.name = "version",
       .target = &version_,
       .value_name = "",
       .help = "Print the version and end."});
  Add({.name = "config",
       .target = &config_path_,
       .value_name = "PATH",
       .help = "Read settings from this YAML file: one 'name: value' a line, named as the flags."});
  Add({.name = "print-config",
       .target = &print_config_,
       .value_name = "",
       .help = "Print the settings in force and where each comes from, then end."});
}

void FlagTable::AddSection(std::string title) {
  Entry entry{.flag = {.name = std::move(title), .target = &help_, .value_name = "", .help = ""},
              .is_section = true};
  entries_.push_back(std::move(entry));
}

void FlagTable::Add(Flag flag) {
  MILI_CHECK(!FindEntry(flag.name).has_value(), "two flags have the same name");
  MILI_CHECK(flag.short_name == 0 || !FindShort(flag.short_name), "two flags share a letter");
  Entry entry{.flag = std::move(flag)};
  entry.default_text = ReadValue(entry.flag).value_or("");
  entries_.push_back(std::move(entry));
}

void FlagTable::AddPositional(std::string name, Target target, std::string help, bool required) {
  MILI_CHECK(positionals_.empty() || !required || positionals_.back().required,
             "required arguments come first");
  positionals_.push_back({std::move(name), target, std::move(help), required});
}

bool FlagTable::IsSet(std::string_view name) const {
  for (const Positional& positional : positionals_) {
    if (positional.name == name) return positional.is_set;
  }
  const std::optional<size_t> idx = FindEntry(name);
  MILI_CHECK(idx.has_value(), "no such flag");
  return entries_[*idx].origin != Origin::kDefault;
}

std::vector<std::string> FlagTable::Arguments(std::string_view name) const {
  const std::optional<size_t> idx = FindEntry(name);
  MILI_CHECK(idx.has_value(), "no such flag");
  const Entry& entry = entries_[*idx];
  std::vector<std::string> arguments;
  if (entry.origin == Origin::kDefault) return arguments;
  const std::string head = absl::StrCat("--", entry.flag.name, "=");
  if (auto* const* list = std::get_if<std::vector<std::string>*>(&entry.flag.target)) {
    for (const std::string& item : **list) arguments.push_back(head + item);
  } else if (const std::optional<std::string> text = ReadValue(entry.flag)) {
    arguments.push_back(head + *text);
  }
  return arguments;
}

std::optional<size_t> FlagTable::FindEntry(std::string_view name) const {
  const std::string dashed = absl::StrReplaceAll(ToAbsl(name), {{"_", "-"}});
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].is_section && entries_[i].flag.name == dashed) return i;
  }
  return std::nullopt;
}

std::optional<size_t> FlagTable::FindShort(char short_name) const {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].is_section && entries_[i].flag.short_name == short_name) return i;
  }
  return std::nullopt;
}

std::string FlagTable::Suggestion(std::string_view name, std::string_view prefix) const {
  const std::string* nearest = nullptr;
  size_t num_longer = 0;  // flags that begin with `name`
  const auto is_shown = [](const Entry& e) { return !e.is_section && !e.flag.hidden; };
  for (const Entry& entry : entries_) {
    if (!is_shown(entry) || name.size() < 3 || entry.flag.name.rfind(name, 0) != 0) continue;
    nearest = &entry.flag.name;
    ++num_longer;
  }
  if (num_longer != 1) nearest = nullptr;
  size_t best = std::min<size_t>(3, 1 + name.size() / 4) + 1;
  for (const Entry& entry : entries_) {
    if (num_longer == 1 || !is_shown(entry)) continue;
    const size_t distance = EditDistance(name, entry.flag.name);
    if (distance < best) {
      best = distance;
      nearest = &entry.flag.name;
    }
  }
  if (nearest == nullptr) return "";
  return absl::StrCat(" (did you mean ", ToAbsl(prefix), *nearest, "?)");
}

absl::StatusOr<FlagTable::Outcome> FlagTable::Parse(int argc, const char* const* argv,
                                                    const char* const* environ) {
  MILI_ASSIGN_OR_RETURN(const CommandLine line, ReadArgv(argc, argv));
  if (line.help) return Outcome{Action::kExit, Help()};
  if (line.version) {
    return Outcome{Action::kExit,
                   absl::StrCat(program_, " ", kVersion, " (git ", kGitRevision, ")\n")};
  }
  Outcome outcome;
  // Weakest first, so that each overwrites the one before; --config itself may come from two.
  MILI_RETURN_IF_ERROR(ReadEnvironment(environ, &outcome.warnings));
  MILI_RETURN_IF_ERROR(ApplyFlags(line.assignments));
  if (!config_path_.empty()) MILI_RETURN_IF_ERROR(ReadYaml(config_path_));
  MILI_RETURN_IF_ERROR(ApplyPositionals(line.positionals));
  if (print_config_) return Outcome{Action::kExit, PrintConfig()};
  for (const Positional& positional : positionals_) {
    if (positional.required && !positional.is_set) {
      return absl::InvalidArgumentError(
          absl::StrCat(positional.name, " is missing: ", positional.help));
    }
  }
  return outcome;
}

absl::Status FlagTable::Assign(Entry& entry, Origin origin, std::string_view text,
                               const std::string& subject) {
  // A stronger source has spoken; the weaker value must be right all the same.
  if (entry.origin > origin) {
    const std::optional<std::string> problem = CheckValue(entry.flag, text);
    if (!problem) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(subject, ": ", *problem));
  }
  if (entry.origin < origin) ClearList(entry.flag.target);
  entry.origin = origin;
  if (const std::optional<std::string> problem = WriteValue(entry.flag, text)) {
    return absl::InvalidArgumentError(absl::StrCat(subject, ": ", *problem));
  }
  return absl::OkStatus();
}

absl::Status FlagTable::ApplyFlags(const std::vector<Assignment>& assignments) {
  for (const Assignment& assignment : assignments) {
    const std::string subject =
        absl::StrCat(assignment.spelling, " \"", assignment.text, "\" on the command line");
    MILI_RETURN_IF_ERROR(
        Assign(entries_[assignment.entry_idx], Origin::kFlag, assignment.text, subject));
  }
  return absl::OkStatus();
}

absl::Status FlagTable::ReadEnvironment(const char* const* environ,
                                        std::vector<std::string>* warnings) {
  for (; environ != nullptr && *environ != nullptr; ++environ) {
    const std::string_view variable = *environ;
    const size_t equals = variable.find('=');
    if (variable.rfind("MILI_", 0) != 0 || equals == std::string_view::npos) continue;
    const std::string name(variable.substr(0, equals));
    const std::string_view text = variable.substr(equals + 1);
    const std::string flag_name =
        absl::AsciiStrToLower(absl::StrReplaceAll(name.substr(5), {{"_", "-"}}));
    const std::optional<size_t> idx = FindEntry(flag_name);
    // --help and its like make sense on a command line only.
    if (!idx || (*idx < kNumBuiltIn && *idx != kConfigIdx)) {
      // Not an error: clusters and test runs put variables of their own beside ours.
      const std::string suggestion = Suggestion(flag_name, "--");
      if (!suggestion.empty()) {
        warnings->push_back(absl::StrCat(name, " is set and means nothing here", suggestion));
      }
      continue;
    }
    Entry& entry = entries_[*idx];
    std::string subject = absl::StrCat(name, "=\"", ToAbsl(text), "\" in the environment");
    if (text.rfind("tcp://", 0) == 0) {
      absl::StrAppend(&subject, " (Kubernetes sets it for a service of that name; set ",
                      "enableServiceLinks: false)");
    }
    if (!IsList(entry.flag.target)) {
      MILI_RETURN_IF_ERROR(Assign(entry, Origin::kEnvironment, text, subject));
      continue;
    }
    for (absl::string_view item : absl::StrSplit(ToAbsl(text), ',', absl::SkipWhitespace())) {
      MILI_RETURN_IF_ERROR(
          Assign(entry, Origin::kEnvironment, ToStd(absl::StripAsciiWhitespace(item)), subject));
    }
  }
  return absl::OkStatus();
}

absl::Status FlagTable::ApplyPositionals(const std::vector<std::string>& texts) {
  size_t next = 0;
  for (Positional& positional : positionals_) {
    Entry* twin = nullptr;  // the flag of the same meaning
    for (Entry& entry : entries_) {
      if (!entry.is_section && SameTarget(entry.flag.target, positional.target)) twin = &entry;
    }
    const bool takes_all = IsList(positional.target);
    if (next < texts.size() && twin != nullptr && twin->origin == Origin::kFlag) {
      return absl::InvalidArgumentError(absl::StrCat("\"", texts[next], "\" and --",
                                                     twin->flag.name, " both name the ",
                                                     positional.name, ": give one"));
    }
    const Flag flag{.name = positional.name,
                    .target = positional.target,
                    .value_name = positional.name,
                    .help = positional.help};
    while (next < texts.size()) {
      if (!positional.is_set) ClearList(positional.target);
      if (const auto problem = WriteValue(flag, texts[next])) {
        return absl::InvalidArgumentError(absl::StrCat(positional.name, " \"", texts[next],
                                                       "\" on the command line: ", *problem));
      }
      positional.is_set = true;
      if (twin != nullptr) twin->origin = Origin::kFlag;
      ++next;
      if (!takes_all) break;
    }
    if (twin != nullptr && twin->origin != Origin::kDefault) positional.is_set = true;
  }
  if (next < texts.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", texts[next], "\" is one argument too many; ", program_, " --help lists them"));
  }
  return absl::OkStatus();
}

}  // namespace mili
