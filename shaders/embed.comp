// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Token embedding and what the first norm needs: X = scale * E[token]; XN = X * gain; SS = parts of sum of X^2.
//   weights [n_vocab][n_embd] quantized (a window: ids first .. first + count)   state   gain [n_embd]
//   X, xn [n][n_embd]   ss_out [n][parts_out]
// Grid: x over groups of WORKGROUP x 32 values, y over batch rows. Ids outside the window are left to the dispatch that has
// theirs.
// Reference: runtime/ref/embed.c.
#include "params.h"
#include "lib/io.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 8;
WORDS(0, weights)
layout(binding = 1, std430) readonly restrict buffer state_buffer { uint state[]; };
layout(binding = 2, std430) readonly restrict buffer gain_buffer { float gain[]; };
layout(binding = 3, std430) writeonly restrict buffer residual_buffer { float residual[]; };
#ifdef LORA_FOLD
layout(binding = 4, std430) coherent restrict buffer xn_buffer { float xn[]; };
#else
layout(binding = 4, std430) writeonly restrict buffer xn_buffer { float xn[]; };
#endif
layout(binding = 5, std430) writeonly restrict buffer ss_buffer { float ss_out[]; };
#ifdef LORA
QUADS(6, lora_pool)
QUADS(7, lora_table)
layout(binding = 8, std430) writeonly restrict buffer t_buffer { float lora_t_out[]; };
layout(binding = 9, std430) coherent restrict buffer counter_buffer { uint lora_counter[]; };
QUADS(10, lora_rows)
layout(constant_id = 1) const uint LORA_EXTRAS = 0;
#endif
layout(push_constant) uniform push_block { graft_embed_push push; };
#include "lib/reduce.glsl"
#include "quant/common.glsl"
#define W_WORD(i) WORD(weights, i)
#define Q_LOADER(format) q_load_##format
#define Q_LOAD q_load
#include "quant/format.glsl"
#ifdef LORA
#include "lib/lora.glsl"
#ifdef LORA_FOLD
#define SHRINK_X(i) vec4(xn[(i) * 4u], xn[(i) * 4u + 1u], xn[(i) * 4u + 2u], xn[(i) * 4u + 3u])
#define SHRINK_BY_THE_LAST
#include "lib/shrink.glsl"
#endif

// What the adapters of row n add to value `dim` of token `id`: weight * (B[dim] . A[id] + DORA[dim] * base).
float embed_difference(uint n, uint id, uint dim, float base)
{
    float sum = 0.0;
    uvec4 slots;
    vec4 weights;
    lora_row_pairs(n, slots, weights);
    for (uint pair = 0u; pair < GRAFT_LORA_PAIRS && slots[pair] != GRAFT_NO_SLOT; pair++) {
        lora_target entry = lora_entry(slots[pair], push.lora.entry);
        uint quads = entry.rank / 8u;
        float change = entry.dora != 0u ? lora_value(entry.dora, dim) * base : 0.0;
        for (uint i = 0u; i < quads; i++) {
            uvec4 wa = QUAD(lora_pool, entry.a + id * quads + i), wb = QUAD(lora_pool, entry.b + dim * quads + i);
            change += dot(lora_low(wa), lora_low(wb)) + dot(lora_high(wa), lora_high(wb));
        }
        sum = fma(weights[pair], change, sum);
    }
    return sum;
}
#endif

void main()
{
    uint n = gl_WorkGroupID.y, sub = gl_GlobalInvocationID.x;
    uint id = state[push.state_rows + n * GRAFT_ROW_WORDS + GRAFT_ROW_TOKEN] - push.first;
    if (id >= push.count) {
        return;
    }
    float squares = 0.0;
    if (sub < push.subs) {
        uint raw[Q_RAW];
        vec2 scale[2];
        q_load(push.base + id * push.row_bytes, sub, raw, scale);
        [[unroll]] for (uint i = 0u; i < 8u; i++) {
            vec4 v = q_value(raw, i) * scale[i * Q_PARTS / 8u].x + scale[i * Q_PARTS / 8u].y;
            for (uint k = 0u; k < 4u; k++) {
                uint dim = sub * 32u + i * 4u + k;
                float gain_dim = gain[dim];
#ifdef LORA
                if (LORA_EXTRAS != 0u) {
                    v[k] += embed_difference(n, push.first + id, dim, v[k]);
                    gain_dim += norm_difference(n, dim);
                }
#endif
                v[k] *= push.scale;
                residual[n * push.subs * 32u + dim] = v[k];
                xn[n * push.subs * 32u + dim] = v[k] * gain_dim;
                squares = fma(v[k], v[k], squares);
            }
        }
    }
    squares = workgroup_sum(squares);
    if (gl_LocalInvocationIndex == 0u) {
        ss_out[n * push.parts_out + gl_WorkGroupID.x] = squares;
    }
#ifdef LORA_FOLD
    shrink_by_the_last(n, 1u, push.parts_out, push.subs * 8u);
#endif
}
