// Filters from text to text.
#include <algorithm>
#include <utility>

#include <absl/status/status.h>

#include "common/base/status_macros.h"
#include "router/text/jinja/filters.h"
#include "router/text/jinja/print.h"
#include "router/text/jinja/strings.h"

namespace mili::router::jinja {
namespace {

using Result = absl::StatusOr<Value>;
using Bound = std::vector<const Value*>;

// A filter that is a method of the same meaning, on whatever value, as text.
Result AsMethod(Context& context, const Value& input, std::string_view method,
                const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(Text text, ToStr(context.budget, input));
  return CallMethod(context, Value::Of(std::move(text)), method, arguments);
}

Result Trim(Context& context, const Value& input, const Arguments& arguments) {
  return AsMethod(context, input, "strip", arguments);
}
Result Upper(Context& context, const Value& input, const Arguments& arguments) {
  return AsMethod(context, input, "upper", arguments);
}
Result Lower(Context& context, const Value& input, const Arguments& arguments) {
  return AsMethod(context, input, "lower", arguments);
}
Result Capitalize(Context& context, const Value& input, const Arguments& arguments) {
  return AsMethod(context, input, "capitalize", arguments);
}
Result ReplaceAll(Context& context, const Value& input, const Arguments& arguments) {
  return AsMethod(context, input, "replace", arguments);
}

Result Title(Context& context, const Value& input, const Arguments& arguments) {
  MILI_RETURN_IF_ERROR(Bind(arguments, {}).status());
  // Jinja's filter raises letters after spaces and a few signs only, Python's method after all
  // that is no letter.
  MILI_ASSIGN_OR_RETURN(const Text text, ToStr(context.budget, input));
  MILI_RETURN_IF_ERROR(context.budget.Bytes(2 * text.size()));
  const Text lower = ChangeCase(text, Case::kLower);
  const Text titled = ChangeCase(text, Case::kTitle);
  if (lower.size() != titled.size()) {
    return absl::UnimplementedError("title of these letters is not supported");
  }
  const std::string& bytes = lower.bytes();
  Text result;
  for (size_t at = 0; at < bytes.size();) {
    // One character at the start of a word, then the rest of the word and what follows it.
    size_t end = bytes.find_first_of("- \t\r\n\v\f({[<", at);
    end = end == std::string::npos ? bytes.size() : end + 1;
    size_t first = at + 1;
    while (first < end && (bytes[first] & 0xC0) == 0x80) ++first;
    result.AppendPart(ChangeCase(lower.Part(at, first), Case::kTitle), 0, first - at);
    result.AppendPart(lower, first, end);
    at = end;
  }
  return Value::Of(std::move(result));
}

Result String(Context& context, const Value& input, const Arguments&) {
  if (input.text() != nullptr) return input;
  MILI_ASSIGN_OR_RETURN(Text text, ToStr(context.budget, input));
  return Value::Of(std::move(text));
}

// Nothing is escaped here, so safe text is text.
Result Safe(Context& context, const Value& input, const Arguments& arguments) {
  return String(context, input, arguments);
}

Result JoinItems(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"d", "attribute"}));
  Text separator;
  if (bound[0] != nullptr) {
    MILI_ASSIGN_OR_RETURN(separator, ToStr(context.budget, *bound[0]));
  }
  MILI_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(context, input));
  Text joined;
  for (size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (bound[1] != nullptr && !bound[1]->is_none()) {
      MILI_ASSIGN_OR_RETURN(item, GetItem(context, item, *bound[1]));
    }
    if (i > 0) {
      MILI_RETURN_IF_ERROR(context.budget.Bytes(separator.size()));
      joined.Append(separator);
    }
    MILI_RETURN_IF_ERROR(AppendStr(context.budget, item, joined));
  }
  return Value::Of(std::move(joined));
}

Result Indent(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"width", "first", "blank"}));
  std::string indent(4, ' ');
  int64_t width = 0;
  if (bound[0] != nullptr && bound[0]->text() != nullptr) {
    indent = bound[0]->text()->bytes();
  } else if (bound[0] != nullptr) {
    if (!bound[0]->AsInt(&width) || width > 256) {
      return absl::InvalidArgumentError("indent takes a width of at most 256");
    }
    indent.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  const bool first = bound[1] != nullptr && bound[1]->IsTrue();
  const bool blank = bound[2] != nullptr && bound[2]->IsTrue();
  MILI_ASSIGN_OR_RETURN(const Text text, ToStr(context.budget, input));
  const std::vector<Text> lines = SplitLines(text);
  MILI_RETURN_IF_ERROR(context.budget.Bytes(text.size() + lines.size() * (indent.size() + 64)));
  const bool ends_line = !text.empty() && text.bytes().back() == '\n';
  Text result;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) result.Append("\n", false);
    const bool indents = i == 0 ? first : blank || !lines[i].empty();
    if (indents) result.Append(indent, false);
    result.Append(lines[i]);
  }
  if (ends_line) {
    result.Append("\n", false);
    if (blank) result.Append(indent, false);
  }
  return Value::Of(std::move(result));
}

}  // namespace

FilterFn FindTextFilter(std::string_view name) {
  static constexpr std::pair<std::string_view, FilterFn> kFilters[] = {
      {"trim", Trim},          {"upper", Upper},   {"lower", Lower},   {"capitalize", Capitalize},
      {"replace", ReplaceAll}, {"title", Title},   {"string", String}, {"safe", Safe},
      {"join", JoinItems},     {"indent", Indent},
  };
  for (const auto& [known, filter] : kFilters) {
    if (known == name) return filter;
  }
  return nullptr;
}

}  // namespace mili::router::jinja
