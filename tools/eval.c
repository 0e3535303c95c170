// SPDX-License-Identifier: Apache-2.0
// graft eval: perplexity of a text, or log-probabilities of given tokens.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

enum { DEFAULT_CONTEXT = 512 };

// log(sum(exp(logits))), stable: the largest is taken out first.
static double log_sum_exp(const float *logits, uint32_t count)
{
    double largest = logits[0], sum = 0;
    for (uint32_t i = 1; i < count; i++) {
        largest = logits[i] > largest ? logits[i] : largest;
    }
    for (uint32_t i = 0; i < count; i++) {
        sum += exp((double)logits[i] - largest);
    }
    return largest + log(sum);
}

struct evaluation {
    struct session session;
    struct graft_seq *seq;
    struct graft_row *rows; // [n_batch]
    const struct options *options;
};

// Feed ids[0..count) to an empty sequence. nll (may be NULL) gets -log p(ids[i + 1] | ids[0..i]) for i in [first, count - 1):
// nll[i - first]. last (may be NULL) gets a function's view of the logits after the last id.
static enum graft_status feed(struct evaluation *e, const int32_t *ids, uint32_t count, uint32_t first, double *nll,
                              void (*last)(void *user, const float *logits), void *user)
{
    struct graft_model *model = e->session.model;
    const uint32_t n_vocab = e->session.info.n_vocab, most = e->session.info.n_batch;
    graft_seq_truncate(e->seq, 0);
    for (uint32_t done = 0; done < count;) {
        uint32_t n = 0, wanted = 0;
        while (done + n < count && n < most && wanted < GRAFT_MAX_WANTED) {
            bool want = done + n >= first && (done + n + 1 < count || last);
            e->rows[n] = (struct graft_row){e->seq, ids[done + n], want};
            wanted += want;
            n++;
        }
        enum graft_status status = graft_decode(model, e->rows, n, GRAFT_WANT_LOGITS);
        for (uint32_t i = 0; i < n && status == GRAFT_OK; i++) {
            const float *logits;
            uint32_t at = done + i;
            if (!e->rows[i].want) {
                continue;
            }
            status = graft_model_logits(model, i, &logits);
            if (status != GRAFT_OK) {
                return status;
            }
            if (at + 1 < count) {
                nll[at - first] = log_sum_exp(logits, n_vocab) - (double)logits[ids[at + 1]];
            } else {
                last(user, logits);
            }
        }
        if (status != GRAFT_OK) {
            return status;
        }
        done += n;
    }
    return GRAFT_OK;
}

static int open_model(struct evaluation *e, uint32_t n_ctx)
{
    struct graft_model_params params = session_params(e->options);
    params.n_ctx = n_ctx;
    params.n_seq = 1;
    int code = session_model(&e->session, e->options, &params);
    if (code != EXIT_GOOD) {
        return code;
    }
    e->rows = get_memory(e->session.info.n_batch, sizeof *e->rows);
    enum graft_status status = graft_seq_create(e->session.model, &e->seq);
    if (status == GRAFT_OK) {
        struct graft_adapter_use uses[GRAFT_MAX_BLEND];
        uint32_t n = session_blend(&e->session, uses);
        status = graft_seq_set_adapters(e->seq, uses, n);
    }
    return status == GRAFT_OK ? EXIT_GOOD : error_status(status, "a sequence cannot be started");
}

// ---- given tokens ----

struct top {
    struct graft_candidate *best; // sorted downwards
    uint32_t capacity, count, n_vocab;
    double log_sum;
};

