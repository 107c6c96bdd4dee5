#!/usr/bin/env python3
"""Prints what `run` has written as the tables of docs/performance.md.

    tools/bench/gpu/markdown.py FILE.json...

Of a figure that several files have, the last one's counts.
"""
import json
import sys

import parity
import peers

NAMES = {"0.6b": "0.6B", "8b": "8B", "8b-fp8": "8B fp8"}


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def cells(row):
    if row is None:
        return [""] * 4
    limit = f"{100 * row['of_limit']:.0f} %" if "of_limit" in row else ""
    peer = f"{row['over_peer']:.2f} {row['peer_name']}" if "peer" in row else ""
    aim = f"{row['aim']:,g}" + ("" if row["meets_aim"] else ", missed") if "aim" in row else ""
    return [number(row["value"]), limit, peer, aim]


def line(*columns):
    return f"| {' | '.join(columns)} |".replace("  ", " ")


def figures(rows, models):
    """A line a figure, four columns a model."""
    by = {(row["model"], row["what"]): row for row in rows}
    keys = dict.fromkeys(key for model in models for key in peers.FIGURES[model])
    heads = [[NAMES[model], "of limit", "over peer", "aim"] for model in models]
    yield line("", *sum(heads, []))
    yield "|---" * (1 + 4 * len(models)) + "|"
    for key in keys:
        found = [by.get((model, key)) for model in models]
        if any(found):
            yield line(f"{key}, {peers.unit_of(key)}", *sum(map(cells, found), []))


def loads(rows):
    """What the device did in the steps of a load."""
    yield line("", "steps", "tokens a step", "a step, ms", "between two, us")
    yield "|---" * 5 + "|"
    for row in rows:
        if "steps" in row:
            yield line(f"{NAMES[row['model']]} {row['what']}", f"{row['steps']:.0f}",
                       f"{row['tokens_per_step']:.0f}", f"{row['compute_ms']:.2f}",
                       f"{1e3 * row['idle_ms']:.0f}")


def missed(row):
    """By how much, in percent."""
    over = peers.over(row, row["aim"])
    short = 1 - over if row["value"] < row["aim"] else 1 / over - 1
    return f"{NAMES[row['model']]} {row['what']} by {100 * short:.1f} %"


def summary(rows):
    """How many figures reach what they are held against, and which do not."""
    with_peer = [row for row in rows if "peer" in row]
    with_aim = [row for row in rows if "aim" in row]
    beat = sum(row["over_peer"] > 1 for row in with_peer)
    short = [missed(row) for row in with_aim if not row["meets_aim"]]
    yield (f"{beat} of {len(with_peer)} figures with a peer beat the better one, "
           f"{len(with_aim) - len(short)} of {len(with_aim)} meet their aim. Missed: "
           f"{', '.join(short) or 'none'}.")


def parities(reports):
    yield line("", "cosine", "transformers in bf16", "decoded", "transformers in bf16",
               "tokens equal", "near ties, within", "wrong", "alike alone and in a batch")
    yield "|---" * 9 + "|"
    for report in reports:
        yield line(NAMES.get(report["model"], report["model"]), f"{report['cosine']:.6f}",
                   f"{report['bf16']:.6f}", f"{report['decoded']:.6f}",
                   f"{report['decoded_bf16']:.6f}", f"{report['equal']} of {report['tokens']}",
                   f"{report['near_ties']}, {report['near']:.3f}", str(report["wrong"]),
                   f"{report['same_alone']} of {len(parity.PROMPT_TOKENS)}")


def main():
    rows, reports = {}, {}
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as file:
            record = json.load(file)
        rows |= {(row["model"], row["what"]): row for row in record["rows"]}
        reports |= record.get("parity", {})
    rows = [row for row in rows.values() if row["model"] in NAMES]  # the tiny ones are for parity
    measured = {row["model"] for row in rows}
    bf16 = [model for model in ("0.6b", "8b") if model in measured]
    tables = [figures(rows, bf16), summary(rows), loads(rows), parities(reports.values())]
    if "8b-fp8" in measured:
        tables.insert(1, figures(rows, ["8b-fp8"]))
    print("\n\n".join("\n".join(table) for table in tables))


if __name__ == "__main__":
    main()
