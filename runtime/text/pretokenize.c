// SPDX-License-Identifier: Apache-2.0
// Pre-tokenizers: the expressions of families.c, executed by PCRE2 with Unicode properties.
#include "runtime/text/pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/families.h"

// Allocations of PCRE2 go through the context's ledger; the status of a refused one is kept to be passed on.
struct memory {
    struct graft_ctx *ctx;
    enum graft_status status;
};

struct graft_pretokenizer {
    struct memory memory; // used while compiling and freeing
    const struct graft_family *family;
    pcre2_general_context *general;
    uint32_t n_stages;
    pcre2_code *stages[GRAFT_FAMILY_STAGES];
};

static void *memory_take(PCRE2_SIZE bytes, void *user)
{
    struct memory *memory = user;
    void *out;
    enum graft_status status = graft_alloc(memory->ctx, GRAFT_MEM_HOST, &out, bytes, 1, "a tokenizer's regular expressions");
    if (status != GRAFT_OK) {
        memory->status = status;
        return NULL;
    }
    return out;
}

static void memory_give(void *block, void *user)
{
    struct memory *memory = user;
    graft_free(memory->ctx, &block);
}

static const struct graft_family *family_find(const char *name, uint64_t length)
{
    for (size_t f = 0; f < graft_n_families; f++) {
        for (const char *const *known = graft_families[f].names; *known; known++) {
            if (strlen(*known) == length && memcmp(*known, name, (size_t)length) == 0) {
                return &graft_families[f];
            }
        }
    }
    return NULL;
}

static enum graft_status fail_unknown(const char *name, uint64_t length)
{
    char list[1024] = "";
    size_t used = 0;
    for (size_t f = 0; f < graft_n_families; f++) {
        for (const char *const *known = graft_families[f].names; *known; known++) {
            int wrote = snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", *known);
            used += wrote > 0 && (size_t)wrote < sizeof list - used ? (size_t)wrote : 0;
        }
    }
    return graft_fail(GRAFT_E_UNSUPPORTED, "tokenizer.ggml.pre is \"%.*s\"; supported are %s", (int)(length < 64 ? length : 64),
                      name, list);
}

static enum graft_status compile(struct graft_pretokenizer *pretokenizer)
{
    pretokenizer->general = pcre2_general_context_create(memory_take, memory_give, &pretokenizer->memory);
    pcre2_compile_context *context = pretokenizer->general ? pcre2_compile_context_create(pretokenizer->general) : NULL;
    if (!context) {
        return pretokenizer->memory.status;
    }
    enum graft_status status = GRAFT_OK;
    for (const char *const *source = pretokenizer->family->stages; *source && status == GRAFT_OK; source++) {
        int error;
        PCRE2_SIZE offset;
        pcre2_code *code =
            pcre2_compile((PCRE2_SPTR)*source, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &offset, context);
        if (!code) {
            status = pretokenizer->memory.status != GRAFT_OK
                         ? pretokenizer->memory.status
                         : graft_fail(GRAFT_E_INTERNAL, "PCRE2 refuses expression %u of pre-tokenizer %s at %zu (error %d)",
                                      pretokenizer->n_stages, pretokenizer->family->names[0], (size_t)offset, error);
            break;
        }
        pretokenizer->stages[pretokenizer->n_stages++] = code;
        // Systems that forbid executable memory have no JIT: the interpreter gives the same matches.
        (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
        status = pretokenizer->memory.status;
    }
    pcre2_compile_context_free(context);
    return status;
}

enum graft_status graft_pretokenizer_create(struct graft_ctx *ctx, struct graft_pretokenizer **out, const char *name,
                                            uint64_t length)
{
    *out = NULL;
    const struct graft_family *family = family_find(name, length);
    if (!family) {
        return fail_unknown(name, length);
    }
    struct graft_pretokenizer *pretokenizer;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &pretokenizer, 1, "a pre-tokenizer"));
    pretokenizer->memory = (struct memory){.ctx = ctx, .status = GRAFT_OK};
    pretokenizer->family = family;
    enum graft_status status = compile(pretokenizer);
    if (status != GRAFT_OK) {
        graft_pretokenizer_destroy(&pretokenizer);
        return status;
    }
    *out = pretokenizer;
    return GRAFT_OK;
}

