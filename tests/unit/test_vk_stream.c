// SPDX-License-Identifier: Apache-2.0
// Streams: every unit is whole in its slot when what uses it runs, for any number of units and slots, pieces of any size, when
// a batch is left in its middle, and when a copy fails.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/vk/vk_internal.h"
#include "support/gpu.h"
#include "support/vk_support.h"

enum { MAX_UNITS = 7, SLOT_BYTES = 600 << 10, PARTS = 2 };

static const struct graft_vk_options devices[] = {
    {.select = NULL}, {.no_mapped_device = true}, {.no_mapped_device = true, .no_copy_queue = true}};
enum { DEVICES = sizeof devices / sizeof *devices };

struct world {
    struct graft_ctx *ctx;
    struct graft_test_log log;
    struct graft_vk *vk;
    struct graft_vk_buffer *slots[3], *back;
    struct graft_vk_commands *uses[MAX_UNITS]; // copies the unit's slot to its place in `back`
    struct graft_vk_stream *stream;
    uint8_t *data;
    uint32_t n_units, n_slots;
};

static uint64_t bytes_of(uint32_t unit)
{
    return (uint64_t)(16 + unit * 90) << 10; // from less than a piece to several
}

static bool open_world(struct world *w, int device, uint32_t n_units, uint32_t n_slots)
{
    struct graft_vk_options options = devices[device];
    memset(w, 0, sizeof *w);
    options.validation = graft_test_validating();
    w->ctx = graft_test_vk_ctx(NULL, 0, NULL, &w->log);
    w->n_units = n_units;
    w->n_slots = n_slots;
    if (graft_vk_open(w->ctx, &w->vk, &options) != GRAFT_OK) {
        printf("skipped: %s\n", graft_last_error());
        graft_ctx_destroy(&w->ctx);
        return false;
    }
    w->data = malloc((size_t)MAX_UNITS * SLOT_BYTES);
    ck_assert_ptr_nonnull(w->data);
    for (uint32_t i = 0; i < MAX_UNITS * SLOT_BYTES / 4; i++) {
        uint32_t word = i * 2654435761u;
        memcpy(w->data + 4 * (size_t)i, &word, 4);
    }
    for (uint32_t s = 0; s < n_slots; s++) {
        ck_assert_ok(graft_vk_buffer_create(w->vk, &w->slots[s], SLOT_BYTES, GRAFT_VK_SLOT, GRAFT_MEM_WEIGHTS, "a slot"));
    }
    ck_assert_ok(graft_vk_buffer_create(w->vk, &w->back, (uint64_t)MAX_UNITS * SLOT_BYTES, GRAFT_VK_READBACK, GRAFT_MEM_SCRATCH,
                                        "results"));
    for (uint32_t u = 0; u < n_units; u++) {
        ck_assert_ok(graft_vk_commands_create(w->vk, &w->uses[u], 1, false));
        ck_assert_ok(graft_vk_copy(w->uses[u], w->slots[u % n_slots], 0, w->back, (uint64_t)u * SLOT_BYTES, SLOT_BYTES));
        ck_assert_ok(graft_vk_commands_end(w->uses[u]));
    }
    return true;
}

// Unit u: two parts with a gap between them, from u * SLOT_BYTES of the data on.
static enum graft_status start(struct world *w)
{
    struct graft_vk_stream_part parts[MAX_UNITS * PARTS];
    uint32_t n_parts[MAX_UNITS];
    for (uint32_t u = 0; u < w->n_units; u++) {
        const uint8_t *data = w->data + (size_t)u * SLOT_BYTES;
        uint64_t first = bytes_of(u) / 3 & ~UINT64_C(3), second = first + 256;
        parts[2 * u] = (struct graft_vk_stream_part){data, first, 0};
        parts[2 * u + 1] = (struct graft_vk_stream_part){data + second, bytes_of(u) - second, second};
        n_parts[u] = PARTS;
    }
    return graft_vk_stream_create(w->vk, &w->stream,
                                  &(struct graft_vk_stream_params){.n_units = w->n_units,
                                                                   .n_slots = w->n_slots,
                                                                   .slots = w->slots,
                                                                   .parts = parts,
                                                                   .n_parts = n_parts,
                                                                   .map = w->data,
                                                                   .map_bytes = (uint64_t)MAX_UNITS * SLOT_BYTES});
}

