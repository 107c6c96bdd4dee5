#!/usr/bin/env python3
"""Times MILI's tokenizer and those of other projects, in turns, on one core.

    tools/bench/text_corpora.py corpora
    pip install tokenizers tiktoken gigatoken quicktok-v1 iree-tokenizer tokie kitoken splintr-rs \\
        fastokens basetenkenizer budtiktok bpe-qwen transformers safetensors \\
        snaptokens tuetoken morpheme riptoken numpy
    taskset -c 0 tools/bench/tokenizer_peers.py --tokenizer FOLDER corpora/*.txt [--rounds 5]

FOLDER holds the tokenizer.json. Each round starts every tokenizer in a process of its own, since some
keep what they know for its life, and encodes each text twice: first with cold caches, then again.
Peers are called through Python, by the quickest call that gives ids; what is not installed is left
out; with "--peers" and no name, MILI is measured alone. "exact": the ids are those of Hugging Face
tokenizers. Loading is timed at the start of the process, MILI's also once more at its end ("again").
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import measure  # noqa: E402


def hugging_face(path):
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    return lambda text: tokenizer.encode_batch_fast([text])[0].ids


def ranks_and_pattern(path):
    """As tiktoken wants them: ids by bytes, and the regular expression."""
    spec = json.loads(path.read_text())
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    byte_of = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(rest)}
    ranks = {bytes(byte_of[c] for c in token): i for token, i in spec["model"]["vocab"].items()}
    return ranks, spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]


def tiktoken(path):
    import tiktoken as library
    ranks, pattern = ranks_and_pattern(path)
    return library.Encoding("peer", pat_str=pattern, mergeable_ranks=ranks,
                            special_tokens={}).encode_to_numpy


def riptoken(path):
    import riptoken as library
    ranks, pattern = ranks_and_pattern(path)
    return library.CoreBPE(ranks, {}, pattern).encode_ordinary


def snaptokens(path):
    import numpy
    import snaptokens as library
    encode = library.Tokenizer.from_file(str(path)).encode_batch_flat
    return lambda text: numpy.frombuffer(encode([text])[0], "uint32")


def tuetoken(path):
    import numpy
    import tuetoken as library
    encode = library.Tokenizer(str(path)).encode_to_bytes
    return lambda text: numpy.frombuffer(encode(text), "uint32")


def morpheme(path):
    import morpheme as library
    tokenizer = library.Tokenizer.from_file(str(path))
    return lambda text: tokenizer.encode(text).ids


def gigatoken(path):
    import gigatoken as library
    return library.Tokenizer(str(path)).encode


def quicktok(path):
    import quicktok as library
    return library.get_encoding("qwen3").encode_ordinary


def iree(path):
    from iree.tokenizer import Tokenizer
    return Tokenizer.from_file(str(path)).encode


def tokie(path):
    import tokie as library
    tokenizer = library.Tokenizer.from_json(str(path))
    return lambda text: tokenizer.encode(text).ids


def kitoken(path):
    import kitoken as library
    tokenizer = library.Kitoken.from_file(str(path))
    return lambda text: tokenizer.encode(text, False)


def splintr(path):
    import splintr as library
    return library.from_json(str(path)).encode


def fastokens(path):
    import fastokens as library
    return library.Tokenizer.from_file(str(path)).encode


def basetenkenizer(path):
    import basetenkenizer as library
    return library.Tokenizer.from_file(str(path)).encode


def budtiktok(path):
    import budtiktok as library
    tokenizer = library.Tokenizer.from_file(str(path))
    return lambda text: tokenizer.encode(text).ids


def bpe_qwen(path):
    from bpe_qwen.bpe_qwen import QwenTokenizer  # which imports transformers
    model = json.loads(path.read_text())["model"]
    merges = (m if isinstance(m, str) else " ".join(m) for m in model["merges"])
    with tempfile.TemporaryDirectory() as folder:  # it reads the older files only
        pathlib.Path(folder, "vocab.json").write_text(json.dumps(model["vocab"]))
        pathlib.Path(folder, "merges.txt").write_text("".join(f"{m}\n" for m in merges))
        return QwenTokenizer(folder).encode


PEERS = {"tokenizers": hugging_face, "tiktoken": tiktoken, "gigatoken": gigatoken,
         "fastokens": fastokens, "splintr-rs": splintr, "quicktok-v1": quicktok,
         "basetenkenizer": basetenkenizer, "tokie": tokie, "iree-tokenizer": iree,
         "kitoken": kitoken, "budtiktok": budtiktok, "bpe-qwen": bpe_qwen,
         "snaptokens": snaptokens, "tuetoken": tuetoken, "morpheme": morpheme, "riptoken": riptoken}


def digest(ids):
    return hashlib.sha256(b"".join(int(i).to_bytes(4, "little") for i in ids)).hexdigest()


class Mili:
    """mili-tokenizer-bench, which times itself."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)

    def run(self, command):
        self.process.stdin.write(command + "\n")
        return json.loads(self.process.stdout.readline())


