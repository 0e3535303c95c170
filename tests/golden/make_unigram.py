#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write unigram.json: small Unigram and WordPiece vocabularies as GGUF stores them, and the ids of the reference tokenizers.

Usage: python3 make_unigram.py   (needs: pip install sentencepiece protobuf tokenizers)
Unigram models are trained and run by PyPI's `sentencepiece`, WordPiece by PyPI's `tokenizers` (BertNormalizer,
BertPreTokenizer, WordPiece).
"""
import io
import json
import pathlib
import random
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

CORPUS = """The harbour was quiet in the early morning. Two fishing boats came back before the rain, and the men carried
their nets to the shed. Nobody spoke. In the afternoon the wind turned; we didn't see the island again until 1987.
Café naïve, über die Straße, el niño, Привет мир, 東京で会いましょう, 你好世界. The finest fishing fleet of the first island.
We'll they're I've it's you'd I'm don't WE'LL    spaces     many      more. 12 123 1234 12345
"""
# The same words in many orders, so that there is something to learn.
SENTENCES = [" ".join(random.Random(i).sample(CORPUS.split(), 30)) for i in range(40)] + CORPUS.split("\n")
# Replaced by the small map: wide letters, a ligature, a circled digit, line ends and tabs, a composed letter, nothing at all.
RULES = [("\uff21", "A"), ("\uff42", "b"), ("\ufb01", "fi"), ("\u2460", "1"), ("\t", " "), ("\n", " "), ("\r\n", " "), ("e\u0301", "\u00e9"),
         ("\u200b", ""), ("\u2026", "..."), ("\u3000", " "), ("ab", "the"), ("abc", "x")]


def texts(seed):
    random.seed(seed)
    words = CORPUS.split(" ") + ["\n", "  ", "\t", "e\u0301", "\uff21\uff42c", "\ufb01sh", "\u2460", "\u200b", "\u2026", "\u3000", "abc", "ab", "\U0001f680",
                                 "\u2603\u2603", "\r\n", "\u0130stanbul", "ÀÉ", "e" * 101, "e" * 100, "\u0000", "\ufffd", "\u00ad", "[x]", "#1", "$5", "\u0e01\u0e33"]
    fixed = ["", " ", "  ", "the", " the harbour ", "Don't!", "a" * 40, "\u2603", "the\u2603harbour", "  two  spaces  ", "\n\nthe\n"]
    return fixed + ["".join(random.choice(["", " "]) + random.choice(words) for _ in range(random.randint(1, 14))) for _ in range(70)]


def unigram(seed, **options):
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(SENTENCES), model_writer=file, model_type="unigram",
                                             hard_vocab_limit=False,
                                             minloglevel=2, **options)
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(file.getvalue())
    run = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    return {"model": "t5", "tokens": [p.piece for p in model.pieces], "types": [p.type for p in model.pieces],
            "scores": [p.score for p in model.pieces], "charsmap": list(model.normalizer_spec.precompiled_charsmap),
            "add_space_prefix": model.normalizer_spec.add_dummy_prefix,
            "remove_extra_whitespaces": model.normalizer_spec.remove_extra_whitespaces,
            "cases": [[t, run.encode(t)] for t in texts(seed) if "\u0000" not in t and "\ufffd" not in t]}


def wordpiece(seed, lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator([CORPUS], trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    vocab = tokenizer.get_vocab()
    tokens = sorted(vocab, key=vocab.get)
    plain = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    plain.normalizer, plain.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    return {"model": "bert", "tokens": [t if t in special else t[2:] if t.startswith("##") else "\u2581" + t for t in tokens],
            "types": [3 if t in special else 1 for t in tokens], "lowercase": lowercase,
            "cases": [[t, plain.encode(t, add_special_tokens=False).ids] for t in texts(seed)]}


def main():
    with tempfile.TemporaryDirectory() as folder:
        rules = pathlib.Path(folder) / "rules.tsv"
        rules.write_text("".join("\t".join(" ".join(f"{ord(c):X}" for c in side) for side in rule) + "\n" for rule in RULES))
        out = {
            "mapped": unigram(3, vocab_size=190, character_coverage=0.98, normalization_rule_tsv=str(rules)),
            "bytes": unigram(4, vocab_size=420, byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity",
                             remove_extra_whitespaces=False),
            "bare": unigram(5, vocab_size=190, character_coverage=0.98, normalization_rule_name="identity", add_dummy_prefix=False),
        }
    out["uncased"] = wordpiece(6, True)
    out["cased"] = wordpiece(7, False)
    path = pathlib.Path(__file__).with_name("unigram.json")
    path.write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")) + "\n")


main()
