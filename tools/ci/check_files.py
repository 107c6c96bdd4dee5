#!/usr/bin/env python3
"""Checks each file that git knows: its length, its place names, its ends of line.

Sources end at 400 lines (CUDA at 500), data at 1 MB. No file names a folder of the machine that it
was written on. Exit code 1 and one line per finding.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_LINES = {".cu": 500, ".h": 400, ".cc": 400, ".cuh": 400, ".py": 400, ".proto": 400, "": 400,
             ".sh": 400, ".cmake": 400, ".txt": 400}
MAX_BYTES = 1 << 20
# Split, so that this file passes its own check.
MACHINE_PATHS = re.compile(rb"(?<![\w.])/(?:wo" rb"rk|ro" rb"ot|ho" rb"me/\w+|tmp/" rb"w)(?:/|\b)")
NAMES_EXEMPT = {"LICENSE"}


def check(name, errors):
    path = ROOT / name
    content = path.read_bytes()
    if len(content) > MAX_BYTES:
        errors.append(f"{name}: {len(content)} bytes, at most {MAX_BYTES} are kept in git")
    if b"\0" in content:
        return
    num_lines = content.count(b"\n")
    limit = MAX_LINES.get(path.suffix)
    if limit and num_lines > limit and not name.startswith("tests/data/") and name != "LICENSE":
        errors.append(f"{name}: {num_lines} lines, at most {limit}: split it")
    if name in NAMES_EXEMPT or name.startswith(("tests/data/", "tests/fuzz/corpus/")):
        return
    for number, line in enumerate(content.split(b"\n"), 1):
        if MACHINE_PATHS.search(line):
            errors.append(f"{name}:{number}: names a folder of one machine")
        if line.endswith(b"\r"):
            errors.append(f"{name}:{number}: ends with CR LF")
            break
    if content and not content.endswith(b"\n"):
        errors.append(f"{name}: no newline at the end")


def main():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    errors = []
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            check(name, errors)
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
