// SPDX-License-Identifier: Apache-2.0
// graft merge --eval: KL divergence between the base with the adapters unmerged and the merged model, and for scale between the
// former and the base alone. One model is open at a time; the logits wait in a file that has no name.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/merge.h"
#include "tools/score.h"

struct comparison {
    const struct options *options;
    json_t *prompts;
    uint32_t longest, n_vocab;
    FILE *logits; // of the unmerged model: [rows][n_vocab] f32
    float *row;   // [n_vocab], read back
    bool failed;  // the file did not take or give a row
};

static void keep_row(void *user, uint32_t i, const float *logits)
{
    struct comparison *c = user;
    (void)i;
    c->failed = c->failed || fwrite(logits, sizeof *logits, c->n_vocab, c->logits) != c->n_vocab;
}

struct against {
    struct comparison *c;
    struct divergence *out;
};

static uint32_t best_of(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

// KL(p || q) = sum of p (log p - log q), p unmerged, q these logits.
static void compare_row(void *user, uint32_t i, const float *logits)
{
    struct against *a = user;
    struct comparison *c = a->c;
    (void)i;
    if (c->failed || fread(c->row, sizeof *c->row, c->n_vocab, c->logits) != c->n_vocab) {
        c->failed = true;
        return;
    }
    double log_p = log_sum_exp(c->row, c->n_vocab), log_q = log_sum_exp(logits, c->n_vocab), kl = 0;
    for (uint32_t k = 0; k < c->n_vocab; k++) {
        double p = (double)c->row[k] - log_p, q = (double)logits[k] - log_q;
        kl += exp(p) * (p - q);
    }
    a->out->rows++;
    a->out->sum += kl;
    a->out->most = kl > a->out->most ? kl : a->out->most;
    a->out->same_best += best_of(c->row, c->n_vocab) == best_of(logits, c->n_vocab);
}

// All prompts through an open model.
static int feed_all(struct comparison *c, struct scorer *scorer, const char *what,
                    void (*see)(void *user, uint32_t i, const float *logits), void *user)
{
    struct progress progress;
    size_t done = 0;
    const char *name;
    json_t *array;
    int code = EXIT_GOOD;
    rewind(c->logits);
    progress_begin(&progress, what);
    json_object_foreach(c->prompts, name, array)
    {
        int32_t *ids;
        uint32_t count;
        if (code != EXIT_GOOD) {
            break;
        }
        if (!score_ids(name, array, &ids, &count)) {
            code = EXIT_BAD_FILE;
            break;
        }
        enum graft_status status = scorer_feed(scorer, ids, count, 0, count, see, user);
        free(ids);
        if (status != GRAFT_OK) {
            code = error_status(status, "the tokens cannot be scored");
        }
        progress_show(&progress, ++done, json_object_size(c->prompts), name);
    }
    progress_end(&progress);
    if (code == EXIT_GOOD && (c->failed || fflush(c->logits) != 0)) {
        error3("the logits cannot be compared", errno ? strerror(errno) : "their file is cut short", "more room on the disk");
        code = EXIT_FAILED;
    }
    return code;
}

// The base with the adapters, whose logits are kept; then without.
static int run_base(struct comparison *c, struct merge_evaluation *out)
{
    struct scorer scorer = {0};
    int code = scorer_open(&scorer, c->options, c->longest);
    if (code == EXIT_GOOD) {
        c->n_vocab = scorer.session.info.n_vocab;
        c->row = get_memory(c->n_vocab, sizeof *c->row);
        code = feed_all(c, &scorer, "Unmerged", keep_row, c);
    }
    if (code == EXIT_GOOD) {
        graft_seq_truncate(scorer.seq, 0);
        enum graft_status status = graft_seq_set_adapters(scorer.seq, NULL, 0);
        struct against against = {c, &out->base};
        code = status == GRAFT_OK ? feed_all(c, &scorer, "Base", compare_row, &against)
                                  : error_status(status, "the adapters cannot be left out");
    }
    scorer_close(&scorer);
    return code;
}

static int run_merged(struct comparison *c, struct merge_evaluation *out)
{
    struct scorer scorer = {0};
    struct options merged = *c->options;
    merged.model = c->options->out;
    merged.adapters.count = 0;
    int code = scorer_open(&scorer, &merged, c->longest);
    if (code == EXIT_GOOD) {
        struct against against = {c, &out->merged};
        code = feed_all(c, &scorer, "Merged", compare_row, &against);
    }
    scorer_close(&scorer);
    return code;
}

int merge_evaluate(const struct options *options, struct merge_evaluation *out)
{
    struct comparison c = {.options = options};
    json_t *file;
    *out = (struct merge_evaluation){0};
    int code = score_prompts(options->eval_tokens, &file, &c.prompts, &c.longest);
    if (code == EXIT_GOOD && (c.logits = system_nameless(options->out)) == NULL) {
        error3("the logits cannot be compared", strerror(errno), "an output folder that can be written to");
        code = EXIT_FAILED;
    }
    if (code == EXIT_GOOD) {
        code = run_base(&c, out);
    }
    if (code == EXIT_GOOD) {
        code = run_merged(&c, out);
    }
    if (c.logits) {
        fclose(c.logits);
    }
    free(c.row);
    json_decref(file);
    return code;
}
