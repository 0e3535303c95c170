// SPDX-License-Identifier: Apache-2.0
// Opening a source: what is common to all architectures. The list of architectures is here.
#include "runtime/model/config.h"

#include <stdio.h>

#include "platform/bytes.h"

static const struct graft_arch *const architectures[] = {&graft_arch_llama, &graft_arch_qwen2, &graft_arch_qwen3,
                                                     &graft_arch_qwen3moe, &graft_arch_phi3, &graft_arch_gemma2,
                                                     &graft_arch_gemma3};

// An adapter or a vocabulary is a valid GGUF file, but no model.
static enum graft_status check_kind(const struct graft_gguf *gguf)
{
    struct graft_text type;
    GRAFT_TRY(graft_gguf_text_or_none(gguf, "general.type", &type));
    if (type.data && !graft_text_is(type, "model")) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: general.type is \"%.*s\", a model file says \"model\"", gguf->path,
                          (int)type.length, type.data);
    }
    return GRAFT_OK;
}

// general.name, or the file's name; cut to the room there is, at a whole UTF-8 character.
static enum graft_status read_name(const struct graft_gguf *gguf, struct graft_config *config)
{
    struct graft_text name;
    GRAFT_TRY(graft_gguf_text_or_none(gguf, "general.name", &name));
    if (!name.data || name.length == 0) {
        name.data = graft_path_name(gguf->path);
        name.length = strlen(name.data);
    }
    size_t length = name.length < sizeof config->name - 1 ? (size_t)name.length : sizeof config->name - 1;
    while (length > 0 && length < name.length && ((uint8_t)name.data[length] & 0xc0) == 0x80) {
        length--;
    }
    memcpy(config->name, name.data, length);
    config->name[length] = '\0';
    return GRAFT_OK;
}

static enum graft_status find_architecture(const struct graft_gguf *gguf, const struct graft_arch **out)
{
    struct graft_text name;
    GRAFT_TRY(graft_gguf_text(gguf, "general.architecture", &name));
    char supported[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        const char *have = architectures[i]->name;
        if (graft_text_is(name, have)) {
            *out = architectures[i];
            return GRAFT_OK;
        }
        used += (size_t)snprintf(supported + used, sizeof supported - used, "%s%s", i ? ", " : "", have);
    }
    int shown = name.length < 64 ? (int)name.length : 64;
    return graft_fail(GRAFT_E_UNSUPPORTED, "%s: architecture \"%.*s\" is not supported; supported are: %s", gguf->path, shown,
                      name.data, supported);
}

void graft_config_set_context(struct graft_config *config, uint32_t n_ctx)
{
    if (config->n_ctx_short && n_ctx > config->n_ctx_short) {
        memcpy(config->rope_inv_freq, config->rope_inv_freq_long, sizeof config->rope_inv_freq);
    }
}

enum graft_status graft_source_open(struct graft_ctx *ctx, struct graft_source **out, const struct graft_gguf *gguf)
{
    *out = NULL;
    GRAFT_TRY(check_kind(gguf));
    const struct graft_arch *arch;
    GRAFT_TRY(find_architecture(gguf, &arch));
    struct graft_source *source;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &source, 1, "a model's configuration"));
    source->ctx = ctx;
    source->base = gguf->map.data;
    source->base_bytes = gguf->map.size;
    snprintf(source->config.architecture, sizeof source->config.architecture, "%s", arch->name);
    enum graft_status status = read_name(gguf, &source->config);
    if (status == GRAFT_OK) {
        status = arch->read(source, gguf);
    }
    if (status != GRAFT_OK) {
        graft_source_close(&source);
        return status;
    }
    *out = source;
    return GRAFT_OK;
}

void graft_source_close(struct graft_source **source)
{
    if (!source || !*source) {
        return;
    }
    struct graft_ctx *ctx = (*source)->ctx;
    GRAFT_FREE(ctx, &(*source)->memory);
    GRAFT_FREE(ctx, &(*source)->labels);
    GRAFT_FREE(ctx, &(*source)->layers);
    GRAFT_FREE(ctx, source);
}
