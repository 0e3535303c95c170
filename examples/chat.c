// SPDX-License-Identifier: Apache-2.0
// A whole chat in C: chat MODEL.gguf [DEVICE]. One line on standard input is one question.
//   cc chat.c $(pkg-config --cflags --libs graft) -o chat
#include <graft/graft.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct graft_ctx_params limits = {.size = sizeof limits, .budget_bytes = 600u << 20};
    struct graft_device_params device_params = {.size = sizeof device_params, .select = argc > 2 ? argv[2] : NULL};
    struct graft_chat_params chat_params = {
        .size = sizeof chat_params, .max_tokens = 200, .sampling = {.size = sizeof(struct graft_sampling), .temperature = -1}};
    struct graft_ctx *ctx = NULL;
    struct graft_device *device = NULL;
    struct graft_model *model = NULL;
    struct graft_chat *chat = NULL;
    char question[4096];

    enum graft_status status = argc > 1 ? GRAFT_OK : GRAFT_E_ARGUMENT;
    status = status ? status : graft_ctx_create(&ctx, &limits);
    status = status ? status : graft_device_open(ctx, &device, &device_params);
    status = status ? status : graft_model_open(device, &model, argv[1], NULL);
    status = status ? status : graft_chat_create(model, &chat, &chat_params);
    while (!status && fgets(question, sizeof question, stdin)) {
        const char *piece;
        size_t length;
        bool done = false;
        status = graft_chat_send(chat, question, strcspn(question, "\n"));
        while (!status && !done && !(status = graft_chat_next(chat, &piece, &length, &done))) {
            printf("%.*s", (int)length, piece);
            fflush(stdout);
        }
        puts("");
    }
    if (status) {
        fprintf(stderr, "chat: %s: %s\n", graft_status_name(status),
                argc > 1 ? graft_last_error() : "usage: chat MODEL.gguf [DEVICE]");
    }
    graft_chat_destroy(&chat);
    graft_model_close(&model);
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
    return status ? 1 : 0;
}
