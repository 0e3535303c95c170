// SPDX-License-Identifier: Apache-2.0
// graft eval: perplexity of a text, or log-probabilities of given tokens.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/score.h"

enum { DEFAULT_CONTEXT = 512 };

struct evaluation {
    struct scorer scorer;
    const struct options *options;
};

// ---- given tokens ----

struct top {
    struct graft_candidate *best; // sorted downwards
    uint32_t capacity, count, n_vocab;
    double log_sum;
};

// The best of a row, by logit downwards, ties by smaller id: insertion into a short sorted list.
static void take_top(struct top *top, const float *logits)
{
    top->count = 0;
    top->log_sum = log_sum_exp(logits, top->n_vocab);
    for (uint32_t id = 0; id < top->n_vocab && top->capacity > 0; id++) {
        if (top->count == top->capacity && !(logits[id] > top->best[top->count - 1].logit)) {
            continue;
        }
        uint32_t at = top->count < top->capacity ? top->count++ : top->count - 1;
        for (; at > 0 && top->best[at - 1].logit < logits[id]; at--) {
            top->best[at] = top->best[at - 1];
        }
        top->best[at] = (struct graft_candidate){(int32_t)id, logits[id]};
    }
}

// The rows of one prompt: the loss of every id but the first, and the best behind the last one.
struct prompt_rows {
    const int32_t *ids;
    uint32_t count, n_vocab;
    double *nll;
    struct top *top;
};

static void see_prompt(void *user, uint32_t i, const float *logits)
{
    struct prompt_rows *rows = user;
    if (i + 1 < rows->count) {
        rows->nll[i] = log_sum_exp(logits, rows->n_vocab) - (double)logits[rows->ids[i + 1]];
    } else {
        take_top(rows->top, logits);
    }
}

static int eval_prompt(struct evaluation *e, const char *name, json_t *array, struct top *top, json_t *results)
{
    int32_t *ids;
    uint32_t count;
    if (!score_ids(name, array, &ids, &count)) {
        return EXIT_BAD_FILE;
    }
    double *nll = get_memory(count, sizeof *nll);
    struct prompt_rows rows = {ids, count, top->n_vocab, nll, top};
    enum graft_status status = scorer_feed(&e->scorer, ids, count, 0, count, see_prompt, &rows);
    if (status == GRAFT_OK) {
        json_t *best = json_array(), *losses = json_array();
        for (uint32_t i = 0; i < top->count; i++) {
            json_array_append_new(best, json_pack("[i, f]", top->best[i].id, (double)top->best[i].logit - top->log_sum));
        }
        for (uint32_t i = 0; i + 1 < count; i++) {
            json_array_append_new(losses, json_real(nll[i]));
        }
        json_object_set_new(results, name, json_pack("{s:o, s:o}", "top", best, "nll", losses));
    }
    free(ids);
    free(nll);
    return status == GRAFT_OK ? EXIT_GOOD : error_status(status, "the tokens cannot be scored");
}

static void print_scores(json_t *results)
{
    const char *name;
    json_t *result;
    json_object_foreach(results, name, result)
    {
        json_t *nll = json_object_get(result, "nll"), *top = json_object_get(result, "top");
        double sum = 0;
        for (size_t i = 0; i < json_array_size(nll); i++) {
            sum += json_real_value(json_array_get(nll, i));
        }
        printf("%s: %zu scored ids, mean nll %.6f\n", name, json_array_size(nll),
               json_array_size(nll) ? sum / (double)json_array_size(nll) : 0.0);
        for (size_t i = 0; i < json_array_size(top); i++) {
            json_t *pair = json_array_get(top, i);
            printf("  %8" PRId64 "  %10.6f\n", (int64_t)json_integer_value(json_array_get(pair, 0)),
                   json_real_value(json_array_get(pair, 1)));
        }
    }
}

static int eval_tokens(struct evaluation *e)
{
    json_t *file, *prompts, *array, *results = json_object();
    uint32_t longest;
    size_t done = 0;
    const char *name;
    int code = score_prompts(e->options->tokens, &file, &prompts, &longest);
    if (code == EXIT_GOOD) {
        code = scorer_open(&e->scorer, e->options, e->options->n_ctx ? (uint32_t)e->options->n_ctx : longest);
    }
    struct top top = {0};
    if (code == EXIT_GOOD) {
        top.n_vocab = e->scorer.session.info.n_vocab;
        top.capacity = e->options->top < top.n_vocab ? (uint32_t)e->options->top : top.n_vocab;
        top.best = get_memory(top.capacity, sizeof *top.best);
        struct progress progress;
        progress_begin(&progress, "Scoring");
        json_object_foreach(prompts, name, array)
        {
            if (code == EXIT_GOOD) {
                code = eval_prompt(e, name, array, &top, results);
            }
            progress_show(&progress, ++done, json_object_size(prompts), name);
        }
        progress_end(&progress);
    }
    if (code == EXIT_GOOD && e->options->json) {
        code = print_json(json_pack("{s:O}", "prompts", results));
    } else if (code == EXIT_GOOD) {
        print_scores(results);
    }
    free(top.best);
    json_decref(results);
    json_decref(file);
    return code;
}

