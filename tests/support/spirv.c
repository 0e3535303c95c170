// SPDX-License-Identifier: Apache-2.0
// Numbers of opcodes and operands: the SPIR-V specification, section 3.
#include "support/spirv.h"

#include <stdlib.h>

#include "support/support.h"

enum { HEADER_WORDS = 5 };
enum {
    OP_CAPABILITY = 17,
    OP_TYPE_INT = 21,
    OP_TYPE_FLOAT = 22,
    OP_TYPE_VECTOR = 23,
    OP_TYPE_ARRAY = 28,
    OP_TYPE_POINTER = 32,
    OP_CONSTANT = 43,
    OP_SPEC_CONSTANT = 50,
    OP_SPEC_CONSTANT_OP = 52,
    OP_VARIABLE = 59,
    OP_ACCESS_CHAIN = 65,
    OP_DECORATE = 71,
    OP_I_ADD = 128,
    OP_I_MUL = 132,
    OP_U_DIV = 134,
    OP_COOPERATIVE_MATRIX_LOAD = 4457,
    OP_COOPERATIVE_MATRIX_STORE = 4458
};
enum { DECORATION_SPEC_ID = 1, WORKGROUP = 4 };

// What an id stands for: a type's bytes, what a pointer points to, or a constant's value.
struct id {
    uint64_t value;
    uint32_t spec; // its number as a specialization constant + 1
    bool known;
};

static uint64_t value_of(const struct id *ids, uint32_t id)
{
    ck_assert_msg(ids[id].known, "a module's shared memory depends on an instruction that this test does not know");
    return ids[id].value;
}

static void set(struct id *ids, uint32_t id, uint64_t value)
{
    ids[id].value = value;
    ids[id].known = true;
}

static void constant(const struct graft_vk_pipeline_params *params, struct id *ids, const uint32_t *w)
{
    uint32_t spec = ids[w[2]].spec;
    set(ids, w[2], spec && spec <= params->n_constants ? params->constants[spec - 1] : w[3]);
}

// What the functions below tell of a module.
struct module {
    uint64_t shared_bytes, matrix_element_bytes;
};

static struct module examine(const struct graft_vk_pipeline_params *params)
{
    struct module module = {.matrix_element_bytes = UINT64_MAX};
    uint64_t n = params->spirv_bytes / 4;
    struct id *ids = calloc(params->spirv[3], sizeof *ids);
    ck_assert_ptr_nonnull(ids);
    for (uint64_t at = HEADER_WORDS; at < n; at += params->spirv[at] >> 16) {
        const uint32_t *w = params->spirv + at;
        switch (w[0] & 0xffff) {
        case OP_DECORATE:
            ids[w[1]].spec = w[2] == DECORATION_SPEC_ID ? w[3] + 1 : ids[w[1]].spec;
            break;
        case OP_TYPE_INT:
        case OP_TYPE_FLOAT:
            set(ids, w[1], w[2] / 8);
            break;
        case OP_TYPE_VECTOR:
            if (ids[w[2]].known) { // those of booleans are not
                set(ids, w[1], ids[w[2]].value * w[3]);
            }
            break;
        case OP_TYPE_ARRAY:
            if (ids[w[2]].known && ids[w[3]].known) {
                set(ids, w[1], ids[w[2]].value * ids[w[3]].value);
            }
            break;
        case OP_TYPE_POINTER:
            if (w[2] == WORKGROUP) {
                set(ids, w[1], value_of(ids, w[3]));
            }
            break;
        case OP_CONSTANT:
        case OP_SPEC_CONSTANT:
            constant(params, ids, w);
            break;
        case OP_SPEC_CONSTANT_OP:
            if (w[3] == OP_I_MUL && ids[w[4]].known && ids[w[5]].known) {
                set(ids, w[2], ids[w[4]].value * ids[w[5]].value);
            } else if (w[3] == OP_U_DIV && ids[w[4]].known && ids[w[5]].known && ids[w[5]].value) {
                set(ids, w[2], ids[w[4]].value / ids[w[5]].value);
            } else if (w[3] == OP_I_ADD && ids[w[4]].known && ids[w[5]].known) {
                set(ids, w[2], ids[w[4]].value + ids[w[5]].value);
            }
            break;
        case OP_VARIABLE:
            module.shared_bytes += w[3] == WORKGROUP ? value_of(ids, w[1]) : 0;
            break;
        case OP_ACCESS_CHAIN:
            ids[w[2]] = ids[w[1]];
            break;
        case OP_COOPERATIVE_MATRIX_LOAD:
        case OP_COOPERATIVE_MATRIX_STORE: {
            uint64_t element = value_of(ids, w[(w[0] & 0xffff) == OP_COOPERATIVE_MATRIX_LOAD ? 3 : 1]);
            module.matrix_element_bytes = element < module.matrix_element_bytes ? element : module.matrix_element_bytes;
            break;
        }
        default:
            break;
        }
    }
    free(ids);
    return module;
}

uint64_t graft_test_shared_bytes(const struct graft_vk_pipeline_params *params)
{
    return examine(params).shared_bytes;
}

uint64_t graft_test_matrix_element_bytes(const struct graft_vk_pipeline_params *params)
{
    return examine(params).matrix_element_bytes;
}

bool graft_test_needs(const struct graft_vk_pipeline_params *params, uint32_t capability)
{
    for (uint64_t at = HEADER_WORDS; at < params->spirv_bytes / 4; at += params->spirv[at] >> 16) {
        if ((params->spirv[at] & 0xffff) == OP_CAPABILITY && params->spirv[at + 1] == capability) {
            return true;
        }
    }
    return false;
}
