#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write sampling.json: rows of logits, settings, and the tokens that samplers written from their definitions draw.

Usage: python3 make_sampling.py   (needs: pip install numpy)
Every sampler is written here a second time, with numpy and as the papers state it (slow and plain), with the published
generator xoshiro256** seeded by splitmix64. Each case starts from a seed and goes through all rows; what is drawn is accepted.
"""
import json
import math
import pathlib

import numpy as np

MASK = (1 << 64) - 1
N = 150
ROWS = 24


class Random:
    def __init__(self, seed):
        self.s = []
        for _ in range(4):
            seed = (seed + 0x9E3779B97F4A7C15) & MASK
            z = seed
            z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
            z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
            self.s.append(z ^ z >> 31)

    def unit(self):
        def rotate(x, k):
            return (x << k | x >> 64 - k) & MASK
        s = self.s
        result, t = rotate(s[1] * 5 & MASK, 7) * 9 & MASK, s[1] << 17 & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotate(s[3], 45)
        return (result >> 11) * 2.0**-53


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def in_order(ids, logits):
    order = np.lexsort((ids, -logits))
    return ids[order], logits[order]


def dry(history, s):
    """Penalty by token: text-generation-webui, pull request 5677."""
    window, out = history[-s.get("dry_window", 1024):], {}
    breakers = set(s.get("dry_breakers", []))
    if not window or window[-1] in breakers:
        return out
    for i in range(len(window) - 1):
        if window[i] != window[-1] or window[i + 1] in breakers:
            continue
        n = 1
        while i - n >= 0 and window[i - n] == window[-1 - n] and window[i - n] not in breakers:
            n += 1
        out[window[i + 1]] = max(out.get(window[i + 1], 0), n)
    allowed = s.get("dry_allowed_length", 2)
    return {t: s["dry_multiplier"] * s.get("dry_base", 1.75) ** (n - allowed) for t, n in out.items() if n >= allowed}


def typical(ids, x, mass):
    p = softmax(x)
    entropy = -(p * np.log(p)).sum()
    order = np.argsort(np.abs(-np.log(p) - entropy), kind="stable")
    n = int(np.searchsorted(np.cumsum(p[order]), mass)) + 1
    keep = np.sort(order[:n])
    return ids[keep], x[keep]


def run(rows, s):
    random, history, tokens, mu = Random(s["seed"]), list(s.get("history", [])), [], 2.0 * s.get("mirostat_tau", 5.0)
    for row in rows:
        ids, x = np.arange(N), np.array(row, dtype=np.float32).astype(np.float64)
        for t, bias in s.get("biases", []):
            x[t] = np.float32(x[t] + bias)
        recent = history[-s.get("penalty_window", 64):]
        for t in set(recent):
            repeat = s.get("repeat_penalty", 1.0)
            x[t] = x[t] / repeat if x[t] > 0 else x[t] * repeat
            x[t] -= s.get("presence_penalty", 0.0) + recent.count(t) * s.get("frequency_penalty", 0.0)
        if s.get("dry_multiplier"):
            for t, penalty in dry(history, s).items():
                x[t] -= penalty
        ids, x = in_order(ids, x)
        temperature = s.get("temperature", 1.0)
        if s.get("mirostat"):
            x = x / temperature
            p = softmax(x)
            if s["mirostat"] == 1:
                i = np.arange(99)
                t, b = np.log((i + 2) / (i + 1)), np.log(p[i] / p[i + 1])
                zipf = (t * b).sum() / (t * t).sum()
                e = zipf - 1
                k = min(N, int((e * 2**mu / (1 - N**-e)) ** (1 / zipf)) + 1)
            else:
                k = max(1, int((-np.log2(p) <= mu).sum()))
            q = softmax(x[:k])
        else:
            if s.get("top_n_sigma"):
                keep = x >= x.max() - s["top_n_sigma"] * x.std()
                ids, x = ids[keep], x[keep]
            ids, x = ids[:s.get("top_k", N)], x[:s.get("top_k", N)]
            if "typical_p" in s:
                ids, x = typical(ids, x, s["typical_p"])
            if "top_p" in s:
                n = int(np.searchsorted(np.cumsum(softmax(x)), s["top_p"])) + 1
                ids, x = ids[:n], x[:n]
            if "min_p" in s:
                p = softmax(x)
                keep = p >= s["min_p"] * p.max()
                ids, x = ids[keep], x[keep]
            if s.get("xtc_probability") and random.unit() < s["xtc_probability"]:
                above = int((softmax(x) >= s.get("xtc_threshold", 0.1)).sum())
                ids, x = ids[max(0, above - 1):], x[max(0, above - 1):]
            q = softmax(x / temperature)
        at = min(int(np.searchsorted(np.cumsum(q), random.unit(), side="right")), len(q) - 1)
        if s.get("mirostat"):
            mu -= s.get("mirostat_eta", 0.1) * (-math.log2(p[at]) - s.get("mirostat_tau", 5.0))
        tokens.append(int(ids[at]))
        history.append(tokens[-1])
    return tokens


def main():
    random = np.random.default_rng(11)
    rows = []
    for r in range(ROWS):
        row = random.normal(0, 1.5, N) + 6.0 * (random.random(N) < 0.06) * random.random(N)
        rows.append([round(float(x), 3) for x in row])
    loop = [3, 4, 5, 6, 7] * 4
    cases = [
        {}, {"temperature": 0.5}, {"temperature": 1.7},
        {"typical_p": 0.3}, {"typical_p": 0.9}, {"typical_p": 0.5, "top_k": 20}, {"typical_p": 0.01},
        {"top_n_sigma": 1.0}, {"top_n_sigma": 2.5, "temperature": 1.5}, {"top_n_sigma": 1.5, "top_p": 0.6},
        {"xtc_probability": 1.0, "xtc_threshold": 0.05}, {"xtc_probability": 0.5, "xtc_threshold": 0.02}, {"xtc_probability": 0.7, "min_p": 0.05},
        {"dry_multiplier": 4.0, "history": loop, "top_k": 10}, {"dry_multiplier": 0.8, "dry_base": 3.0, "dry_allowed_length": 4, "history": loop},
        {"dry_multiplier": 9.0, "history": loop, "dry_breakers": [6, 1], "temperature": 0.4}, {"dry_multiplier": 5.0, "history": loop, "dry_window": 7},
        {"dry_multiplier": 50.0, "dry_allowed_length": 1, "history": [1, 2, 3, 1, 2, 4, 1, 2], "temperature": 0.3},
        {"dry_multiplier": 0.5, "history": [2, 3, 4, 5, 6, 7, 8, 9] * 3, "dry_breakers": [5], "biases": [[2, 12.0]]},
        {"mirostat": 1}, {"mirostat": 1, "mirostat_tau": 2.0, "mirostat_eta": 0.3}, {"mirostat": 2}, {"mirostat": 2, "mirostat_tau": 1.5, "temperature": 0.8},
        {"mirostat": 2, "mirostat_tau": 3.0, "mirostat_eta": 0.5},
        {"biases": [[5, 4.0], [9, -3.0], [140, 7.5]]}, {"biases": [[i, -1e9] for i in range(0, N, 2)]},
        {"repeat_penalty": 1.5, "presence_penalty": 0.4, "frequency_penalty": 0.3, "penalty_window": 6, "history": loop, "dry_multiplier": 1.0},
        {"top_n_sigma": 2.0, "top_k": 30, "typical_p": 0.95, "top_p": 0.9, "min_p": 0.02, "xtc_probability": 0.3, "temperature": 1.2,
         "dry_multiplier": 1.0, "history": loop, "biases": [[7, 2.0]]},
    ]
    for i, case in enumerate(cases):
        case["seed"] = 1000 + i
        case["tokens"] = run(rows, case)
    # The bit of a loop that DRY breaks: with it 3 4 5 does not go on.
    strong = [0.0] * N
    assert run([strong], {"seed": 1, "dry_multiplier": 1e6, "history": [3, 4, 5, 3, 4], "biases": [[5, 100.0]]}) != [5]
    path = pathlib.Path(__file__).with_name("sampling.json")
    path.write_text(json.dumps({"rows": rows, "cases": cases}, separators=(",", ":")) + "\n")


main()
