#!/usr/bin/env python3
"""Makes the small tokenizers of tests/data/tokenizers and what Hugging Face says they do.

    python3 -m venv .venv && .venv/bin/pip install tokenizers==0.23.3
    .venv/bin/python tests/data/make_tokenizers.py

Each folder holds a tokenizer.json in the style of one model family, trained on the sentences below,
and golden.jsonl: one object a line with a text, the options, and the ids and texts that the library
makes of them. Running it again gives the same bytes.
"""

import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent / "tokenizers"

CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
QWEN2 = (r"(?i:" + CONTRACTIONS + r")|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)

SENTENCES = [
    "The worker holds the weights and the router holds the queue of requests.",
    "We're sure that they'll answer, don't you think? I'd say it's so, and you've seen it.",
    "In 1984 and 2026 there were 365 or 366 days; 10,000 tokens cost 0.25 cents each.",
    "def encode(text):\n    return [ord(c) for c in text]\n\n\nprint(encode('abc'))\n",
    "for (int i = 0; i < n; ++i) {\r\n\tsum += values[i];\r\n}\r\n",
    "Straße, naïve, café, Ångström, año, Øre and coöperate are words with marks.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "我们今天学习如何编写一个分词器。今日は天気がいいですね。",
    "안녕하세요 세계, 토큰을 나눕니다. مرحبا بالعالم 123 नमस्ते दुनिया",
    "Emoji: 🙂🙃👩‍👩‍👧‍👦🇩🇪 and arrows → ⇒ ∑∞ ½ Ⅷ ²",
]


def corpus():
    chance = random.Random(3)
    words = " ".join(SENTENCES).split(" ")
    for _ in range(300):
        yield " ".join(chance.choice(words) for _ in range(chance.randint(3, 30)))
    yield from SENTENCES


def train(tokenizer, size, special=(), alphabet=None):
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet is None else alphabet)
    tokenizer.train_from_iterator(corpus(), trainer)


def qwen():
    """NFC, one digit a word, tool marks that are not special."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    t.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False)
    t.decoder = decoders.ByteLevel()
    train(t, 900)
    t.add_special_tokens([AddedToken(c, normalized=False, special=True)
                          for c in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    t.add_tokens([AddedToken(c, normalized=False) for c in ("<think>", "</think>", "<tool_call>")])
    # Matched against normalised text: found whether it comes composed or not.
    t.add_tokens([AddedToken("e\u0301clair", normalized=True)])
    return t


def llama3():
    """ignore_merges, up to three digits a word, BOS by template, reserved tokens."""
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    train(t, 700)
    t.add_special_tokens([AddedToken(c, normalized=False, special=True) for c in (
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eot_id|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>")])
    bos = "<|begin_of_text|>"
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1",
                                      special_tokens=[(bos, t.token_to_id(bos))])])
    return t


def gpt2():
    """A prefix space, and added tokens with every rule there is."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    t.post_processor = processors.ByteLevel(trim_offsets=True)
    t.decoder = decoders.ByteLevel()
    train(t, 600, special=["<|endoftext|>"])
    t.add_special_tokens([
        AddedToken("<mask>", lstrip=True, normalized=False, special=True),
        AddedToken("<sep>", rstrip=True, normalized=False, special=True),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=False, special=True),
        AddedToken("<b", normalized=False, special=True),
        AddedToken("<|mask|>", single_word=True, normalized=False, special=True)])
    t.add_tokens([
        AddedToken("router", single_word=True),
        AddedToken("work", single_word=True, lstrip=True),
        AddedToken("  ", normalized=False),
        AddedToken("\u00e9\u00e9", normalized=True),
        AddedToken("日本", rstrip=True)])
    return t


def smollm():
    """Digits before GPT-2's pattern, special tokens at the front of the vocabulary."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    train(t, 600, special=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"])
    return t


def partial():
    """A vocabulary that lacks bytes, with a token for the unknown; runs of digits."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    t.normalizer = normalizers.Sequence([normalizers.NFC()])
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False,
                                  limit_alphabet=90)
    t.train_from_iterator(corpus(), trainer)
    return t


def texts(tokenizer):
    chance = random.Random(5)
    marks = ([t.content for t in tokenizer.get_added_tokens_decoder().values()]
             + ["<b", "<both", "<|im_", "e\u0301clair", "\u00e9clair", "router", "routers"])
    odd = ["'S", "'ſ", "'LL", "'Re", "x'd", "\r\n", "\n \n", "\t", "   ", "\u00a0", "\u0085", "\u3000",
           "\u200b", "\x1c", "\0", "e\u0301", "a\u0323\u0302", "\u1100\u1161\u11a8", "\ufb2c",
           "\u0344", "१२३", "ⅷ", "\U00011de0", "\U00020000", "\U000e0001", "123456", "aaaa" * 20,
           "\ufffd", "ﬁ", "👩‍👩‍👧", "\u0e33", "\u0f73\u0f71", "日本", "éé", "_", "mask"]
    words = " ".join(SENTENCES).split(" ")
    yield from ["", " ", "  ", "\n", "a", "é", "e\u0301"] + SENTENCES + marks + odd
    for _ in range(90):
        parts = [chance.choice(chance.choice([marks, odd, words])) + chance.choice(["", "", " ", "  "])
                 for _ in range(chance.randint(2, 12))]
        yield "".join(parts)


def golden(tokenizer):
    for number, text in enumerate(texts(tokenizer)):
        add_special, parse_special = number % 3 != 1, number % 3 != 2
        tokenizer.encode_special_tokens = not parse_special
        ids = tokenizer.encode(text, add_special_tokens=add_special).ids
        yield {"text": text, "add_special": add_special, "parse_special": parse_special, "ids": ids,
               "decoded": tokenizer.decode(ids, skip_special_tokens=False),
               "skipped": tokenizer.decode(ids, skip_special_tokens=True)}
    tokenizer.encode_special_tokens = False


def main():
    for make in (qwen, llama3, gpt2, smollm, partial):
        tokenizer = make()
        folder = HERE / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        spec = json.loads(tokenizer.to_str())
        if make in (gpt2, smollm):  # the form of merges in older files
            spec["model"]["merges"] = [" ".join(pair) for pair in spec["model"]["merges"]]
        (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False, indent=0) + "\n")
        again = Tokenizer.from_file(str(folder / "tokenizer.json"))
        lines = [json.dumps(g, ensure_ascii=True) for g in golden(again)]
        (folder / "golden.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
