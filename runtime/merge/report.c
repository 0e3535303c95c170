// SPDX-License-Identifier: Apache-2.0
// What a merge reports: what survived by tensor and in all, and what looks wrong.
#include <ctype.h>
#include <math.h>
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/merge/merge_private.h"

// Words in the name of what an adapter was made for that say how its weights were stored, beside the names of GGUF's formats.
static const char *const other_formats[] = {"nf4",  "4bit", "8bit", "4-bit", "8-bit", "int4", "int8",
                                            "gptq", "awq",  "fp8",  "hqq",   "aqlm",  "exl2", "mxfp4"};

// True if `word` (lower case) stands in `text` and no letter or digit touches it.
static bool has_word(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *p = text; *p; p++) {
        size_t i = 0;
        while (i < length && tolower((unsigned char)p[i]) == word[i]) {
            i++;
        }
        bool before = p == text || !isalnum((unsigned char)p[-1]);
        if (i == length && before && !isalnum((unsigned char)p[length])) {
            return true;
        }
    }
    return false;
}

static void lower(const char *name, char out[16])
{
    size_t i = 0;
    for (; name[i] && i < 15; i++) {
        out[i] = (char)tolower((unsigned char)name[i]);
    }
    out[i] = '\0';
}

// The format that a name mentions, lower case; "" if none.
static void format_in(const char *name, char out[16])
{
    out[0] = '\0';
    for (uint32_t n = 0; n < 64; n++) {
        char word[16];
        const char *type = graft_type_gguf_name(n);
        if (type) {
            lower(type, word);
            if (has_word(name, word)) {
                memcpy(out, word, sizeof word);
            }
        }
    }
    for (size_t i = 0; i < sizeof other_formats / sizeof *other_formats && !out[0]; i++) {
        if (has_word(name, other_formats[i])) {
            snprintf(out, 16, "%s", other_formats[i]);
        }
    }
}

static bool is_plain(const char *format)
{
    return format[0] == '\0' || strcmp(format, "f16") == 0 || strcmp(format, "bf16") == 0 || strcmp(format, "f32") == 0;
}

GRAFT_PRINTF(2, 3) static void warn(struct graft_merge_report *r, const char *format, ...)
{
    char *text = r->warnings[r->summary.n_warnings++];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof r->warnings[0], format, args);
    va_end(args);
    graft_log(r->ctx, GRAFT_LOG_WARN, "%s", text);
}

// An adapter learned to correct the weights it saw; other weights of the same model have other errors.
static void warn_of_origin(struct graft_merge_report *r, const struct graft_merge *m, uint32_t i)
{
    char base[16], made_for[16];
    const char *name = r->made_for[i];
    lower(r->summary.base_type, base);
    format_in(name, made_for);
    if (*name == '\0' || strcmp(base, made_for) == 0 || (is_plain(base) && is_plain(made_for))) {
        return;
    }
    warn(r, "%.*s was made for %.200s (%s), the base holds %s: what it learned may not fit these weights; --eval measures it",
         (int)m->names[i].length, m->names[i].data, name, made_for[0] ? made_for : "which names no quantization",
         r->summary.base_type);
}

static void warn_of_loss(struct graft_merge_report *r, double wanted)
{
    const struct graft_merge_tensor *worst = NULL;
    for (uint32_t i = 0; i < r->summary.n_touched; i++) {
        const struct graft_merge_tensor *t = &r->tensors[i];
        r->summary.n_below += t->share < wanted;
        worst = !worst || t->share < worst->share ? t : worst;
    }
    if (r->summary.n_below > 0) {
        warn(r,
             "%u of %u changed tensors keep less than %.3g of the intended change, %s only %.3g (%.3g in all); --type auto "
             "takes "
             "larger formats for them",
             r->summary.n_below, r->summary.n_touched, wanted, worst->name, worst->share, r->summary.share);
    }
}