// ---- perplexity ----

struct perplexity {
    uint64_t scored;
    double sum, squares; // of nll
};

static double perplexity_value(const struct perplexity *p, double *error)
{
    double n = (double)p->scored, mean = n > 0 ? p->sum / n : 0, variance = n > 0 ? p->squares / n - mean * mean : 0;
    *error = n > 1 && variance > 0 ? exp(mean) * sqrt(variance / (n - 1)) : 0; // first order: d exp(m) = exp(m) dm
    return exp(mean);
}

struct text_rows {
    const int32_t *ids;
    uint32_t n_vocab;
    struct perplexity *out;
};

static void see_text(void *user, uint32_t i, const float *logits)
{
    struct text_rows *rows = user;
    double nll = log_sum_exp(logits, rows->n_vocab) - (double)logits[rows->ids[i + 1]];
    rows->out->scored++;
    rows->out->sum += nll;
    rows->out->squares += nll * nll;
}

// Pieces of n_ctx ids; the second half of each is scored, so that every scored id has at least half a context before it. A BOS
// that the file asks for replaces the first id of every piece. A text shorter than one piece is one piece.
static enum graft_status score_text(struct evaluation *e, int32_t *ids, size_t count, int32_t bos, struct perplexity *out,
                                    uint64_t *pieces)
{
    uint32_t n_ctx = count < e->scorer.session.info.n_ctx ? (uint32_t)count : e->scorer.session.info.n_ctx, first = n_ctx / 2;
    struct text_rows rows = {.n_vocab = e->scorer.session.info.n_vocab, .out = out};
    struct progress progress;
    progress_begin(&progress, "Scoring");
    enum graft_status status = GRAFT_OK;
    *pieces = count / n_ctx;
    for (uint64_t piece = 0; piece < *pieces && status == GRAFT_OK; piece++) {
        int32_t *begin = ids + piece * n_ctx;
        if (bos >= 0) {
            begin[0] = bos;
        }
        rows.ids = begin;
        status = scorer_feed(&e->scorer, begin, n_ctx, first, n_ctx - 1, see_text, &rows);
        double error, value = perplexity_value(out, &error);
        char suffix[64];
        snprintf(suffix, sizeof suffix, "perplexity %.3f +/- %.3f", value, error);
        progress_show(&progress, piece + 1, *pieces, suffix);
    }
    progress_end(&progress);
    return status;
}

static int eval_text(struct evaluation *e)
{
    struct text text;
    int code = text_read(e->options->file, &text);
    if (code == EXIT_GOOD) {
        code = scorer_open(&e->scorer, e->options, e->options->n_ctx ? (uint32_t)e->options->n_ctx : DEFAULT_CONTEXT);
    }
    if (code != EXIT_GOOD) {
        text_free(&text);
        return code;
    }
    size_t count = 0, n_bos = 0;
    int32_t *ids = get_memory(text.length + 16, sizeof *ids), bos = -1;
    struct perplexity perplexity = {0};
    uint64_t pieces = 0;
    enum graft_status status =
        graft_tokenize(e->scorer.session.model, text.data, text.length, false, false, ids, text.length + 16, &count);
    if (status == GRAFT_OK &&
        (graft_tokenize(e->scorer.session.model, "", 0, false, true, &bos, 1, &n_bos) != GRAFT_OK || n_bos != 1)) {
        bos = -1;
    }
    if (status == GRAFT_OK && count < 4) {
        error3("the text cannot be scored", "it has fewer than 4 tokens", "a longer text");
        code = EXIT_BAD_FILE;
    } else if (status == GRAFT_OK) {
        status = score_text(e, ids, count, bos, &perplexity, &pieces);
    }
    if (status != GRAFT_OK) {
        code = error_status(status, "the text cannot be scored");
    }
    double error, value = perplexity_value(&perplexity, &error);
    if (code == EXIT_GOOD && e->options->json) {
        code = print_json(json_pack("{s:f, s:f, s:f, s:I, s:I, s:I, s:I}", "perplexity", value, "error", error, "nll",
                                    perplexity.scored ? perplexity.sum / (double)perplexity.scored : 0.0, "scored",
                                    (json_int_t)perplexity.scored, "tokens", (json_int_t)count, "pieces", (json_int_t)pieces,
                                    "n_ctx", (json_int_t)e->scorer.session.info.n_ctx));
    } else if (code == EXIT_GOOD) {
        printf("perplexity %.4f +/- %.4f (%" PRIu64 " of %zu tokens scored, %" PRIu64 " pieces of %" PRIu32 ")\n", value, error,
               perplexity.scored, count, pieces, e->scorer.session.info.n_ctx);
    }
    free(ids);
    text_free(&text);
    return code;
}

int verb_EVAL(const struct options *options)
{
    struct evaluation e = {.options = options};
    if ((options->file != NULL) == (options->tokens != NULL)) {
        return error_usage("it is not clear what to score",
                           options->file ? "both -f and --tokens were given" : "neither -f nor --tokens was given",
                           "graft eval -m MODEL -f TEXT");
    }
    int code = options->tokens ? eval_tokens(&e) : eval_text(&e);
    scorer_close(&e.scorer);
    return code;
}
