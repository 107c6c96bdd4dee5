#!/usr/bin/env python3
"""Writes common/text/unicode_tables.inc from the Unicode Character Database.

The parts of Hugging Face `tokenizers` carry data of different versions of Unicode, so each table is
of the version that its part has: Oniguruma (split patterns) and the regex crate (single_word) 16.0,
Rust's standard library (Digits) 17.0, the normalization crate (NFC) 9.0. Properties are those of
17.0, of the code points that the version had; --compare holds every code point against what
`tokenizers` does, and so tells if a later one has other data.

    python3 -m venv .venv
    .venv/bin/pip install unicodedata2==17.0.0 unicodedataplus==16.0.0.post1 tokenizers==0.23.3
    .venv/bin/python tools/gen_unicode.py            # rewrites the table
    .venv/bin/python tools/gen_unicode.py --check    # exits 1 if the table is not what it would write
    .venv/bin/python tools/gen_unicode.py --compare  # exits 1 if tokenizers does something else
"""

import argparse
import pathlib
import sys

import unicodedata2 as ucd
import unicodedataplus

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "common/text/unicode_tables.inc"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
HANGUL = range(0xAC00, 0xAC00 + 11172)


# \w has what is alphabetic; letters and marks aside that are signs that stand for letters
# (Other_Uppercase and Other_Lowercase).
ALPHABETIC_SIGNS = [range(0x24B6, 0x24EA), range(0x1F130, 0x1F14A), range(0x1F150, 0x1F16A),
                    range(0x1F170, 0x1F18A)]
JOINERS = {0x200C, 0x200D}
# White_Space, which common/text/unicode.cc spells out.
SPACES = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
          0x202F, 0x205F, 0x3000}


def had(version):
    """The code points that a version of Unicode up to 16.0 has."""
    def age(c):
        age = unicodedataplus.age(chr(c))
        return tuple(map(int, age.split("."))) if age != "Unassigned" else (99,)
    return [c for c in CODE_POINTS if age(c) <= version]


def in_categories(code_points, *categories):
    return {c for c in code_points if ucd.category(chr(c)).startswith(categories)}


def word_class(code_points):
    signs = {c for signs in ALPHABETIC_SIGNS for c in signs}
    return in_categories(code_points, "L", "M", "Nd", "Nl", "Pc") | signs | JOINERS


def combining_classes(code_points):
    """Those that are not 0, of what does not decompose."""
    return {c: ucd.combining(chr(c)) for c in code_points
            if ucd.combining(chr(c)) and ucd.normalize("NFD", chr(c)) == chr(c)}


def decompositions(code_points):
    """Pairs that compose, (composed, first, second), and the rest in full, 0 where there is none."""
    composing, others = [], []
    for c in code_points:
        full = ucd.normalize("NFD", chr(c))
        if c in HANGUL or full == chr(c):
            continue
        if ucd.normalize("NFC", chr(c)) == chr(c):
            composing.append((c, ord(ucd.normalize("NFC", full[:-1])), ord(full[-1])))
        else:
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
    in_16, in_9 = had((16, 0)), had((9, 0))
    composing, others = decompositions(in_9)
    parts = [
        "// Made by tools/gen_unicode.py from the Unicode Character Database; not to be edited.\n"
        "// clang-format off\n",
        table("kLetters", "CodeRange", r"\p{L} of Unicode 16.0, as in the split patterns.",
              ranges(in_categories(in_16, "L")), 6),
        table("kNumbers", "CodeRange", r"\p{N} of Unicode 16.0, as in the split patterns.",
              ranges(in_categories(in_16, "N")), 6),
        table("kDigits", "CodeRange", "What Digits splits off: numbers of Unicode 17.0.",
              ranges(in_categories(CODE_POINTS, "N")), 6),
        table("kWord", "CodeRange",
              r"\w of Unicode 16.0, which a single_word token may not touch.",
              ranges(word_class(in_16)), 6),
        table("kCombiningClasses", "ClassRange",
              "Canonical combining classes of Unicode 9.0 that are not 0.", ccc_ranges(combining_classes(in_9)), 6),
        table("kComposites", "Decomposition",
              "{composed, first, second}: pairs that NFC of Unicode 9.0 composes; without Hangul.",
              composing, 4),
        table("kOtherDecompositions", "FullDecomposition",
              "What NFC takes apart and leaves so; 0 where there is none.", others, 3),
    ]
    return "\n".join(parts)


