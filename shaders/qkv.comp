// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Queries, keys and values of a layer: y = W xn / rms; rotary embedding on queries and keys (Su 2021; adjacent pairs); queries
// times attention_scale go to Q, keys and values in the formats KV_K and KV_V (runtime/quant/kv.h) into the row's KV slot. A
// quantized head needs all its values: they go to `fresh`, and whoever writes the last ones packs them.
//   weights [segments][rows][n_in] quantized   xn [n][n_embd]   ss [n][parts_in]   state   q_out [n][n_head][head_dim]
//   kv pages
// Segments follow each other in the grid (x); y is the column tile. R is even. Reference: runtime/ref/qkv.c.
#include "params.h"
#include "lib/io.glsl"
WORDS(0, weights)
VEC4S(1, x)
layout(binding = 2, std430) readonly restrict buffer ss_buffer { float ss[]; };
layout(binding = 3, std430) readonly restrict buffer state_buffer { uint state[]; };
layout(binding = 4, std430) writeonly restrict buffer q_buffer { float q_out[]; };
layout(binding = 5, std430) writeonly restrict buffer kv_buffer { uint kv[]; };
layout(binding = 6, std430) coherent restrict buffer fresh_buffer { float fresh[]; }; // [n][keys, values][n_head_kv][head_dim]
layout(binding = 7, std430) coherent restrict buffer fresh_count_buffer { uint fresh_count[]; }; // [tile][n_head_kv][2]
#ifdef LORA
QUADS(8, lora_pool)
QUADS(9, lora_table)
VEC4S(10, lora_t)
QUADS(11, lora_rows)
layout(constant_id = 4) const uint LORA_EXTRAS = 0;
#endif
layout(push_constant) uniform push_block { graft_matmul_push push; };
layout(constant_id = 3) const uint KV_K = 0; // formats of keys and values
layout(constant_id = 7) const uint KV_V = 0;
#define RMS
#define RMS_ROW(c) (c)
#include "lib/matmul.glsl"
#include "lib/kv.glsl"
#include "lib/kv_pack.glsl"

void main()
{
    uint group = gl_WorkGroupID.x, segment = 0u;
    if (group >= push.groups[1]) {
        segment = 2u;
        group -= push.groups[1];
    } else if (group >= push.groups[0]) {
        segment = 1u;
        group -= push.groups[0];
    }
    uint rows = push.rows[segment], first = (group * OWNERS + OWNER) * R;
    for (uint r = 0u; r < R; r++) {
        row[r] = push.base[segment] + min(first + r, rows - 1u) * push.row_bytes;
    }
    for (uint c = 0u; c < C; c++) {
        col[c] = (gl_WorkGroupID.y * C + c) * push.subs * 8u;
    }
    accumulate(push.subs);
    uint kind = (push.kinds >> (segment * 2u)) & 3u;
    find_inverse(gl_WorkGroupID.y * C);
#ifdef LORA
    [[unroll]] for (uint r = 0u; r < R; r++) {
        lora_row[r] = push.first[segment] + min(first + r, rows - 1u);
    }
    [[unroll]] for (uint c = 0u; c < C; c++) {
        lora_column[c] = gl_WorkGroupID.y * C + c;
    }
    expand(kind, 0u, R);
#endif
    reduce();
    if (!LEADER || first >= rows) {
        return;
    }
    uint out_row = push.first[segment] + first, dim = out_row % push.head_dim;
    for (uint c = 0u; c < C; c++) {
        uint n = gl_WorkGroupID.y * C + c;
        uint head = out_row / push.head_dim;
        uint slot = state[push.state_rows + n * GRAFT_ROW_WORDS + GRAFT_ROW_SLOT];
        uint format = kind == 2u ? KV_V : KV_K;
        uint unit = (slot / GRAFT_PAGE_TOKENS * push.n_head_kv + head) * kv_unit_words(format, push.head_dim);
        uint kv_at = unit + (kind == 2u ? push.v_words : 0u);
        uint at_value = slot % GRAFT_PAGE_TOKENS * push.head_dim + dim;
        uint fresh_at = ((n * 2u + kind - 1u) * push.n_head_kv + head) * push.head_dim + dim;
        for (uint r = 0u; r < R; r += 2u) {
            vec2 y = vec2(acc[r * C + c], acc[(r + 1u) * C + c]) * inverse[c];
            if (kind != 2u && dim + r < push.rope_dim) {
                uint at = push.state_rope + n * push.rope_dim + dim + r;
                float cosine = uintBitsToFloat(state[at]), sine = uintBitsToFloat(state[at + 1u]);
                y = vec2(y.x * cosine - y.y * sine, y.x * sine + y.y * cosine);
            }
            if (kind == 0u) {
                q_out[n * push.out_stride + out_row + r] = y.x * push.scale;
                q_out[n * push.out_stride + out_row + r + 1u] = y.y * push.scale;
            } else {
                if (format >= KV_Q8_0) {
                    fresh[fresh_at + r] = y.x;
                    fresh[fresh_at + r + 1u] = y.y;
                } else if (format == KV_F32) {
                    kv[kv_at + at_value + r] = floatBitsToUint(y.x);
                    kv[kv_at + at_value + r + 1u] = floatBitsToUint(y.y);
                } else {
                    kv[kv_at + (at_value + r) / 2u] = packHalf2x16(y);
                }
            }
        }
    }
    if (kind != 0u && (kind == 2u ? KV_V : KV_K) >= KV_Q8_0) {
        pack_head_by_the_last(kind, out_row / push.head_dim);
    }
}
