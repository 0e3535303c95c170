#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write tokenize.json: two small vocabularies and the ids that the reference tokenizers give.

Usage: python3 make_tokenize.py   (needs: pip install tokenizers sentencepiece protobuf)
Byte-level BPE is trained and run by PyPI's `tokenizers`, SentencePiece BPE by PyPI's `sentencepiece`.
"""
import io
import json
import pathlib
import random

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = """The harbour was quiet in the early morning. Two fishing boats came back before the rain, and the men carried
their nets to the shed. Nobody spoke. In the afternoon the wind turned; we didn't see the island again until 1987.
def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a
Café naïve, über die Straße, el niño, Привет мир, 東京で会いましょう, 你好世界.
We'll they're I've it's you'd I'm don't WE'LL    spaces     many      more. 12 123 1234 12345
"""
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|im_end|>x"]
ADDED = "<tool>"


def bpe_of(pre, base, vocab, merges):
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre == "llama-bpe"))
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre in ("gpt-2", "smollm"))
    front = {"gpt-2": [], "smollm": [pre_tokenizers.Digits(individual_digits=True)],
             "llama-bpe": [pre_tokenizers.Split(Regex(LLAMA3), "isolated")],
             "qwen2": [pre_tokenizers.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated")]}[pre]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(front + [cut])
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(ADDED, normalized=False)])
    return tokenizer


def texts_of(seed):
    random.seed(seed)
    words = CORPUS.split(" ") + ["\n", "  ", "\t", "e\u0301", "\u0301\u0323x", "\U0001F680", "!!!", "'S", "<|im_start|>", "<|im_end|>x",
                                 ADDED, "aaaaaaaa", "  the", "\u1112\u1161\u11ab", "987654"]
    fixed = ["", " ", "  ", "the", " the harbour", "Don't!", "<|im_start|>user\nhi<|im_end|>\n", "a" * 40, "\u2581x", "x<tool>y <tool>"]
    return fixed + ["".join(random.choice(["", " "]) + random.choice(words) for _ in range(random.randint(1, 16))) for _ in range(60)]


def bpe():
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    trained.train_from_iterator([CORPUS], trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]]
    vocab = dict(model["vocab"])
    # A token that no merge makes: only "ignore_merges" families reach it.
    for extra in ["\u0120island", ADDED] + SPECIAL:
        vocab[extra] = len(vocab)
    tokens = sorted(vocab, key=vocab.get)
    types = [3 if t in SPECIAL else 4 if t == ADDED else 1 for t in tokens]
    cases = {}
    for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2"]:
        plain = bpe_of(pre, trained, vocab, [tuple(m) for m in merges])
        special = bpe_of(pre, trained, vocab, [tuple(m) for m in merges])
        special.add_special_tokens(SPECIAL)
        cases[pre] = [[t, plain.encode(t, add_special_tokens=False).ids, special.encode(t, add_special_tokens=False).ids]
                      for t in texts_of(5)]
    return {"tokens": tokens, "types": types, "merges": [" ".join(m) for m in merges], "cases": cases}


def spm():
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.split("\n")), model_writer=file, model_type="bpe", vocab_size=500, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True,
        allow_whitespace_only_pieces=True, split_digits=True, user_defined_symbols=[ADDED], minloglevel=2)
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(file.getvalue())
    out = {"tokens": [p.piece for p in model.pieces], "types": [p.type for p in model.pieces], "scores": [p.score for p in model.pieces]}
    for key, prefix in (("cases", True), ("cases_without_prefix", False)):
        model.normalizer_spec.add_dummy_prefix = prefix
        run = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        # User-defined pieces inside a text: the GGUF convention (a space prefix after each) differs from SentencePiece's.
        out[key] = [[t, run.encode(t)] for t in texts_of(6) if (ADDED not in t or not prefix) and "\u2581" not in t]
    return out


path = pathlib.Path(__file__).with_name("tokenize.json")
path.write_text(json.dumps({"bpe": bpe(), "spm": spm()}, ensure_ascii=True, separators=(",", ":")) + "\n")
