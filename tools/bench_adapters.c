// SPDX-License-Identifier: Apache-2.0
// graft bench --adapters: what each sequence runs with, and what a swap costs.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"
#include "tools/bench.h"

enum { SWAPS = 32 };

int bench_read_adapters(struct bench *bench, const char *list, struct options *options)
{
    if (options->adapters.count) {
        return error_usage("the adapters of the sequences are not clear", "both --adapter and --adapters were given",
                           "one of the two");
    }
    for (const char *part = list;; part++) {
        size_t length = strcspn(part, ",");
        char *text = get_memory(length + 1, 1);
        memcpy(text, part, length);
        text[length] = 0;
        int which = -1;
        if (length == 0) {
            free(text);
            return error_usage("the list of adapters has an empty place", list, "--adapters legal=DIR,finance=DIR,none");
        }
        for (uint32_t i = 0; i < options->adapters.count; i++) {
            which = strcmp(options->adapters.values[i], text) == 0 ? (int)i : which;
        }
        if (which < 0 && strcmp(text, "none") != 0) {
            which = (int)options->adapters.count;
            if (options->adapters.count == OPTION_TEXTS_ITEMS) {
                free(text);
                return error_usage("the list has too many adapters", list, "at most %d different ones", OPTION_TEXTS_ITEMS);
            }
            options->adapters.values[options->adapters.count++] = text; // for as long as the program runs
        } else {
            free(text);
        }
        bench->own = grow_memory(bench->own, bench->n_own + 1, sizeof *bench->own);
        bench->own[bench->n_own++] = which;
        part += length;
        if (!*part) {
            return EXIT_GOOD;
        }
    }
}

// The first adapter of the list that is one; -1 if all are none.
static int first_of(const struct bench *bench)
{
    for (uint32_t i = 0; i < bench->n_own; i++) {
        if (bench->own[i] >= 0) {
            return bench->own[i];
        }
    }
    return -1;
}

static enum graft_status set_one(const struct bench *bench, struct graft_seq *seq, int which)
{
    struct graft_adapter_use use = {0};
    if (which >= 0) {
        use.adapter = bench->session.adapters[which].handle;
        use.weight = bench->session.adapters[which].weight;
    }
    return graft_seq_set_adapters(seq, &use, which >= 0);
}

enum graft_status bench_choose(const struct bench *bench, const struct bench_test *test, struct graft_seq **seqs,
                               uint32_t n_seqs)
{
    enum graft_status status = GRAFT_OK;
    for (uint32_t i = 0; i < n_seqs && status == GRAFT_OK; i++) {
        struct graft_adapter_use uses[GRAFT_MAX_BLEND];
        graft_seq_truncate(seqs[i], 0);
        switch (test->adapters) {
        case BENCH_BLEND: status = graft_seq_set_adapters(seqs[i], uses, session_blend(&bench->session, uses)); break;
        case BENCH_NONE: status = set_one(bench, seqs[i], -1); break;
        case BENCH_LOADING:
        case BENCH_FIRST: status = set_one(bench, seqs[i], first_of(bench)); break;
        case BENCH_EACH: status = set_one(bench, seqs[i], bench->own[i % bench->n_own]); break;
        }
    }
    return status;
}

// The adapter that BENCH_LOADING loads: the last one; its handle is given back meanwhile, so that it can be dropped.
static struct session_adapter *loaded(struct bench *bench)
{
    return &bench->session.adapters[bench->session.n_adapters - 1];
}

enum graft_status bench_load_on(struct bench *bench)
{
    struct session_adapter *adapter = loaded(bench);
    if (!bench->load) {
        graft_adapter_release(&adapter->handle);
        graft_adapter_expire(bench->session.model, 0);
        return graft_adapter_load_begin(bench->session.model, &bench->load, adapter->path);
    }
    if (!graft_adapter_load_ready(bench->load)) {
        return GRAFT_OK;
    }
    bench->n_loads++;
    return graft_adapter_load_end(&bench->load, &adapter->handle);
}

enum graft_status bench_load_end(struct bench *bench)
{
    return bench->load ? graft_adapter_load_end(&bench->load, &loaded(bench)->handle) : GRAFT_OK;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// Time of choosing an adapter (which < -1: none is chosen) and of one token.
static enum graft_status time_token(struct bench *bench, struct graft_seq *seq, int which, uint64_t *ns)
{
    struct graft_row row = {seq, 1, true};
    struct graft_candidate best;
    uint32_t count = 1;
    uint64_t begin = graft_clock_ns();
    enum graft_status status = which < -1 ? GRAFT_OK : set_one(bench, seq, which);
    status = status != GRAFT_OK ? status : graft_decode(bench->session.model, &row, 1, GRAFT_WANT_CANDIDATES);
    status = status != GRAFT_OK ? status : graft_model_candidates(bench->session.model, 0, &best, &count);
    *ns = graft_clock_ns() - begin;
    return status;
}

enum graft_status bench_swap(struct bench *bench, struct graft_seq *seq)
{
    uint64_t first[SWAPS], next[SWAPS];
    if (bench->session.n_adapters < 2) {
        return GRAFT_OK;
    }
    for (uint32_t i = 0; i < SWAPS; i++) {
        graft_seq_truncate(seq, 0);
        enum graft_status status = time_token(bench, seq, (int)(i % 2), &first[i]);
        status = status != GRAFT_OK ? status : time_token(bench, seq, -2, &next[i]);
        if (status != GRAFT_OK) {
            return status;
        }
    }
    qsort(first, SWAPS, sizeof *first, by_value);
    qsort(next, SWAPS, sizeof *next, by_value);
    bench->swap_ms = ((double)first[SWAPS / 2] - (double)next[SWAPS / 2]) * 1e-6;
    return GRAFT_OK;
}

void bench_adapters_text(const struct bench *bench, const struct bench_test *test, char *out, size_t size)
{
    size_t used = 0;
    snprintf(out, size, "none");
    uint32_t n = test->adapters == BENCH_EACH ? test->n_seq : test->adapters == BENCH_FIRST || test->adapters == BENCH_LOADING;
    for (uint32_t i = 0; i < n && used < size; i++) {
        int which = test->adapters != BENCH_EACH ? first_of(bench) : bench->own[i % bench->n_own];
        int wrote =
            snprintf(out + used, size - used, "%s%s", i ? ", " : "", which < 0 ? "none" : bench->session.adapters[which].name);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    if (test->adapters == BENCH_LOADING && used < size) {
        snprintf(out + used, size - used, ", loading %s", bench->session.adapters[bench->session.n_adapters - 1].name);
    }
    for (uint32_t i = 0; test->adapters == BENCH_BLEND && i < bench->session.n_adapters && used < size; i++) {
        int wrote = snprintf(out + used, size - used, "%s%s", i ? " + " : "", bench->session.adapters[i].name);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
}
