// SPDX-License-Identifier: Apache-2.0
// Filters that lay text out: wordwrap, pprint, striptags. Sources: jinja2's documentation; Python 3.11's textwrap (what a word
// is, what goes on a line) and pprint (width 80, keys sorted), whose results these are.
#include <string.h>
#include <utf8proc.h>

#include "runtime/text/jinja.h"

#define FILTER(name)                                                                                                           \
    static enum graft_status name(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,         \
                                  const struct jinja_args *args, struct jinja_value *out)

// ---- wordwrap ----

// A line as code points; part [first, last) of it that is not cut unless it has to be.
struct chunk {
    uint64_t first, last;
};

struct wrapping {
    struct jinja_run *run;
    uint32_t *code;
    uint64_t n;
    uint64_t dashes_end; // of the last run of dashes that was looked at
    uint64_t width;
    bool long_words, hyphens;
    const struct jinja_string *between;
};

static bool is_blank(uint32_t code)
{
    return code == ' ' || (code >= '\t' && code <= '\r');
}

static bool is_word(uint32_t code)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
    return code == '_' || (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) ||
           (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO);
}

static bool is_letter(const struct wrapping *w, uint64_t at)
{
    return at < w->n && is_word(w->code[at]) && utf8proc_category((utf8proc_int32_t)w->code[at]) != UTF8PROC_CATEGORY_ND;
}

static bool is_word_or_mark(uint32_t code)
{
    return is_word(code) || (code < 0x80 && code && strchr("!\"'&.,?", (int)code));
}

// Length of an em-dash at `at`: dashes, two or more, between two words; 0: there is none.
static uint64_t em_dash(struct wrapping *w, uint64_t at)
{
    if (at >= w->n || w->code[at] != '-' || at == 0 || !is_word_or_mark(w->code[at - 1])) {
        return 0;
    }
    if (w->dashes_end <= at) {
        for (w->dashes_end = at; w->dashes_end < w->n && w->code[w->dashes_end] == '-';) {
            w->dashes_end++;
        }
    }
    bool word = w->dashes_end < w->n && is_word(w->code[w->dashes_end]);
    return word && w->dashes_end - at >= 2 ? w->dashes_end - at : 0;
}

// A hyphen inside of a word at `at`: behind two letters, or a letter, a hyphen and a letter; before two letters likewise.
static bool is_hyphen(const struct wrapping *w, uint64_t at)
{
    if (at >= w->n || w->code[at] != '-' || at < 2) {
        return false;
    }
    bool before = is_letter(w, at - 1) && (is_letter(w, at - 2) || (at >= 3 && w->code[at - 2] == '-' && is_letter(w, at - 3)));
    bool dash = at + 2 < w->n && w->code[at + 2] == '-';
    return before && is_letter(w, at + 1) && is_letter(w, at + (dash ? 3 : 2));
}

// Where the chunk that begins at `at` ends.
static uint64_t end_of_chunk(struct wrapping *w, uint64_t at)
{
    uint64_t end = at + 1, dashes = w->hyphens && !is_blank(w->code[at]) ? em_dash(w, at) : 0;
    bool blank = is_blank(w->code[at]);
    if (dashes) {
        return at + dashes;
    }
    while (end < w->n && is_blank(w->code[end]) == blank) {
        if (!blank && w->hyphens && is_hyphen(w, end)) {
            return end + 1;
        }
        if (!blank && w->hyphens && em_dash(w, end)) {
            return end;
        }
        end++;
    }
    return end;
}

static bool all_blank(const struct wrapping *w, const struct chunk *chunk)
{
    bool blank = true;
    for (uint64_t i = chunk->first; i < chunk->last && blank; i++) {
        blank = graft_jinja_is_space(w->code[i]);
    }
    return blank;
}

// How much of a word that is longer than a line goes on one with room for `room`.
static uint64_t cut(const struct wrapping *w, const struct chunk *chunk, uint64_t room)
{
    uint64_t length = chunk->last - chunk->first, hyphen = 0;
    bool other = false;
    for (uint64_t i = 0; i < room && i < length && w->hyphens && length > room; i++) {
        hyphen = w->code[chunk->first + i] == '-' && other ? i + 1 : hyphen;
        other = other || w->code[chunk->first + i] != '-';
    }
    return hyphen ? hyphen : room < length ? room : length;
}

static enum graft_status put_chunks(const struct wrapping *w, struct jinja_buffer *buffer, const struct chunk *list, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        for (uint64_t k = list[i].first; k < list[i].last; k++) {
            char text[4];
            GRAFT_TRY(graft_jinja_put(w->run, buffer, text, graft_jinja_encode(w->code[k], text)));
        }
    }
    return GRAFT_OK;
}

