#!/usr/bin/env python3
"""Checks that includes follow docs/architecture.md: who may see whom, and no cycle of folders.

Reads every C++ and CUDA source under common, kernels, router, worker and tools. Exit code 1 and one
line per arrow that should not be there.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOPS = ("common", "kernels", "router", "worker", "tools")
SUFFIXES = {".h", ".cc", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)

# Folder -> folders of ours that it may include; the most specific entry counts, and every folder
# may include itself and what lies below it.
ALLOWED = {
    "common/base": (),
    "common/core": ("common/base",),
    "common/text": ("common/base", "common/core"),
    "common/formats": ("common/base", "common/core", "common/text"),
    "common/config": ("common/base", "common/core"),
    "common/wire": ("common/base", "common/core", "proto"),
    "common/obs": ("common/base", "common/core", "proto"),
    "kernels": ("kernels",),
    "router": ("common", "proto", "router"),
    "router/kv": ("common/base", "common/core"),
    "router/sched": ("common/base", "common/core", "router/kv"),
    "router/text": ("common",),
    "router/grammar": ("common", "router/text"),
    "router/dispatch": ("common", "proto"),
    "router/loop": ("common", "router/sched", "router/kv", "router/grammar", "router/dispatch"),
    "router/api": ("common", "proto", "router/loop", "router/text", "router/grammar"),
    "worker": ("common", "proto", "worker"),
    # Puts the worker together: chooses the table of kernels.
    "worker/program": ("common", "kernels", "worker"),
    "worker/device": ("common", "kernels"),
    "worker/ops": ("common", "kernels", "worker/device"),
    "worker/model": ("common", "worker/ops", "worker/device"),
    "worker/engine": ("common", "worker/model", "worker/ops", "worker/device"),
    "worker/service": ("common", "proto", "worker/engine", "worker/model", "worker/device"),
    "tools": ("common", "proto", "tools"),
}
# Headers that more folders may see: of common all that kernels get, of kernels its plain structs.
ALSO = {
    "common/base/dtype.h": ("kernels",),
    "kernels/params.h": ("worker",),
}

# Foreign headers -> folders that may include them (prefixes).
FOREIGN = (
    (r"grpc|google/", ("common/wire", "common/obs", "router/api", "router/dispatch", "router/main",
                       "router/app", "worker/service", "worker/main", "worker/app", "tools")),
    (r"prometheus/", ("common/obs", "router", "worker", "tools")),
    (r"boost/", ("router", "worker", "tools", "common/obs")),
    (r"absl/", ("common", "router", "worker", "tools")),
    (r"cuda|nccl|cublas", ("worker/ops", "worker/device", "kernels/cuda", "kernels/bench")),
    (r"hwy/", ("kernels/cpu",)),
)
# No thread, no clock, no metrics where the scheduler thinks.
PURE = ("router/sched", "router/kv")
IMPURE = re.compile(r"^(thread|mutex|condition_variable|chrono|future|grpc.*|google/.*|prometheus/.*"
                    r"|absl/time/clock\.h|absl/synchronization/.*|common/base/(mailbox|mutex|clock)\.h"
                    r"|common/obs/.*)$")


def within(folder, tops):
    return any(folder == top or folder.startswith(top + "/") for top in tops)


def rule_of(folder):
    """The most specific entry of ALLOWED that covers the folder."""
    fitting = [key for key in ALLOWED if within(folder, (key,))]
    return max(fitting, key=len) if fitting else None


def check_file(path, edges, errors):
    name = path.relative_to(ROOT).as_posix()
    folder = path.parent.relative_to(ROOT).as_posix()
    rule = rule_of(folder)
    for match in INCLUDE.finditer(path.read_text(encoding="utf-8")):
        quoted, target = match.group(1) == '"', match.group(2)
        line = path.read_text(encoding="utf-8").count("\n", 0, match.start()) + 1
        where = f"{name}:{line}"
        if within(folder, PURE) and IMPURE.match(target):
            errors.append(f"{where}: {rule} is pure logic, it may not include {target}")
        if not quoted:
            for pattern, folders in FOREIGN:
                allowed = within(folder, folders) or name.startswith(tuple(folders))
                if re.match(pattern, target) and not allowed:
                    errors.append(f"{where}: {folder} may not include <{target}>")
            continue
        # Generated code (mili/v1/...pb.h) is the proto folder's.
        other = pathlib.PurePosixPath(target).parent.as_posix()
        if target.startswith(("mili/", "google/")):
            other = "proto"
        if other == folder:
            continue
        if within(folder, ALSO.get(target, ())):
            continue
        if other.split("/")[0] not in TOPS + ("proto",):
            errors.append(f'{where}: "{target}" does not start at the root of the repository')
            continue
        edges.setdefault(folder, {}).setdefault(other, where)
        own = rule is not None and within(other, (rule,))
        if rule is None or not (own or within(other, ALLOWED[rule])):
            errors.append(f"{where}: {folder} may not include {other}")


def find_cycle(edges):
    done, path = set(), []

    def visit(folder):
        if folder in path:
            return path[path.index(folder):] + [folder]
        if folder in done:
            return None
        path.append(folder)
        for other in edges.get(folder, {}):
            cycle = visit(other)
            if cycle:
                return cycle
        path.pop()
        done.add(folder)
        return None

    for folder in list(edges):
        cycle = visit(folder)
        if cycle:
            return cycle
    return None


def main():
    edges, errors = {}, []
    for top in TOPS:
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in SUFFIXES:
                check_file(path, edges, errors)
    cycle = find_cycle(edges)
    if cycle:
        steps = [f"{a} -> {b} ({edges[a][b]})" for a, b in zip(cycle, cycle[1:])]
        errors.append("folders include each other in a circle: " + ", ".join(steps))
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
