#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Signatures by the minisign tool (Debian's package, 0.11): writes the folder minisign beside this file.

  trusted.pub, other.pub      two public keys; the secret ones are thrown away
  data, data.minisig          a file with a signature of its hash; data.legacy.minisig: of the file itself; data.other.minisig: by other
  plain/SHA256SUMS[.minisig]  of peft/plain, as sha256sum writes it; swapped/: the digests of each other's files; half/: one file only
  plain.gguf.minisig          of peft/plain.gguf
"""
import hashlib
import os
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "minisign")
FILES = ["adapter_config.json", "adapter_model.safetensors"]


def run(*args):
    subprocess.run(["minisign", *args], check=True, stdout=subprocess.DEVNULL)


def sign(key, path, signature=None, legacy=False, comment="made by make_minisign.py"):
    run("-S", "-W", "-s", key, "-m", path, "-x", signature or path + ".minisig", "-t", comment, *(["-l"] if legacy else []))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    with tempfile.TemporaryDirectory() as secret:
        keys = {}
        for name in ("trusted", "other"):
            keys[name] = os.path.join(secret, name)
            run("-G", "-W", "-p", os.path.join(OUT, name + ".pub"), "-s", keys[name])
        data = os.path.join(OUT, "data")
        with open(data, "wb") as file:
            file.write(b"What is signed.\n" * 20)
        sign(keys["trusted"], data)
        sign(keys["trusted"], data, data + ".legacy.minisig", legacy=True, comment="timestamp:1\tfile:data")
        sign(keys["other"], data, data + ".other.minisig")
        plain = os.path.join(HERE, "peft", "plain")
        sums = {name: hashlib.sha256(open(os.path.join(plain, name), "rb").read()).hexdigest() for name in FILES}
        lists = {"plain": sums, "swapped": dict(zip(FILES, reversed(sums.values()))), "half": {FILES[0]: sums[FILES[0]]}}
        for folder, listed in lists.items():
            os.makedirs(os.path.join(OUT, folder))
            path = os.path.join(OUT, folder, "SHA256SUMS")
            with open(path, "w", encoding="ascii") as file:
                file.writelines(f"{digest}  {name}\n" for name, digest in listed.items())
            sign(keys["trusted"], path)
        sign(keys["trusted"], os.path.join(HERE, "peft", "plain.gguf"), os.path.join(OUT, "plain.gguf.minisig"))


main()
