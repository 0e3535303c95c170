// SPDX-License-Identifier: Apache-2.0
// Any bytes as a GGUF file: parsing never crashes and leaks nothing; what it accepts lies inside the file, does not overlap and
// is found by name (graft_test_gguf_walk). Under libFuzzer (one line):
//     clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -DGRAFT_LIBFUZZER -Iinclude -I. -Itests tests/fuzz/fuzz_gguf.c
//         tests/support/*.c loaders/*.c platform/*.c -lcheck -lsubunit -lrt -lm -lsodium -lnettle -ljansson -lpthread
//         -o fuzz_gguf
//     ./fuzz_gguf -max_len=4096 CORPUS tests/golden/gguf
// Without GRAFT_LIBFUZZER it is a program that replays the files of the folders named on its command line.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/gguf.h"
#include "support/gguf_builder.h"
#include "support/support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int allow_unknown = 0; allow_unknown < 2; allow_unknown++) {
        struct graft_test_alloc alloc = {0};
        struct graft_ctx_params params = {
            .size = sizeof params, .alloc = graft_test_alloc, .free = graft_test_free, .alloc_user = &alloc};
        struct graft_ctx *ctx;
        if (graft_ctx_create(&ctx, &params) != GRAFT_OK) {
            return 0;
        }
        struct graft_gguf *gguf;
        if (graft_gguf_open_memory(ctx, &gguf, data, size, "fuzz.gguf", allow_unknown) == GRAFT_OK) {
            const char *wrong = graft_test_gguf_walk(gguf);
            if (wrong) {
                fprintf(stderr, "accepted, but: %s\n", wrong);
                abort();
            }
            graft_gguf_close(&gguf);
        } else if (gguf || strncmp(graft_last_error(), "fuzz.gguf: ", 11) != 0) {
            fprintf(stderr, "refused, but the error is \"%s\"\n", graft_last_error());
            abort();
        }
        graft_ctx_destroy(&ctx);
        if (alloc.live != 0) {
            fprintf(stderr, "leaked %llu blocks\n", (unsigned long long)alloc.live);
            abort();
        }
    }
    return 0;
}

#ifndef GRAFT_LIBFUZZER
static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    uint8_t *data = NULL;
    size_t size = 0, room = 0;
    for (;;) {
        if (size == room) {
            room = room ? 2 * room : 4096;
            uint8_t *bigger = realloc(data, room);
            if (!bigger) {
                abort();
            }
            data = bigger;
        }
        size_t got = fread(data + size, 1, room - size, file);
        if (got == 0) {
            break;
        }
        size += got;
    }
    fclose(file);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = argc < 2, files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (!folder) {
            perror(argv[i]);
            return 1;
        }
        for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (entry->d_name[0] != '.') {
                failed |= replay(path);
                files++;
            }
        }
        closedir(folder);
    }
    printf("%d files replayed\n", files);
    return failed || files == 0;
}
#endif
