#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of tests/fuzz/corpus: small whole files of each kind, from which a fuzzer finds the rest.

    tests/fuzz/make_corpus.py          # needs nothing but Python; seeds are named seed-*, all other files there were found
"""
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parent / "corpus"
GOLDEN = ROOT.parent.parent / "golden"
U8, I32, F32, BOOL, STRING, ARRAY, U32 = 0, 5, 6, 7, 8, 9, 4


def put(subject, name, data):
    folder = ROOT / subject
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(data if isinstance(data, bytes) else data.encode())


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind, value):
    if kind == STRING:
        return text(value)
    return struct.pack({U8: "<B", I32: "<i", F32: "<f", BOOL: "<B", U32: "<I"}[kind], value)


def gguf(keys, tensors=()):
    """keys: (name, type, value), a list's type being that of its items; tensors: (name, type number, dims, bytes)."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for name, kind, value in keys:
        out += text(name)
        if isinstance(value, list):
            out += struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(scalar(kind, v) for v in value)
        else:
            out += struct.pack("<I", kind) + scalar(kind, value)
    data = b""
    for name, kind, dims, raw in tensors:
        data += b"\0" * (-len(data) % 32)
        out += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
        out += struct.pack("<IQ", kind, len(data))
        data += raw
    return out + b"\0" * (-len(out) % 32) + data if tensors else out


def bpe(pre):
    return [("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, pre),
            ("tokenizer.ggml.tokens", STRING, ["a", "b", "ab", "\u0120", "t", "h", "e", "th", "the", "<|x|>"]),
            ("tokenizer.ggml.token_type", I32, [1, 1, 1, 1, 1, 1, 1, 1, 1, 3]),
            ("tokenizer.ggml.merges", STRING, ["a b", "t h", "th e"]), ("tokenizer.ggml.bos_token_id", U32, 9),
            ("tokenizer.ggml.eos_token_id", U32, 9), ("tokenizer.ggml.add_bos_token", BOOL, 1)]


def spm(model):
    tokens = ["<unk>", "<s>", "</s>", "<0x41>", "\u2581", "a", "b", "ab", "the", "\u2581the"]
    keys = [("tokenizer.ggml.model", STRING, model), ("tokenizer.ggml.tokens", STRING, tokens),
            ("tokenizer.ggml.token_type", I32, [2, 3, 3, 6, 1, 1, 1, 1, 1, 4]),
            ("tokenizer.ggml.scores", F32, [0, 0, 0, 0, -1, -2, -2, -1.5, -1, -0.5]),
            ("tokenizer.ggml.bos_token_id", U32, 1), ("tokenizer.ggml.eos_token_id", U32, 2),
            ("tokenizer.ggml.unknown_token_id", U32, 0), ("tokenizer.ggml.add_space_prefix", BOOL, 1)]
    if model == "t5":
        # A trie of four units and one replacement: any bytes are a sound shape.
        keys.append(("tokenizer.ggml.precompiled_charsmap", U8,
                     list(struct.pack("<IIIII", 16, 0x400, 0x80000161, 0, 0x80000000) + b"b\0")))
    return keys


def wordpiece():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "##a", "a", "##b", "\u2581the"]
    return [("tokenizer.ggml.model", STRING, "bert"), ("tokenizer.ggml.tokens", STRING, tokens),
            ("tokenizer.ggml.token_type", I32, [3, 2, 3, 3, 1, 1, 1, 1, 1]), ("tokenizer.ggml.unknown_token_id", U32, 1),
            ("tokenizer.ggml.cls_token_id", U32, 2), ("tokenizer.ggml.seperator_token_id", U32, 3)]


