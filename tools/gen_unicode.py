#!/usr/bin/env python3
"""Writes common/text/unicode_tables.inc: the Unicode facts that Hugging Face `tokenizers` acts on.

Its parts carry Unicode data of different versions (Oniguruma for the split patterns, the regex
crate for single_word, Rust's standard library for Digits, a normalization crate for NFC), and none
of them is that of the system's libraries. So nothing is taken from a Unicode file: every code point
is put through the library itself, and what it does is written down.

    python3 -m venv .venv && .venv/bin/pip install tokenizers==0.23.3
    .venv/bin/python tools/gen_unicode.py            # rewrites the table
    .venv/bin/python tools/gen_unicode.py --check    # exits 1 if the table is not what it would write
"""

import argparse
import pathlib
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "common/text/unicode_tables.inc"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
HANGUL = range(0xAC00, 0xAC00 + 11172)


def split_class(splitter):
    """The code points that a splitter of behaviour "removed" takes away."""
    found = set()
    for i in range(0, len(CODE_POINTS), 4096):
        chunk = CODE_POINTS[i : i + 4096]
        kept = set("".join(p for p, _ in splitter.pre_tokenize_str("".join(map(chr, chunk)))))
        found.update(c for c in chunk if chr(c) not in kept)
    return found


def regex_class(pattern):
    return split_class(pre_tokenizers.Split(Regex(pattern), "removed"))


def digit_class():
    digits = pre_tokenizers.Digits(individual_digits=True)
    # A piece of its own, between two letters, is a digit.
    return {c for c in CODE_POINTS if len(digits.pre_tokenize_str(f"a{chr(c)}a")) == 3}


def word_class():
    """What a single_word token may not touch: \\w of the regex crate."""
    probe = Tokenizer(models.BPE({"?": 0}, [], unk_token="?"))
    probe.add_tokens([AddedToken("\x00", single_word=True, normalized=False)])
    token = probe.token_to_id("\x00")
    found = set()
    for c in CODE_POINTS:
        if c and token not in probe.encode("\x00" + chr(c)).ids:
            found.add(c)
    return found


def combining_classes(nfd):
    """cp -> class, by the order that NFD gives; classes are named as unicodedata names them."""
    representative = {}
    for c in CODE_POINTS:
        if nfd.normalize_str(chr(c)) == chr(c):
            representative.setdefault(unicodedata.combining(chr(c)), c)
    low, high = chr(representative[1]), chr(representative[240])
    found = {}
    for c in CODE_POINTS:
        s = chr(c)
        if nfd.normalize_str(s) != s:
            continue
        # Classes above 1 go behind class 1, those from 1 to 239 before class 240.
        if nfd.normalize_str(s + low) == s + low and nfd.normalize_str(high + s) == high + s:
            continue
        ccc = unicodedata.combining(s)
        if ccc == 0:
            ccc = class_by_search(nfd, s, representative)
        r = chr(representative[ccc])
        if nfd.normalize_str(s + r) != s + r or nfd.normalize_str(r + s) != r + s:
            raise SystemExit(f"U+{c:04X}: its combining class is not {ccc}")
        found[c] = ccc
    return found


def class_by_search(nfd, s, representative):
    """For a code point that this Python does not know yet."""
    for ccc, c in representative.items():
        r = chr(c)
        if ccc and nfd.normalize_str(s + r) == s + r and nfd.normalize_str(r + s) == r + s:
            return ccc
    raise SystemExit(f"U+{ord(s):04X}: no combining class found")


def decompositions(nfc, nfd):
    """Pairs that compose, (composed, first, second), and the rest in full, 0 where there is none."""
    composing, others = [], []
    for c in CODE_POINTS:
        if c in HANGUL:
            continue
        s = chr(c)
        full = nfd.normalize_str(s)
        if full == s:
            continue
        if nfc.normalize_str(s) == s:
            first, second = nfc.normalize_str(full[:-1]), full[-1]
            if len(first) != 1 or nfc.normalize_str(first + second) != s:
                raise SystemExit(f"U+{c:04X}: not a primary composite")
            composing.append((c, ord(first), ord(second)))
        else:
            if len(full) > 3:
                raise SystemExit(f"U+{c:04X}: decomposes to {len(full)} code points")
            others.append((c, *map(ord, full), *[0] * (3 - len(full))))
    return composing, others


def ranges(code_points):
    result = []
    for c in sorted(code_points):
        # A range may run over the surrogates, which no text contains.
        if result and c in (result[-1][1] + 1, 0xE000 if result[-1][1] == 0xD7FF else -1):
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def table(name, kind, comment, rows, per_line):
    lines = [f"// {comment}", f"inline constexpr {kind} {name}[] = {{"]
    cells = ["{" + ", ".join(f"0x{v:X}" for v in row) + "}," for row in rows]
    for i in range(0, len(cells), per_line):
        lines.append("    " + " ".join(cells[i : i + per_line]))
    lines.append("};")
    return "\n".join(lines) + "\n"


def ccc_ranges(classes):
    result = []
    for c in sorted(classes):
        if result and result[-1][1] == c - 1 and result[-1][2] == classes[c]:
            result[-1][1] = c
        else:
            result.append([c, c, classes[c]])
    return result


def generate():
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    letters, numbers = regex_class(r"\p{L}"), regex_class(r"\p{N}")
    composing, others = decompositions(nfc, nfd)
    classes = combining_classes(nfd)
    spaces = regex_class(r"\s")
    if len(spaces) != 25 or 0x85 not in spaces or 0x200B in spaces:
        raise SystemExit("\\s is not what common/text/unicode.cc says")
    parts = [
        "// Made by tools/gen_unicode.py from what Hugging Face tokenizers "
        f"{tokenizers.__version__} does; not to be edited.\n// clang-format off\n",
        table("kLetters", "CodeRange", r"\p{L} of the split patterns.", ranges(letters), 6),
        table("kNumbers", "CodeRange", r"\p{N} of the split patterns.", ranges(numbers), 6),
        table("kDigits", "CodeRange", "What Digits splits off.", ranges(digit_class()), 6),
        table("kWord", "CodeRange", r"\w, which a single_word token may not touch.",
              ranges(word_class()), 6),
        table("kCombiningClasses", "ClassRange", "Canonical combining classes that are not 0.",
              ccc_ranges(classes), 6),
        table("kComposites", "Decomposition",
              "{composed, first, second}: pairs that NFC composes; without Hangul.", composing, 4),
        table("kOtherDecompositions", "FullDecomposition",
              "What NFC takes apart and leaves so; 0 where there is none.", others, 3),
    ]
    return "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = generate()
    if arguments.check:
        if OUTPUT.read_text() != text:
            sys.exit(f"{OUTPUT.name} is not what this tokenizers does; run tools/gen_unicode.py")
        return
    OUTPUT.write_text(text)


if __name__ == "__main__":
    main()
