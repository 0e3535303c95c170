// SPDX-License-Identifier: Apache-2.0
// Arena, strings, lists and dicts of the template interpreter, with Python's rules for equality, order, truth and length.
#include <math.h>

#include "platform/poison.h"
#include "runtime/text/jinja.h"

struct jinja_chunk {
    struct jinja_chunk *older;
    uint64_t padding;
};
enum { CHUNK_MIN = 1 << 13, CHUNK_MAX = 1 << 20 };

enum graft_status graft_jinja_alloc(struct jinja_arena *arena, void **out, uint64_t bytes)
{
    *out = NULL;
    if (bytes > arena->limit_bytes) {
        return graft_fail(GRAFT_E_LIMIT, "template: one value needs %" PRIu64 " bytes, %" PRIu64 " are allowed for all", bytes,
                          arena->limit_bytes);
    }
    uint64_t given = bytes;
    bytes = ((bytes + 15) & ~(uint64_t)15) + GRAFT_POISON_GAP;
    if (bytes > arena->left) {
        uint64_t chunk_bytes = arena->used_bytes < CHUNK_MIN   ? CHUNK_MIN
                               : arena->used_bytes < CHUNK_MAX ? arena->used_bytes
                                                               : CHUNK_MAX;
        chunk_bytes = bytes > chunk_bytes ? bytes : chunk_bytes;
        if (arena->used_bytes + chunk_bytes > arena->limit_bytes) {
            return graft_fail(GRAFT_E_LIMIT, "template: its values need more than %" PRIu64 " bytes", arena->limit_bytes);
        }
        struct jinja_chunk *chunk;
        GRAFT_TRY(graft_alloc(arena->ctx, GRAFT_MEM_HOST, (void **)&chunk, chunk_bytes + sizeof *chunk, 1,
                              "a chat template's values"));
        chunk->older = arena->chunks;
        arena->chunks = chunk;
        arena->next = (char *)(chunk + 1);
        arena->left = chunk_bytes;
        GRAFT_POISON(arena->next, chunk_bytes);
        arena->used_bytes += chunk_bytes;
    }
    *out = arena->next;
    GRAFT_UNPOISON(*out, given);
    arena->next += bytes;
    arena->left -= bytes;
    return GRAFT_OK;
}

enum graft_status graft_jinja_grow(struct jinja_arena *arena, void **memory, uint64_t old_bytes, uint64_t new_bytes)
{
    uint64_t rounded = (old_bytes + 15) & ~(uint64_t)15;
    uint64_t more = ((new_bytes + 15) & ~(uint64_t)15) - rounded;
    if (old_bytes > 0 && (char *)*memory + rounded + GRAFT_POISON_GAP == arena->next && more <= arena->left) {
        GRAFT_UNPOISON(*memory, new_bytes);
        arena->next += more;
        arena->left -= more;
        return GRAFT_OK;
    }
    void *bigger;
    GRAFT_TRY(graft_jinja_alloc(arena, &bigger, new_bytes));
    if (old_bytes > 0) {
        memcpy(bigger, *memory, (size_t)old_bytes);
    }
    *memory = bigger;
    return GRAFT_OK;
}

void graft_jinja_arena_free(struct jinja_arena *arena)
{
    while (arena->chunks) {
        struct jinja_chunk *older = arena->chunks->older;
        GRAFT_FREE(arena->ctx, &arena->chunks);
        arena->chunks = older;
    }
    arena->left = 0;
    arena->used_bytes = 0;
}

enum graft_status graft_jinja_charge(struct jinja_run *run, uint64_t steps)
{
    run->steps += steps < GRAFT_TEMPLATE_MAX_STEPS ? steps : GRAFT_TEMPLATE_MAX_STEPS;
    if (run->steps > GRAFT_TEMPLATE_MAX_STEPS) {
        return graft_fail(GRAFT_E_LIMIT, "template: more than %d steps", GRAFT_TEMPLATE_MAX_STEPS);
    }
    return GRAFT_OK;
}

