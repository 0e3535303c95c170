// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// The gated feed-forward's first half: h = f(g) * u, f = silu or, with GELU, its tanh form, with g = Wg xn / rms, u = Wu xn /
// rms (SwiGLU: Shazeer 2020).
//   weights, weights2 [n_ff][n_embd] quantized, one format   xn [n][n_embd]   ss [n][parts_in]   h [n][n_ff]
// An owner computes R / 2 values of h: its first R / 2 rows are of Wg, the others the same rows of Wu. Where the two have
// different formats, there are two dispatches, each with its matrix in both bindings, whose owners compute R values: PART 1
// leaves h = g, PART 2 makes h = f(h) * u. Reference: runtime/ref/gate_up.c.
#include "params.h"
#include "lib/io.glsl"
WORDS(0, weights)
VEC4S(1, x)
layout(binding = 2, std430) readonly restrict buffer ss_buffer { float ss[]; };
#ifdef LORA_FOLD
layout(binding = 3, std430) coherent restrict buffer h_buffer { float h[]; };
#else
layout(binding = 3, std430) restrict buffer h_buffer { float h[]; };
#endif
WORDS(4, weights2)
#ifdef LORA
QUADS(5, lora_pool)
QUADS(6, lora_table)
VEC4S(7, lora_t)
QUADS(8, lora_rows)
layout(constant_id = 4) const uint LORA_EXTRAS = 0;
layout(binding = 9, std430) writeonly restrict buffer t_buffer { float lora_t_out[]; };
layout(binding = 10, std430) coherent restrict buffer counter_buffer { uint lora_counter[]; };
#endif
layout(constant_id = 3) const uint PART = 0; // 0: both matrices, 1: Wg, 2: Wu
layout(constant_id = 7) const uint GELU = 0;
layout(push_constant) uniform push_block { graft_matmul_push push; };
#define SECOND_MATRIX
#define RMS
#define RMS_ROW(c) (c)
#include "lib/matmul.glsl"
#ifdef LORA_FOLD
#define SHRINK_X(i) vec4(h[(i) * 4u], h[(i) * 4u + 1u], h[(i) * 4u + 2u], h[(i) * 4u + 3u])
#define SHRINK_BY_THE_LAST
#include "lib/shrink.glsl"
#endif

// g / (1 + exp(-g)), or g (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))) / 2, which is g / (1 + exp(-2 ...)).
float activation(float g)
{
    float z = GELU != 0u ? 1.5957691216 * fma(0.044715 * g * g, g, g) : g;
    return g / (1.0 + exp(-z));
}

void main()
{
    // Values of an owner; its rows from half_r on read weights2.
    uint rows = push.rows[0], half_r = R / 2u, values = PART == 0u ? half_r : R;
    uint first = (gl_WorkGroupID.x * OWNERS + OWNER) * values;
    for (uint r = 0u; r < half_r; r++) {
        uint more = PART == 0u ? r : r + half_r;
        row[r] = push.base[0] + min(first + r, rows - 1u) * push.row_bytes;
        row[r + half_r] = push.base[1] + min(first + more, rows - 1u) * push.row_bytes;
    }
    for (uint c = 0u; c < C; c++) {
        col[c] = (FIRST_COLUMN + c) * push.subs * 8u;
    }
    accumulate(push.subs);
    find_inverse(FIRST_COLUMN);
#ifdef LORA
    [[unroll]] for (uint r = 0u; r < R; r++) {
        lora_row[r] = push.first[0] + min(first + r % values, rows - 1u);
    }
    [[unroll]] for (uint c = 0u; c < C; c++) {
        lora_column[c] = FIRST_COLUMN + c;
    }
    if (PART == 0u) {
        expand(0u, 0u, half_r);
        expand(1u, half_r, R);
    } else {
        expand(PART - 1u, 0u, R);
    }
#endif
    reduce();
    for (uint c = 0u; c < C && LEADER; c++) {
        uint n = FIRST_COLUMN + c;
        for (uint r = 0u; r < values; r++) {
            if (first + r < rows) {
                uint at = n * push.out_stride + push.first[0] + first + r;
                float g = acc[r * C + c] * inverse[c];
                if (PART == 0u) {
                    float u = acc[(r + half_r) * C + c] * inverse[c];
                    h[at] = activation(g) * u;
                } else if (PART == 1u) {
                    h[at] = g;
                } else {
                    float u = g, gate = h[at];
                    h[at] = activation(gate) * u;
                }
            }
        }
    }
#ifdef LORA_FOLD
    if (PART != 1u) {
        shrink_by_the_last(gl_WorkGroupID.y * TILE_COLUMNS, TILE_COLUMNS, push.parts_out, push.out_stride / 4u);
    }
#endif
}
