// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/usage.h"

#include <ctype.h>
#include <string.h>

const int usage_statuses[USAGE_STATUSES] = {400, 401, 403, 404, 409, 413, 415, 422, 429, 499, 500, 501, 503, 504, 0};

int usage_status_place(int status)
{
    int i = 0;
    while (i < USAGE_STATUSES - 1 && usage_statuses[i] != status) {
        i++;
    }
    return i;
}

void usage_merge(struct adapter_usage *into, const struct adapter_usage *from)
{
    into->requests += from->requests;
    into->prompt_tokens += from->prompt_tokens;
    into->reused_tokens += from->reused_tokens;
    into->answer_tokens += from->answer_tokens;
    for (int i = 0; i < USAGE_STATUSES; i++) {
        into->errors[i] += from->errors[i];
    }
    into->answers += from->answers;
    into->refusals += from->refusals;
    into->running += from->running;
    into->judged_tokens += from->judged_tokens;
    into->judged_nats += from->judged_nats;
    histogram_merge(&into->first_token, &from->first_token);
    histogram_merge(&into->between_tokens, &from->between_tokens);
    histogram_merge(&into->queue, &from->queue);
    histogram_merge(&into->answer_length, &from->answer_length);
}

bool usage_is_judged(const struct adapter_usage *usage)
{
    return usage->requests % USAGE_JUDGED_EVERY == 0;
}

// ---- refusals ----

static const char *const phrases[] = {
    "i'm sorry",
    "i am sorry",
    "sorry, but",
    "sorry, i ",
    "my apologies",
    "i apologize",
    "i apologise",
    "i cannot ",
    "i can't ",
    "i can not ",
    "i'm unable",
    "i am unable",
    "i'm not able",
    "i am not able",
    "i won't ",
    "i will not ",
    "i must decline",
    "i have to decline",
    "i'm afraid i can",
    "i am afraid i can",
    "as an ai ", "as an ai,",
    "as a language model",
    "as a large language model",
    "i don't feel comfortable",
    "unfortunately, i can",
    "it is not appropriate",
    "it's not appropriate",
    "it would not be appropriate",
};

// Copy with small letters and plain apostrophes; leading blanks and quotation marks are left out.
static void simplify(const char *text, size_t length, char out[USAGE_OPENING + 1])
{
    size_t used = 0;
    for (size_t i = 0; i < length && i < USAGE_OPENING; i++) {
        bool curly = i + 2 < length && memcmp(text + i, "\xe2\x80\x99", 3) == 0; // U+2019
        char c = curly ? '\'' : (char)tolower((unsigned char)text[i]);
        i += curly ? 2 : 0;
        if (used || !strchr(" \t\r\n\"*'", c)) {
            out[used++] = c;
        }
    }
    out[used] = 0;
}

bool usage_is_refusal(const char *text, size_t length)
{
    char opening[USAGE_OPENING + 1];
    simplify(text, length, opening);
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++) {
        if (strncmp(opening, phrases[i], strlen(phrases[i])) == 0) {
            return true;
        }
    }
    return false;
}
