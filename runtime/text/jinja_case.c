// SPDX-License-Identifier: Apache-2.0
// What filters and string methods share: case, stripping, searching, replacing, lines.
// Case follows Unicode's simple mappings (and U+00DF to "SS"), as Python does for all but a few dozen characters.
#include <utf8proc.h>

#include "runtime/text/jinja.h"

static bool cased(uint32_t code)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

// Jinja's title filter begins words behind these; Python's str.title() behind anything without case.
static bool begins_word(uint32_t code)
{
    return graft_jinja_is_space(code) || code == '-' || code == '(' || code == '[' || code == '{' || code == '<';
}

enum graft_status graft_jinja_case(struct jinja_run *run, const struct jinja_string *string, enum jinja_case how,
                                   struct jinja_value *out)
{
    struct jinja_buffer buffer = {0};
    bool start = true;
    GRAFT_TRY(graft_jinja_charge(run, string->length / 64));
    for (uint64_t at = 0; at < string->length;) {
        uint32_t code = graft_jinja_decode(string->data, string->length, &at);
        bool up = how == JINJA_UPPER || (how != JINJA_LOWER && start);
        char text[8];
        uint32_t length;
        if (up && code == 0xdf) {
            memcpy(text, how == JINJA_UPPER ? "SS" : "Ss", 2);
            length = 2;
        } else {
            utf8proc_int32_t mapped = !up ? utf8proc_tolower((utf8proc_int32_t)code)
                                      : how == JINJA_UPPER || how == JINJA_FILTER_TITLE
                                          ? utf8proc_toupper((utf8proc_int32_t)code)
                                          : utf8proc_totitle((utf8proc_int32_t)code);
            length = graft_jinja_encode((uint32_t)mapped, text);
        }
        GRAFT_TRY(graft_jinja_put(run, &buffer, text, length));
        start = how == JINJA_TITLE ? !cased(code) : how == JINJA_FILTER_TITLE ? begins_word(code) : false;
    }
    return graft_jinja_finish(run, &buffer, out);
}

static bool stripped(uint32_t code, const struct jinja_string *chars)
{
    if (!chars) {
        return graft_jinja_is_space(code);
    }
    for (uint64_t at = 0; at < chars->length;) {
        if (graft_jinja_decode(chars->data, chars->length, &at) == code) {
            return true;
        }
    }
    return false;
}

enum graft_status graft_jinja_strip(struct jinja_run *run, const struct jinja_string *string, const struct jinja_string *chars,
                                    bool left, bool right, struct jinja_value *out)
{
    uint64_t start = 0, end = string->length, looked = 0;
    uint64_t each = chars ? chars->length / 64 + 1 : 1;
    while (left && start < end) {
        uint64_t next = start;
        if (!stripped(graft_jinja_decode(string->data, string->length, &next), chars)) {
            break;
        }
        start = next;
        looked += each;
    }
    while (right && end > start) {
        uint64_t last = end - 1;
        while (last > start && (string->data[last] & 0xc0) == 0x80) {
            last--;
        }
        uint64_t next = last;
        if (!stripped(graft_jinja_decode(string->data, string->length, &next), chars)) {
            break;
        }
        end = last;
        looked += each;
        if (looked > 1024) {
            GRAFT_TRY(graft_jinja_charge(run, looked / 16));
            looked = 0;
        }
    }
    GRAFT_TRY(graft_jinja_charge(run, looked / 16 + string->length / 256));
    return graft_jinja_share(&run->arena, string, start, end - start, out);
}

