// SPDX-License-Identifier: Apache-2.0
// Signatures made by the minisign tool (tests/golden/make_minisign.py): both forms, every damaged byte, adapters that must be
// signed. Cases 74 of signatures: missing, of an unknown key, of another file.
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "graft/graft.h"
#include "loaders/minisign.h"
#include "platform/plat.h"
#include "support/support.h"

#define GOLDEN GRAFT_TEST_SOURCE_DIR "/golden"

static char *read_text(const char *name, size_t *length)
{
    char path[600];
    static char text[1 << 16];
    snprintf(path, sizeof path, GOLDEN "/minisign/%s", name);
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    *length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    char *copy = malloc(*length + 1);
    memcpy(copy, text, *length);
    copy[*length] = 0;
    return copy;
}

static struct graft_trust trusted(const char *name)
{
    size_t length;
    char *text = read_text(name, &length);
    struct graft_trust trust;
    ck_assert_ok(graft_trust_parse(&trust, text, length));
    free(text);
    return trust;
}

START_TEST(signatures_of_the_tool_are_taken)
{
    static const char *const files[] = {"data.minisig", "data.legacy.minisig"};
    struct graft_trust trust = trusted("trusted.pub"), other = trusted("other.pub"), both = other;
    char signer[GRAFT_SIGNER_BYTES], id[GRAFT_SIGNER_BYTES];
    size_t n, length;
    char *data = read_text("data", &n), *key = read_text("trusted.pub", &length);
    snprintf(id, sizeof id, "%s", strstr(key, "public key ") + 11); // as the tool prints it
    both.keys[both.count++] = trust.keys[0];
    for (int i = 0; i < 2; i++) {
        char *signature = read_text(files[i], &length);
        ck_assert_ok(graft_minisign_verify(&trust, data, n, signature, length, "data", signer));
        ck_assert_str_eq(signer, id);
        ck_assert_ok(graft_minisign_verify(&both, data, n, signature, length, "data", signer));
        ck_assert_status(graft_minisign_verify(&other, data, n, signature, length, "data", signer), GRAFT_E_SIGNATURE);
        ck_assert_error_has(id);
        ck_assert_str_eq(signer, "");
        // Another key that claims the id.
        struct graft_trust forged = other;
        memcpy(forged.keys[0].id, trust.keys[0].id, sizeof forged.keys[0].id);
        ck_assert_status(graft_minisign_verify(&forged, data, n, signature, length, "data", signer), GRAFT_E_SIGNATURE);
        for (size_t at = 0; at < n; at++) { // every bit of the file counts
            data[at] ^= (char)(1 << at % 8);
            ck_assert_status(graft_minisign_verify(&trust, data, n, signature, length, "data", signer), GRAFT_E_SIGNATURE);
            data[at] ^= (char)(1 << at % 8);
        }
        ck_assert_status(graft_minisign_verify(&trust, data, n - 1, signature, length, "data", signer), GRAFT_E_SIGNATURE);
        ck_assert_status(graft_minisign_verify(&trust, data, 0, signature, length, "data", signer), GRAFT_E_SIGNATURE);
        // And every character of the signature but those of the untrusted comment.
        size_t comment = (size_t)(strchr(signature, '\n') - signature);
        for (size_t at = 0; at < length; at++) {
            char was = signature[at];
            signature[at] = was == 'A' ? 'B' : was == '\n' ? ' ' : 'A';
            bool free_text = at >= 18 && at < comment;
            enum graft_status status = graft_minisign_verify(&trust, data, n, signature, length, "data", signer);
            ck_assert_msg(status == (free_text || at + 1 == length ? status : GRAFT_E_SIGNATURE) &&
                              (!free_text || status == GRAFT_OK),
                          "%s, byte %zu: %d", files[i], at, status);
            signature[at] = was;
        }
        for (size_t cut = 0; cut + 1 < length; cut++) {
            ck_assert_status(graft_minisign_verify(&trust, data, n, signature, cut, "data", signer), GRAFT_E_SIGNATURE);
        }
        free(signature);
    }
    free(key);
    free(data);
}
END_TEST

START_TEST(keys_that_are_none_are_refused)
{
    size_t length;
    char *key = read_text("trusted.pub", &length), text[4096] = "";
    struct graft_trust trust = {.count = 7};
    static const char *const bad[] = {"", "untrusted comment: x\n", "untrusted comment: x\nAAAA\n", "RWQ=\n", "junk"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_status(graft_trust_parse(&trust, bad[i], strlen(bad[i])), GRAFT_E_FORMAT);
        ck_assert_uint_eq(trust.count, 7);
    }
    char *second = strchr(key, '\n') + 1;
    second[0] = 'S'; // another algorithm
    ck_assert_status(graft_trust_parse(&trust, key, length), GRAFT_E_FORMAT);
    second[0] = 'R';
    for (int i = 0; i < GRAFT_MAX_TRUSTED_KEYS; i++) {
        strcat(text, key);
    }
    ck_assert_ok(graft_trust_parse(&trust, text, strlen(text)));
    ck_assert_uint_eq(trust.count, GRAFT_MAX_TRUSTED_KEYS);
    strcat(text, key);
    ck_assert_status(graft_trust_parse(&trust, text, strlen(text)), GRAFT_E_LIMIT);
    free(key);
}
END_TEST

