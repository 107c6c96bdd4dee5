#include "common/obs/log.h"

#include <array>
#include <string>

#include <absl/strings/str_format.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>

namespace mili {
namespace {

std::string_view NameOf(LogLevel level) {
  constexpr std::array<std::string_view, 4> kNames = {"debug", "info", "warning", "error"};
  return kNames[static_cast<size_t>(level)];
}

// The length of the well-formed UTF-8 sequence that `text` begins with; 0 if there is none.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  const bool is_overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool is_surrogate = lead == 0xED && second > 0x9F;
  const bool is_too_large = lead == 0xF4 && second > 0x8F;
  return is_overlong || is_surrogate || is_too_large ? 0 : length;
}

// Inside JSON quotes: control characters escaped, bytes that are no UTF-8 as U+FFFD. Text lines use
// it too, so that no value can forge a line or move a terminal's cursor.
void AppendEscaped(std::string_view text, std::string* out) {
  while (!text.empty()) {
    const unsigned char c = static_cast<unsigned char>(text[0]);
    const size_t length = Utf8Length(text);
    if (c == '"' || c == '\\') {
      *out += '\\';
      *out += text[0];
    } else if (c == '\n') {
      *out += "\\n";
    } else if (c == '\r') {
      *out += "\\r";
    } else if (c == '\t') {
      *out += "\\t";
    } else if (c < 0x20 || c == 0x7F) {
      *out += absl::StrFormat("\\u%04x", c);
    } else if (length == 0) {
      *out += "\xEF\xBF\xBD";
    } else {
      *out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
}

void AppendQuoted(std::string_view text, std::string* out) {
  *out += '"';
  AppendEscaped(text, out);
  *out += '"';
}

// A value of a text line: bare if no reader could take it for anything else.
void AppendTextValue(std::string_view text, std::string* out) {
  bool is_bare = !text.empty();
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7F || c == '"' || c == '=' || c == '\\') is_bare = false;
  }
  if (is_bare) {
    *out += text;
  } else {
    AppendQuoted(text, out);
  }
}

// The message of a text line stands unquoted; only what would break the line is escaped.
void AppendTextMessage(std::string_view text, std::string* out) {
  std::string escaped;
  AppendEscaped(text, &escaped);
  for (size_t i = 0; i < escaped.size(); ++i) {
    const bool is_harmless = escaped[i] == '\\' && i + 1 < escaped.size() &&
                             (escaped[i + 1] == '"' || escaped[i + 1] == '\\');
    if (is_harmless) ++i;
    *out += escaped[i];
  }
}

}  // namespace

void Logger::Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  if (level < options_.min_level) return;
  const std::string time =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
  std::string line;
  if (options_.format == LogFormat::kText) {
    line.append(time).append(" ").append(NameOf(level)).append(" ").append(options_.program);
    line += ' ';
    AppendTextMessage(message, &line);
    for (const LogField& field : fields) {
      line.append(" ").append(field.key).append("=");
      AppendTextValue(field.value, &line);
    }
  } else {
    line.append("{\"time\":\"").append(time).append("\",\"level\":\"").append(NameOf(level));
    line.append("\",\"program\":");
    AppendQuoted(options_.program, &line);
    line.append(",\"message\":");
    AppendQuoted(message, &line);
    for (const LogField& field : fields) {
      line += ',';
      AppendQuoted(field.key, &line);
      line += ':';
      AppendQuoted(field.value, &line);
    }
    line += '}';
  }
  line += '\n';
  MutexLock lock(mutex_);
  std::fwrite(line.data(), 1, line.size(), options_.out);
  std::fflush(options_.out);
}

}  // namespace mili
