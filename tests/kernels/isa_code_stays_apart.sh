#!/bin/sh
# isa_code_stays_apart.sh OBJECT...: fails if an object built for one instruction set offers a
# function that the linker could use for the whole program (a weak symbol), which would then stop
# other CPUs by an illegal instruction.
nm=${NM:-nm}
command -v "$nm" >/dev/null || exit 77
checked=0
for object in "$@"; do
  case "$object" in
    *avx* | *neon*) ;;
    *) continue ;;
  esac
  checked=$((checked + 1))
  if "$nm" -C "$object" | grep -E ' [WVu] '; then
    echo "$object: the symbols above are shared with code for every CPU"
    exit 1
  fi
done
[ "$checked" -gt 0 ] || exit 77
