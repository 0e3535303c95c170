// SPDX-License-Identifier: Apache-2.0
// Any bytes as PEFT's adapter_config.json: what is accepted has a rank and a scale inside their ranges, for every module, the
// same ones when it is read again.
#include <math.h>

#include "fuzz/fuzz.h"
#include "loaders/adapter_config.h"
#include "platform/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const modules[] = {"model.layers.0.self_attn.q_proj", "model.layers.17.mlp.down_proj", "lm_head",
                                          "model.embed_tokens", ""};
    struct graft_adapter_config config, again;
    enum graft_status status = graft_adapter_config_read(&config, (const char *)data, size, "fuzz.json");
    if (status != GRAFT_OK) {
        FUZZ_CHECK(strncmp(graft_last_error(), "fuzz.json: ", 11) == 0, "refused without the file's name");
        graft_adapter_config_free(&config);
        return 0;
    }
    FUZZ_CHECK(graft_adapter_config_read(&again, (const char *)data, size, "fuzz.json") == GRAFT_OK, "refused the second time");
    FUZZ_CHECK(config.r >= 1 && config.r <= GRAFT_ADAPTER_MAX_RANK && config.alpha > 0 && isfinite(config.alpha), "r or alpha");
    FUZZ_CHECK(config.n_alora <= GRAFT_ADAPTER_MAX_ALORA, "invocation tokens");
    FUZZ_CHECK(memchr(config.base_name, 0, sizeof config.base_name), "the base's name has no end");
    FUZZ_CHECK(graft_utf8_valid((const uint8_t *)config.base_name, strlen(config.base_name)), "the base's name is no UTF-8");
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        uint32_t rank = 0, other_rank = 0;
        float scale = 0, other_scale = 0;
        status = graft_adapter_config_module(&config, modules[i], &rank, &scale);
        enum graft_status other = graft_adapter_config_module(&again, modules[i], &other_rank, &other_scale);
        FUZZ_CHECK(status == other, "another answer the second time");
        FUZZ_CHECK(status == GRAFT_OK || status == GRAFT_E_LIMIT, "no rank for a module");
        if (status == GRAFT_OK) {
            FUZZ_CHECK(rank >= 1 && rank <= GRAFT_ADAPTER_MAX_RANK && scale > 0 && isfinite(scale),
                       "rank or scale of a module");
            FUZZ_CHECK(rank == other_rank && memcmp(&scale, &other_scale, sizeof scale) == 0, "another rank the second time");
        }
    }
    graft_adapter_config_free(&again);
    graft_adapter_config_free(&config);
    return 0;
}
