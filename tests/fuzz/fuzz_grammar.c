// SPDX-License-Identifier: Apache-2.0
// The first byte chooses GBNF or JSON schema; up to the first NUL follows its text, then a text to match. The text of what a
// schema became compiles again; matching whole and byte by byte agree; what is refused leaves the place as it was.
#include "fuzz/fuzz.h"
#include "graft/grammar.h"

static void match(const struct graft_grammar *grammar, const char *text, size_t length)
{
    struct graft_grammar_state *whole = NULL, *bytes = NULL;
    if (graft_grammar_state_create(grammar, &whole) != GRAFT_OK || graft_grammar_state_create(grammar, &bytes) != GRAFT_OK) {
        graft_grammar_state_destroy(&whole);
        return;
    }
    bool all = false, may = false, one = true;
    size_t at = 0;
    enum graft_status status = GRAFT_OK, first = graft_grammar_allows(whole, text, length, &may);
    bool complete = graft_grammar_complete(whole);
    if (first == GRAFT_OK) {
        FUZZ_CHECK(graft_grammar_accept(whole, text, length, &all) == GRAFT_OK && all == may, "allowed and accepted differ");
        FUZZ_CHECK(all || graft_grammar_complete(whole) == complete, "a refused text moved the place");
    }
    while (at < length && one && status == GRAFT_OK) {
        status = graft_grammar_accept(bytes, text + at, 1, &one);
        at += status == GRAFT_OK && one;
    }
    if (first == GRAFT_OK && status == GRAFT_OK) {
        FUZZ_CHECK(all == (at == length), "whole and byte by byte differ");
        FUZZ_CHECK(!all || graft_grammar_complete(whole) == graft_grammar_complete(bytes), "complete and not complete");
    }
    graft_grammar_state_destroy(&whole);
    graft_grammar_state_destroy(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const char *source = (const char *)data + 1;
    const char *end = memchr(source, 0, size - 1);
    size_t length = end ? (size_t)(end - source) : size - 1;
    bool schema = data[0] & 1;
    struct graft_test_alloc alloc;
    struct graft_ctx *ctx = fuzz_begin(&alloc, 64 << 20);
    struct graft_grammar *grammar, *again;
    enum graft_status status =
        schema ? graft_grammar_from_schema(ctx, &grammar, source, length) : graft_grammar_create(ctx, &grammar, source, length);
    if (status == GRAFT_OK) {
        const char *text = graft_grammar_text(grammar);
        status = graft_grammar_create(ctx, &again, text, strlen(text));
        FUZZ_CHECK(status == GRAFT_OK || status == GRAFT_E_BUDGET || memchr(source, 0, length), "its text does not compile");
        if (end) {
            match(grammar, end + 1, size - 2 - length);
        }
        graft_grammar_destroy(&again);
        graft_grammar_destroy(&grammar);
    } else {
        FUZZ_CHECK(!grammar && strlen(graft_last_error()) > 0, "refused without a word");
    }
    fuzz_end(&ctx, &alloc);
    return 0;
}