#ifndef _WIN32 // files are laid out by a shell
static void shell(const char *format, ...)
{
    char line[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ck_assert_msg(system(line) == 0, "%s", line);
}

// Opening the adapter at this path of the folder.
static enum graft_status open_one(struct graft_ctx *ctx, const char *folder, const char *name)
{
    char path[300];
    struct graft_adapter_file *file;
    struct graft_adapter_file_info info;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    enum graft_status status = graft_adapter_file_open(ctx, &file, path);
    if (status == GRAFT_OK) {
        graft_adapter_file_describe(file, &info);
        ck_assert_uint_eq(strlen(info.signer), 16);
    }
    graft_adapter_file_close(&file);
    return status;
}

START_TEST(adapters_must_be_signed)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    char folder[] = "/tmp/graft-signed-XXXXXX";
    size_t length;
    char *key = read_text("trusted.pub", &length);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    shell("cd %s && cp -r '" GOLDEN "/peft/plain' good && cp '" GOLDEN "/minisign/plain/'* good && cp '" GOLDEN
          "/peft/plain.gguf' '" GOLDEN "/minisign/plain.gguf.minisig' . && cp -r '" GOLDEN
          "/peft/plain' bare && cp -r good swapped && "
          "cp '" GOLDEN "/minisign/swapped/'* swapped && cp -r good half && cp '" GOLDEN
          "/minisign/half/'* half && cp -r good other && "
          "cp '" GOLDEN "/peft/rslora/adapter_config.json' other && cp -r good list && echo >>list/SHA256SUMS && "
          "cp -r good unlisted && rm unlisted/SHA256SUMS.minisig && cp plain.gguf bare.gguf && cp '" GOLDEN
          "/peft/rslora.gguf' changed.gguf && "
          "cp plain.gguf.minisig changed.gguf.minisig && mkdir junk && cp good/adapter_config.json junk && echo junk "
          ">junk/adapter_model.safetensors",
          folder);
    struct graft_adapter_file *file;
    char path[300];
    snprintf(path, sizeof path, "%s/bare", folder);
    ck_assert_ok(graft_adapter_file_open(ctx, &file, path)); // nothing is asked yet
    graft_adapter_file_close(&file);
    ck_assert_status(graft_require_signed(ctx, "junk", 4), GRAFT_E_FORMAT);
    ck_assert_ok(graft_require_signed(ctx, key, length));
    ck_assert_status(graft_require_signed(ctx, "junk", 4), GRAFT_E_FORMAT); // what was trusted stays
    static const char *const good[] = {"good", "good/adapter_model.safetensors", "plain.gguf"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_ok(open_one(ctx, folder, good[i]));
    }
    static const struct {
        const char *name, *error;
    } bad[] = {{"bare", "must be listed"},
               {"bare.gguf", "must be signed"},
               {"swapped", "SHA-256 is not the one"},
               {"half", "does not list adapter_model.safetensors"},
               {"other", "SHA-256 is not the one"},
               {"list", "is not of this file"},
               {"unlisted", "must be signed"},
               {"changed.gguf", "is not of this file"},
               {"junk", "must be listed"}}; // before anything is parsed
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_status(open_one(ctx, folder, bad[i].name), GRAFT_E_SIGNATURE);
        ck_assert_error_has(bad[i].error);
    }
    // Another key
    free(key);
    key = read_text("other.pub", &length);
    ck_assert_ok(graft_require_signed(ctx, key, length));
    ck_assert_status(open_one(ctx, folder, "good"), GRAFT_E_SIGNATURE);
    ck_assert_error_has("is not trusted");
    free(key);
    // Every failing allocation: an error, nothing kept.
    key = read_text("trusted.pub", &length);
    ck_assert_ok(graft_require_signed(ctx, key, length));
    uint64_t live = alloc.live;
    enum graft_status status = GRAFT_E_MEMORY;
    for (uint64_t n = 1; status != GRAFT_OK; n++) {
        alloc.fail_at = alloc.requests + n;
        status = open_one(ctx, folder, "good");
        ck_assert_msg(status == GRAFT_OK || status == GRAFT_E_MEMORY, "%s", graft_last_error());
        ck_assert_uint_eq(alloc.live, live);
    }
    free(key);
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
    shell("rm -r %s", folder);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("minisign");
    TCase *tests = tcase_create("minisign");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, signatures_of_the_tool_are_taken);
    tcase_add_test(tests, keys_that_are_none_are_refused);
#ifndef _WIN32
    tcase_add_test(tests, adapters_must_be_signed);
#endif
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
