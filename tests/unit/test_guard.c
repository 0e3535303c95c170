// SPDX-License-Identifier: Apache-2.0
// Fault F10: a mapped file is cut short under its readers. The process lives, the reader sees zeros, and whoever works on the
// model gets one clear error: opening, decoding on both executors, requests of the engine, merging.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "graft/engine.h"
#include "platform/guard.h"
#include "support/merge_files.h"
#include "support/model_world.h"
#include "support/peft_golden.h"

enum { PAGES = 8 };
static char path[GRAFT_TINY_PATH_BYTES];
static const struct graft_model_params params = {.size = sizeof params, .n_ctx = 256, .n_batch = 4, .n_seq = 2};

static void write_pages(const char *name)
{
    FILE *file = fopen(name, "wb");
    ck_assert_ptr_nonnull(file);
    for (uint64_t i = 0; i < PAGES * graft_page_bytes(); i++) {
        ck_assert_int_ne(fputc(0x5a, file), EOF);
    }
    ck_assert_int_eq(fclose(file), 0);
}

// The handler that was there before ours.
static sigjmp_buf back;
static volatile sig_atomic_t passed_on;
static void foreign_handler(int number)
{
    (void)number;
    passed_on++;
    siglongjmp(back, 1);
}

START_TEST(pages_that_are_gone_read_as_zeros_and_the_mapping_says_so)
{
    char name[] = "/tmp/graft-guard-XXXXXX";
    int fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    close(fd);
    write_pages(name);
    uint64_t page = graft_page_bytes(), sum = 0;
    struct graft_map map, other;
    ck_assert_ok(graft_map_open(&map, name));
    ck_assert_ok(graft_map_open(&other, "/proc/self/exe"));
    ck_assert_int_eq(truncate(name, (off_t)(3 * page)), 0);
    ck_assert(!graft_map_damaged(&map));
    ck_assert_uint_eq(map.data[3 * page - 1], 0x5a);
    ck_assert(!graft_map_damaged(&map)); // what is still there is read as before
    for (uint64_t i = 5 * page; i < PAGES * page; i++) {
        sum += map.data[i];
    }
    ck_assert_uint_eq(sum, 0);
    ck_assert(graft_map_damaged(&map));
    ck_assert_uint_eq(map.data[3 * page], 0); // in front of the page that was seen first
    ck_assert_uint_eq(map.data[2 * page], 0x5a);
    ck_assert(!graft_map_damaged(&other));
    graft_map_close(&map);
    ck_assert_ok(graft_map_open(&map, name)); // the mark does not stay with the place
    ck_assert(!graft_map_damaged(&map));
    graft_map_close(&map);
    graft_map_close(&other);
    remove(name);
}
END_TEST

START_TEST(what_is_not_ours_goes_to_the_handler_from_before)
{
    char name[] = "/tmp/graft-guard-XXXXXX";
    int fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    size_t page = (size_t)graft_page_bytes();
    volatile uint8_t *data = mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, 0); // of an empty file
    ck_assert_ptr_ne((void *)(uintptr_t)data, MAP_FAILED);
    passed_on = 0;
    if (sigsetjmp(back, 1) == 0) {
        ck_assert_uint_eq(data[0], 1); // not reached
    }
    ck_assert_int_eq(passed_on, 1);
    if (sigsetjmp(back, 1) == 0) {
        ck_assert_int_eq(raise(SIGBUS), 0);
    }
    ck_assert_int_eq(passed_on, 2);
    munmap((void *)(uintptr_t)data, page);
    close(fd);
    remove(name);
}
END_TEST

START_TEST(more_mappings_than_the_table_holds_are_not_watched_but_work)
{
    enum { MANY = 1100 };
    static struct graft_map maps[MANY];
    uint32_t watched = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        ck_assert_ok(graft_map_open(&maps[i], "/proc/self/exe"));
        watched += maps[i].handle != NULL;
    }
    ck_assert_uint_eq(watched, 1024);
    for (uint32_t i = 0; i < MANY; i++) {
        ck_assert_uint_eq(maps[i].data[1], 'E');
        graft_map_close(&maps[i]);
    }
    struct graft_map map;
    ck_assert_ok(graft_map_open(&map, "/proc/self/exe"));
    ck_assert_ptr_nonnull(map.handle);
    graft_map_close(&map);
}
END_TEST

// 0: the reference; 1: Vulkan, the mapping imported; 2: Vulkan, copied: the file is not read any more.
static bool open_world(struct graft_test_world *w, int which)
{
    struct graft_model_params given = params;
    struct graft_vk_options options = graft_test_mask_options(GRAFT_TEST_PLAIN);
    given.weights = which == 2 ? GRAFT_WEIGHTS_COPY : GRAFT_WEIGHTS_AUTO;
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0}, path);
    return graft_test_world_open(w, which ? &options : NULL, path, &given);
}

