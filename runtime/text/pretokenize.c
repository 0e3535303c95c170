// SPDX-License-Identifier: Apache-2.0
// The table of pre-tokenizer families and its execution by PCRE2 with Unicode properties.
//
// The expressions are the published ones of each family's tokenizer (OpenAI's GPT-2 encoder, the pre_tokenizer section of the
// tokenizer.json of the others), with two changes that keep every result:
// - \s is written as the characters of the Unicode property White_Space, because PCRE2's \s also has U+180E;
// - runs that an expression gives back only to fail are possessive or anchored, so that time stays linear.
#include "runtime/text/pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#include "platform/bytes.h"

#define SPACE_CHARS "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define SPACE       "[" SPACE_CHARS "]"
#define NO_SPACE    "[^" SPACE_CHARS "]"

#define GPT2                                                                                                                   \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE_CHARS "\\p{L}\\p{N}]+|" SPACE "+(?!" NO_SPACE ")|" SPACE "+"
#define LLAMA3(digits)                                                                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" SPACE_CHARS "\\p{L}\\p{N}]+[\\r\\n]*|" SPACE  \
    "*[\\r\\n]+|" SPACE "+(?!" NO_SPACE ")|" SPACE "+"
// Cased letters as DeepSeek's tokenizer lists them.
#define DEEPSEEK_LETTERS                                                                                                       \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}"           \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"             \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"               \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}"       \
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}"        \
    "\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}"        \
    "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"        \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}"         \
    "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}"         \
    "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}"        \
    "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}"       \
    "\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"                \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

enum { MAX_STAGES = 6, MAX_NAMES = 3 };

static const struct family {
    const char *names[MAX_NAMES + 1];
    const char *stages[MAX_STAGES + 1];
    bool ignores_merges, adds_bos, normalizes;
} families[] = {
    {.names = {"gpt-2", "phi-2"}, .stages = {GPT2}},
    {.names = {"smollm", "starcoder"}, .stages = {"\\p{N}", GPT2}},
    {.names = {"llama-bpe", "llama3", "llama-v3"}, .stages = {LLAMA3("\\p{N}{1,3}")}, .ignores_merges = true, .adds_bos = true},
    {.names = {"qwen2"}, .stages = {LLAMA3("\\p{N}")}, .normalizes = true},
    {.names = {"deepseek-r1-qwen"}, .stages = {LLAMA3("\\p{N}")}},
    {.names = {"falcon"}, .stages = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {.names = {"deepseek-llm"},
     .stages = {"[\\r\\n]", SPACE "?[" DEEPSEEK_LETTERS "]+",
                SPACE "?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
                "(?<!" SPACE ")" SPACE "++\\z", "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}+"}},
};
enum { N_FAMILIES = sizeof families / sizeof *families };

// Allocations of PCRE2 go through the context's ledger; the status of a refused one is kept to be passed on.
struct memory {
    struct graft_ctx *ctx;
    enum graft_status status;
};

struct graft_pretokenizer {
    struct memory memory; // used while compiling and freeing
    const struct family *family;
    pcre2_general_context *general;
    uint32_t n_stages;
    pcre2_code *stages[MAX_STAGES];
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

static const struct family *family_find(const char *name, uint64_t length)
{
    for (size_t f = 0; f < N_FAMILIES; f++) {
        for (const char *const *known = families[f].names; *known; known++) {
            if (strlen(*known) == length && memcmp(*known, name, (size_t)length) == 0) {
                return &families[f];
            }
        }
    }
    return NULL;
}

static enum graft_status fail_unknown(const char *name, uint64_t length)
{
    char list[512] = "";
    size_t used = 0;
    for (size_t f = 0; f < N_FAMILIES; f++) {
        for (const char *const *known = families[f].names; *known; known++) {
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
    const struct family *family = family_find(name, length);
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

// Cut text by stage `stage` and everything in it by the stages after. Recursion: at most MAX_STAGES deep.
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
