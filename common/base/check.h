// MILI_CHECK guards the programmer's invariants, never input: whatever a client, a file or a peer
// can cause is an absl::Status.
#pragma once

namespace mili {

// Prints "file:line: check failed: expression: sentence" to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* expression,
                              const char* sentence);

}  // namespace mili

#define MILI_CHECK(condition, sentence) \
  ((condition) ? (void)0 : ::mili::CheckFailed(__FILE__, __LINE__, #condition, sentence))
