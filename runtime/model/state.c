// SPDX-License-Identifier: Apache-2.0
// The state buffer: everything that changes from step to step, as words. The layout is described in shaders/params.h.
#include <math.h>
#include <string.h>

#include "runtime/model/exec.h"

uint32_t graft_state_words(const struct graft_config *config, const struct graft_limits *limits, uint32_t rows,
                           struct graft_state_layout *out)
{
    out->rows = GRAFT_STATE_HEADER;
    out->outs = out->rows + rows * GRAFT_ROW_WORDS;
    out->rope = out->outs + rows;
    out->tables = out->rope + rows * config->rope_dim * (config->two_ropes ? 2 : 1);
    uint32_t table_words = (limits->n_seq + 1) * limits->table_pages;
    out->rings = out->tables + table_words;
    return out->rings + (limits->ring_pages ? table_words : 0);
}

uint32_t graft_state_rope(const struct graft_config *config, const struct graft_state_layout *layout, bool local)
{
    return local && config->two_ropes ? layout->rope + (layout->tables - layout->rope) / 2 : layout->rope;
}

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Angles are products of f32 numbers: models are trained with that rounding.
static void fill_rope(const struct graft_config *config, const float *inv_freq, uint32_t pos, uint32_t *words)
{
    for (uint32_t i = 0; i < config->rope_dim / 2; i++) {
        float angle = (float)pos * inv_freq[i];
        words[2 * i] = float_bits((float)(cos((double)angle) * (double)config->rope_magnitude));
        words[2 * i + 1] = float_bits((float)(sin((double)angle) * (double)config->rope_magnitude));
    }
}

void graft_state_fill(const struct graft_config *config, const struct graft_limits *limits,
                      const struct graft_state_layout *layout, uint32_t rows, const struct graft_exec_batch *batch,
                      uint32_t *image)
{
    memset(image, 0, (size_t)layout->tables * sizeof *image);
    image[GRAFT_STATE_N_ROWS] = batch->n_rows;
    image[GRAFT_STATE_N_OUT] = batch->n_out;
    const struct graft_exec_row spare = {.seq = limits->n_seq};
    for (uint32_t r = 0; r < rows; r++) {
        const struct graft_exec_row *row = r < batch->n_rows ? &batch->rows[r] : &spare;
        uint32_t *words = image + layout->rows + r * GRAFT_ROW_WORDS;
        words[GRAFT_ROW_TOKEN] = row->token;
        words[GRAFT_ROW_POS] = row->pos;
        words[GRAFT_ROW_TABLE] = row->seq * limits->table_pages;
        words[GRAFT_ROW_SLOT] = row->slot;
        if (batch->rings && r < batch->n_rows) {
            uint32_t page = batch->rings[row->seq * limits->table_pages + row->pos / GRAFT_PAGE_TOKENS];
            words[GRAFT_ROW_RING_SLOT] = page * GRAFT_PAGE_TOKENS + row->pos % GRAFT_PAGE_TOKENS;
        }
        for (uint32_t k = 0; k < GRAFT_LORA_PAIRS; k++) {
            bool used = k < row->n_pairs;
            words[GRAFT_ROW_LORA + 2 * k] = used ? row->pairs[k].slot : GRAFT_NO_SLOT;
            words[GRAFT_ROW_LORA + 2 * k + 1] = used ? float_bits(row->pairs[k].weight) : 0;
        }
        uint32_t at = r * config->rope_dim;
        fill_rope(config, config->rope_inv_freq, row->pos, image + layout->rope + at);
        if (config->two_ropes) {
            fill_rope(config, config->rope_inv_freq_local, row->pos, image + graft_state_rope(config, layout, true) + at);
        }
    }
    if (batch->n_out) {
        memcpy(image + layout->outs, batch->out, batch->n_out * sizeof *image);
    }
    uint32_t table_words = limits->n_seq * limits->table_pages;
    memcpy(image + layout->tables, batch->tables, table_words * sizeof *image);
    memset(image + layout->tables + table_words, 0, limits->table_pages * sizeof *image);
    if (batch->rings) {
        memcpy(image + layout->rings, batch->rings, table_words * sizeof *image);
        memset(image + layout->rings + table_words, 0, limits->table_pages * sizeof *image);
    }
}
