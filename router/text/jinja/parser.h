// The parser of the template language: tokens in, syntax tree out. Pure function. It refuses what
// the core does not run, so that a template is known to be whole before the first request.
#pragma once

#include <string_view>

#include <absl/status/statusor.h>

#include "router/text/jinja/ast.h"

namespace mili::router::jinja {

// How deep tags, brackets and prefix operators may nest.
inline constexpr int kMaxSyntaxDepth = 48;

// INVALID_ARGUMENT: no valid template; UNIMPLEMENTED: a construct, filter or test that the core
// lacks. Both say the line.
absl::StatusOr<Block> ParseTemplate(std::string_view source);

}  // namespace mili::router::jinja
