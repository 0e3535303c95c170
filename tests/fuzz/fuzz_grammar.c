// SPDX-License-Identifier: Apache-2.0
// The first byte chooses GBNF or JSON schema; up to the first NUL follows its text, then a text to match. The text of what a
// schema became compiles again; matching whole and byte by byte agree; what is refused leaves the place as it was.
#include "fuzz/fuzz.h"
#include "runtime/text/grammar.h"

// Places are taken once, as an engine does: they are megabytes, and a grammar must not meet what the one before it left.
static struct graft_grammar_state *place(int which, const struct graft_grammar *grammar)
{
    static struct graft_ctx *ctx;
    static struct graft_grammar_state *places[2];
    FUZZ_CHECK(ctx || graft_ctx_create(&ctx, NULL) == GRAFT_OK, "no context");
    FUZZ_CHECK(places[which] || graft_grammar_state_reserve(ctx, &places[which]) == GRAFT_OK, "no place");
    return graft_grammar_state_begin(places[which], grammar) == GRAFT_OK ? places[which] : NULL;
}

static void match(const struct graft_grammar *grammar, const char *text, size_t length)
{
    struct graft_grammar_state *whole = place(0, grammar), *bytes = place(1, grammar);
    FUZZ_CHECK(!whole == !bytes, "it begins once and not again");
    if (!whole) {
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
