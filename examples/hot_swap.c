// SPDX-License-Identifier: Apache-2.0
// Departments on one base model: hot_swap MODEL.gguf ADAPTER [ADAPTER ...]. Every adapter answers the same question in one
// batch, each in a sequence of its own; then one sequence is handed from adapter to adapter between two tokens.
//   cc hot_swap.c $(pkg-config --cflags --libs graft) -o hot_swap
#define _POSIX_C_SOURCE 200809L
#include <graft/graft.h>
#include <stdio.h>
#include <time.h>

enum { MOST = 8, PROMPT = 256, ANSWER = 24 };

static const char conversation[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"How long do we keep client files?\"}], "
                                   "\"add_generation_prompt\": true}";

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

// The question as token ids.
static enum graft_status make_prompt(struct graft_model *model, int32_t ids[PROMPT], size_t *count)
{
    char *text;
    size_t length;
    enum graft_status status = graft_render(model, NULL, conversation, &text, &length);
    if (status == GRAFT_OK) {
        status = graft_tokenize(model, text, length, true, false, ids, PROMPT, count);
        graft_text_free(model, &text);
    }
    return status;
}

// All sequences together: the prompts one after the other, then a token of each per step. answers: [n][ANSWER]
static enum graft_status answer(struct graft_model *model, struct graft_seq **seqs, size_t n, const int32_t *ids, size_t count,
                                int32_t answers[][ANSWER])
{
    struct graft_row rows[MOST];
    struct graft_candidate best;
    uint32_t one;
    enum graft_status status = GRAFT_OK;
    for (size_t at = 0; at < count + ANSWER - 1 && !status; at++) {
        for (size_t i = 0; i < n; i++) {
            rows[i] = (struct graft_row){seqs[i], at < count ? ids[at] : answers[i][at - count], at + 1 >= count};
        }
        status = graft_decode(model, rows, (uint32_t)n, GRAFT_WANT_CANDIDATES);
        for (uint32_t i = 0; i < n && at + 1 >= count && !status; i++) {
            one = 1;
            status = graft_model_candidates(model, i, &best, &one);
            answers[i][at + 1 - count] = best.id;
        }
    }
    return status;
}

int main(int argc, char **argv)
{
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = MOST * 384, .n_seq = MOST, .adapter_pool_bytes = 32 << 20, .adapter_slots = MOST};
    struct graft_ctx *ctx = NULL;
    struct graft_device *device = NULL;
    struct graft_model *model = NULL;
    struct graft_adapter *adapters[MOST] = {0};
    struct graft_seq *seqs[MOST] = {0};
    int32_t ids[PROMPT], answers[MOST][ANSWER];
    size_t n = argc > 2 ? (size_t)argc - 2 : 0, count = 0;
    enum graft_status status = n >= 1 && n <= MOST ? GRAFT_OK : GRAFT_E_ARGUMENT;

    status = status ? status : graft_ctx_create(&ctx, NULL);
    status = status ? status : graft_device_open(ctx, &device, NULL);
    status = status ? status : graft_model_open(device, &model, argv[1], &params);
    for (size_t i = 0; i < n && !status; i++) {
        double begin = milliseconds();
        status = graft_adapter_load(model, &adapters[i], argv[i + 2]);
        printf("%s: loaded in %.1f ms\n", argv[i + 2], milliseconds() - begin);
        status = status ? status : graft_seq_create(model, &seqs[i]);
        struct graft_adapter_use use = {.adapter = adapters[i], .weight = 1};
        status = status ? status : graft_seq_set_adapters(seqs[i], &use, 1);
    }
    status = status ? status : make_prompt(model, ids, &count);
    status = status ? status : answer(model, seqs, n, ids, count, answers);
    for (size_t i = 0; i < n && !status; i++) {
        char text[ANSWER * 64];
        size_t length, tokens = 0;
        while (tokens < ANSWER && !graft_token_is_end(model, answers[i][tokens])) {
            tokens++;
        }
        status = graft_detokenize(model, answers[i], tokens, false, text, sizeof text, &length);
        printf("\n%s: %.*s\n", argv[i + 2], (int)length, text);
    }
    for (size_t i = 0; i < n && !status; i++) { // a swap: the sequence starts again with another adapter
        struct graft_adapter_use use = {.adapter = adapters[(i + 1) % n], .weight = 1};
        graft_seq_truncate(seqs[0], 0);
        double begin = milliseconds();
        status = graft_seq_set_adapters(seqs[0], &use, 1);
        printf("%sswap to %s: %.3f ms\n", i ? "" : "\n", argv[(i + 1) % n + 2], milliseconds() - begin);
    }
    if (!status) {
        struct graft_memory_use memory;
        graft_ctx_memory(ctx, &memory);
        printf("\n%.1f MiB in all\n", (double)memory.used_bytes / 1048576);
        for (int i = 0; i < GRAFT_MEM_CLASSES; i++) {
            printf("  %-10s %.1f MiB\n", graft_mem_class_name((enum graft_mem_class)i),
                   (double)memory.class_bytes[i] / 1048576);
        }
    } else {
        fprintf(stderr, "hot_swap: %s: %s\n", graft_status_name(status),
                ctx ? graft_last_error() : "usage: hot_swap MODEL.gguf ADAPTER [ADAPTER ...], at most 8");
    }
    for (size_t i = 0; i < MOST; i++) {
        graft_seq_destroy(&seqs[i]);
        graft_adapter_release(&adapters[i]);
    }
    graft_model_close(&model);
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
    return status ? 1 : 0;
}
