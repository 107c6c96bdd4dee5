// What the exit codes of `mili` mean; --help says the same.
#pragma once

namespace mili {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;        // a flag, an argument or a setting is wrong
inline constexpr int kExitUnreachable = 3;  // no server answers, or it cannot serve now
inline constexpr int kExitInterrupted = 130;
inline constexpr int kExitTerminated = 143;

}  // namespace mili