static void describe(const struct graft_merge_item *item, struct graft_merge_tensor *out)
{
    const struct graft_merge_sums *s = &item->sums;
    *out = (struct graft_merge_tensor){.n_values = item->from->dims[0] * item->from->dims[1] * item->from->dims[2],
                                       .bytes_before = item->added ? 0 : item->from->bytes,
                                       .bytes_after = item->bytes,
                                       .change = s->ww > 0 ? sqrt(s->dd / s->ww) : 0,
                                       .share = graft_merge_share(s),
                                       .residual = graft_merge_residual(s)};
    snprintf(out->name, sizeof out->name, "%.*s", (int)item->name.length, item->name.data);
    snprintf(out->type_before, sizeof out->type_before, "%s", graft_type_gguf_name(item->from->type));
    snprintf(out->type_after, sizeof out->type_after, "%s", graft_type_gguf_name(item->type));
}

enum graft_status graft_merge_report_make(const struct graft_merge *m, struct graft_merge_report **out)
{
    struct graft_merge_report *r;
    struct graft_merge_sums all = {0};
    uint32_t n = 0;
    *out = NULL;
    for (uint32_t i = 0; i < m->n_items; i++) {
        n += m->items[i].n_links > 0 || m->items[i].added;
    }
    GRAFT_TRY(GRAFT_NEW(m->ctx, GRAFT_MEM_HOST, &r, 1, "a merge's report"));
    r->ctx = m->ctx;
    enum graft_status status = GRAFT_NEW(m->ctx, GRAFT_MEM_HOST, &r->tensors, n, "a merge's report");
    if (status != GRAFT_OK) {
        graft_merge_report_free(&r);
        return status;
    }
    struct graft_merge_summary *sum = &r->summary;
    sum->n_tensors = m->n_items;
    sum->base_bytes = graft_gguf_bytes(m->gguf);
    sum->out_bytes = m->out_bytes;
    sum->n_threads = m->n_threads;
    graft_sha256_hex(m->digest, sum->base_digest);
    snprintf(sum->base_type, sizeof sum->base_type, "%s", graft_type_gguf_name(graft_merge_base_type(m)));
    for (uint32_t i = 0; i < m->n_items; i++) {
        const struct graft_merge_item *item = &m->items[i];
        if (item->n_links == 0 && !item->added) {
            continue;
        }
        struct graft_merge_tensor *t = &r->tensors[sum->n_touched++];
        describe(item, t);
        sum->touched_before += t->bytes_before;
        sum->touched_after += t->bytes_after;
        all.dd += item->sums.dd;
        all.rd += item->sums.rd;
        all.rr += item->sums.rr;
        all.ww += item->sums.ww;
    }
    sum->change = all.ww > 0 ? sqrt(all.dd / all.ww) : 0;
    sum->share = graft_merge_share(&all);
    sum->residual = graft_merge_residual(&all);
    r->n_adapters = m->params.n_adapters;
    for (uint32_t i = 0; i < r->n_adapters; i++) {
        graft_sha256_hex(m->adapters[i]->digest, r->digests[i]);
        memcpy(r->made_for[i], m->adapters[i]->base_name, sizeof r->made_for[i]);
        warn_of_origin(r, m, i);
    }
    warn_of_loss(r, m->params.keep_effect);
    *out = r;
    return GRAFT_OK;
}

void graft_merge_report_free(struct graft_merge_report **report)
{
    if (!report || !*report) {
        return;
    }
    struct graft_ctx *ctx = (*report)->ctx;
    GRAFT_FREE(ctx, &(*report)->tensors);
    GRAFT_FREE(ctx, report);
}

void graft_merge_summarize(const struct graft_merge_report *report, struct graft_merge_summary *out)
{
    *out = report->summary;
}

enum graft_status graft_merge_tensor(const struct graft_merge_report *report, uint32_t index, struct graft_merge_tensor *out)
{
    if (index >= report->summary.n_touched) {
        return graft_fail(GRAFT_E_ARGUMENT, "tensor %u was asked for, %u were changed", index, report->summary.n_touched);
    }
    *out = report->tensors[index];
    return GRAFT_OK;
}

enum graft_status graft_merge_adapter(const struct graft_merge_report *report, uint32_t index, const char **digest,
                                      const char **base_name)
{
    if (index >= report->n_adapters) {
        return graft_fail(GRAFT_E_ARGUMENT, "adapter %u was asked for, %u were merged", index, report->n_adapters);
    }
    *digest = report->digests[index];
    *base_name = report->made_for[index];
    return GRAFT_OK;
}

const char *graft_merge_warning(const struct graft_merge_report *report, uint32_t index)
{
    return index < report->summary.n_warnings ? report->warnings[index] : NULL;
}