static void close_world(struct world *w)
{
    graft_vk_stream_destroy(&w->stream);
    for (uint32_t u = 0; u < w->n_units; u++) {
        graft_vk_commands_destroy(&w->uses[u]);
    }
    for (uint32_t s = 0; s < w->n_slots; s++) {
        graft_vk_buffer_destroy(&w->slots[s]);
    }
    graft_vk_buffer_destroy(&w->back);
    ck_assert_msg(graft_vk_validation_messages(w->vk) == 0, "%.1200s", w->log.text);
    ck_assert_uint_eq(w->vk->live_buffers, 0);
    graft_vk_close(&w->vk);
    struct graft_memory_use use;
    graft_ctx_memory(w->ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&w->ctx);
    free(w->data);
}

// A batch of the first `n` units; the results of all must be right if n is all.
static enum graft_status batch(struct world *w, uint32_t n)
{
    GRAFT_TRY(graft_vk_stream_begin(w->stream));
    memset(w->back->mapped, 0, (size_t)w->back->bytes);
    for (uint32_t u = 0; u < n; u++) {
        GRAFT_TRY(graft_vk_stream_submit(w->stream, &w->uses[u], 1));
    }
    GRAFT_TRY(graft_vk_stream_wait(w->stream));
    for (uint32_t u = 0; u < n; u++) {
        const uint8_t *got = (const uint8_t *)w->back->mapped + (size_t)u * SLOT_BYTES,
                      *want = w->data + (size_t)u * SLOT_BYTES;
        uint64_t first = bytes_of(u) / 3 & ~UINT64_C(3), second = first + 256;
        ck_assert_msg(memcmp(got, want, first) == 0, "unit %u of %u, first part", u, w->n_units);
        ck_assert_msg(memcmp(got + second, want + second, bytes_of(u) - second) == 0, "unit %u of %u, second part", u,
                      w->n_units);
    }
    return GRAFT_OK;
}

START_TEST(every_unit_is_whole_when_it_is_used)
{
    for (uint32_t n_units = 3; n_units <= MAX_UNITS; n_units++) {
        struct world w;
        if (!open_world(&w, _i, n_units, 2 + n_units % 2 * (n_units > 3))) {
            return;
        }
        struct graft_vk_counters before, after;
        ck_assert_ok(start(&w));
        graft_vk_counters(w.vk, &before);
        for (uint32_t i = 0; i < 5; i++) {
            ck_assert_ok(batch(&w, n_units));
        }
        ck_assert_ok(batch(&w, n_units / 2)); // left in its middle
        ck_assert_ok(batch(&w, n_units));
        ck_assert_ok(batch(&w, 0));
        ck_assert_ok(graft_vk_stream_settle(w.stream));
        ck_assert_ok(batch(&w, n_units));
        graft_vk_counters(w.vk, &after);
        ck_assert_uint_eq(before.recordings, after.recordings);
        ck_assert_uint_eq(before.allocations, after.allocations);
        close_world(&w);
    }
}
END_TEST

// Each call fails once, of the thread's as of the owner's: an error, or a lost device, never a wrong result.
START_TEST(a_call_that_fails_is_told)
{
    static const enum graft_vk_fault faults[] = {GRAFT_VK_FAULT_ALLOCATE, GRAFT_VK_FAULT_CREATE, GRAFT_VK_FAULT_RECORD,
                                                 GRAFT_VK_FAULT_SUBMIT, GRAFT_VK_FAULT_WAIT};
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
        uint32_t failed = 0;
        for (uint64_t n = 1; n < 40; n += n < 8 ? 1 : 5) {
            struct world w;
            if (!open_world(&w, _i, 5, 2)) {
                return;
            }
            graft_vk_fault(w.vk, faults[k], n);
            enum graft_status status = start(&w);
            for (int i = 0; i < 2 && status == GRAFT_OK; i++) {
                status = batch(&w, 5);
            }
            graft_vk_fault(w.vk, faults[k], 0);
            failed += status != GRAFT_OK;
            ck_assert(status == GRAFT_OK || strlen(graft_last_error()) > 0);
            if (w.stream && status != GRAFT_E_DEVICE_LOST) { // the thread may have been struck behind the batch
                status = graft_vk_stream_settle(w.stream);
                status = status == GRAFT_OK ? batch(&w, 5) : status;
                ck_assert(status == GRAFT_OK || status == GRAFT_E_DEVICE_LOST);
            }
            close_world(&w);
        }
        bool mapped = _i == 0; // no memory is taken, nothing is recorded
        ck_assert_msg(failed > 0 || (mapped && k < 3 && k != 1), "%zu", k);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vk stream");
    TCase *tc = tcase_create("vk stream");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, every_unit_is_whole_when_it_is_used, 0, DEVICES);
    tcase_add_loop_test(tc, a_call_that_fails_is_told, 0, DEVICES);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