# What tokenizers does, put to it code point by code point.


def split_class(splitter):
    """The code points that a splitter of behaviour "removed" takes away."""
    found = set()
    for i in range(0, len(CODE_POINTS), 4096):
        chunk = CODE_POINTS[i : i + 4096]
        kept = set("".join(p for p, _ in splitter.pre_tokenize_str("".join(map(chr, chunk)))))
        found.update(c for c in chunk if chr(c) not in kept)
    return found


def regex_class(pattern):
    from tokenizers import Regex, pre_tokenizers
    return split_class(pre_tokenizers.Split(Regex(pattern), "removed"))


def digit_class():
    from tokenizers import pre_tokenizers
    digits = pre_tokenizers.Digits(individual_digits=True)
    # A piece of its own, between two letters, is a digit.
    return {c for c in CODE_POINTS if len(digits.pre_tokenize_str(f"a{chr(c)}a")) == 3}


def single_word_class():
    """What a single_word token may not touch."""
    from tokenizers import AddedToken, Tokenizer, models
    probe = Tokenizer(models.BPE({"?": 0}, [], unk_token="?"))
    probe.add_tokens([AddedToken("\x00", single_word=True, normalized=False)])
    token = probe.token_to_id("\x00")
    found = set()
    for c in CODE_POINTS:
        if c and token not in probe.encode("\x00" + chr(c)).ids:
            found.add(c)
    return found


def check_normalization(classes, composing, others):
    from tokenizers import normalizers
    nfc, nfd = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str
    apart = {row[0]: "".join(chr(c) for c in row[1:] if c) for row in others}
    pairs = {row[0]: (chr(row[1]), chr(row[2])) for row in composing}

    def full(c):
        if c in pairs:
            return full(ord(pairs[c][0])) + pairs[c][1]
        return apart.get(c, chr(c))

    marks = {ccc: chr(c) for c, ccc in reversed(classes.items())}
    for c in CODE_POINTS:
        s = chr(c)
        if c in HANGUL:
            continue
        if nfd(s) != full(c) or (nfc(s) == s) != (c not in apart):
            sys.exit(f"U+{c:04X}: tokenizers decomposes it otherwise")
        if nfd(s) != s:
            continue
        # Of two marks, the one of the higher class goes behind.
        ccc = classes.get(c, 0)
        for other, mark in ((k, marks[k]) for k in {1, ccc or 1, 240}):
            if (nfd(s + mark) == s + mark) != (ccc <= other or ccc == 0):
                sys.exit(f"U+{c:04X}: tokenizers has another combining class")
            if (nfd(mark + s) == mark + s) != (other <= ccc or ccc == 0):
                sys.exit(f"U+{c:04X}: tokenizers has another combining class")


def compare():
    in_16, in_9 = had((16, 0)), had((9, 0))
    for name, ours, theirs in [
            (r"\p{L}", in_categories(in_16, "L"), regex_class(r"\p{L}")),
            (r"\p{N}", in_categories(in_16, "N"), regex_class(r"\p{N}")),
            (r"\s", SPACES, regex_class(r"\s")),
            ("Digits", in_categories(CODE_POINTS, "N"), digit_class()),
            (r"\w", word_class(in_16), single_word_class())]:
        for c in sorted(ours ^ theirs):
            sys.exit(f"U+{c:04X}: tokenizers differs in {name}")
    check_normalization(combining_classes(in_9), *decompositions(in_9))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--compare", action="store_true")
    arguments = parser.parse_args()
    if arguments.compare:
        return compare()
    text = generate()
    if arguments.check:
        if OUTPUT.read_text() != text:
            sys.exit(f"{OUTPUT.name} is not what it would write; run tools/gen_unicode.py")
        return
    OUTPUT.write_text(text)


if __name__ == "__main__":
    main()
