// SPDX-License-Identifier: Apache-2.0
// Replays files through a fuzz target without libFuzzer: each as it is, then cut and damaged at random, the same way every
// time.
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz/fuzz.h"

enum { MOST_BYTES = 1 << 20, DAMAGED = 40 };

static uint8_t content[MOST_BYTES], changed[MOST_BYTES];

// The target gets a copy of exactly that many bytes, so that valgrind and sanitizers see every read behind the end.
static void try_bytes(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) {
        abort();
    }
    memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static int replay(const char *path, struct graft_test_random *random)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    size_t size = fread(content, 1, sizeof content, file);
    fclose(file);
    try_bytes(content, size);
    for (int i = 0; i < DAMAGED && size > 0; i++) {
        size_t part = i % 4 == 0 ? (size_t)(graft_test_random_u64(random) % size) : size;
        memcpy(changed, content, part);
        for (uint64_t n = graft_test_random_u64(random) % 4 + (i % 4 != 0); n > 0 && part > 0; n--) {
            changed[graft_test_random_u64(random) % part] = (uint8_t)(graft_test_random_u64(random) >> 20);
        }
        try_bytes(changed, part);
    }
    return 0;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;
    unsigned files = 0;
    struct graft_test_random random = {.state = 3};
    for (int i = 1; i < argc; i++) {
        struct stat info;
        DIR *folder = stat(argv[i], &info) == 0 && S_ISDIR(info.st_mode) ? opendir(argv[i]) : NULL;
        if (!folder) {
            failed |= replay(argv[i], &random);
            files++;
            continue;
        }
        for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (entry->d_name[0] != '.') {
                failed |= replay(path, &random);
                files++;
            }
        }
        closedir(folder);
    }
    printf("%u files replayed, each also damaged %d times\n", files, DAMAGED);
    return failed || files == 0;
}
