#!/usr/bin/env python3
"""Checks the documents against the tree: links lead somewhere, flags exist.

    tools/ci/check_docs.py [BIN_DIR]

Every relative link of a Markdown file must name a file, and a heading of it after #. With BIN_DIR
every `--flag` in back quotes must be in the --help of one of our programs or scripts. Exit code 1
and one line per finding.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.S)
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]+)")
PROGRAMS = ("mili serve", "mili chat", "mili generate", "mili tokenize", "mili inspect", "mili",
            "mili-router", "mili-worker")
SCRIPTS = ("tools/test", "tools/quickstart", "tools/bundle", "tools/bench/cpu_peer",
           "tools/bench/gpu/run", "tools/bench/cpu_kernels.py",
           "tools/bench/serving_overhead.py", "tools/bench/tokenizer_peers.py",
           "tests/e2e/tokenizer_parity.py", "tools/ci/check_tokenizer_cost.py",
           "tools/gen_unicode.py")
# Of programs that are not ours: cmake, Google Benchmark, numactl.
FOREIGN = {"preset", "build", "target", "benchmark", "interleave"}


def anchors(text):
    """The ids that GitHub gives to headings."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def check_links(path, text, errors):
    for target in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.S)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        where = path.relative_to(ROOT)
        if not other.exists():
            errors.append(f"{where}: the link {target} leads nowhere")
        elif anchor and anchor not in anchors(other.read_text()):
            errors.append(f"{where}: {name} has no heading #{anchor}")


def known_flags(bin_dir):
    flags = set(FOREIGN)
    for program in PROGRAMS:
        name, *rest = program.split()
        shown = subprocess.run([bin_dir / name, *rest, "--help"], capture_output=True, text=True,
                               check=True)
        flags |= set(FLAG.findall(shown.stdout))
    for script in SCRIPTS:
        flags |= set(FLAG.findall((ROOT / script).read_text()))
    return flags


def main():
    errors = []
    bin_dir = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    flags = known_flags(bin_dir) if bin_dir else None
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text()
        check_links(path, text, errors)
        if flags is None:
            continue
        for code in CODE.findall(text):
            for flag in FLAG.findall(code):
                if flag not in flags:
                    errors.append(f"{path.relative_to(ROOT)}: no program has a flag --{flag}")
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
