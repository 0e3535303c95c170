// SPDX-License-Identifier: Apache-2.0
#include "tools/score.h"

#include <math.h>
#include <stdlib.h>

#include "platform/plat.h"

double log_sum_exp(const float *logits, uint32_t count)
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

// -infinity is a token that never comes.
static bool are_numbers(const float *logits, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY) {
            return false;
        }
    }
    return true;
}

enum graft_status scorer_feed(struct scorer *scorer, const int32_t *ids, uint32_t count, uint32_t first, uint32_t last,
                              void (*see)(void *user, uint32_t i, const float *logits), void *user)
{
    struct graft_model *model = scorer->session.model;
    const uint32_t most = scorer->session.info.n_batch;
    graft_seq_truncate(scorer->seq, 0);
    for (uint32_t done = 0; done < count;) {
        uint32_t n = 0, wanted = 0;
        while (done + n < count && n < most && wanted < GRAFT_MAX_WANTED) {
            bool want = done + n >= first && done + n < last;
            scorer->rows[n] = (struct graft_row){scorer->seq, ids[done + n], want};
            wanted += want;
            n++;
        }
        enum graft_status status = graft_decode(model, scorer->rows, n, GRAFT_WANT_LOGITS);
        for (uint32_t i = 0; i < n && status == GRAFT_OK; i++) {
            const float *logits;
            if (!scorer->rows[i].want) {
                continue;
            }
            status = graft_model_logits(model, i, &logits);
            if (status == GRAFT_OK && !are_numbers(logits, scorer->session.info.n_vocab)) {
                status = graft_fail(GRAFT_E_NOT_FINITE, "not all logits behind token %u are numbers", done + i);
            }
            if (status == GRAFT_OK) {
                see(user, done + i, logits);
            }
        }
        if (status != GRAFT_OK) {
            return status;
        }
        done += n;
    }
    return GRAFT_OK;
}

int scorer_open(struct scorer *scorer, const struct options *options, uint32_t n_ctx)
{
    struct graft_model_params params = session_params(options);
    params.n_ctx = n_ctx;
    params.n_seq = 1;
    int code = session_model(&scorer->session, options, &params);
    if (code != EXIT_GOOD) {
        return code;
    }
    scorer->rows = get_memory(scorer->session.info.n_batch, sizeof *scorer->rows);
    enum graft_status status = graft_seq_create(scorer->session.model, &scorer->seq);
    if (status == GRAFT_OK) {
        struct graft_adapter_use uses[GRAFT_MAX_BLEND];
        uint32_t n = session_blend(&scorer->session, uses);
        status = graft_seq_set_adapters(scorer->seq, uses, n);
    }
    return status == GRAFT_OK ? EXIT_GOOD : error_status(status, "a sequence cannot be started");
}

void scorer_close(struct scorer *scorer)
{
    if (scorer->seq) {
        graft_seq_destroy(&scorer->seq);
    }
    free(scorer->rows);
    scorer->rows = NULL;
    session_close(&scorer->session);
}

bool score_ids(const char *name, json_t *array, int32_t **ids, uint32_t *count)
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

int score_prompts(const char *path, json_t **file, json_t **prompts, uint32_t *longest)
{
    const char *name;
    json_t *array;
    int code = json_read(path, file);
    if (code != EXIT_GOOD) {
        return code;
    }
    *longest = 0;
    *prompts = json_object_get(*file, "prompts");
    if (!json_is_object(*prompts) || json_object_size(*prompts) == 0) {
        error3("the token file cannot be used", "it has no object \"prompts\"", "{\"prompts\": {\"name\": [1, 2, 3]}}");
        json_decref(*file);
        *file = NULL;
        return EXIT_BAD_FILE;
    }
    json_object_foreach(*prompts, name, array)
    {
        *longest = json_array_size(array) > *longest ? (uint32_t)json_array_size(array) : *longest;
    }
    return EXIT_GOOD;
}