def be_peer(make, path, files):
    """Prints seconds to load, and for each text to encode it first and again; digests of the ids."""
    start = time.perf_counter()
    encode = make(path)
    load = time.perf_counter() - start
    runs, digests = {}, {}
    for file in files:
        text = file.read_text()
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            ids = encode(text)
            seconds.append(time.perf_counter() - start)
        runs[file.stem] = seconds
        digests[file.stem] = digest(getattr(ids, "ids", ids))
    print(json.dumps([load, runs, digests]))


def run_peer(name, path, files):
    command = [sys.executable, __file__, "--be-peer", name, "--tokenizer", path.parent, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def run_mili(program, path, files):
    mili = Mili(program)
    load = mili.run(f"load {path}")["seconds"]
    runs, digests = {}, {}
    for file in files:
        mili.run(f"text {file}")
        runs[file.stem] = [mili.run("encode")["seconds"] for _ in range(2)]
        runs[f"{file.stem}, counted"] = [mili.run("count")["seconds"]] * 2
        with tempfile.NamedTemporaryFile() as ids:
            mili.run(f"dump {ids.name}")
            digests[file.stem] = hashlib.sha256(ids.read()).hexdigest()
    load_again = mili.run(f"load {path}")["seconds"]
    mili.process.stdin.close()
    mili.process.wait()
    return load, load_again, runs, digests


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--be-peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--bench", default=str(measure.ROOT / "build/cpu/bin/mili-tokenizer-bench"))
    parser.add_argument("--save", help="name in tools/bench/results, without .json")
    parser.add_argument("texts", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    path = arguments.tokenizer / "tokenizer.json"
    if arguments.be_peer:
        return be_peer(PEERS[arguments.be_peer], path, arguments.texts)
    sizes = {file.stem: file.stat().st_size for file in arguments.texts}
    sizes |= {f"{name}, counted": size for name, size in sizes.items()}
    peers = dict.fromkeys(arguments.peers)
    loads, rates, exact = {}, {}, {}
    reference = {}

    def note(name, load, runs):
        loads.setdefault(name, []).append(1000 * load)
        for text, seconds in runs.items():
            for kind, value in zip(("first", "again"), seconds):
                rates.setdefault((name, text, kind), []).append(sizes[text] / value / 1e6)

    for done in range(arguments.rounds):
        load, load_again, runs, ours = run_mili(arguments.bench, path, arguments.texts)
        note("MILI", load, runs)
        note("MILI, again", load_again, {})
        for name in list(peers):
            try:
                load, runs, found = run_peer(name, path, arguments.texts)
            except Exception as error:  # a peer that is not there or cannot do it
                print(f"{name}: left out: {error!r}"[:200], file=sys.stderr)
                del peers[name]
                continue
            note(name, load, runs)
            if done == 0:
                if name == "tokenizers":
                    reference = found
                    exact["MILI"] = ours == reference
                exact[name] = bool(reference) and found == reference

    rows = []
    for (name, text, kind), values in rates.items():
        ratios = [a / b for a, b in zip(rates["MILI", text, kind], values)]
        rows.append({"tokenizer": name, "text": text, "run": kind, "exact": exact.get(name),
                     "mb_per_s": measure.summary(values), "mili_ratio": measure.summary(ratios)})
    result = {"machine": measure.machine(), "commit": measure.revision(), "rows": rows,
              "load_ms": {name: measure.summary(values) for name, values in loads.items()}}
    for row in rows:
        print("{tokenizer:15} {text:22} {run:6}".format(**row),
              "{median:7.1f} ({min:.1f} to {max:.1f}) MB/s".format(**row["mb_per_s"]),
              " MILI x {median:.2f}".format(**row["mili_ratio"]), row["exact"])
    for name, value in result["load_ms"].items():
        print("{:15} load {median:.1f} ({min:.1f} to {max:.1f}) ms".format(name, **value))
    if arguments.save:
        measure.save(arguments.save, result)


if __name__ == "__main__":
    main()
