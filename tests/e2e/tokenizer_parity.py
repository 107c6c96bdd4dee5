#!/usr/bin/env python3
"""Compares `mili tokenize` with Hugging Face `tokenizers` on generated texts, and stops at the first
difference, showing the text.

    python3 -m venv .venv && .venv/bin/pip install tokenizers==0.23.3
    .venv/bin/python tests/e2e/tokenizer_parity.py [--texts N] [--seed N] [FOLDER ...]

Folders with a tokenizer.json; without any, those of tests/data/tokenizers and, where the variables
MILI_TEST_QWEN3_TOKENIZER and MILI_TEST_TOKENIZERS (colon-separated) name some, those too. Per
tokenizer: 20,000 random texts (--texts says how many; a million take minutes on Qwen3's), made of
words, spaces, characters and of the vocabulary's own tokens, and every character beside a letter, a
digit, a space and itself. Texts hold no invalid UTF-8, which the library cannot be given. Ids are
decoded again, both whole and random ones.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import subprocess
import sys

try:
    import tokenizers
except ImportError:
    print("skipped: this Python has no module tokenizers")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ROUND = 20_000  # texts that are in memory at a time

WORDS = """the of and to in is that it for as with was on be by this are or from at which but not have
an they you had his her been their has would what will there if can all who more when said no time
don't I'll we've they're it's you'd I'm DON'T It'S naïve café Straße ЁЖИК съешь ещё 東京 東京都 日本語
안녕하세요 세계 مرحبا नमस्ते สวัสดี ελληνικά int main() { return 0; } foo_bar->baz[i] != "x\\n" 3.14159
0xFF 1,000,000 https://example.org/a?b=c&d=%20 <div class="x"> </div> // /* */ #include == === && ||
""".split()
SPACES = [" ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", "\r", " \n", "\n ", "\r\n\r\n  ", "\u00a0",
          "\u0085", "\u2003", "\u3000", "\u2028", "\u200b", "\x1c", "\x0b", "\x0c", " " * 17]
EMOJI = ["🙂", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "❤️", "1️⃣", "🏳️‍🌈"]
CONTROLS = [chr(c) for c in range(32)] + ["\x7f", "\u0080", "\ufeff", "\ufffd", "\uffff", "\U0010ffff"]
# Planes with characters, and what lies between them.
PLANES = [(0x20, 0x7F), (0x80, 0x250), (0x250, 0x590), (0x590, 0x800), (0x900, 0xE00), (0xE00, 0x1200),
          (0x1100, 0x1200), (0x1E00, 0x2000), (0x2000, 0x2C00), (0x3040, 0x3100), (0x4E00, 0xA000),
          (0xAC00, 0xD7A4), (0xE000, 0x10000), (0x10000, 0x11FFF), (0x1D000, 0x1F000),
          (0x1F300, 0x1FB00), (0x20000, 0x31400), (0x40000, 0x50000), (0xE0000, 0xE0200),
          (0xF0000, 0x110000)]
MARKS = [chr(c) for r in ((0x300, 0x370), (0x591, 0x5C8), (0x610, 0x6E0), (0x898, 0x8A0), (0x93C, 0x94E),
                          (0xE31, 0xE4F), (0xF71, 0xF85), (0x1DC0, 0x1E00), (0x20D0, 0x20F1),
                          (0x3099, 0x309B), (0x1D165, 0x1D16A)) for c in range(*r)]
JAMO = [chr(c) for r in ((0x1100, 0x1113), (0x1161, 0x1176), (0x11A7, 0x11C3), (0xAC00, 0xAC40))
        for c in range(*r)]
CONTRACTED = ["'s", "'S", "'ſ", "'t", "'T", "'re", "'rE", "'VE", "'ll", "'Ll", "'lL", "'d", "'m", "’s",
              "''s", "'", "'x", "'r", "'l"]


def code_point(chance):
    first, last = chance.choice(PLANES)
    return chr(chance.randrange(first, last))


def chunk(chance, marks, tokens):
    """One part of a text."""
    kind = chance.randrange(15)
    some = chance.randint(1, 8)
    if kind <= 2:
        return "".join(chance.choice(["", " ", " "]) + chance.choice(WORDS) for _ in range(some))
    if kind == 3:
        return "".join(chance.choice(SPACES) for _ in range(some))
    if kind == 4:
        return chance.choice(WORDS) + chance.choice(CONTRACTED) + chance.choice(["", "t", " "])
    if kind == 5:
        return "".join(chance.choice("0123456789०१²½Ⅷ٣") for _ in range(chance.randint(1, 12)))
    if kind == 6:
        return "".join(code_point(chance) for _ in range(some))
    if kind == 7:
        return chance.choice("aeouAOs가क") + "".join(chance.choice(MARKS) for _ in range(some))
    if kind == 8:
        return "".join(chance.choice(JAMO) for _ in range(some))
    if kind == 9 and marks:
        mark = chance.choice(marks)
        return chance.choice(["", " ", "\n ", "x", "é"]) + (
            mark[: chance.randint(1, len(mark))] if chance.random() < 0.2 else mark
        ) + chance.choice(["", "  ", "\t\n", "y", "_"])
    if kind == 10:
        return chance.choice(EMOJI)
    if kind == 11:
        return chance.choice(CONTROLS) * chance.randint(1, 3)
    if kind >= 13:
        return "".join(chance.choice(tokens[kind - 13]) for _ in range(some))
    return "".join(chance.choice("!?.,;:-_+*/\\|()[]{}<>@#$%^&~`\"'=") for _ in range(some))


def random_texts(chance, marks, tokens, num_texts):
    yield from ("", " ", "\n", "\ufeff")
    for i in range(num_texts):
        if i % 500 == 0:  # a long word, or a long run
            pool = chance.choice(["a", " ", "ab", "\n ", "é", "漢字", "0123456789", "e\u0301", "!", "\r\n",
                                  *tokens])
            yield "".join(chance.choice(pool) for _ in range(chance.randint(2_000, 20_000)))
            continue
        yield "".join(chunk(chance, marks, tokens) for _ in range(chance.randint(1, 8)))


def every_code_point():
    """Every one of the planes that have characters, and one in 97 of the empty and private ones."""
    points = [c for c in range(0x110000)
              if not 0xD800 <= c <= 0xDFFF and (c < 0x33500 or 0xE0000 <= c < 0xE0200 or c % 97 == 0)]
    for i in range(0, len(points), 256):
        yield "".join(f"a{c}b{c}1 {c}{c}\n" for c in map(chr, points[i : i + 256]))


def added_tokens(folder):
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return [t["content"] for t in spec["added_tokens"]]


def texts_of_tokens(reference):
    """What the tokens stand for that are whole characters: of all of them, and of those with characters
    of three bytes, in which most scripts without spaces are written."""
    size = reference.get_vocab_size(with_added_tokens=True)
    texts = [t for t in reference.decode_batch([[i] for i in range(size)]) if t and "\ufffd" not in t]
    wide = [t for t in texts if any("\u0800" <= c <= "\uffff" for c in t)]
    return texts, wide or texts


class Mili:
    def __init__(self, program, folder):
        self.command = [program, "tokenize", str(folder), "--jsonl"]

    def run(self, lines, *options):
        done = subprocess.run(self.command + list(options), capture_output=True,
                              input="".join(json.dumps(line) + "\n" for line in lines).encode())
        if done.returncode != 0:
            sys.exit(f"{' '.join(self.command)}: exit {done.returncode}: {done.stderr.decode()}")
        return [json.loads(line) for line in done.stdout.splitlines()]


def load(folder):
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    reference.no_truncation()
    reference.no_padding()
    return reference


def fail(folder, what, given, ours, theirs):
    sys.exit(f"{folder.name}: {what} differs\n  given      {json.dumps(given)[:4000]}\n"
             f"  mili       {json.dumps(ours)[:4000]}\n  tokenizers {json.dumps(theirs)[:4000]}")


def compare(program, folder, seed, num_texts):
    chance = random.Random(seed)
    reference = load(folder)
    marks, tokens = added_tokens(folder), texts_of_tokens(reference)
    num_lists = 0
    for done in range(0, num_texts, ROUND):
        texts = list(random_texts(chance, marks, tokens, min(ROUND, num_texts - done)))
        if done == 0:
            texts += every_code_point()
        num_lists += compare_texts(program, folder, chance, reference, texts)
    return f"{folder.name}: {num_texts} texts and {num_lists} lists of ids agree"


def compare_texts(program, folder, chance, reference, texts):
    reference.encode_special_tokens = False
    mili = Mili(program, folder)
    ours = mili.run(texts)
    theirs = []
    for i in range(0, len(texts), 1000):
        theirs += [e.ids for e in reference.encode_batch_fast(texts[i : i + 1000])]
    if len(ours) != len(texts):
        sys.exit(f"{folder.name}: {len(texts)} texts, {len(ours)} answers")
    for text, a, b in zip(texts, ours, theirs):
        if a != b:
            fail(folder, "encoding", text, a, b)

    # As text of users is read: special tokens stay text, nothing is added.
    plain = texts[: ROUND // 2]
    reference.encode_special_tokens = True
    expected = reference.encode_batch_fast(plain, add_special_tokens=False)
    ours = mili.run(plain, "--no-parse-special", "--no-add-special-tokens")
    for text, a, b in zip(plain, ours, expected, strict=True):
        if a != b.ids:
            fail(folder, "encoding without special tokens", text, a, b.ids)

    size = reference.get_vocab_size(with_added_tokens=True)
    lists = theirs[: ROUND // 2]
    lists += [[chance.randrange(size) for _ in range(chance.randint(0, 30))] for _ in range(3000)]
    for skip in (False, True):
        decoded = mili.run(lists, "--decode", *["--skip-special-tokens"] * skip)
        expected = reference.decode_batch(lists, skip_special_tokens=skip)
        for ids, a, b in zip(lists, decoded, expected, strict=True):
            if a != b:
                fail(folder, f"decoding with skip_special_tokens={skip}", ids, a, b)
    return len(lists)


def folders_of(arguments):
    if arguments.folders:
        return arguments.folders
    folders = sorted(p.parent for p in (ROOT / "tests/data/tokenizers").glob("*/tokenizer.json"))
    extra = [os.environ.get("MILI_TEST_QWEN3_TOKENIZER", "")]
    extra += os.environ.get("MILI_TEST_TOKENIZERS", "").split(":")
    return folders + [pathlib.Path(p) for p in extra if p]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    bin_dir = os.environ.get("MILI_BIN_DIR", str(ROOT / "build/cpu/bin"))
    parser.add_argument("--mili", default=f"{bin_dir}/mili", help="the program")
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--texts", type=int, default=20_000, help="random texts for each tokenizer")
    arguments = parser.parse_args()
    with concurrent.futures.ProcessPoolExecutor() as pool:
        jobs = [pool.submit(compare, arguments.mili, f, arguments.seed, arguments.texts)
                for f in folders_of(arguments)]
        for job in jobs:
            try:
                print(job.result(), flush=True)
            except SystemExit as end:
                pool.shutdown(cancel_futures=True)
                sys.exit(end.code)


if __name__ == "__main__":
    main()
