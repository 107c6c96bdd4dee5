#!/usr/bin/env python3
"""Writes the texts that tokenizer_peers.py measures with, from files that any Debian 12 can get.

    tools/bench/text_corpora.py FOLDER

english_code.txt: 4 MB, half of the Python standard library, half of licences and manual pages, in
turns. mixed.txt: 4 MB of Chinese and Japanese manual pages, Arabic and Persian translations of
Django, and emoji, line by line in random order. worst_*.txt: 8 MB of one thing, which the pre-tokenizer
makes one word of. Fetches the Debian packages manpages, manpages-ja,
manpages-zh and unicode-data and Django's wheel, installs nothing, and prints the texts' SHA-256.
"""

import gzip
import hashlib
import pathlib
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile

SIZE = 4_000_000
WORST_SIZE = 8_000_000
WORST = {"letter": "a", "spaces": " ", "emoji": "\U0001F642", "unmerged": "qzjxkvwqj"}
DEBIAN = ("manpages", "manpages-ja", "manpages-zh", "unicode-data")


def fetch(folder):
    subprocess.run(["apt-get", "download", "-qq", *DEBIAN], cwd=folder, check=True)
    for package in DEBIAN:
        archive = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", archive, folder / package], check=True)
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps",
                    "--disable-pip-version-check", "-d", folder, "django==5.2.19"], check=True)
    zipfile.ZipFile(next(folder.glob("[dD]jango-*.whl"))).extractall(folder / "django")


def pages(folder):
    files = (p for p in sorted(folder.rglob("man[0-9]/*.gz")) if not p.is_symlink())
    return "".join(gzip.decompress(p.read_bytes()).decode(errors="replace") for p in files)


def foreign_lines(text):
    """Lines of more than 20 characters, at least half of them not ASCII."""
    return [line for line in text.split("\n")
            if len(line) > 20 and sum(c > "\x7f" for c in line) > len(line) / 2]


def translations(folder, language):
    lines = []
    for path in sorted(folder.rglob(f"locale/{language}/**/*.po")):
        lines += re.findall(r'^(?:msgstr(?:\[\d\])? )?"(.{4,})"$', path.read_text(), re.M)
    return lines


def emoji(folder):
    table = folder / "unicode-data/usr/share/unicode/emoji/emoji-test.txt"
    return [line.split("# ")[1].split()[0] for line in table.read_text().split("\n")
            if "; fully-qualified" in line]


def english_code(folder):
    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    skipped = re.compile(r"site-packages|encodings|/test|idlelib|lib2to3|pydoc_data")
    code = "".join(p.read_text() for p in sorted(library.rglob("*.py")) if not skipped.search(str(p)))
    licences = sorted(pathlib.Path("/usr/share/common-licenses").iterdir())
    prose = "".join(p.read_text(errors="replace") for p in licences) + pages(folder / "manpages")
    chunk = 1 << 16
    return "".join(code[i : i + chunk] + prose[i : i + chunk] for i in range(0, SIZE // 2, chunk))


def mixed(folder):
    chance = random.Random(1)
    sources = [foreign_lines(pages(folder / "manpages-zh")),
               foreign_lines(pages(folder / "manpages-ja")),
               [line for language in ("ar", "ar_DZ", "fa")
                for line in translations(folder / "django", language)]]
    signs = emoji(folder)
    places = [0] * len(sources)
    lines, size = [], 0
    while size < SIZE:
        kind = chance.choices(range(4), (40, 30, 20, 10))[0]
        if kind < 3:
            line = sources[kind][places[kind] % len(sources[kind])]
            places[kind] += 1
        else:
            line = " ".join("".join(chance.choices(signs, k=chance.randint(1, 4)))
                            for _ in range(chance.randint(1, 5)))
        if chance.random() < 0.3:
            line += chance.choice(signs)
        lines.append(line + "\n")
        size += len(lines[-1].encode())
    return "".join(lines)


def write(path, text):
    path.write_bytes(text.encode())
    digest = hashlib.sha256(text.encode()).hexdigest()
    print(f"{path.name}: {path.stat().st_size} bytes, {digest}")


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name, piece in WORST.items():
        write(out / f"worst_{name}.txt", piece * (WORST_SIZE // len(piece.encode())))
    with tempfile.TemporaryDirectory() as folder:
        fetch(pathlib.Path(folder))
        for make in (english_code, mixed):
            write(out / f"{make.__name__}.txt", make(pathlib.Path(folder)))


if __name__ == "__main__":
    main()
