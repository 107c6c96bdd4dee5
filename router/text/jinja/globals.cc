// The functions of builtins.h, and how a template raises an exception.
#include <algorithm>
#include <array>
#include <utility>

#include <absl/status/status.h>
#include <absl/strings/cord.h>
#include <absl/strings/str_cat.h>
#include <absl/time/time.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "router/text/jinja/builtins.h"
#include "router/text/jinja/print.h"

namespace mili::router::jinja {
namespace {

constexpr absl::string_view kRaisedPayload = "mili.template.raised";

absl::StatusOr<Value> MakeRange(Context& context, const Arguments& arguments) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t count = arguments.positional.size();
  if (count < 1 || count > 3 || !arguments.named.empty()) {
    return absl::InvalidArgumentError("range takes one to three integers");
  }
  for (size_t i = 0; i < count; ++i) {
    if (!arguments.positional[i].AsInt(&bounds[count == 1 ? 1 : i])) {
      return absl::InvalidArgumentError("range takes integers");
    }
  }
  const auto [begin, end, step] = std::array<int64_t, 3>{bounds[0], bounds[1], bounds[2]};
  if (step == 0) return absl::InvalidArgumentError("the step of range must not be 0");
  const int64_t max_range = context.budget.limits().max_range;
  std::vector<Value> items;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (static_cast<int64_t>(items.size()) >= max_range) {
      return absl::InvalidArgumentError(
          absl::StrCat("range gives more than ", max_range, " items"));
    }
    items.push_back(Value::Of(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  MILI_RETURN_IF_ERROR(context.budget.Bytes(items.size() * sizeof(Value)));
  return Value::MakeList(std::move(items));
}

// dict(), dict(a=1), dict(mapping), dict(pairs), and of these with more named entries.
absl::StatusOr<Value> MakeDict(Context& context, const Arguments& arguments) {
  if (arguments.positional.size() > 1) {
    return absl::InvalidArgumentError("dict takes one mapping or list of pairs");
  }
  std::vector<std::pair<Value, Value>> entries;
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.dict() != nullptr) {
      entries = from.dict()->entries;
    } else {
      MILI_ASSIGN_OR_RETURN(const std::vector<Value> pairs, Iterate(context, from));
      for (const Value& pair : pairs) {
        if (pair.list() == nullptr || pair.list()->items.size() != 2) {
          return absl::InvalidArgumentError("dict takes a list of pairs");
        }
        entries.emplace_back(pair.list()->items[0], pair.list()->items[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) {
    entries.emplace_back(Value::Of(name), value);
  }
  const size_t count = entries.size();
  MILI_RETURN_IF_ERROR(context.budget.Steps(static_cast<int64_t>(count * count)));
  MILI_RETURN_IF_ERROR(context.budget.Bytes(2 * count * sizeof(Value)));
  return Value::MakeDict(std::move(entries));
}

absl::StatusOr<Value> RaiseException(Context& context, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const auto bound, Bind(arguments, {"message"}));
  if (bound[0] == nullptr) return absl::InvalidArgumentError("raise_exception takes a message");
  MILI_ASSIGN_OR_RETURN(const Text message, ToStr(context.budget, *bound[0]));
  return Raised(message.bytes());
}

absl::StatusOr<Value> StrftimeNow(Context& context, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const auto bound, Bind(arguments, {"format"}));
  if (bound[0] == nullptr || bound[0]->text() == nullptr) {
    return absl::InvalidArgumentError("strftime_now takes a format");
  }
  MILI_RETURN_IF_ERROR(context.budget.Bytes(32 * bound[0]->text()->size()));
  return Value::Of(absl::FormatTime(bound[0]->text()->bytes(), context.now, absl::LocalTimeZone()));
}

}  // namespace

std::optional<GlobalFunction> FindGlobal(std::string_view name) {
  static constexpr std::pair<std::string_view, GlobalFunction> kGlobals[] = {
      {"range", GlobalFunction::kRange},
      {"dict", GlobalFunction::kDict},
      {"namespace", GlobalFunction::kNamespace},
      {"raise_exception", GlobalFunction::kRaiseException},
      {"strftime_now", GlobalFunction::kStrftimeNow},
  };
  for (const auto& [known, function] : kGlobals) {
    if (known == name) return function;
  }
  return std::nullopt;
}

absl::StatusOr<Value> CallGlobal(Context& context, GlobalFunction function,
                                 const Arguments& arguments) {
  switch (function) {
    case GlobalFunction::kRange:
      return MakeRange(context, arguments);
    case GlobalFunction::kDict:
    case GlobalFunction::kNamespace:
      return MakeDict(context, arguments);
    case GlobalFunction::kRaiseException:
      return RaiseException(context, arguments);
    case GlobalFunction::kStrftimeNow:
      return StrftimeNow(context, arguments);
  }
  return absl::InternalError("a function without a body");
}

absl::Status Raised(std::string_view message) {
  absl::Status status = absl::InvalidArgumentError(ToAbsl(message));
  status.SetPayload(kRaisedPayload, absl::Cord("1"));
  return status;
}

bool IsRaised(const absl::Status& status) { return status.GetPayload(kRaisedPayload).has_value(); }

}  // namespace mili::router::jinja
