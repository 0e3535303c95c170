// SPDX-License-Identifier: Apache-2.0
#define PCRE2_CODE_UNIT_WIDTH 8
#include "loaders/adapter_pattern.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/bytes.h"

enum { MAX_KEY_BYTES = 1024, MATCH_LIMIT = 100000, HEAP_LIMIT_KIB = 1024 };

struct graft_adapter_pattern {
    pcre2_code *code;
    const json_t *value;
};

// Constructs that Python's re and PCRE2 read alike: no verbs, no named or conditional groups, no classes of POSIX, no escapes
// but the usual ones.
static bool is_common(const char *key)
{
    for (const char *p = key; *p; p++) {
        if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e) {
            return false;
        }
        if (*p == '\\') {
            p++;
            if (!*p || !strchr("dDwWsSbB.^$*+?()[]{}|/_-\\", *p)) {
                return false;
            }
        } else if (*p == '(' && (p[1] == '*' || (p[1] == '?' && (!p[2] || !strchr(":=!", p[2]))))) {
            return false;
        } else if (*p == '[' && p[1] && strchr("[:.=", p[1])) {
            return false;
        }
    }
    return true;
}

static enum graft_status compile(pcre2_code **out, const char *key, const char *label, const char *file)
{
    char text[MAX_KEY_BYTES + 16];
    int error, length = snprintf(text, sizeof text, "(.*\\.)?(%s)$", key);
    PCRE2_SIZE at;
    if (strlen(key) == 0 || strlen(key) > MAX_KEY_BYTES) {
        return graft_fail(GRAFT_E_LIMIT, "%s: %s has a key of %zu bytes, allowed are 1 to %d", file, label, strlen(key),
                          MAX_KEY_BYTES);
    }
    if (!is_common(key)) {
        return graft_fail(
            GRAFT_E_UNSUPPORTED,
            "%s: %s has a key that is no regular expression of the supported kind: printable characters, \\d \\w \\s "
            "\\b, classes, groups, alternatives, repetition",
            file, label);
    }
    *out = pcre2_compile((PCRE2_SPTR)text, (PCRE2_SIZE)length, PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C, &error, &at, NULL);
    if (!*out) {
        char reason[128];
        if (error == PCRE2_ERROR_HEAP_FAILED) {
            return graft_fail(GRAFT_E_MEMORY, "no memory for a pattern");
        }
        (void)pcre2_get_error_message(error, (PCRE2_UCHAR *)reason, sizeof reason);
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: %s has a key that is no regular expression: %s", file, label, reason);
    }
    return GRAFT_OK;
}

enum graft_status graft_adapter_patterns_read(struct graft_adapter_patterns *patterns, const json_t *object, const char *key,
                                              const char *file)
{
    const char *name;
    json_t *value;
    size_t count = json_object_size(object);
    *patterns = (struct graft_adapter_patterns){0};
    if (count == 0) {
        return GRAFT_OK;
    }
    if (count > GRAFT_ADAPTER_MAX_PATTERNS) {
        return graft_fail(GRAFT_E_LIMIT, "%s: %s has %zu keys, allowed are %d", file, key, count, GRAFT_ADAPTER_MAX_PATTERNS);
    }
    patterns->list = calloc(count, sizeof *patterns->list); // bounded by the configuration's size, as jansson's memory
    if (!patterns->list) {
        return graft_fail(GRAFT_E_MEMORY, "no memory for the patterns of %s", key);
    }
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        struct graft_adapter_pattern *pattern = &patterns->list[patterns->n];
        GRAFT_TRY(compile(&pattern->code, name, key, file));
        pattern->value = value;
        patterns->n++;
    }
    return GRAFT_OK;
}

void graft_adapter_patterns_free(struct graft_adapter_patterns *patterns)
{
    for (uint32_t i = 0; i < patterns->n; i++) {
        pcre2_code_free(patterns->list[i].code);
    }
    free(patterns->list);
    *patterns = (struct graft_adapter_patterns){0};
}

enum graft_status graft_adapter_patterns_find(const struct graft_adapter_patterns *patterns, const char *module,
                                              const json_t **out)
{
    enum graft_status status = GRAFT_OK;
    *out = NULL;
    if (patterns->n == 0) {
        return GRAFT_OK;
    }
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    if (!data || !limits) {
        status = graft_fail(GRAFT_E_MEMORY, "no memory for a pattern");
    } else {
        (void)pcre2_set_match_limit(limits, MATCH_LIMIT);
        (void)pcre2_set_heap_limit(limits, HEAP_LIMIT_KIB);
    }
    for (uint32_t i = 0; i < patterns->n && status == GRAFT_OK && !*out; i++) {
        int found = pcre2_match(patterns->list[i].code, (PCRE2_SPTR)module, strlen(module), 0, 0, data, limits);
        if (found >= 0) {
            *out = patterns->list[i].value;
        } else if (found != PCRE2_ERROR_NOMATCH) {
            status = graft_fail(GRAFT_E_LIMIT, "a pattern of the adapter's configuration takes more than %d steps for %s",
                                MATCH_LIMIT, module);
        }
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    return status;
}