// The chunks of one line of the input as lines of at most `width`.
static enum graft_status wrap_chunks(const struct wrapping *w, struct chunk *list, uint64_t n, struct jinja_buffer *buffer)
{
    uint64_t lines = 0;
    for (uint64_t at = 0; at < n;) {
        at += lines > 0 && all_blank(w, &list[at]);
        uint64_t first = at, length = 0;
        while (at < n && length + (list[at].last - list[at].first) <= w->width) {
            length += list[at].last - list[at].first;
            at++;
        }
        struct chunk part = {0, 0}; // of a word that is too long for any line
        bool has_part = false;
        if (at < n && list[at].last - list[at].first > w->width) {
            if (w->long_words) {
                has_part = true; // perhaps of nothing, which is then what is dropped at the line's end instead of a blank
                part = list[at];
                part.last = part.first + cut(w, &part, w->width - length);
                list[at].first = part.last;
            } else if (at == first) {
                at++;
            }
        }
        uint64_t last = at;
        if (has_part ? all_blank(w, &part) : last > first && all_blank(w, &list[last - 1])) {
            last -= !has_part;
            has_part = false;
        }
        GRAFT_TRY(graft_jinja_charge(w->run, 1 + w->width / 64));
        if (last > first || has_part) {
            GRAFT_TRY(lines++ ? graft_jinja_put(w->run, buffer, w->between->data, w->between->length) : GRAFT_OK);
            GRAFT_TRY(put_chunks(w, buffer, list + first, last - first));
            GRAFT_TRY(put_chunks(w, buffer, &part, has_part));
        }
    }
    return GRAFT_OK;
}

static enum graft_status wrap_line(struct wrapping *w, const struct jinja_string *line, struct jinja_buffer *buffer)
{
    struct chunk *list;
    uint64_t n = 0;
    GRAFT_TRY(graft_jinja_charge(w->run, 1 + line->chars / 16));
    GRAFT_TRY(JINJA_NEW(&w->run->arena, &w->code, line->chars + 1));
    GRAFT_TRY(JINJA_NEW(&w->run->arena, &list, line->chars + 1));
    w->n = w->dashes_end = 0;
    for (uint64_t at = 0; at < line->length;) {
        w->code[w->n++] = graft_jinja_decode(line->data, line->length, &at);
    }
    for (uint64_t at = 0; at < w->n; n++) {
        list[n] = (struct chunk){at, end_of_chunk(w, at)};
        at = list[n].last;
    }
    return wrap_chunks(w, list, n, buffer);
}

FILTER(do_wordwrap)
{
    (void)args;
    static const struct jinja_string newline = {.data = "\n", .length = 1, .chars = 1};
    struct wrapping w = {.run = run, .between = &newline, .long_words = true, .hyphens = true};
    struct jinja_buffer buffer = {0};
    struct jinja_value lines;
    int64_t width = 79;
    jinja_as_int(&argv[0], &width);
    if (in->type != JINJA_STRING || width < 1 || (argv[2].type > JINJA_NONE && argv[2].type != JINJA_STRING)) {
        return graft_fail(GRAFT_E_ARGUMENT, "wordwrap: needs a text, a width of 1 or more and a text between lines");
    }
    w.width = (uint64_t)width;
    w.long_words = argv[1].type == JINJA_UNSET || graft_jinja_truth(&argv[1]);
    w.between = argv[2].type == JINJA_STRING ? argv[2].as.string : w.between;
    w.hyphens = argv[3].type == JINJA_UNSET || graft_jinja_truth(&argv[3]);
    GRAFT_TRY(graft_jinja_splitlines(run, in->as.string, false, &lines));
    for (uint64_t i = 0; i < lines.as.list->count; i++) {
        GRAFT_TRY(i ? graft_jinja_put(run, &buffer, w.between->data, w.between->length) : GRAFT_OK);
        GRAFT_TRY(wrap_line(&w, lines.as.list->items[i].as.string, &buffer));
    }
    return graft_jinja_finish(run, &buffer, out);
}

// ---- pprint ----

enum { PRINT_WIDTH = 80 };

struct printing {
    struct jinja_run *run;
    struct jinja_buffer *buffer;
};