enum graft_status graft_jinja_find(struct jinja_run *run, const struct jinja_string *string, const struct jinja_string *part,
                                   uint64_t from, uint64_t to, bool last, uint64_t *out)
{
    *out = UINT64_MAX;
    if (from > to || to - from < part->length) {
        return GRAFT_OK;
    }
    if (part->length == 0) {
        *out = last ? to : from;
        return GRAFT_OK;
    }
    uint64_t end = to - part->length; // last possible offset
    uint64_t at = last ? end : from, work = 0;
    for (;;) {
        uint64_t before = at;
        const char *hit = last ? NULL : memchr(string->data + at, part->data[0], (size_t)(end - at + 1));
        while (last && at > from && string->data[at] != part->data[0]) {
            at--;
        }
        at = last ? at : hit ? (uint64_t)(hit - string->data) : end;
        work += (last ? before - at : at - before) / 4;
        // Charged by how far the comparison goes, so that a text made of near misses costs what it takes.
        uint64_t same = 0;
        while (same < part->length && string->data[at + same] == part->data[same]) {
            same++;
        }
        work += same;
        if (work > 1 << 16) {
            GRAFT_TRY(graft_jinja_charge(run, work / 64));
            work = 0;
        }
        if (same == part->length) {
            *out = at;
            break;
        }
        if (at == (last ? from : end)) {
            break;
        }
        at += last ? UINT64_MAX : 1; // one back or one on
    }
    return graft_jinja_charge(run, work / 64);
}

enum graft_status graft_jinja_replace(struct jinja_run *run, const struct jinja_string *string, const struct jinja_string *old,
                                      const struct jinja_string *new_text, int64_t times, struct jinja_value *out)
{
    struct jinja_buffer buffer = {0};
    uint64_t at = 0;
    int64_t done = 0;
    for (; times < 0 || done < times; done++) {
        uint64_t hit;
        GRAFT_TRY(graft_jinja_charge(run, 1));
        if (old->length == 0) { // in front of every character and at the end
            GRAFT_TRY(graft_jinja_put(run, &buffer, new_text->data, new_text->length));
            if (at >= string->length) {
                break;
            }
            uint64_t next = at;
            graft_jinja_decode(string->data, string->length, &next);
            GRAFT_TRY(graft_jinja_put(run, &buffer, string->data + at, next - at));
            at = next;
            continue;
        }
        GRAFT_TRY(graft_jinja_find(run, string, old, at, string->length, false, &hit));
        if (hit == UINT64_MAX) {
            break;
        }
        GRAFT_TRY(graft_jinja_put(run, &buffer, string->data + at, hit - at));
        GRAFT_TRY(graft_jinja_put(run, &buffer, new_text->data, new_text->length));
        at = hit + old->length;
    }
    if (at == 0 && done == 0 && buffer.length == 0) {
        *out = (struct jinja_value){.type = JINJA_STRING, .as.string = string};
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_jinja_put(run, &buffer, string->data + at, string->length - at));
    return graft_jinja_finish(run, &buffer, out);
}

static bool line_break(uint32_t code)
{
    return (code >= '\n' && code <= '\r') || (code >= 0x1c && code <= 0x1e) || code == 0x85 || code == 0x2028 || code == 0x2029;
}

enum graft_status graft_jinja_splitlines(struct jinja_run *run, const struct jinja_string *string, bool keep,
                                         struct jinja_value *out)
{
    struct jinja_value list, line;
    GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &list));
    GRAFT_TRY(graft_jinja_charge(run, string->length / 64));
    uint64_t start = 0;
    for (uint64_t at = 0; at < string->length;) {
        uint64_t here = at;
        uint32_t code = graft_jinja_decode(string->data, string->length, &at);
        if (!line_break(code)) {
            continue;
        }
        at += code == '\r' && at < string->length && string->data[at] == '\n';
        GRAFT_TRY(graft_jinja_charge(run, 1));
        GRAFT_TRY(graft_jinja_share(&run->arena, string, start, (keep ? at : here) - start, &line));
        GRAFT_TRY(graft_jinja_push(run, list.as.list, &line));
        start = at;
    }
    if (start < string->length) {
        GRAFT_TRY(graft_jinja_share(&run->arena, string, start, string->length - start, &line));
        GRAFT_TRY(graft_jinja_push(run, list.as.list, &line));
    }
    *out = list;
    return GRAFT_OK;
}
