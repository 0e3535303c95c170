// SPDX-License-Identifier: Apache-2.0
// PEFT's adapter_config.json: what changes the arithmetic is read, what changes nothing is let pass, everything else is refused
// by name. Source: PEFT, LoraConfig and get_pattern_key (huggingface/peft, versions to 0.21).
#ifndef GRAFT_LOADERS_ADAPTER_CONFIG_H
#define GRAFT_LOADERS_ADAPTER_CONFIG_H

#include <jansson.h>

#include "loaders/adapter.h"
#include "loaders/adapter_pattern.h"

enum { GRAFT_ADAPTER_CONFIG_MAX_BYTES = 64 << 10 };

struct graft_adapter_config {
    uint32_t r;   // 1 to GRAFT_ADAPTER_MAX_RANK
    double alpha; // > 0
    bool use_rslora, use_dora, lora_bias;
    bool experts_up, experts_down; // target_parameters names experts.gate_up_proj, experts.down_proj
    char base_name[256]; // base_model_name_or_path, "" if none; without control characters
    int32_t alora[GRAFT_ADAPTER_MAX_ALORA];
    uint32_t n_alora;
    struct graft_adapter_patterns ranks, alphas; // private
    json_t *json;                                // private: backing of the patterns
};

// Read and check; `file` names the text in errors. End with graft_adapter_config_free in any case. Errors: GRAFT_E_FORMAT,
// GRAFT_E_UNSUPPORTED (a key that is not known, or known and at a value that is not supported: key and value are named),
// GRAFT_E_LIMIT, GRAFT_E_MEMORY. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_adapter_config_read(struct graft_adapter_config *config, const char *text,
                                                             uint64_t size, const char *file);
void graft_adapter_config_free(struct graft_adapter_config *config);

// Rank and scale of one module ("model.layers.0.self_attn.q_proj"): r and lora_alpha, each replaced by the value of the first
// key of rank_pattern or alpha_pattern that matches; scale = alpha / r, with rsLoRA alpha / sqrt(r). Errors: GRAFT_E_LIMIT (a
// pattern without end), GRAFT_E_MEMORY.
GRAFT_MUST_CHECK enum graft_status graft_adapter_config_module(const struct graft_adapter_config *config, const char *module,
                                                               uint32_t *rank, float *scale);

#endif