START_TEST(a_file_cut_short_fails_the_batch_and_leaves_the_sequences)
{
    struct graft_test_world w;
    struct graft_seq *seq;
    int32_t ids[8];
    if (!open_world(&w, _i)) {
        return;
    }
    graft_test_ids(ids, 8, 1);
    ck_assert_ok(graft_seq_create(w.model, &seq));
    graft_test_feed(w.model, seq, ids, 4, 4, NULL);
    ck_assert_int_eq(truncate(path, (off_t)graft_page_bytes()), 0);
    struct graft_row row = {.seq = seq, .token = ids[4], .want = true};
    struct graft_candidate best[4];
    uint32_t count = 4;
    if (_i == 2 || (_i == 1 && !w.model->exec->imported)) {
        ck_assert_ok(graft_decode(w.model, &row, 1, GRAFT_WANT_CANDIDATES));
    } else {
        for (int again = 0; again < 2; again++) {
            ck_assert_status(graft_decode(w.model, &row, 1, GRAFT_WANT_CANDIDATES), GRAFT_E_IO);
            ck_assert_error_has(path);
            ck_assert_error_has("was cut short or could not be read while it was in use");
            ck_assert_uint_eq(graft_seq_length(seq), 4);
            ck_assert_status(graft_model_candidates(w.model, 0, best, &count), GRAFT_E_ARGUMENT);
        }
    }
    graft_seq_destroy(&seq);
    graft_test_world_close(&w);
    remove(path);
}
END_TEST

static enum graft_status ended_with;
static void on_event(void *user, const struct graft_event *event)
{
    _Atomic int *tokens = user;
    if (event->finish == GRAFT_FINISH_NONE) {
        if (++*tokens == 3) {
            ck_assert_int_eq(truncate(path, (off_t)graft_page_bytes()), 0);
        }
        return;
    }
    ended_with = event->status;
    ck_assert_msg(event->status == GRAFT_OK || strstr(event->detail, "was cut short"), "%s", event->detail);
}

START_TEST(a_running_request_ends_with_the_error_and_no_token_after_it)
{
    struct graft_test_world w;
    struct graft_engine *engine;
    struct graft_request *request;
    int32_t ids[4];
    _Atomic int tokens = 0;
    if (!open_world(&w, 0)) {
        return;
    }
    graft_test_ids(ids, 4, 2);
    ck_assert_ok(graft_engine_create(w.model, &engine, NULL));
    struct graft_request_params p = {.size = sizeof p,
                                     .tokens = ids,
                                     .n_tokens = 4,
                                     .max_tokens = 50,
                                     .sampling = {.seed = 5},
                                     .on_event = on_event,
                                     .user = &tokens};
    ended_with = GRAFT_E_INTERNAL;
    ck_assert_ok(graft_engine_submit(engine, &request, &p));
    struct graft_engine_stats stats;
    do {
        usleep(1000);
        graft_engine_describe(engine, &stats);
    } while (stats.running + stats.waiting > 0 || stats.steps == 0);
    graft_request_release(&request);
    graft_engine_destroy(&engine);
    ck_assert_int_eq(ended_with, GRAFT_E_IO);
    ck_assert_int_eq(tokens, 3);
    graft_test_world_close(&w);
    remove(path);
}
END_TEST

static bool cut_while_loading(void *user, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    ck_assert_int_eq(truncate(user, (off_t)graft_page_bytes()), 0);
    return true;
}

START_TEST(a_file_cut_short_while_it_is_loaded_or_merged_gives_no_model)
{
    struct graft_test_world w;
    struct graft_vk_options options = graft_test_mask_options(GRAFT_TEST_STAGED);
    struct graft_model_params given = params;
    given.progress = cut_while_loading;
    given.progress_user = path;
    given.weights = GRAFT_WEIGHTS_COPY;
    if (graft_test_world_device(&w, &options)) {
        graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0, .n_layer = 4}, path);
        ck_assert_status(graft_model_open(&w.device, &w.model, path, &given), GRAFT_E_IO);
        ck_assert_error_has("was cut short");
        remove(path);
        graft_test_world_close(&w);
    }
    char folder[GRAFT_MERGE_PATH_BYTES], base[GRAFT_PEFT_PATH_BYTES], adapter[GRAFT_PEFT_PATH_BYTES], command[1200];
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    graft_merge_folder_begin(folder);
    graft_peft_path(base, "base.gguf");
    graft_peft_path(adapter, "plain");
    const char *copy = graft_merge_at(folder, "base.gguf"), *out = graft_merge_at(folder, "out.gguf");
    snprintf(command, sizeof command, "cp %s %s", base, copy);
    ck_assert_int_eq(system(command), 0);
    struct graft_merge_adapter one = {adapter, 1};
    struct graft_merge_params merge = {.size = sizeof merge,
                                       .adapters = &one,
                                       .n_adapters = 1,
                                       .progress = cut_while_loading,
                                       .progress_user = (void *)(uintptr_t)copy};
    ck_assert_status(graft_merge(ctx, copy, out, &merge, NULL), GRAFT_E_IO);
    ck_assert_error_has("cut short");
    ck_assert_uint_eq(graft_merge_entries(folder, "base.gguf"), 0); // no output, no temporary
    graft_merge_folder_end(folder);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    struct sigaction foreign = {.sa_handler = foreign_handler};
    if (sigaction(SIGBUS, &foreign, NULL) != 0) {
        return EXIT_FAILURE;
    }
    for (int again = 0; again < 2; again++) {
        if (graft_guard_mapped_files() != GRAFT_OK) {
            return EXIT_FAILURE;
        }
    }
    Suite *suite = suite_create("guard");
    TCase *tc = tcase_create("guard");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, pages_that_are_gone_read_as_zeros_and_the_mapping_says_so);
    tcase_add_test(tc, what_is_not_ours_goes_to_the_handler_from_before);
    tcase_add_test(tc, more_mappings_than_the_table_holds_are_not_watched_but_work);
    tcase_add_loop_test(tc, a_file_cut_short_fails_the_batch_and_leaves_the_sequences, 0, 3);
    tcase_add_test(tc, a_running_request_ends_with_the_error_and_no_token_after_it);
    tcase_add_test(tc, a_file_cut_short_while_it_is_loaded_or_merged_gives_no_model);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
