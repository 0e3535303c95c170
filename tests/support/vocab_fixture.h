// SPDX-License-Identifier: Apache-2.0
// Small vocabularies for tests, from tests/golden/tokenize.json, and files built around them.
#ifndef GRAFT_TESTS_VOCAB_FIXTURE_H
#define GRAFT_TESTS_VOCAB_FIXTURE_H

#include <jansson.h>

#include "runtime/text/vocab.h"
#include "support/gguf_builder.h"

// A JSON file of tests/golden; stops the program if it is missing or damaged. Free with json_decref.
json_t *graft_test_golden(const char *name);

// What to leave out or add when a vocabulary file is built; zero = a whole file with BOS and EOS of the golden vocabulary.
struct graft_test_vocab_options {
    const char *pre;                             // BPE; NULL = "gpt-2", "" = no key
    bool no_bos_key;                             // leave tokenizer.ggml.add_bos_token out
    bool no_prefix;                              // tokenizer.ggml.add_space_prefix = false
    bool no_types, no_scores, no_merges, no_ids; // leave these keys out
};
// Keys of the golden BPE ("bpe") or SentencePiece ("spm") vocabulary into a builder that is not finished yet.
void graft_test_vocab_keys(struct graft_test_gguf *b, const json_t *golden, const char *kind,
                           struct graft_test_vocab_options options);
// Finish the file and read it. The status is handed out; *out is NULL on failure.
enum graft_status graft_test_vocab_open(struct graft_ctx *ctx, struct graft_test_gguf *b, struct graft_vocab **out);
// Both in one, for files that must be accepted.
struct graft_vocab *graft_test_vocab(struct graft_ctx *ctx, const char *kind, struct graft_test_vocab_options options);

#endif
