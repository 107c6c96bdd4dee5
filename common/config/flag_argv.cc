// FlagTable's reading of argv: names, values, short names, "--".
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/config/flag_table.h"
#include "common/config/flag_value.h"

namespace mili {
namespace {

// "-1" and "-.5" are values, "-p" is none.
bool LooksLikeFlag(std::string_view arg) {
  if (arg.size() < 2 || arg[0] != '-') return false;
  return std::string_view("0123456789.").find(arg[1]) == std::string_view::npos;
}

}  // namespace

absl::StatusOr<FlagTable::CommandLine> FlagTable::ReadArgv(int argc,
                                                           const char* const* argv) const {
  CommandLine line;
  bool flags_ended = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (flags_ended || arg.size() < 2 || arg[0] != '-') {
      line.positionals.emplace_back(arg);
    } else if (arg == "--") {
      flags_ended = true;
    } else if (arg[1] == '-') {
      MILI_RETURN_IF_ERROR(ReadLongFlag(arg, argc, argv, &i, &line));
    } else {
      MILI_RETURN_IF_ERROR(ReadShortFlag(arg, argc, argv, &i, &line));
    }
    // What follows need not be right for help to be given.
    if (line.help || line.version) break;
  }
  return line;
}

absl::Status FlagTable::ReadLongFlag(std::string_view arg, int argc, const char* const* argv,
                                     int* idx, CommandLine* out) const {
  const size_t equals = arg.find('=');
  const bool has_value = equals != std::string_view::npos;
  const std::string_view spelling = arg.substr(0, equals);
  const std::string name = absl::StrReplaceAll(ToAbsl(spelling.substr(2)), {{"_", "-"}});
  std::optional<size_t> entry_idx = FindEntry(name);
  bool is_negated = false;
  if (!entry_idx && name.rfind("no-", 0) == 0) {
    entry_idx = FindEntry(std::string_view(name).substr(3));
    is_negated = entry_idx.has_value() && IsBool(entries_[*entry_idx].flag.target);
    if (!is_negated) entry_idx.reset();
  }
  if (!entry_idx) {
    return absl::InvalidArgumentError(absl::StrCat("unknown flag ", ToAbsl(spelling),
                                                   Suggestion(name, "--"), "; ", program_,
                                                   " --help lists them"));
  }
  const Flag& flag = entries_[*entry_idx].flag;
  if (*entry_idx == kHelpIdx) out->help = true;
  if (*entry_idx == kVersionIdx) out->version = true;
  Assignment assignment{*entry_idx, "", std::string(spelling)};
  if (is_negated && has_value) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(arg), ": ", ToAbsl(spelling),
                                                   " takes no value; write --", flag.name, "=",
                                                   ToAbsl(arg.substr(equals + 1))));
  }
  if (has_value) {
    assignment.text = std::string(arg.substr(equals + 1));
  } else if (IsBool(flag.target)) {
    assignment.text = is_negated ? "false" : "true";
  } else if (*idx + 1 < argc && !LooksLikeFlag(argv[*idx + 1])) {
    assignment.text = argv[++*idx];
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(spelling), " needs a value (", flag.value_name, "): ", flag.help,
                     *idx + 1 < argc ? absl::StrCat(" One that begins with a dash is written ",
                                                    ToAbsl(spelling), "=", argv[*idx + 1])
                                     : ""));
  }
  out->assignments.push_back(std::move(assignment));
  return absl::OkStatus();
}

absl::Status FlagTable::ReadShortFlag(std::string_view arg, int argc, const char* const* argv,
                                      int* idx, CommandLine* out) const {
  const std::string spelling(arg.substr(0, 2));
  const std::optional<size_t> entry_idx = FindShort(arg[1]);
  if (!entry_idx) {
    return absl::InvalidArgumentError(absl::StrCat("unknown flag ", spelling, " in \"", ToAbsl(arg),
                                                   "\"; ", program_, " --help lists them"));
  }
  const Flag& flag = entries_[*entry_idx].flag;
  if (*entry_idx == kHelpIdx) out->help = true;
  Assignment assignment{*entry_idx, "", spelling};
  if (IsBool(flag.target)) {
    if (arg.size() > 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", ToAbsl(arg), "\": ", spelling, " takes no value"));
    }
    assignment.text = "true";
  } else if (arg.size() > 2) {
    assignment.text = std::string(arg.substr(arg[2] == '=' ? 3 : 2));
  } else if (*idx + 1 < argc && !LooksLikeFlag(argv[*idx + 1])) {
    assignment.text = argv[++*idx];
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(spelling, " needs a value (", flag.value_name, "): ", flag.help));
  }
  out->assignments.push_back(std::move(assignment));
  return absl::OkStatus();
}

}  // namespace mili
