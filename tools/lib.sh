# What the scripts in tools/ share; sourced, never run. Expects bash with `set -euo pipefail`.
# shellcheck shell=bash

# One line to stderr: what went wrong, and what to do about it.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

say() { printf '%s\n' "$*" >&2; }

# Where downloads and Python environments live between runs.
mili_cache() {
  printf '%s\n' "${MILI_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/mili}"
}

# As many jobs as processors, but no more than one per 1.5 GiB of memory that is free now.
mili_jobs() {
  local jobs available_kib
  jobs=$(nproc)
  available_kib=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  local by_memory=$((available_kib / 1572864))
  if ((by_memory < 1)); then by_memory=1; fi
  printf '%s\n' "$((jobs < by_memory ? jobs : by_memory))"
}

# configure PRESET: quiet unless it fails. A configured tree is left to ninja, which looks by itself
# whether it must be configured again.
configure() {
  local preset=$1 log
  if [[ -e build/$preset/build.ninja ]]; then return; fi
  log=$(mktemp)
  if ! cmake --preset "$preset" >"$log" 2>&1; then
    tail -n 25 "$log" >&2
    rm -f "$log"
    die "cmake could not configure preset $preset (its last lines are above);" \
      "remove build/$preset and try again"
  fi
  rm -f "$log"
}

# configure_and_build PRESET TARGET...
configure_and_build() {
  local preset=$1
  shift
  configure "$preset"
  if ! cmake --build "build/$preset" --parallel "$(mili_jobs)" --target "$@" >&2; then
    die "the build of preset $preset failed (see above)"
  fi
}
