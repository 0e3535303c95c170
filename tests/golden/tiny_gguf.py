# SPDX-License-Identifier: Apache-2.0
"""What the scripts that write tiny models as GGUF share."""


def permute(w, heads):
    """Rows of q or k as llama's files have them: the two halves of a head's rotary pairs one beside the other."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def byte_tokens():
    """The 256 bytes as GPT-2's byte-level vocabularies spell them."""
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    codes, n = [], 0
    for b in range(256):
        codes.append(chr(b) if b in printable else chr(256 + n))
        n += b not in printable
    return codes


def add_byte_tokenizer(w, vocab):
    """Bytes, one merge, and unused tokens up to `vocab`; a template that says what the messages say."""
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(byte_tokens() + ["th"] + [f"<|unused_{i}|>" for i in range(257, vocab)])
    w.add_token_types([1] * 257 + [5] * (vocab - 257))
    w.add_token_merges(["t h"])
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    w.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