// The value with the keys of every dict in order; what is neither list nor dict is itself.
static enum graft_status in_order(struct jinja_run *run, const struct jinja_value *value, uint32_t depth,
                                  struct jinja_value *out)
{
    *out = *value;
    GRAFT_TRY(graft_jinja_charge(run, 1));
    if (depth > JINJA_MAX_VALUE_DEPTH) {
        return graft_fail(GRAFT_E_LIMIT, "pprint: a value is nested deeper than %d levels", JINJA_MAX_VALUE_DEPTH);
    }
    if (value->type == JINJA_LIST || value->type == JINJA_TUPLE) {
        GRAFT_TRY(graft_jinja_list(run, value->type, value->as.list->count, out));
        for (uint64_t i = 0; i < value->as.list->count; i++) {
            struct jinja_value item;
            GRAFT_TRY(in_order(run, &value->as.list->items[i], depth + 1, &item));
            GRAFT_TRY(graft_jinja_push(run, out->as.list, &item));
        }
        return GRAFT_OK;
    }
    if (value->type != JINJA_DICT) {
        return GRAFT_OK;
    }
    const struct jinja_dict *dict = value->as.dict;
    uint64_t *order;
    GRAFT_TRY(JINJA_NEW(&run->arena, &order, dict->count + 1));
    for (uint64_t i = 0; i < dict->count; i++) { // insertion: each comparison is a step
        uint64_t at = i;
        for (; at > 0; at--) {
            int less;
            GRAFT_TRY(graft_jinja_charge(run, 1));
            GRAFT_TRY(graft_jinja_compare(run, &dict->entries[i].key, &dict->entries[order[at - 1]].key, "<", 0, &less));
            if (less >= 0) {
                break;
            }
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    GRAFT_TRY(graft_jinja_dict(run, &out->as.dict));
    for (uint64_t i = 0; i < dict->count; i++) {
        struct jinja_value item;
        GRAFT_TRY(in_order(run, &dict->entries[order[i]].value, depth + 1, &item));
        GRAFT_TRY(graft_jinja_dict_set(run, out->as.dict, &dict->entries[order[i]].key, &item));
    }
    return GRAFT_OK;
}

static enum graft_status repr_of(struct jinja_run *run, const struct jinja_value *value, const struct jinja_string **out)
{
    struct jinja_buffer buffer = {0};
    struct jinja_value text;
    GRAFT_TRY(graft_jinja_repr(run, &buffer, value, 0));
    GRAFT_TRY(graft_jinja_finish(run, &buffer, &text));
    *out = text.as.string;
    return GRAFT_OK;
}

static enum graft_status put_string(struct printing *p, const struct jinja_string *text)
{
    return graft_jinja_put(p->run, p->buffer, text->data, text->length);
}

static enum graft_status break_line(struct printing *p, const char *before, int64_t indent)
{
    GRAFT_TRY(graft_jinja_puts(p->run, p->buffer, before));
    GRAFT_TRY(graft_jinja_puts(p->run, p->buffer, "\n"));
    for (int64_t i = 0; i < indent; i++) {
        GRAFT_TRY(graft_jinja_puts(p->run, p->buffer, " "));
    }
    return GRAFT_OK;
}

// Words of a line, each with the blanks behind it, as many as fit, as literals of their own. last: the text's last line.
static enum graft_status split_words(struct jinja_run *run, const struct jinja_string *line, int64_t width, int64_t allowance,
                                     bool last, struct jinja_list *pieces)
{
    uint64_t from = 0, to = 0;
    while (to < line->length) {
        uint64_t end = to, next = to;
        struct jinja_value candidate;
        const struct jinja_string *text;
        while (next < line->length && !graft_jinja_is_space(graft_jinja_decode(line->data, line->length, &next))) {
            end = next;
        }
        for (next = end; next < line->length && graft_jinja_is_space(graft_jinja_decode(line->data, line->length, &next));) {
            end = next;
        }
        width -= end == line->length && last ? allowance : 0;
        GRAFT_TRY(graft_jinja_share(&run->arena, line, from, end - from, &candidate));
        GRAFT_TRY(repr_of(run, &candidate, &text));
        if ((int64_t)text->chars > width && to > from) {
            GRAFT_TRY(graft_jinja_share(&run->arena, line, from, to - from, &candidate));
            GRAFT_TRY(graft_jinja_push(run, pieces, &candidate));
            from = to;
        }
        to = end;
    }
    struct jinja_value rest;
    GRAFT_TRY(graft_jinja_share(&run->arena, line, from, to - from, &rest));
    return to > from ? graft_jinja_push(run, pieces, &rest) : GRAFT_OK;
}

// A text as several literals, one below the other.
static enum graft_status print_string(struct printing *p, const struct jinja_value *value, const struct jinja_string *whole,
                                      int64_t indent, int64_t allowance, uint32_t level)
{
    struct jinja_value lines, pieces;
    const struct jinja_string *text = whole;
    if (value->as.string->length == 0) {
        return put_string(p, whole);
    }
    indent += level == 1;
    allowance += level == 1;
    GRAFT_TRY(graft_jinja_splitlines(p->run, value->as.string, true, &lines));
    GRAFT_TRY(graft_jinja_list(p->run, JINJA_LIST, 0, &pieces));
    int64_t width = PRINT_WIDTH - indent;
    for (uint64_t i = 0; i < lines.as.list->count; i++) {
        const struct jinja_value *line = &lines.as.list->items[i];
        bool last = i + 1 == lines.as.list->count;
        GRAFT_TRY(repr_of(p->run, line, &text));
        if ((int64_t)text->chars <= width - (last ? allowance : 0)) {
            GRAFT_TRY(graft_jinja_push(p->run, pieces.as.list, line));
        } else {
            GRAFT_TRY(split_words(p->run, line->as.string, width, allowance, last, pieces.as.list));
        }
    }
    if (pieces.as.list->count == 1) {
        return put_string(p, text);
    }
    GRAFT_TRY(graft_jinja_puts(p->run, p->buffer, level == 1 ? "(" : ""));
    for (uint64_t i = 0; i < pieces.as.list->count; i++) {
        GRAFT_TRY(i ? break_line(p, "", indent) : GRAFT_OK);
        GRAFT_TRY(graft_jinja_repr(p->run, p->buffer, &pieces.as.list->items[i], 0));
    }
    return graft_jinja_puts(p->run, p->buffer, level == 1 ? ")" : "");
}

// allowance: characters that follow on the last line. level: 1 for the value that is printed.
static enum graft_status print(struct printing *p, const struct jinja_value *value, int64_t indent, int64_t allowance,
                               uint32_t level)
{
    const struct jinja_string *text;
    GRAFT_TRY(repr_of(p->run, value, &text));
    if ((int64_t)text->chars <= PRINT_WIDTH - indent - allowance) {
        return put_string(p, text);
    }
    if (value->type == JINJA_STRING) {
        return print_string(p, value, text, indent, allowance, level);
    }
    bool dict = value->type == JINJA_DICT, tuple = value->type == JINJA_TUPLE;
    if (!dict && !tuple && value->type != JINJA_LIST) {
        return put_string(p, text);
    }
    uint64_t count = dict ? value->as.dict->count : value->as.list->count;
    const char *end = dict ? "}" : !tuple ? "]" : count == 1 ? ",)" : ")";
    allowance += (int64_t)strlen(end);
    indent++;
    GRAFT_TRY(graft_jinja_puts(p->run, p->buffer, dict ? "{" : tuple ? "(" : "["));
    for (uint64_t i = 0; i < count; i++) {
        int64_t behind = i + 1 == count ? allowance : 1, before = 0;
        GRAFT_TRY(i ? break_line(p, ",", indent) : GRAFT_OK);
        if (dict) {
            GRAFT_TRY(repr_of(p->run, &value->as.dict->entries[i].key, &text));
            GRAFT_TRY(put_string(p, text));
            GRAFT_TRY(graft_jinja_puts(p->run, p->buffer, ": "));
            before = (int64_t)text->chars + 2;
        }
        GRAFT_TRY(
            print(p, dict ? &value->as.dict->entries[i].value : &value->as.list->items[i], indent + before, behind, level + 1));
    }
    return graft_jinja_puts(p->run, p->buffer, end);
}

FILTER(do_pprint)
{
    (void)argv;
    (void)args;
    struct jinja_buffer buffer = {0};
    struct printing p = {run, &buffer};
    struct jinja_value ordered;
    GRAFT_TRY(in_order(run, in, 0, &ordered));
    GRAFT_TRY(print(&p, &ordered, 0, 0, 1));
    return graft_jinja_finish(run, &buffer, out);
}

// ---- striptags ----

// The character that "&NAME;" or "&#N;" at `at` stands for, *length its bytes; 0: none of those that every HTML has.
static uint32_t entity(const struct jinja_string *s, uint64_t at, uint64_t *length)
{
    static const struct {
        const char *name;
        uint32_t code;
    } names[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}, {"&nbsp;", 0xa0}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *length = strlen(names[i].name);
        if (s->length - at >= *length && memcmp(s->data + at, names[i].name, (size_t)*length) == 0) {
            return names[i].code;
        }
    }
    uint32_t code = 0;
    bool hex = s->length - at > 3 && (s->data[at + 2] | 32) == 'x';
    uint64_t p = at + (hex ? 3 : 2);
    for (; p < s->length && p - at < 10; p++) {
        char c = s->data[p], low = (char)(c | 32);
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(hex && low >= 'a' && low <= 'f')) {
            break;
        }
        code = code * (hex ? 16 : 10) + (uint32_t)(digit ? c - '0' : low - 'a' + 10);
    }
    *length = p + 1 - at;
    bool plain = (code >= 0x20 && code < 0x7f) || (code >= 0xa0 && code < 0xd800) || (code >= 0xe000 && code < 0xfdd0) ||
                 (code >= 0x10000 && code <= 0x10ffff && (code & 0xfffe) != 0xfffe);
    return s->length - at > 3 && s->data[at + 1] == '#' && p < s->length && s->data[p] == ';' && plain ? code : 0;
}

