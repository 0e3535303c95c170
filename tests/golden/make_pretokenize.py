#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write pretokenize.json: pieces of texts per pre-tokenizer family, cut by PyPI's `regex` with the published expressions.

Usage: python3 make_pretokenize.py   (needs: pip install regex)
Each expression of a family cuts the pieces left by the one before into matches and what stands between them. Texts hold
only characters that Unicode 13 knows, so that newer and older tables agree.
"""
import json
import pathlib
import random

import regex

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
FAMILIES = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [LLAMA3],
    "qwen2": [LLAMA3.replace("{1,3}", "")],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
    "deepseek-llm": [
        r"[\r\n]",
        r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽ\u212a-\u212d]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        r"[一-龥ࠀ-一가-퟿]+",
        r"\p{N}+",
    ],
}
FRAGMENTS = ["'s", "'S", "'ſ", "'re", "'LL", "'vE", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "hello", " world", "The", "1", "12",
             "1234567", "...", "!!", "?!\n", "café", "e\u0301", "你好", "don't", " 1", "\u00a0", "\u3000", "\u2028", "\x85",
             "\u180e", "\u200b", "\u1680", "½", "Ⅷ", "٣", "한국", "Привет", " мир", "🚀", "$", "`", "~", "「", "\x1c", "\x00", "ก็",
             "ß", "ǅ", "ʰ", "مرحبا", "a" * 20, "-" * 9, "(", ") ", "_x", "\u212a"]
FIXED = ["", " ", "a", "Hello, y'all! How are you?", "I'VE we'll THEY'RE 'tis O'd", "  leading and trailing  ",
         "tabs\t\tand\n\n\n newlines \r\n\r\n end \n", "x = 3.14159; y[0] += 1e-10  # comment\n\treturn x\n",
         "日本語のテキスト、とても長い文章です。", "1234567890 12 345", "a\u00a0b\u2003c\u3000d", "\n \n\t \n", "   \n   x", "f(a,b)->{c:[d]};"]


def pieces(stages, text):
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
    # The DeepSeek class is cut short here: of its letters after U+13FD only those that the texts hold are listed.
    out = {"texts": texts, "families": {name: [pieces(stages, text) for text in texts] for name, stages in FAMILIES.items()}}
    path = pathlib.Path(__file__).with_name("pretokenize.json")
    path.write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")) + "\n")


main()