void graft_pretokenizer_destroy(struct graft_pretokenizer **pretokenizer)
{
    struct graft_pretokenizer *self = *pretokenizer;
    if (!self) {
        return;
    }
    for (uint32_t i = 0; i < self->n_stages; i++) {
        pcre2_code_free(self->stages[i]);
    }
    pcre2_general_context_free(self->general);
    struct graft_ctx *ctx = self->memory.ctx;
    GRAFT_FREE(ctx, pretokenizer);
}

bool graft_pretokenizer_ignores_merges(const struct graft_pretokenizer *pretokenizer)
{
    return pretokenizer->family->ignores_merges;
}

bool graft_pretokenizer_adds_bos(const struct graft_pretokenizer *pretokenizer)
{
    return pretokenizer->family->adds_bos;
}

bool graft_pretokenizer_normalizes(const struct graft_pretokenizer *pretokenizer)
{
    return pretokenizer->family->normalizes;
}

// What one call of graft_pretokenize carries down the stages.
struct splitting {
    const struct graft_pretokenizer *pretokenizer;
    struct memory memory;
    pcre2_match_context *limits;
    pcre2_match_data *match;
    enum graft_status (*emit)(void *user, const char *piece, uint64_t length);
    void *user;
};

static enum graft_status fail_match(const struct splitting *splitting, int error)
{
    if (splitting->memory.status != GRAFT_OK) {
        return splitting->memory.status;
    }
    return graft_fail(GRAFT_E_LIMIT, "pre-tokenizer %s: PCRE2 stopped at a piece of the text with error %d",
                      splitting->pretokenizer->family->names[0], error);
}

// Cut text by stage `stage` and everything in it by the stages after. Recursion: at most GRAFT_FAMILY_STAGES deep.
static enum graft_status split(struct splitting *splitting, uint32_t stage, const char *text, uint64_t length)
{
    if (stage == splitting->pretokenizer->n_stages) {
        return splitting->emit(splitting->user, text, length);
    }
    const pcre2_code *code = splitting->pretokenizer->stages[stage];
    uint64_t done = 0;
    while (done < length) {
        int found = pcre2_match(code, (PCRE2_SPTR)text, (PCRE2_SIZE)length, (PCRE2_SIZE)done, PCRE2_NO_UTF_CHECK,
                                splitting->match, splitting->limits);
        if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
            found = pcre2_match(code, (PCRE2_SPTR)text, (PCRE2_SIZE)length, (PCRE2_SIZE)done, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                                splitting->match, splitting->limits);
        }
        if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
            return fail_match(splitting, found);
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(splitting->match);
        // No expression of the table matches nothing; if one did, the rest would be left uncut instead of looping.
        if (found == PCRE2_ERROR_NOMATCH || span[1] <= span[0] || span[0] < done) {
            return split(splitting, stage + 1, text + done, length - done);
        }
        uint64_t start = span[0], end = span[1]; // the stages below reuse the match data
        if (start > done) {
            GRAFT_TRY(split(splitting, stage + 1, text + done, start - done));
        }
        GRAFT_TRY(split(splitting, stage + 1, text + start, end - start));
        done = end;
    }
    return GRAFT_OK;
}

enum graft_status graft_pretokenize(const struct graft_pretokenizer *pretokenizer, const char *text, uint64_t length,
                                    enum graft_status (*emit)(void *user, const char *piece, uint64_t length), void *user)
{
    struct splitting splitting = {.pretokenizer = pretokenizer,
                                  .memory = {.ctx = pretokenizer->memory.ctx, .status = GRAFT_OK},
                                  .emit = emit,
                                  .user = user};
    pcre2_general_context *general = pcre2_general_context_create(memory_take, memory_give, &splitting.memory);
    splitting.limits = general ? pcre2_match_context_create(general) : NULL;
    splitting.match = general ? pcre2_match_data_create(1, general) : NULL;
    enum graft_status status = splitting.memory.status;
    if (status == GRAFT_OK) {
        // A run of white space is walked forwards and given back once or twice: a few steps for each byte.
        uint64_t steps = 16 * length + 10000;
        pcre2_set_match_limit(splitting.limits, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
        pcre2_set_heap_limit(splitting.limits, 64 * 1024); // KiB
        status = split(&splitting, 0, text, length);
    }
    pcre2_match_data_free(splitting.match);
    pcre2_match_context_free(splitting.limits);
    pcre2_general_context_free(general);
    return status;
}
