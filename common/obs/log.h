// Logger: one structured line an event, as text or JSON. Thread-safe. Passed down, never global.
// Never logs prompts or outputs: callers decide by --log-requests.
#pragma once

#include <cstdio>
#include <initializer_list>
#include <string>
#include <string_view>

#include "common/base/mutex.h"

namespace mili {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// One fact of an event: {"request_id", id}.
struct LogField {
  std::string_view key;
  std::string value;
};

class Logger {
 public:
  struct Options {
    LogFormat format = LogFormat::kText;
    LogLevel min_level = LogLevel::kInfo;
    std::string program;      // e.g. "mili-router"; first field of each line
    std::FILE* out = stderr;  // not owned
  };
  explicit Logger(Options options) : options_(std::move(options)) {}

  // Text:  2026-11-23T03:36:37.123Z info mili-router message key=value key="a b"
  // JSON:  {"time":"...","level":"info","program":"mili-router","message":"...","key":"value"}
  void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});
  void Debug(std::string_view message, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kDebug, message, fields);
  }
  void Info(std::string_view message, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kInfo, message, fields);
  }
  void Warning(std::string_view message, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kWarning, message, fields);
  }
  void Error(std::string_view message, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kError, message, fields);
  }

 private:
  const Options options_;
  Mutex mutex_;  // one writer at a time
};

}  // namespace mili
