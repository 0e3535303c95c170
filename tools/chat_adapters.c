// SPDX-License-Identifier: Apache-2.0
// Adapters in the conversation of graft run: /adapters, /adapter, /compare.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"
#include "tools/columns.h"

enum { COMPARED = 16 };

void adapters_show(const struct session *session)
{
    if (session->n_adapters == 0) {
        puts("No adapter is loaded: graft run --adapter legal=FOLDER loads one.");
    }
    for (uint32_t i = 0; i < session->n_adapters; i++) {
        struct graft_adapter_info info;
        graft_adapter_describe(session->adapters[i].handle, &info);
        printf("%c %-16s weight %-4g  rank %-3" PRIu32 " %" PRIu32 " targets  %s  loads %" PRIu64 " (%.1f ms)  hits %" PRIu64
               "  %.12s\n",
               session->adapters[i].active ? '*' : ' ', session->adapters[i].name, (double)session->adapters[i].weight,
               info.rank, info.n_targets, bytes_text(info.bytes).text, info.loads, (double)session->adapters[i].load_ns * 1e-6,
               info.hits, info.digest);
    }
}

// "legal", "legal:0.6+finance:0.4", "none": false, with nothing changed, if a name is not loaded.
static bool choose_adapters(struct session *session, char *text)
{
    float weights[OPTION_TEXTS_ITEMS];
    bool active[OPTION_TEXTS_ITEMS] = {false};
    uint32_t n = 0;
    for (char *part = strcmp(text, "none") == 0 ? NULL : strtok(text, "+ "); part; part = strtok(NULL, "+ ")) {
        char *colon = strrchr(part, ':');
        char *end = NULL;
        float weight = colon ? strtof(colon + 1, &end) : 1.0f;
        uint32_t i = 0;
        if (colon) {
            *colon = 0;
        }
        while (i < session->n_adapters && strcmp(session->adapters[i].name, part) != 0) {
            i++;
        }
        if (i == session->n_adapters) {
            printf("No adapter '%s' is loaded; /adapters lists them.\n", part);
            return false;
        }
        if (!isfinite(weight) || (colon && (end == colon + 1 || *end))) {
            printf("The weight of '%s' is no number: /adapter %s:0.5\n", part, part);
            return false;
        }
        n += !active[i];
        if (n > GRAFT_MAX_BLEND) {
            printf("At most %d adapters can be blended.\n", GRAFT_MAX_BLEND);
            return false;
        }
        active[i] = true;
        weights[i] = weight;
    }
    for (uint32_t i = 0; i < session->n_adapters; i++) {
        session->adapters[i].active = active[i];
        session->adapters[i].weight = active[i] ? weights[i] : session->adapters[i].weight;
    }
    return true;
}

void adapters_choose(struct talk *talk, char *argument)
{
    struct session *session = &talk->session;
    if (!*argument) {
        adapters_show(session);
        return;
    }
    if (!choose_adapters(session, argument)) {
        return;
    }
    struct graft_adapter_use uses[GRAFT_MAX_BLEND];
    struct graft_chat_stats before;
    uint32_t n = session_blend(session, uses);
    graft_chat_last_stats(talk->chat, &before);
    uint64_t start = graft_clock_ns();
    enum graft_status status = graft_chat_set_adapters(talk->chat, uses, n);
    double ms = (double)(graft_clock_ns() - start) / 1e6;
    if (status != GRAFT_OK) {
        error_status(status, "the adapter cannot be used");
        return;
    }
    struct graft_chat_stats after;
    graft_chat_last_stats(talk->chat, &after);
    printf("Done in %.3f ms", ms);
    if (after.context_used < before.context_used) {
        printf("; %" PRIu32 " tokens of the conversation are computed anew for the next answer",
               before.context_used - after.context_used);
    }
    puts(".");
}

// The last question of the conversation; NULL if there is none. Free it.
static char *last_question(struct talk *talk)
{
    const char *json;
    char *question = NULL;
    if (graft_chat_history(talk->chat, &json) != GRAFT_OK) {
        return NULL;
    }
    json_t *messages = json_loads(json, 0, NULL);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        if (strcmp(json_string_value(json_object_get(message, "role")), "user") == 0) {
            const char *text = json_string_value(json_object_get(message, "content"));
            free(question);
            question = get_memory(strlen(text) + 1, 1);
            memcpy(question, text, strlen(text) + 1);
        }
    }
    json_decref(messages);
    return question;
}

static bool is_adapter(const struct session *session, const char *name, size_t length)
{
    if (length == 4 && memcmp(name, "none", 4) == 0) {
        return true;
    }
    for (uint32_t i = 0; i < session->n_adapters; i++) {
        size_t own = strlen(session->adapters[i].name);
        if (own <= length && memcmp(session->adapters[i].name, name, own) == 0 &&
            (own == length || name[own] == ':' || name[own] == '+')) {
            return true;
        }
    }
    return false;
}

// A conversation beside the real one, with the same settings: the question and one choice of adapters. keep: as talk_ask's.
// False: stop.
static bool ask_beside(const struct talk *talk, const char *choice, const struct text *question, struct text *keep)
{
    struct talk other = *talk;
    char text[256]; // is cut into pieces
    other.chat = NULL;
    snprintf(text, sizeof text, "%s", choice);
    if (!choose_adapters(&other.session, text)) {
        return false;
    }
    bool interrupted = false;
    enum graft_status status = talk_start(&other);
    status = status != GRAFT_OK ? status : talk_ask(&other, question, keep, &interrupted);
    if (status != GRAFT_OK) {
        error_status(status, "the question could not be answered");
    }
    graft_chat_destroy(&other.chat);
    return status == GRAFT_OK && !interrupted;
}

// The answers side by side where the terminal has room, else one below the other as they come.
static void compare(const struct talk *talk, char *const *names, uint32_t n, const struct text *question)
{
    struct text answers[COMPARED] = {{0}};
    uint32_t width = columns_width(n);
    bool good = true;
    for (uint32_t i = 0; i < n && good; i++) {
        if (!width) {
            printf("%s:\n", names[i]);
            good = ask_beside(talk, names[i], question, NULL);
            puts("\n");
            continue;
        }
        bool erasable = colours(stdout); // what is shown while the answer is computed
        printf("%s", erasable ? names[i] : "");
        fflush(stdout);
        good = ask_beside(talk, names[i], question, &answers[i]);
        printf("%s", erasable ? "\r\033[K" : "");
    }
    if (width) {
        columns_print((const char *const *)names, answers, n, width);
    }
    for (uint32_t i = 0; i < n; i++) {
        text_free(&answers[i]);
    }
}

void adapters_compare(struct talk *talk, char *argument)
{
    char *names[COMPARED];
    uint32_t n = 0;
    char *rest = argument;
    while (n < sizeof names / sizeof *names) {
        rest += strspn(rest, " ");
        size_t length = strcspn(rest, " ");
        if (length == 0 || !is_adapter(&talk->session, rest, length)) {
            break;
        }
        names[n++] = rest;
        rest += length;
        if (*rest) {
            *rest++ = 0;
        }
    }
    char *last = *rest ? NULL : last_question(talk);
    if (n == 0 || (!*rest && !last)) {
        puts(n ? "There is no question yet: /compare legal finance What is due?"
               : "Which ones? /compare legal finance, /compare "
                 "legal none ...; /adapters lists them.");
    } else {
        struct text question = {.data = last ? last : rest, .length = strlen(last ? last : rest)};
        compare(talk, names, n, &question);
    }
    free(last);
}