// The best of a row, by logit downwards, ties by smaller id: insertion into a short sorted list.
static void take_top(void *user, const float *logits)
{
    struct top *top = user;
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

// Ids of one prompt; false with a printed error if it is not an array of whole numbers.
static bool read_ids(const char *name, json_t *array, int32_t **ids, uint32_t *count)
{
    size_t n = json_array_size(array);
    *ids = NULL;
    *count = (uint32_t)n;
    char because[200];
    if (!json_is_array(array) || n == 0 || n > 16777216) {
        snprintf(because, sizeof because, "prompt '%.80s' is not an array of ids with at least one", name);
        error3("the token file cannot be used", because, "{\"prompts\": {\"name\": [1, 2, 3]}}");
        return false;
    }
    *ids = get_memory(n, sizeof **ids);
    for (size_t i = 0; i < n; i++) {
        json_int_t id = json_integer_value(json_array_get(array, i));
        if (!json_is_integer(json_array_get(array, i)) || id < 0 || id > INT32_MAX) {
            snprintf(because, sizeof because, "item %zu of prompt '%.80s' is not a token id", i, name);
            error3("the token file cannot be used", because, "graft tokenize --json makes such arrays");
            free(*ids);
            *ids = NULL;
            return false;
        }
        (*ids)[i] = (int32_t)id;
    }
    return true;
}

static int eval_prompt(struct evaluation *e, const char *name, json_t *array, struct top *top, json_t *results)
{
    int32_t *ids;
    uint32_t count;
    if (!read_ids(name, array, &ids, &count)) {
        return EXIT_BAD_FILE;
    }
    double *nll = get_memory(count, sizeof *nll);
    enum graft_status status = feed(e, ids, count, 0, nll, take_top, top);
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
    json_t *file, *array;
    int code = json_read(e->options->tokens, &file);
    if (code != EXIT_GOOD) {
        return code;
    }
    json_t *prompts = json_object_get(file, "prompts"), *results = json_object();
    size_t longest = 0, done = 0;
    const char *name;
    json_object_foreach(prompts, name, array)
    {
        longest = json_array_size(array) > longest ? json_array_size(array) : longest;
    }
    if (!json_is_object(prompts) || json_object_size(prompts) == 0) {
        error3("the token file cannot be used", "it has no object \"prompts\"", "{\"prompts\": {\"name\": [1, 2, 3]}}");
        code = EXIT_BAD_FILE;
    } else {
        code = open_model(e, e->options->n_ctx ? (uint32_t)e->options->n_ctx : (uint32_t)longest);
    }
    struct top top = {0};
    if (code == EXIT_GOOD) {
        top.n_vocab = e->session.info.n_vocab;
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

// Pieces of n_ctx ids; the second half of each is scored, so that every scored id has at least half a context before it. A BOS
// that the file asks for replaces the first id of every piece. A text shorter than one piece is one piece.
static enum graft_status score_text(struct evaluation *e, int32_t *ids, size_t count, int32_t bos, struct perplexity *out,
                                    uint64_t *pieces)
{
    uint32_t n_ctx = count < e->session.info.n_ctx ? (uint32_t)count : e->session.info.n_ctx, first = n_ctx / 2;
    double *nll = get_memory(n_ctx, sizeof *nll);
    struct progress progress;
    progress_begin(&progress, "Scoring");
    enum graft_status status = GRAFT_OK;
    *pieces = count / n_ctx;
    for (uint64_t piece = 0; piece < *pieces && status == GRAFT_OK; piece++) {
        int32_t *begin = ids + piece * n_ctx;
        if (bos >= 0) {
            begin[0] = bos;
        }
        status = feed(e, begin, n_ctx, first, nll, NULL, NULL);
        for (uint32_t i = first; i + 1 < n_ctx && status == GRAFT_OK; i++) {
            out->scored++;
            out->sum += nll[i - first];
            out->squares += nll[i - first] * nll[i - first];
        }
        double error, value = perplexity_value(out, &error);
        char suffix[64];
        snprintf(suffix, sizeof suffix, "perplexity %.3f +/- %.3f", value, error);
        progress_show(&progress, piece + 1, *pieces, suffix);
    }
    progress_end(&progress);
    free(nll);
    return status;
}

static int eval_text(struct evaluation *e)
{
    struct text text;
    int code = text_read(e->options->file, &text);
    if (code == EXIT_GOOD) {
        code = open_model(e, e->options->n_ctx ? (uint32_t)e->options->n_ctx : DEFAULT_CONTEXT);
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
        graft_tokenize(e->session.model, text.data, text.length, false, false, ids, text.length + 16, &count);
    if (status == GRAFT_OK &&
        (graft_tokenize(e->session.model, "", 0, false, true, &bos, 1, &n_bos) != GRAFT_OK || n_bos != 1)) {
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
                                    "n_ctx", (json_int_t)e->session.info.n_ctx));
    } else if (code == EXIT_GOOD) {
        printf("perplexity %.4f +/- %.4f (%" PRIu64 " of %zu tokens scored, %" PRIu64 " pieces of %" PRIu32 ")\n", value, error,
               perplexity.scored, count, pieces, e->session.info.n_ctx);
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
    if (e.seq) {
        graft_seq_destroy(&e.seq);
    }
    free(e.rows);
    session_close(&e.session);
    return code;
}
