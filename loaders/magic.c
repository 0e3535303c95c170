// SPDX-License-Identifier: Apache-2.0
// File types by their first bytes: the formats before GGUF, PyTorch checkpoints, and what failed downloads leave behind.
#include "loaders/magic.h"

#include <stddef.h>
#include <string.h>

const char *graft_magic_guess(const uint8_t *data, uint64_t size)
{
    static const struct {
        const char *start;
        uint64_t length;
        const char *what;
    } known[] = {
        {"lmgg", 4, "a GGML file, the format before GGUF; convert it with llama.cpp's tools"},
        {"fmgg", 4, "a GGMF file, a format before GGUF; convert it with llama.cpp's tools"},
        {"tjgg", 4, "a GGJT file, the format before GGUF; convert it with llama.cpp's tools"},
        {"GGML", 4, "a GGML file, the format before GGUF; convert it with llama.cpp's tools"},
        {"GGJT", 4, "a GGJT file, the format before GGUF; convert it with llama.cpp's tools"},
        {"algg", 4, "a GGLA adapter, a format before GGUF"},
        {"FUGG", 4, "a big-endian GGUF file; only little-endian ones are supported"},
        {"PK\003\004", 4, "a zip archive, perhaps a PyTorch checkpoint; convert it to GGUF"},
        {"\x80\x02", 2, "a Python pickle, perhaps a PyTorch checkpoint; convert it to GGUF"},
        {"\x80\x03", 2, "a Python pickle, perhaps a PyTorch checkpoint; convert it to GGUF"},
        {"\x80\x04", 2, "a Python pickle, perhaps a PyTorch checkpoint; convert it to GGUF"},
        {"\x80\x05", 2, "a Python pickle, perhaps a PyTorch checkpoint; convert it to GGUF"},
        {"version https://git-lfs", 23, "a git-lfs pointer instead of the file; run git lfs pull"},
        {"<!", 2, "an HTML page; the download went wrong"},
        {"<html", 5, "an HTML page; the download went wrong"},
        {"<HTML", 5, "an HTML page; the download went wrong"},
        {"\x1f\x8b", 2, "gzip-compressed data; unpack it first"},
        {"\x28\xb5\x2f\xfd", 4, "zstd-compressed data; unpack it first"},
        {"{", 1, "a JSON text"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (size >= known[i].length && memcmp(data, known[i].start, (size_t)known[i].length) == 0) {
            return known[i].what;
        }
    }
    return size > 8 && data[8] == '{' ? "a safetensors file; convert it to GGUF" : NULL;
}