def llama():
    """A model of one layer of 32 values, two heads of 16, with the vocabulary of ten tokens."""
    keys = [("general.architecture", STRING, "llama"), ("llama.block_count", U32, 1), ("llama.context_length", U32, 64),
            ("llama.embedding_length", U32, 32), ("llama.feed_forward_length", U32, 32), ("llama.attention.head_count", U32, 2),
            ("llama.attention.head_count_kv", U32, 1), ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5)]
    q4 = lambda n_in, n_out: (2, [n_in, n_out], (b"\0\x3c" + b"\x77" * 16) * (n_in // 32 * n_out))
    ones = (0, [32], struct.pack("<f", 1) * 32)
    tensors = [("token_embd.weight", *q4(32, 10)), ("output_norm.weight", *ones), ("blk.0.attn_norm.weight", *ones),
               ("blk.0.attn_q.weight", *q4(32, 32)), ("blk.0.attn_k.weight", *q4(32, 16)), ("blk.0.attn_v.weight", *q4(32, 16)),
               ("blk.0.attn_output.weight", *q4(32, 32)), ("blk.0.ffn_norm.weight", *ones),
               ("blk.0.ffn_gate.weight", *q4(32, 32)), ("blk.0.ffn_up.weight", *q4(32, 32)),
               ("blk.0.ffn_down.weight", *q4(32, 32))]
    return gguf(keys + bpe("gpt-2"), tensors)


def safetensors(header, data):
    raw = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def main():
    put("gguf", "golden", (GOLDEN / "gguf" / "small.gguf").read_bytes())
    put("gguf", "types", gguf([("general.alignment", U32, 32), ("a", I32, [1, -1]), ("b", STRING, ["x", "yz"]), ("c", BOOL, 1)],
                              [("f.weight", 0, [4], b"\0" * 16), ("h.weight", 1, [4], b"\0" * 8),
                               ("q.weight", 8, [32, 1], b"\0" * 34), ("k.weight", 12, [256], b"\0" * 144)]))
    put("model", "llama", llama())
    for pre in ("gpt-2", "llama-bpe", "qwen2", "deepseek-v3"):
        put("model", pre, gguf(bpe(pre)))
    put("model", "spm", gguf(spm("llama")))
    put("model", "unigram", gguf(spm("t5")))
    put("model", "wordpiece", gguf(wordpiece()))
    a = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    put("safetensors", "two", safetensors({"a": a, "b": {"dtype": "F16", "shape": [4], "data_offsets": [16, 24]}}, b"\0" * 24))
    put("safetensors", "metadata", safetensors({"__metadata__": {"format": "pt"}, "a": a}, b"\0" * 16))
    put("safetensors", "bf16", safetensors({"x.lora_A.weight": {"dtype": "BF16", "shape": [1, 3], "data_offsets": [0, 6]}}, b"\0" * 6))
    for name in ("plain", "dora-patterns", "regex", "alora", "rslora"):
        put("adapter_config", name, (GOLDEN / "peft" / name / "adapter_config.json").read_bytes())
    put("adapter_config", "small", '{"peft_type":"LORA","r":8,"lora_alpha":16,"rank_pattern":{"q_proj":4}}')
    pieces = ("the harbour", "Caf\u00e9 12 don't\n\n  x", "<|im_start|>user\n</s>", "e\u0301\u0301 \u2581\u00a0", "\U0001f680\U0001f469\u200d\U0001f680 100%")
    for i, piece in enumerate(pieces):
        for first in (0, 2, 3, 0x80 + 7):
            put("tokenize", f"{i}-{first}", bytes([first]) + piece.encode())
    put("tokenize", "invalid", b"\1\xff\xfea\x80\xed\xa0\x80")
    for i, source in enumerate((
            "{% for m in messages %}<|{{ m.role }}|>\n{{ m['content'] | trim }}{% endfor %}{% if add_generation_prompt %}>{% endif %}",
            "{% set ns = namespace(n=0) %}{% for m in messages if m.content %}{% set ns.n = ns.n + loop.index0 %}{% endfor %}{{ ns.n }}",
            "{% macro f(a, b=1) %}{{ a ~ b }}{% endmacro %}{{ f('x', b=d.k) }}{{ tools | tojson(indent=2) }}",
            "{%- if messages[0]['role'] == 'system' -%}{{ messages[0].content[1:-1:2] }}{%- else -%}{{ raise_exception('no') }}{%- endif -%}",
            "{{ '%s %05.1f' % ('a', 2.5) }}{{ 'a,b'.split(',') | join('-') }}{{ [3, 1, 2] | sort(reverse=true) | list }}",
            "{% set x %}{{ 1 // 2 + 3 ** 2 % 5 }}{% endset %}{{ x | upper | replace('1', '2') }}{% break %}",
            "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first }}")):
        put("template", str(i), source)
    for i, (kind, source, sample) in enumerate((
            (0, 'root ::= "a" [b-d]* ("x" | "yz"){1,3}', "abcx"),
            (0, 'root ::= item ("," item)*\nitem ::= [0-9]+ | "\\"" [^"\\n]* "\\"" # text', '12,"a"'),
            (0, "root ::= ws? [^\\x00-\\x1f]+ .\nws ::= [ \\t]+", " \u00e9x"),
            (1, '{"type":"object","properties":{"a":{"type":"integer","minimum":-3},"b":{"enum":["x",null]}},"required":["a"]}', '{"a": 7}'),
            (1, '{"type":"array","items":{"type":"string","pattern":"^[a-c]{2}$"},"minItems":1,"maxItems":3}', '["ab"]'),
            (1, '{"anyOf":[{"$ref":"#/$defs/n"},{"type":"boolean"}],"$defs":{"n":{"type":"number","maximum":5}}}', "true"),
            (1, '{"type":"string","format":"date-time"}', '"2026-01-02T03:04:05Z"'))):
        put("grammar", str(i), bytes([kind]) + source.encode() + b"\0" + sample.encode())
    for i, body in enumerate((
            '{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":5,"stream":true,"temperature":0.5}',
            '{"a":[1,-2.5e3,true,false,null,"\\u00e9\\ud83d\\ude80\\n"],"b":{"c":{"d":[[]]}}}', "{}", '{"a":1,"a":2}', '{"a":1e999}')):
        put("json", str(i), body)
    get = "GET /v1/models?limit=20&a=b%20c HTTP/1.1\r\nHost: localhost:8080\r\nAuthorization: Bearer k\r\n"
    post = "POST /v1/chat/completions HTTP/1.1\r\nhost:[::1]:80\r\nContent-Type: application/json\r\n"
    for i, (step, sent) in enumerate((
            (0, get + "\r\n"), (1, get + "Cookie: a=b\r\nX-Request-Id: \t r-1 \r\nAccept:\r\n\r\n"),
            (6, post + "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{}" + get + "\r\n"),
            (2, post + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n01\r\n}\r\n0\r\n\r\n" + get + "\r\n"),
            (63, post + "Transfer-Encoding: Chunked\r\n\r\n00a\r\n" + '{"n": 1}  ' + "\r\n0\r\n\r\n"),
            (9, "HEAD / HTTP/1.0\r\nOrigin: http://localhost\r\nConnection: close\r\n\r\n"),
            (3, get + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"), (3, get + " folded\r\n\r\n"), (3, get + "A : b\r\n\r\n"),
            (3, get + "A: b\nC: d\r\n\r\n"), (3, post + "Transfer-Encoding: gzip, chunked\r\nContent-Length: 1\r\n\r\n1\r\nx\r\n0\r\n\r\n"))):
        put("http_head", str(i), bytes([step]) + sent.encode())


if __name__ == "__main__":
    main()
