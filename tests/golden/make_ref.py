#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Expected outputs of every reference kernel, computed by numpy in double precision: writes ref.json beside this file.

The inputs are f32 numbers; keys and values are rounded to f16 as the KV pages hold them. Formulas are those of the papers named in
runtime/ref, written without looking at the order or the fusion of the C code."""
import json
import os

import numpy as np

rng = np.random.default_rng(20240607)
PAGE = 32


def f32(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def out(array):
    return [float(f"{v:.9g}") for v in np.asarray(array).reshape(-1)]


def silu(x):
    return x / (1 + np.exp(-x))


def rms(x, eps):
    return np.sqrt((x.astype(np.float64) ** 2).mean(axis=-1, keepdims=True) + eps)


def rotate(x, pos, inv_freq, halves):
    """x [heads][dim], the first 2 * len(inv_freq) values of each head are rotated by pos * inv_freq."""
    y = x.astype(np.float64).copy()
    n = len(inv_freq)
    order = [k for i in range(n) for k in (i, i + n)] + list(range(2 * n, x.shape[1]))  # halves: pairs are put side by side
    for i, f in enumerate(inv_freq):
        a, b = (i, i + n) if halves else (2 * i, 2 * i + 1)
        angle = complex(np.cos(pos * f), np.sin(pos * f))
        z = (x[:, a] + 1j * x[:, b]) * angle
        y[:, a], y[:, b] = z.real, z.imag
    return y[:, order] if halves else y


def make(halves, rope_dim):
    n_embd, n_ff, n_head, n_kv, dim, n_vocab, eps = 32, 24, 4, 2, 16, 40, 1e-5
    rows = [(7, 3), (0, 40), (39, 0)]  # token, position; row 1 needs two pages
    n = len(rows)
    g = {"n_embd": n_embd, "n_ff": n_ff, "n_head": n_head, "n_head_kv": n_kv, "head_dim": dim, "n_vocab": n_vocab, "eps": eps,
         "rope_dim": rope_dim, "halves": halves, "tokens": [t for t, _ in rows], "positions": [p for _, p in rows]}
    inv_freq = (100.0 ** (-2.0 * np.arange(rope_dim // 2) / rope_dim)).astype(np.float32)
    embd, gain = f32(n_vocab, n_embd), f32(n_embd) + 1
    wq, wk, wv = (f32(h * dim, n_embd, scale=0.2) for h in (n_head, n_kv, n_kv))
    wo, wg, wu = f32(n_embd, n_head * dim, scale=0.2), f32(n_ff, n_embd, scale=0.2), f32(n_ff, n_embd, scale=0.2)
    g |= {k: out(v) for k, v in dict(inv_freq=inv_freq, embd=embd, gain=gain, wq=wq, wk=wk, wv=wv, wo=wo, wg=wg, wu=wu).items()}

    x = embd[[t for t, _ in rows]]
    g["x"], g["ss"] = out(x), out((x.astype(np.float64) ** 2).sum(axis=1))
    normed = x.astype(np.float64) / rms(x, eps) * gain
    q, k, v = (normed @ w.T.astype(np.float64) for w in (wq, wk, wv))
    q = np.stack([rotate(q[i].reshape(n_head, dim), rows[i][1], inv_freq, halves) for i in range(n)])
    k = np.stack([rotate(k[i].reshape(n_kv, dim), rows[i][1], inv_freq, halves) for i in range(n)])
    g["q"], g["k"], g["v"] = out(q / np.sqrt(dim)), out(k), out(v)

    # Attention over random histories of each row's own sequence, f16; the row's own key and value are the last ones.
    history, ao = [], []
    for i, (_, pos) in enumerate(rows):
        keys, values = (f32(pos + 1, n_kv, dim).astype(np.float16).astype(np.float64) for _ in range(2))
        history.append({"k": out(keys), "v": out(values)})
        for h in range(n_head):
            s = keys[:, h // (n_head // n_kv)] @ (q[i, h] / np.sqrt(dim))
            p = np.exp(s - s.max())
            ao.append((p / p.sum()) @ values[:, h // (n_head // n_kv)])
    g["history"], g["ao"] = history, out(ao)
    ao = np.array(ao).reshape(n, -1)
    g["residual"] = out(x + ao @ wo.T.astype(np.float64))
    g["h"] = out(silu(normed @ wg.T.astype(np.float64)) * (normed @ wu.T.astype(np.float64)))
    g["logits"] = out((normed @ embd.T.astype(np.float64))[[2, 0]])  # wanted rows: 2, 0
    return g


path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ref.json")
with open(path, "w") as f:
    json.dump({"adjacent": make(False, 16), "halves": make(True, 8)}, f)
    f.write("\n")
