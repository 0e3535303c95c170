#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write pretokenize.json: pieces of texts per pre-tokenizer family, cut by PyPI's `tokenizers` with the published expressions.

Usage: python3 make_pretokenize.py   (needs: pip install tokenizers regex)
Each expression of a family cuts the pieces left by the one before into matches and what stands between them (Split,
"isolated"). PyPI's `regex` must cut alike wherever it knows the syntax. Texts hold only characters that Unicode 13 knows, so
that newer and older tables agree. One entry stands for all names of a family that runtime/text/families.c lists together.
"""
import json
import pathlib
import random

import regex
from tokenizers import Regex, pre_tokenizers

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + CONTRACTION + "?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + CONTRACTION + "?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = (r"[\p{Han}]+"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        + CONTRACTION + "?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        + CONTRACTION + "?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
DEEPSEEK3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
             r"|\s*[\r\n]+|\s+(?!\S)|\s+")
FAMILIES = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [LLAMA3],
    "glm4": [LLAMA3],
    "minicpm5": [r"\p{N}{1,3}", LLAMA3.replace("{1,3}", "+")],
    "jais-2": [LLAMA3[:LLAMA3.index(r"|\s+(?!")] + "".join(r"|\s{%d}(?!\S)" % 2**n for n in range(9, 1, -1)) + r"|\s{1,2}(?!\S)|\s{1}"],
    "qwen2": [LLAMA3.replace("{1,3}", "")],
    "qwen35": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "bailingmoe": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    "seed-coder": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "exaone-moe": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?"
                   r"|\s*[\r\n]|\s+(?!\S)|\s+"],
    "tekken": [TEKKEN],
    "gpt-4o": [O200K],
    "tiny_aya": [r"\d{1,3}(?=(?:\d{3})*\b)", O200K],
    "youtu": ["[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", O200K.replace("{1,3}", "")],
    "kimi-k2": [KIMI],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
    "deepseek-llm": [
        r"[\r\n]",
        r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽ\u212a-\u212d]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        r"[一-龥ࠀ-一가-퟿]+",
        r"\p{N}+",
    ],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3],
    "poro-chat": [BLOOM],
    "viking": [BLOOM, r"\p{N}"],
    "chameleon": [r"([\t\n]|    |  )", r"\p{N}", r"[\p{P}!-/:-@\[-`{-~]", GPT2],
}
# Syntax that PyPI's regex reads otherwise: sets within sets, Oniguruma's words and property of scripts.
ONLY_TOKENIZERS = ("poro-chat", "viking", "kimi-k2", "tiny_aya")
FRAGMENTS = ["'s", "'S", "'ſ", "'re", "'LL", "'vE", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "hello", " world", "The", "1", "12",
             "1234567", "...", "!!", "?!\n", "café", "e\u0301", "你好", "don't", " 1", "\u00a0", "\u3000", "\u2028", "\x85",
             "\u180e", "\u200b", "\u1680", "½", "Ⅷ", "٣", "한국", "Привет", " мир", "🚀", "$", "`", "~", "「", "\x1c", "\x00", "ก็",
             "ß", "ǅ", "ʰ", "مرحبا", "a" * 20, "-" * 9, "(", ") ", "_x", "\u212a",
             "WORLD", "McDonald", "iPhone", "/", "//\n", "    ", "カタカナ", "々", "、", "ㄅㄆ", "नमस्ते", "।", "؟", "12345678", "9x", "²", "a b c", "<|>", "…",
             "e\u0301E\u0301"]
FIXED = ["", " ", "a", "Hello, y'all! How are you?", "I'VE we'll THEY'RE 'tis O'd", "  leading and trailing  ",
         "tabs\t\tand\n\n\n newlines \r\n\r\n end \n", "x = 3.14159; y[0] += 1e-10  # comment\n\treturn x\n",
         "日本語のテキスト、とても長い文章です。", "1234567890 12 345", "a\u00a0b\u2003c\u3000d", "\n \n\t \n", "   \n   x", "f(a,b)->{c:[d]};"]


def pieces(stages, text):
    steps = [pre_tokenizers.Split(Regex(stage), behavior="isolated") for stage in stages]
    return [piece for piece, _ in pre_tokenizers.Sequence(steps).pre_tokenize_str(text)] if text else []


def regex_pieces(stages, text):
    parts = [text] if text else []
    for stage in stages:
        cut = []
        for part in parts:
            done = 0
            for match in regex.finditer(stage, part):
                if match.start() > done:
                    cut.append(part[done:match.start()])
                cut.append(match.group())
                done = match.end()
            if done < len(part):
                cut.append(part[done:])
        parts = cut
    return parts


def main():
    random.seed(20)
    texts = FIXED + ["".join(random.choice(FRAGMENTS) for _ in range(random.randint(2, 14))) for _ in range(110)]
    for name, stages in FAMILIES.items():
        for text in texts if name not in ONLY_TOKENIZERS else []:
            if pieces(stages, text) != regex_pieces(stages, text):
                print(f"{name}: tokenizers and regex differ: {text!r}\n  {pieces(stages, text)}\n  {regex_pieces(stages, text)}")
    # The DeepSeek class is cut short here: of its letters after U+13FD only those that the texts hold are listed.
    out = {"texts": texts, "families": {name: [pieces(stages, text) for text in texts] for name, stages in FAMILIES.items()}}
    path = pathlib.Path(__file__).with_name("pretokenize.json")
    path.write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")) + "\n")


main()