static enum graft_status unescape(struct jinja_run *run, const struct jinja_string *s, struct jinja_value *out)
{
    struct jinja_buffer buffer = {0};
    for (uint64_t at = 0, from = 0; at <= s->length; at++) {
        if (at < s->length && s->data[at] != '&') {
            continue;
        }
        GRAFT_TRY(graft_jinja_charge(run, 1 + (at - from) / 256));
        GRAFT_TRY(graft_jinja_put(run, &buffer, s->data + from, at - from));
        if (at == s->length) {
            break;
        }
        uint64_t length;
        uint32_t code = entity(s, at, &length);
        char next = at + 1 < s->length ? s->data[at + 1] : ' ', text[4] = {'&'};
        if (!code && (next == '#' || ((next | 32) >= 'a' && (next | 32) <= 'z'))) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "striptags: \"%.*s\" may be a character of HTML; known are &lt; &gt; &amp; &quot; &apos; &nbsp; "
                              "and numbers of printable characters",
                              (int)(s->length - at < 12 ? s->length - at : 12), s->data + at);
        }
        GRAFT_TRY(graft_jinja_put(run, &buffer, text, code ? graft_jinja_encode(code, text) : 1));
        from = at + (code ? length : 1);
        at = from - 1;
    }
    return graft_jinja_finish(run, &buffer, out);
}

