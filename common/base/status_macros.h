// Early return of absl::Status, so that the good path reads straight down.
#pragma once

#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#define MILI_RETURN_IF_ERROR(expression)                              \
  do {                                                                \
    if (absl::Status mili_status = (expression); !mili_status.ok()) { \
      return mili_status;                                             \
    }                                                                 \
  } while (false)

#define MILI_CONCAT_(a, b) a##b
#define MILI_CONCAT(a, b) MILI_CONCAT_(a, b)

// MILI_ASSIGN_OR_RETURN(auto file, Open(path));
#define MILI_ASSIGN_OR_RETURN(declaration, expression) \
  MILI_ASSIGN_OR_RETURN_(MILI_CONCAT(mili_statusor_, __LINE__), declaration, expression)
#define MILI_ASSIGN_OR_RETURN_(statusor, declaration, expression) \
  auto statusor = (expression);                                   \
  if (!statusor.ok()) return std::move(statusor).status();        \
  declaration = *std::move(statusor)
