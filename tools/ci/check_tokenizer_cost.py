#!/usr/bin/env python3
"""Counts the instructions that the tokenizer takes for a byte, and compares them with what is written
in tools/ci/tokenizer_cost.json; more than 5 % off, either way, is a finding.

    tools/ci/check_tokenizer_cost.py [BUILD_DIR] [--write]

Counts do not depend on how busy the machine is. Valgrind knows no AVX-512 and says so: what runs is
SSE2, and AVX2 where text is judged. Loading is left out, by the difference of two runs. --write sets the
numbers anew: after a change that is meant, with the compiler of CI.
"""

import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
WRITTEN = ROOT / "tools/ci/tokenizer_cost.json"
TOKENIZER = ROOT / "tests/data/tokenizers/qwen/tokenizer.json"
TOLERANCE = 0.05
SIZE = 300_000

WORDS = {
    "english": "the of and to in is that it for as with was on be by this are or from at which have "
               "had weights router worker queue of requests tokens int main() { return 0; } sum += "
               "values[i]; def encode(text): # 42 1984 don't they'll e.g., foo_bar->baz".split(),
    "mixed": "我们今天学习如何编写一个分词器。 今日は天気がいいですね。 안녕하세요 세계, 토큰을 나눕니다. "
             "مرحبا بالعالم नमस्ते दुनिया Съешь ещё этих 🙂🙃 👩‍👩‍👧‍👦 e\u0301 → ∑∞ ½".split(),
}


def text_of(words):
    chance = random.Random(7)
    parts, size = [], 0
    while size < SIZE:
        word = chance.choice(words)
        if chance.random() < 0.3:  # a word that no cache knows
            word = "".join(chance.sample(word, len(word)))
        parts.append(word + chance.choice([" "] * 9 + ["\n"]))
        size += len(parts[-1].encode())
    return "".join(parts)


def instructions(program, commands):
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program],
                          input="".join(c + "\n" for c in commands), capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"valgrind: {done.stderr.strip()[-1000:]}")
    return int(found[1])


def measure(program):
    costs = {}
    with tempfile.NamedTemporaryFile() as file:
        for name, words in WORDS.items():
            text = text_of(words).encode()
            file.seek(0)
            file.truncate()
            file.write(text)
            file.flush()
            load = [f"load {TOKENIZER}", f"text {file.name}"]
            before = instructions(program, load)
            cold = instructions(program, [*load, "encode"])
            warm = instructions(program, [*load, "encode", "encode"])
            costs[f"{name}, cold"] = round((cold - before) / len(text), 2)
            costs[f"{name}, warm"] = round((warm - cold) / len(text), 2)
    return costs


def main():
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    build = pathlib.Path(arguments[0] if arguments else ROOT / "build/cpu").resolve()
    subprocess.run(["cmake", "--build", build, "--target", "mili-tokenizer-bench"], check=True,
                   stdout=subprocess.DEVNULL)
    costs = measure(build / "bin/mili-tokenizer-bench")
    if "--write" in sys.argv:
        WRITTEN.write_text(json.dumps(costs, indent=1) + "\n")
        return 0
    written = json.loads(WRITTEN.read_text())
    failed = False
    for name, cost in costs.items():
        off = cost / written[name] - 1
        failed |= abs(off) > TOLERANCE
        print(f"{name}: {cost} instructions a byte, {written[name]} written down, {off:+.1%}")
    if failed:
        print("the tokenizer's cost has changed; if that is meant, run this with --write")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
