// SPDX-License-Identifier: Apache-2.0
// A model in several files: NAME-00001-of-0000N.gguf to NAME-0000N-of-0000N.gguf. Each is a whole GGUF file; the first has the
// model's keys, every one has split.no (from 0), split.count and split.tensors.count (of all files together). Source: what
// llama.cpp's gguf-split writes, and PyPI gguf with split_max_tensors or split_max_size.
#include <stdio.h>

#include "loaders/gguf_private.h"
#include "platform/bytes.h"

enum { ENDING_BYTES = 32 };

static void ending_of(char out[ENDING_BYTES], uint32_t number, uint32_t count)
{
    snprintf(out, ENDING_BYTES, "-%05u-of-%05u.gguf", number + 1, count);
}

// The file's place among the parts, and that its name says the same.
static enum graft_status check_first(const struct graft_gguf *gguf, uint32_t count)
{
    char first[ENDING_BYTES], ending[ENDING_BYTES];
    uint32_t number;
    if (count > GRAFT_GGUF_MAX_PARTS) {
        return graft_fail(GRAFT_E_LIMIT, "%s: split.count is %u, allowed are %d", gguf->path, count, GRAFT_GGUF_MAX_PARTS);
    }
    GRAFT_TRY(graft_gguf_u32(gguf, "split.no", &number));
    if (number >= count) {
        return graft_fail(GRAFT_E_FORMAT, "%s: split.no is %u, with split.count %u allowed are 0 to %u", gguf->path, number,
                          count, count - 1);
    }
    ending_of(first, 0, count);
    ending_of(ending, number, count);
    size_t length = strlen(gguf->path), tail = strlen(ending);
    if (length < tail || strcmp(gguf->path + length - tail, ending) != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: is part %u of %u of a split model, so that its name must end in %s", gguf->path,
                          number + 1, count, ending);
    }
    if (number != 0) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "%s: is part %u of %u of a split model, which is opened by its first file, %.*s%s", gguf->path,
                          number + 1, count, (int)(length - tail), gguf->path, first);
    }
    return GRAFT_OK;
}

// That a file is the part its name says, of this model.
static enum graft_status check_part(const struct graft_gguf *part, uint32_t number, uint32_t count, uint32_t n_tensors)
{
    const struct {
        const char *key;
        uint32_t expected;
    } rules[] = {{"split.no", number}, {"split.count", count}, {"split.tensors.count", n_tensors}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        uint32_t value;
        GRAFT_TRY(graft_gguf_u32(part, rules[i].key, &value));
        if (value != rules[i].expected) {
            return graft_fail(GRAFT_E_FORMAT, "%s: %s is %u, expected %u: it is not part %u of this model", part->path,
                              rules[i].key, value, rules[i].expected, number + 1);
        }
    }
    return GRAFT_OK;
}

// All tensors into the first part's table, at their places in the whole mapping.
static enum graft_status join(struct graft_gguf *first, struct graft_gguf **parts, const uint64_t *starts, uint32_t count,
                              uint32_t n_tensors)
{
    struct graft_ctx *ctx = first->ctx;
    struct graft_gguf_index *index = first->index;
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        total += parts[i]->n_tensors; // at most 1024 times 65,536
    }
    if (total != n_tensors) {
        return graft_fail(GRAFT_E_FORMAT, "%s: split.tensors.count is %u, the %u files have %" PRIu64 " tensors", first->path,
                          n_tensors, count, total);
    }
    if (total > GRAFT_GGUF_MAX_TENSORS) {
        return graft_fail(GRAFT_E_LIMIT, "%s: %" PRIu64 " tensors in %u files, allowed are %d", first->path, total, count,
                          GRAFT_GGUF_MAX_TENSORS);
    }
    struct graft_gguf_tensor *tensors = NULL;
    struct graft_gguf_table table = {0};
    enum graft_status status;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &tensors, total, "tensor table of a GGUF file"));
    GRAFT_TRY_OUT(graft_gguf_make_table(ctx, &table, total), status, failed);
    uint64_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint64_t k = 0; k < parts[i]->n_tensors; k++) {
            tensors[n] = parts[i]->tensors[k];
            tensors[n++].offset += starts[i];
        }
    }
    GRAFT_FREE(ctx, &first->tensors);
    GRAFT_FREE(ctx, &index->tensors.slots);
    first->data_bytes = n ? tensors[n - 1].offset + tensors[n - 1].bytes - first->data_offset : 0;
    first->tensors = tensors;
    first->n_tensors = total;
    index->tensors = table;
    for (uint64_t i = 0; i < total; i++) {
        uint32_t *slot = graft_gguf_slot(first, true, tensors[i].name.data, tensors[i].name.length);
        if (*slot) {
            return graft_fail(GRAFT_E_FORMAT, "%s: tensor %.*s is in %s too",
                              first->parts[graft_gguf_part_of(first, &tensors[i])].path, (int)tensors[i].name.length,
                              tensors[i].name.data, first->parts[graft_gguf_part_of(first, &tensors[*slot - 1])].path);
        }
        *slot = (uint32_t)i + 1;
    }
    return GRAFT_OK;
failed:
    GRAFT_FREE(ctx, &tensors);
    return status;
}