// Where the tag or comment at `at` ends; 0: it does not. *closed: the last '>' or "-->" is known to be before it.
static uint64_t end_of_tag(const struct jinja_string *s, uint64_t at)
{
    bool comment = s->length - at >= 4 && memcmp(s->data + at, "<!--", 4) == 0;
    const char *from = s->data + at + (comment ? 4 : 0), *stop = s->data + s->length;
    for (const char *p = from; p < stop && (p = memchr(p, '>', (size_t)(stop - p))); p++) {
        if (!comment || (p - from >= 2 && p[-1] == '-' && p[-2] == '-')) {
            return (uint64_t)(p + 1 - s->data);
        }
    }
    return 0;
}

FILTER(do_striptags)
{
    (void)argv;
    (void)args;
    struct jinja_value text, plain;
    struct jinja_buffer buffer = {0}, words = {0};
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    const struct jinja_string *s = text.as.string;
    uint64_t at = 0;
    for (uint64_t end = 1; end; at = end ? end : at) { // what is not closed stays
        const char *tag = memchr(s->data + at, '<', (size_t)(s->length - at));
        uint64_t begin = tag ? (uint64_t)(tag - s->data) : s->length;
        end = tag ? end_of_tag(s, begin) : 0;
        GRAFT_TRY(graft_jinja_charge(run, 1 + ((end ? end : s->length) - at) / 256));
        GRAFT_TRY(graft_jinja_put(run, &buffer, s->data + at, (end ? begin : s->length) - at));
    }
    GRAFT_TRY(graft_jinja_finish(run, &buffer, &plain));
    bool blank = true, any = false;
    for (uint64_t i = 0; i < plain.as.string->length;) {
        uint64_t from = i;
        bool space = graft_jinja_is_space(graft_jinja_decode(plain.as.string->data, plain.as.string->length, &i));
        if (!space) {
            GRAFT_TRY(graft_jinja_puts(run, &words, blank && any ? " " : ""));
            GRAFT_TRY(graft_jinja_put(run, &words, plain.as.string->data + from, i - from));
            any = true;
        }
        blank = space;
    }
    GRAFT_TRY(graft_jinja_finish(run, &words, &plain));
    return unescape(run, plain.as.string, out);
}

const struct jinja_filter_def graft_jinja_layout_filters[] = {
    {"wordwrap", "width break_long_words wrapstring break_on_hyphens", do_wordwrap},
    {"pprint", "", do_pprint},
    {"striptags", "", do_striptags},
    {NULL, NULL, NULL},
};