enum graft_status graft_jinja_string(struct jinja_arena *arena, const char *data, uint64_t length, struct jinja_value *out)
{
    struct jinja_string *string;
    GRAFT_TRY(graft_jinja_alloc(arena, (void **)&string, sizeof *string + length + 1));
    char *copy = (char *)(string + 1);
    if (length) {
        memcpy(copy, data, (size_t)length);
    }
    *string = (struct jinja_string){.data = copy, .length = length, .chars = graft_jinja_count(data, length)};
    *out = (struct jinja_value){.type = JINJA_STRING, .as.string = string};
    return GRAFT_OK;
}

enum graft_status graft_jinja_share(struct jinja_arena *arena, const struct jinja_string *of, uint64_t start, uint64_t length,
                                    struct jinja_value *out)
{
    struct jinja_string *string;
    GRAFT_TRY(JINJA_NEW(arena, &string, 1));
    bool ascii = of->chars == of->length;
    *string = (struct jinja_string){.data = of->data + start,
                                    .length = length,
                                    .spare = of->spare,
                                    .chars = ascii ? length : graft_jinja_count(of->data + start, length)};
    *out = (struct jinja_value){.type = JINJA_STRING, .as.string = string};
    return GRAFT_OK;
}

// a + b. If nothing lies behind a in its block yet, b is written there: x = x + y in a loop costs what is appended, not the
// whole.
enum graft_status graft_jinja_append(struct jinja_run *run, const struct jinja_string *a, const struct jinja_string *b,
                                     struct jinja_value *out)
{
    GRAFT_TRY(graft_jinja_charge(run, b->length / 256));
    struct jinja_string *string;
    GRAFT_TRY(JINJA_NEW(&run->arena, &string, 1));
    uint64_t length = a->length + b->length; // both lie in memory
    *out = (struct jinja_value){.type = JINJA_STRING, .as.string = string};
    *string = (struct jinja_string){.length = length, .chars = a->chars + b->chars};
    struct jinja_spare *spare = a->spare;
    if (!spare || spare->base + spare->used != a->data + a->length || spare->capacity - spare->used < b->length) {
        GRAFT_TRY(graft_jinja_charge(run, a->length / 256));
        GRAFT_TRY(JINJA_NEW(&run->arena, &spare, 1));
        spare->capacity = length + (length < CHUNK_MAX ? length : CHUNK_MAX) / (a->spare ? 1 : 4);
        GRAFT_TRY(graft_jinja_alloc(&run->arena, (void **)&spare->base, spare->capacity));
        memcpy(spare->base, a->data, (size_t)a->length);
        spare->used = a->length;
        string->data = spare->base;
    } else {
        string->data = a->data;
    }
    memcpy(spare->base + spare->used, b->data, (size_t)b->length);
    spare->used += b->length;
    string->spare = spare;
    return GRAFT_OK;
}

enum graft_status graft_jinja_list(struct jinja_run *run, enum jinja_type type, uint64_t capacity, struct jinja_value *out)
{
    static struct jinja_value nothing; // arithmetic on NULL, be it + 0, is undefined in C
    struct jinja_list *list;
    GRAFT_TRY(JINJA_NEW(&run->arena, &list, 1));
    list->items = &nothing;
    if (capacity) {
        GRAFT_TRY(JINJA_NEW(&run->arena, &list->items, capacity));
    }
    list->capacity = capacity;
    list->kind = type == JINJA_ITERATOR ? "generator" : NULL;
    *out = (struct jinja_value){.type = type, .as.list = list};
    return GRAFT_OK;
}

enum graft_status graft_jinja_push(struct jinja_run *run, struct jinja_list *list, const struct jinja_value *item)
{
    if (list->count == list->capacity) {
        uint64_t capacity = list->capacity ? list->capacity * 2 : 4;
        GRAFT_TRY(graft_jinja_grow(&run->arena, (void **)&list->items, list->capacity * sizeof *list->items,
                                   capacity * sizeof *list->items));
        list->capacity = capacity;
    }
    list->items[list->count++] = *item;
    return GRAFT_OK;
}

