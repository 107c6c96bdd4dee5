#!/usr/bin/env python3
"""Writes docs/api.md from the comments in proto/mili/v1; with --check only compares.

Reads the proto files as they are written here: one declaration a line, comments above it.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = ("inference.proto", "control.proto")
TARGET = ROOT / "docs" / "api.md"

HEAD = """# The gRPC interface

<!-- Made by tools/gen_api_docs.py from the comments in proto/mili/v1. Change those, then run it. -->

`mili.v1.Inference` is served on `--grpc-port` (50051), `mili.v1.Control` on `--admin-port` (9400).
Both ports also answer `grpc.health.v1.Health` and server reflection, so `grpcurl` needs no files.
The HTTP routes are described in [operations.md](operations.md#http).
"""

RPC = re.compile(r"rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);")
FIELD = re.compile(r"(optional |repeated )?(map<[\w, .]+>|[\w.]+) (\w+) = (\d+);")
VALUE = re.compile(r"([A-Z]\w*) = (\d+);")
BLOCK = re.compile(r"(service|message|enum|oneof) (\w+) \{(\})?")


class Node:
    def __init__(self, kind, name, comment):
        self.kind, self.name, self.comment, self.children = kind, name, comment, []


def parse(text):
    """(comment of the file, its services, messages and enums)"""
    lines = iter(text.split("\n"))
    root = Node("file", "", [])
    stack, comment, header = [root], [], None
    for line in lines:
        line = line.strip()
        if line.startswith("//"):
            comment.append(line[2:].strip())
            continue
        if header is None and line.startswith("syntax"):
            header, comment = comment, []
            continue
        block = BLOCK.match(line)
        rpc, field, value = RPC.match(line), FIELD.match(line), VALUE.match(line)
        if block:
            node = Node(block[1], block[2], comment)
            stack[-1].children.append(node)
            if not block[3]:
                stack.append(node)
        elif line == "}":
            stack.pop()
        elif rpc:
            node = Node("rpc", rpc[1], comment)
            node.request, node.response = rpc[3], rpc[5]
            node.streams = (bool(rpc[2]), bool(rpc[4]))
            stack[-1].children.append(node)
        elif stack[-1].kind == "enum" and value:
            node = Node("value", value[1], comment)
            node.number = value[2]
            stack[-1].children.append(node)
        elif field:
            node = Node("field", field[3], comment)
            node.label, node.type, node.number = (field[1] or "").strip(), field[2], field[4]
            stack[-1].children.append(node)
        comment = []
    return " ".join(header or []), root.children


def words(comment):
    return " ".join(comment).replace("|", "\\|")


def type_of(field, known):
    link = f"[{field.type}](#{field.type.lower()})" if field.type in known else f"`{field.type}`"
    return f"{field.label} {link}".strip()


def fields_of(message, known, oneof=""):
    for child in message.children:
        if child.kind == "oneof":
            note = f"one of `{child.name}`"
            yield from fields_of(child, known, note)
        else:
            text = words(child.comment)
            if oneof:
                text = f"({oneof}) {text}"
            yield f"| `{child.name}` | {child.number} | {type_of(child, known)} | {text} |"


def document(nodes, known):
    for node in nodes:
        if node.kind == "service":
            yield f"## Service {node.name}\n\n{words(node.comment)}\n"
            for rpc in node.children:
                request, response = (
                    ("stream of " if streams else "") + f"[{name}](#{name.lower()})"
                    for name, streams in zip((rpc.request, rpc.response), rpc.streams))
                yield f"- **{rpc.name}**: {request} → {response}. {words(rpc.comment)}"
            yield ""
    for node in nodes:
        if node.kind == "message":
            yield f"### {node.name}\n\n{words(node.comment)}\n"
            rows = list(fields_of(node, known))
            if rows:
                yield "| field | # | type | meaning |\n|---|---|---|---|"
                yield from rows
                yield ""
        elif node.kind == "enum":
            yield f"### {node.name}\n\n{words(node.comment)}\n"
            yield "| value | # | meaning |\n|---|---|---|"
            yield from (f"| `{v.name}` | {v.number} | {words(v.comment)} |" for v in node.children)
            yield ""


def main():
    parts = [HEAD]
    for source in SOURCES:
        header, nodes = parse((ROOT / "proto" / "mili" / "v1" / source).read_text())
        known = {node.name for node in nodes}
        parts.append(f"# {source}\n\n{header}\n")
        parts.extend(document(nodes, known))
    text = "\n".join(parts).rstrip("\n") + "\n"
    if sys.argv[1:] == ["--check"]:
        if not TARGET.exists() or TARGET.read_text() != text:
            print("docs/api.md is not what tools/gen_api_docs.py makes; run it", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
