#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/gguf/split-0000N-of-0000M.gguf: golden/peft/base.gguf in several files, as PyPI gguf splits a model (the keys and
names of llama.cpp's gguf-split). Needs: pip install gguf numpy."""
import os

import gguf

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    reader = gguf.GGUFReader(os.path.join(HERE, "peft", "base.gguf"))
    w = gguf.GGUFWriter(os.path.join(HERE, "gguf", "split.gguf"), "llama", split_max_tensors=8)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value, kind = field.contents(), field.types[0]
        w.add_key_value(field.name, value, kind, sub_type=field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for t in reader.tensors:
        w.add_tensor(t.name, t.data, raw_dtype=t.tensor_type)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


main()
