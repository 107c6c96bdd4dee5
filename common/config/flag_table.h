// FlagTable: one table that drives argv, MILI_* variables, the YAML file of --config, --help and
// --print-config. Order of strength: flag > environment > YAML > default. An unknown flag or YAML
// key, a bad value, a missing value is an error that names it, and where it came from. Used in
// main.cc only; not thread-safe.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

namespace mili {

class FlagTable {
 public:
  // Where a value is written when it is given. What it holds before Parse is the default.
  // Durations are read as "30s", "500ms" or plain seconds; byte sizes (uint64_t with kBytes in the
  // help as "SIZE") as "4GiB", "512MiB" or plain bytes; lists by repeating the flag (argv) or as a
  // sequence (YAML, or comma-separated in the environment).
  using Target =
      std::variant<bool*, int32_t*, uint32_t*, int64_t*, uint64_t*, double*, std::string*,
                   absl::Duration*, std::vector<std::string>*, std::optional<std::string>*,
                   std::optional<int32_t>*, std::optional<uint32_t>*, std::optional<int64_t>*,
                   std::optional<uint64_t>*, std::optional<double>*>;

  struct Flag {
    std::string name;  // without dashes, e.g. "max-num-seqs"; its variable is MILI_MAX_NUM_SEQS
    Target target;
    std::string value_name;  // for --help, e.g. "N", "PATH", "SIZE", "SECONDS", "auto|cpu|cuda"
    std::string help;        // one sentence
    // If not empty: the only values a string flag takes.
    std::vector<std::string> choices = {};
    char short_name = 0;  // e.g. 'p' for -p
    bool hidden = false;  // left out of --help
    // Range that a number must lie in, ends included.
    double min_value = -std::numeric_limits<double>::infinity();
    double max_value = std::numeric_limits<double>::infinity();
  };

  // `usage` is the text above the flags in --help.
  FlagTable(std::string program, std::string usage);
  FlagTable(const FlagTable&) = delete;
  FlagTable& operator=(const FlagTable&) = delete;

  // A line that heads the flags added after it in --help.
  void AddSection(std::string title);
  void Add(Flag flag);
  // A positional argument; required ones first. A vector takes all that remain.
  void AddPositional(std::string name, Target target, std::string help, bool required);

  enum class Action { kRun, kExit };
  struct Outcome {
    Action action = Action::kRun;
    std::string print;  // kExit: what to print on stdout before exit code 0
    // Variables that look like misspelt settings; worth a line in the log.
    std::vector<std::string> warnings = {};
  };
  // Reads argv[1..], then environ. Adds --help, --version, --config and --print-config by itself.
  // A bool flag is set by --name, cleared by --no-name, or takes --name=true|false. "--" ends the
  // flags. INVALID_ARGUMENT, in one line; targets may be half written then.
  absl::StatusOr<Outcome> Parse(int argc, const char* const* argv, const char* const* environ);

  // The flag as another program may be given it: "--name=value", one for each item of a list; empty
  // if it holds its default. Not masked.
  std::vector<std::string> Arguments(std::string_view name) const;

  // Whether a flag or a positional got its value from anything but its default.
  bool IsSet(std::string_view name) const;

  std::string Help() const;
  // One line a setting: name: value  # origin. Values of flags named *key* or *token* are masked.
  // Reads as YAML.
  std::string PrintConfig() const;
  // Settings in force: name -> value, masked in the same way.
  std::vector<std::pair<std::string, std::string>> Settings() const;

 private:
  enum class Origin { kDefault, kYaml, kEnvironment, kFlag };
  // Places in entries_ of the flags that every table has.
  static constexpr size_t kHelpIdx = 0, kVersionIdx = 1, kConfigIdx = 2, kPrintConfigIdx = 3;
  static constexpr size_t kNumBuiltIn = 4;
  struct Entry {
    Flag flag;
    Origin origin = Origin::kDefault;
    bool is_section = false;  // then flag.name is its title
    std::string default_text = {};
  };
  struct Positional {
    std::string name;
    Target target;
    std::string help;
    bool required = false;
    bool is_set = false;
  };
  // What argv says, before anything is written.
  struct Assignment {
    size_t entry_idx = 0;
    std::string text;
    std::string spelling;  // as the user wrote the flag
  };
  struct CommandLine {
    std::vector<Assignment> assignments;
    std::vector<std::string> positionals;
    bool help = false;
    bool version = false;
  };

  std::optional<size_t> FindEntry(std::string_view name) const;
  std::optional<size_t> FindShort(char short_name) const;
  // " (did you mean --port?)", or nothing.
  std::string Suggestion(std::string_view name, std::string_view prefix) const;
  absl::StatusOr<CommandLine> ReadArgv(int argc, const char* const* argv) const;
  absl::Status ReadLongFlag(std::string_view arg, int argc, const char* const* argv, int* idx,
                            CommandLine* out) const;
  absl::Status ReadShortFlag(std::string_view arg, int argc, const char* const* argv, int* idx,
                             CommandLine* out) const;
  absl::Status ReadYaml(const std::string& path);
  absl::Status ReadEnvironment(const char* const* environ, std::vector<std::string>* warnings);
  absl::Status ApplyFlags(const std::vector<Assignment>& assignments);
  absl::Status ApplyPositionals(const std::vector<std::string>& texts);
  // Writes one value; a list of weaker origin is emptied first. `subject` heads the error.
  absl::Status Assign(Entry& entry, Origin origin, std::string_view text,
                      const std::string& subject);

  const std::string program_;
  const std::string usage_;
  std::vector<Entry> entries_;
  std::vector<Positional> positionals_;
  std::string config_path_;
  bool print_config_ = false;
  bool help_ = false;     // target of --help, which Parse answers by itself
  bool version_ = false;  // and of --version
};

}  // namespace mili