// What opening a split model needs while it lasts.
struct opening {
    struct graft_ctx *ctx;
    struct graft_map map;
    uint32_t count, n_tensors;
    struct graft_gguf_part *parts; // [count], until the model has them
    uint64_t *starts, *sizes;      // [count]
    struct graft_gguf **files;     // [count]
};

static enum graft_status name_parts(struct opening *o, const char *path)
{
    char ending[ENDING_BYTES];
    ending_of(ending, 0, o->count);
    size_t stem = strlen(path) - strlen(ending);
    for (uint32_t i = 0; i < o->count; i++) {
        GRAFT_TRY(graft_strdup(o->ctx, &o->parts[i].path, path, strlen(path)));
        ending_of(ending, i, o->count);
        memcpy(o->parts[i].path + stem, ending, strlen(ending)); // of the same length: at most 1024 parts
    }
    return GRAFT_OK;
}

static enum graft_status open_parts(struct opening *o, const char *path, bool allow_unknown_types)
{
    struct graft_ctx *ctx = o->ctx;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &o->parts, o->count, "the files of a split model"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &o->starts, o->count, "the files of a split model"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &o->sizes, o->count, "the files of a split model"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &o->files, o->count, "the files of a split model"));
    GRAFT_TRY(name_parts(o, path));
    const char **paths = NULL;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &paths, o->count, "the files of a split model"));
    for (uint32_t i = 0; i < o->count; i++) {
        paths[i] = o->parts[i].path;
    }
    enum graft_status status = graft_map_open_all(&o->map, paths, o->count, o->starts, o->sizes);
    GRAFT_FREE(ctx, &paths);
    if (status != GRAFT_OK) {
        return graft_fail_prefix(status, "%s is the first of %u files of a split model", path, o->count);
    }
    for (uint32_t i = 0; i < o->count; i++) {
        struct graft_map part = {.data = o->map.data + o->starts[i], .size = o->sizes[i]};
        o->parts[i].start = o->starts[i];
        o->parts[i].bytes = o->sizes[i];
        GRAFT_TRY(graft_gguf_open_map(ctx, &o->files[i], part, o->parts[i].path, allow_unknown_types, true));
        GRAFT_TRY(check_part(o->files[i], i, o->count, o->n_tensors));
    }
    struct graft_gguf *first = o->files[0];
    first->parts = o->parts; // with the map, once everything else is done
    first->n_parts = o->count;
    status = join(first, o->files, o->starts, o->count, o->n_tensors);
    if (status != GRAFT_OK) {
        first->parts = &((struct graft_gguf_index *)first->index)->only;
        first->n_parts = 1;
        return status;
    }
    first->map = o->map;
    ((struct graft_gguf_index *)first->index)->borrowed = false;
    o->parts = NULL;
    o->map = (struct graft_map){0};
    return GRAFT_OK;
}

// `gguf`, the first part, gives way to the whole model.
static enum graft_status open_split(struct graft_gguf **gguf, bool allow_unknown_types)
{
    struct opening o = {.ctx = (*gguf)->ctx, .count = ((struct graft_gguf_index *)(*gguf)->index)->split_count};
    GRAFT_TRY(check_first(*gguf, o.count));
    GRAFT_TRY(graft_gguf_u32(*gguf, "split.tensors.count", &o.n_tensors));
    enum graft_status status = open_parts(&o, (*gguf)->path, allow_unknown_types);
    if (status == GRAFT_OK) {
        graft_gguf_close(gguf);
        *gguf = o.files[0];
        o.files[0] = NULL;
    }
    for (uint32_t i = 0; o.files && i < o.count; i++) {
        graft_gguf_close(&o.files[i]);
    }
    for (uint32_t i = 0; o.parts && i < o.count; i++) {
        GRAFT_FREE(o.ctx, &o.parts[i].path);
    }
    GRAFT_FREE(o.ctx, &o.parts);
    GRAFT_FREE(o.ctx, &o.starts);
    GRAFT_FREE(o.ctx, &o.sizes);
    GRAFT_FREE(o.ctx, &o.files);
    graft_map_close(&o.map);
    return status;
}

enum graft_status graft_gguf_open(struct graft_ctx *ctx, struct graft_gguf **out, const char *path, bool allow_unknown_types)
{
    *out = NULL;
    struct graft_map map;
    GRAFT_TRY(graft_map_open(&map, path));
    GRAFT_TRY(graft_gguf_open_map(ctx, out, map, path, allow_unknown_types, false));
    if (((struct graft_gguf_index *)(*out)->index)->split_count > 1) {
        enum graft_status status = open_split(out, allow_unknown_types);
        if (status != GRAFT_OK) {
            graft_gguf_close(out);
            return status;
        }
    }
    return GRAFT_OK;
}

uint32_t graft_gguf_part_of(const struct graft_gguf *gguf, const struct graft_gguf_tensor *tensor)
{
    uint32_t i = 0;
    while (i + 1 < gguf->n_parts && gguf->parts[i + 1].start <= tensor->offset) {
        i++;
    }
    return i;
}

uint64_t graft_gguf_bytes(const struct graft_gguf *gguf)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < gguf->n_parts; i++) {
        bytes += gguf->parts[i].bytes;
    }
    return bytes;
}