enum graft_status graft_jinja_pair(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                                   struct jinja_value *out)
{
    struct jinja_value pair;
    GRAFT_TRY(graft_jinja_list(run, JINJA_TUPLE, 2, &pair));
    pair.as.list->items[0] = *a;
    pair.as.list->items[1] = *b;
    pair.as.list->count = 2;
    *out = pair;
    return GRAFT_OK;
}

enum graft_status graft_jinja_dict(struct jinja_run *run, struct jinja_dict **out)
{
    return JINJA_NEW(&run->arena, out, 1);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

// Equal values have equal hashes: True, 1 and 1.0 are one key.
static enum graft_status hash_value(struct jinja_run *run, const struct jinja_value *value, uint32_t depth, uint64_t *out)
{
    double number;
    if (value->type == JINJA_STRING) {
        uint64_t hash = 14695981039346656037u;
        for (uint64_t i = 0; i < value->as.string->length; i++) {
            hash = (hash ^ (uint8_t)value->as.string->data[i]) * 1099511628211u;
        }
        *out = mix(1, hash);
        return graft_jinja_charge(run, value->as.string->length / 256);
    }
    if (value->type == JINJA_NONE || value->type == JINJA_UNDEFINED) {
        *out = mix(2, value->type);
        return GRAFT_OK;
    }
    if (jinja_as_number(value, &number)) {
        number = number == 0 ? 0 : number; // -0.0 is 0
        uint64_t bits;
        memcpy(&bits, &number, sizeof bits);
        *out = mix(3, bits);
        return GRAFT_OK;
    }
    if (value->type == JINJA_TUPLE && depth < JINJA_MAX_VALUE_DEPTH) {
        uint64_t hash = mix(4, value->as.list->count);
        GRAFT_TRY(graft_jinja_charge(run, value->as.list->count));
        for (uint64_t i = 0; i < value->as.list->count; i++) {
            uint64_t item;
            GRAFT_TRY(hash_value(run, &value->as.list->items[i], depth + 1, &item));
            hash = mix(hash, item);
        }
        *out = hash;
        return GRAFT_OK;
    }
    return graft_fail(GRAFT_E_ARGUMENT, "unhashable type: '%s'", graft_jinja_type_name(value));
}

static void index_entry(struct jinja_dict *dict, uint64_t entry)
{
    uint64_t slot = dict->entries[entry].hash & (dict->index_size - 1);
    while (dict->index[slot]) {
        slot = (slot + 1) & (dict->index_size - 1);
    }
    dict->index[slot] = (uint32_t)(entry + 1);
}

static enum graft_status dict_find(struct jinja_run *run, const struct jinja_dict *dict, const struct jinja_value *key,
                                   uint64_t hash, struct jinja_entry **out)
{
    *out = NULL;
    if (dict->index_size == 0) {
        return GRAFT_OK;
    }
    uint64_t probes = 0;
    for (uint64_t slot = hash & (dict->index_size - 1); dict->index[slot]; slot = (slot + 1) & (dict->index_size - 1)) {
        struct jinja_entry *entry = &dict->entries[dict->index[slot] - 1];
        bool equal = false;
        probes++;
        if (entry->hash == hash) {
            GRAFT_TRY(graft_jinja_equal(run, &entry->key, key, 0, &equal));
        }
        if (equal) {
            *out = entry;
            break;
        }
    }
    return graft_jinja_charge(run, probes / 8);
}

enum graft_status graft_jinja_dict_get(struct jinja_run *run, const struct jinja_dict *dict, const struct jinja_value *key,
                                       struct jinja_entry **out)
{
    uint64_t hash;
    GRAFT_TRY(hash_value(run, key, 0, &hash));
    return dict_find(run, dict, key, hash, out);
}

struct jinja_value *graft_jinja_dict_find(const struct jinja_dict *dict, const char *name)
{
    for (uint64_t i = 0; dict && i < dict->count; i++) {
        if (dict->entries[i].key.type == JINJA_STRING && jinja_name_is(dict->entries[i].key.as.string, name)) {
            return &dict->entries[i].value;
        }
    }
    return NULL;
}

enum graft_status graft_jinja_dict_set(struct jinja_run *run, struct jinja_dict *dict, const struct jinja_value *key,
                                       const struct jinja_value *value)
{
    uint64_t hash;
    struct jinja_entry *entry;
    GRAFT_TRY(hash_value(run, key, 0, &hash));
    GRAFT_TRY(dict_find(run, dict, key, hash, &entry));
    if (entry) {
        entry->value = *value;
        return GRAFT_OK;
    }
    if (dict->count == dict->capacity) {
        uint64_t capacity = dict->capacity ? dict->capacity * 2 : 4;
        GRAFT_TRY(graft_jinja_grow(&run->arena, (void **)&dict->entries, dict->capacity * sizeof *dict->entries,
                                   capacity * sizeof *dict->entries));
        dict->capacity = capacity;
    }
    if ((dict->count + 1) * 2 > dict->index_size) {
        uint64_t size = dict->index_size ? dict->index_size * 2 : 8;
        uint32_t *index;
        GRAFT_TRY(JINJA_NEW(&run->arena, &index, size));
        dict->index = index;
        dict->index_size = size;
        for (uint64_t i = 0; i < dict->count; i++) {
            index_entry(dict, i);
        }
    }
    dict->entries[dict->count] = (struct jinja_entry){.key = *key, .value = *value, .hash = hash};
    index_entry(dict, dict->count++);
    return GRAFT_OK;
}

enum graft_status graft_jinja_dict_remove(struct jinja_run *run, struct jinja_dict *dict, struct jinja_entry *entry)
{
    GRAFT_TRY(graft_jinja_charge(run, dict->count));
    uint64_t at = (uint64_t)(entry - dict->entries);
    memmove(entry, entry + 1, (size_t)(dict->count - at - 1) * sizeof *entry);
    dict->count--;
    memset(dict->index, 0, (size_t)dict->index_size * sizeof *dict->index);
    for (uint64_t i = 0; i < dict->count; i++) {
        index_entry(dict, i);
    }
    return GRAFT_OK;
}

static enum graft_status too_deep(void)
{
    return graft_fail(GRAFT_E_LIMIT, "template: a value is nested deeper than %d levels", JINJA_MAX_VALUE_DEPTH);
}

enum graft_status graft_jinja_equal(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                                    uint32_t depth, bool *out)
{
    double x, y;
    int64_t i, j;
    *out = false;
    GRAFT_TRY(graft_jinja_charge(run, 1));
    if (depth > JINJA_MAX_VALUE_DEPTH) {
        return too_deep();
    }
    if (jinja_as_int(a, &i) && jinja_as_int(b, &j)) {
        *out = i == j;
        return GRAFT_OK;
    }
    if (jinja_as_number(a, &x) && jinja_as_number(b, &y)) {
        *out = x == y;
        return GRAFT_OK;
    }
    if (a->type != b->type) {
        return GRAFT_OK;
    }
    switch (a->type) {
    case JINJA_NONE:
    case JINJA_UNDEFINED:
        *out = true;
        return GRAFT_OK;
    case JINJA_STRING:
        *out = a->as.string->length == b->as.string->length &&
               memcmp(a->as.string->data, b->as.string->data, (size_t)a->as.string->length) == 0;
        return graft_jinja_charge(run, a->as.string->length / 256);
    case JINJA_LIST:
    case JINJA_TUPLE:
        *out = a->as.list->count == b->as.list->count;
        for (uint64_t k = 0; *out && k < a->as.list->count; k++) {
            GRAFT_TRY(graft_jinja_equal(run, &a->as.list->items[k], &b->as.list->items[k], depth + 1, out));
        }
        return GRAFT_OK;
    case JINJA_DICT:
        *out = a->as.dict->count == b->as.dict->count;
        for (uint64_t k = 0; *out && k < a->as.dict->count; k++) {
            const struct jinja_entry *entry = &a->as.dict->entries[k];
            struct jinja_entry *other;
            GRAFT_TRY(dict_find(run, b->as.dict, &entry->key, entry->hash, &other));
            *out = other != NULL;
            if (other) {
                GRAFT_TRY(graft_jinja_equal(run, &entry->value, &other->value, depth + 1, out));
            }
        }
        return GRAFT_OK;
    case JINJA_RANGE:
        *out = a->as.range->count == b->as.range->count &&
               (a->as.range->count == 0 || (a->as.range->start == b->as.range->start &&
                                            (a->as.range->count == 1 || a->as.range->step == b->as.range->step)));
        return GRAFT_OK;
    default:
        *out = a->as.list == b->as.list;
        return GRAFT_OK;
    }
}

enum graft_status graft_jinja_compare(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                                      const char *op, uint32_t depth, int *out)
{
    double x, y;
    int64_t i, j;
    GRAFT_TRY(graft_jinja_charge(run, 1));
    if (depth > JINJA_MAX_VALUE_DEPTH) {
        return too_deep();
    }
    if (jinja_as_int(a, &i) && jinja_as_int(b, &j)) {
        *out = i < j ? -1 : i > j;
        return GRAFT_OK;
    }
    if (jinja_as_number(a, &x) && jinja_as_number(b, &y)) {
        *out = x < y ? -1 : x > y ? 1 : x == y ? 0 : 2; // 2: not a number, all orders are false
        return GRAFT_OK;
    }
    if (a->type == JINJA_STRING && b->type == JINJA_STRING) {
        // The order of UTF-8 bytes is the order of code points.
        const struct jinja_string *s = a->as.string, *t = b->as.string;
        uint64_t least = s->length < t->length ? s->length : t->length;
        int order = memcmp(s->data, t->data, (size_t)least);
        *out = order < 0 ? -1 : order > 0 ? 1 : s->length < t->length ? -1 : s->length > t->length;
        return graft_jinja_charge(run, least / 256);
    }
    if (a->type == b->type && (a->type == JINJA_LIST || a->type == JINJA_TUPLE)) {
        const struct jinja_list *s = a->as.list, *t = b->as.list;
        for (uint64_t k = 0; k < s->count && k < t->count; k++) {
            bool equal;
            GRAFT_TRY(graft_jinja_equal(run, &s->items[k], &t->items[k], depth + 1, &equal));
            if (!equal) {
                return graft_jinja_compare(run, &s->items[k], &t->items[k], op, depth + 1, out);
            }
        }
        *out = s->count < t->count ? -1 : s->count > t->count;
        return GRAFT_OK;
    }
    if (a->type == JINJA_UNDEFINED || b->type == JINJA_UNDEFINED) {
        return graft_jinja_undefined_error(a->type == JINJA_UNDEFINED ? a : b);
    }
    return graft_fail(GRAFT_E_ARGUMENT, "'%s' not supported between instances of '%s' and '%s'", op, graft_jinja_type_name(a),
                      graft_jinja_type_name(b));
}

bool graft_jinja_length(const struct jinja_value *value, uint64_t *out)
{
    switch (value->type) {
    case JINJA_UNDEFINED:
        *out = 0;
        return true;
    case JINJA_STRING:
        *out = value->as.string->chars;
        return true;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        *out = value->as.list->count;
        return true;
    case JINJA_RANGE:
        *out = value->as.range->count;
        return true;
    case JINJA_DICT:
        *out = value->as.dict->count;
        return true;
    case JINJA_LOOP:
        *out = value->as.loop->items->count;
        return true;
    default:
        return false;
    }
}

bool graft_jinja_truth(const struct jinja_value *value)
{
    uint64_t length;
    switch (value->type) {
    case JINJA_UNSET:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return value->as.boolean;
    case JINJA_INT:
        return value->as.integer != 0;
    case JINJA_FLOAT:
        return value->as.number != 0;
    default:
        return !graft_jinja_length(value, &length) || length > 0;
    }
}

const char *graft_jinja_type_name(const struct jinja_value *value)
{
    static const char *const names[] = {[JINJA_UNSET] = "missing argument",
                                        [JINJA_UNDEFINED] = "Undefined",
                                        [JINJA_NONE] = "NoneType",
                                        [JINJA_BOOL] = "bool",
                                        [JINJA_INT] = "int",
                                        [JINJA_FLOAT] = "float",
                                        [JINJA_STRING] = "str",
                                        [JINJA_LIST] = "list",
                                        [JINJA_TUPLE] = "tuple",
                                        [JINJA_ITERATOR] = "generator",
                                        [JINJA_VIEW] = "dict view",
                                        [JINJA_RANGE] = "range",
                                        [JINJA_DICT] = "dict",
                                        [JINJA_NAMESPACE] = "Namespace",
                                        [JINJA_MACRO] = "Macro",
                                        [JINJA_FUNCTION] = "function",
                                        [JINJA_METHOD] = "method",
                                        [JINJA_LOOP] = "LoopContext",
                                        [JINJA_CYCLER] = "Cycler",
                                        [JINJA_JOINER] = "Joiner"};
    return names[value->type];
}

enum graft_status graft_jinja_elements(struct jinja_run *run, const struct jinja_value *value, struct jinja_list **out)
{
    struct jinja_value all;
    switch (value->type) {
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        *out = value->as.list;
        return GRAFT_OK;
    case JINJA_ITERATOR: {
        struct jinja_list *from = value->as.list;
        GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &all));
        *all.as.list = (struct jinja_list){
            .items = from->items + from->start, .count = from->count - from->start, .capacity = from->count - from->start};
        from->start = from->count;
        *out = all.as.list;
        return GRAFT_OK;
    }
    case JINJA_UNDEFINED:
        GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &all));
        *out = all.as.list;
        return GRAFT_OK;
    case JINJA_STRING: {
        const struct jinja_string *string = value->as.string;
        GRAFT_TRY(graft_jinja_charge(run, string->chars));
        GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, string->chars, &all));
        for (uint64_t at = 0; at < string->length;) {
            uint64_t start = at;
            struct jinja_value item;
            graft_jinja_decode(string->data, string->length, &at);
            GRAFT_TRY(graft_jinja_share(&run->arena, string, start, at - start, &item));
            GRAFT_TRY(graft_jinja_push(run, all.as.list, &item));
        }
        *out = all.as.list;
        return GRAFT_OK;
    }
    case JINJA_RANGE:
        GRAFT_TRY(graft_jinja_charge(run, value->as.range->count));
        GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, value->as.range->count, &all));
        for (uint64_t i = 0; i < value->as.range->count; i++) {
            struct jinja_value item = jinja_int(value->as.range->start + (int64_t)i * value->as.range->step);
            GRAFT_TRY(graft_jinja_push(run, all.as.list, &item));
        }
        *out = all.as.list;
        return GRAFT_OK;
    case JINJA_DICT:
        GRAFT_TRY(graft_jinja_charge(run, value->as.dict->count));
        GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, value->as.dict->count, &all));
        for (uint64_t i = 0; i < value->as.dict->count; i++) {
            GRAFT_TRY(graft_jinja_push(run, all.as.list, &value->as.dict->entries[i].key));
        }
        *out = all.as.list;
        return GRAFT_OK;
    default:
        return graft_fail(GRAFT_E_ARGUMENT, "'%s' object is not iterable", graft_jinja_type_name(value));
    }
}
