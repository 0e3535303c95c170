// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Queries, keys and values of a layer: y = W xn / rms + bias; a norm of each head of q and k (HEAD_NORM: y gain / rms(y));
// rotary
// embedding on queries and keys (Su 2021); queries times attention_scale go to Q, keys and values in the formats KV_K and KV_V
// (runtime/quant/kv.h) into the row's KV slot. A quantized head needs all its values: they go to `fresh`, and whoever writes
// the
// last ones packs them.
//   weights [segments][rows][n_in] quantized   xn [n][n_embd]   ss [n][parts_in]   state   q_out [n][n_head][head_dim]
//   kv pages   vectors: biases and gains   raw [n][(n_head + n_head_kv) head_dim], counter [n][n_head + n_head_kv]: HEAD_NORM
// Segments follow each other in the grid (x); y is the column tile. R is even. Rotary pairs stand side by side in Q and K; with
// HALVES the weights' rows are read in the order that does so. With HEAD_NORM the last workgroup to finish rows of a head norms
// and rotates it. Reference: runtime/ref/qkv.c.
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
layout(binding = 8, std430) readonly restrict buffer vector_buffer { float vectors[]; };
layout(binding = 9, std430) coherent restrict buffer raw_buffer { float raw_heads[]; };
layout(binding = 10, std430) coherent restrict buffer head_counter_buffer { uint head_counter[]; };
#ifdef LORA
QUADS(11, lora_pool)
QUADS(12, lora_table)
VEC4S(13, lora_t)
QUADS(14, lora_rows)
layout(constant_id = 4) const uint LORA_EXTRAS = 0;
#endif
layout(push_constant) uniform push_block { graft_matmul_push push; };
layout(constant_id = 3) const uint KV_K = 0; // formats of keys and values
layout(constant_id = 13) const uint KV_V = 0;
layout(constant_id = 7) const uint HEAD_DIM = 64;
layout(constant_id = 8) const uint ROPE_DIM = 64;
layout(constant_id = 9) const uint N_HEAD_KV = 1;
layout(constant_id = 10) const uint HALVES = 0; // rotary pairs of the weights are rows (i, i + ROPE_DIM / 2) of a head
layout(constant_id = 11) const uint BIAS = 0;
layout(constant_id = 12) const uint HEAD_NORM = 0;
layout(constant_id = 14) const uint RING = 0; // the layer keeps only the pages of its window
const uint SLOT = RING != 0u ? GRAFT_ROW_RING_SLOT : GRAFT_ROW_SLOT;
#define RMS
#define RMS_ROW(c) (c)
#include "lib/matmul.glsl"

#include "lib/kv.glsl"
#include "lib/kv_pack.glsl"
#define ARRIVE last_of_head
#define ARRIVE_COUNTER head_counter
#include "lib/arrive.glsl"

uint format_of(uint kind)
{
    return kind == 2u ? KV_V : KV_K;
}

// The weights' row of output o of matrix `kind`.
uint weight_row(uint kind, uint o)
{
    uint d = o % HEAD_DIM;
    return HALVES != 0u && kind != 2u && d < ROPE_DIM ? o - d + d / 2u + d % 2u * (ROPE_DIM / 2u) : o;
}

// Outputs o and o + 1 of matrix `kind` in batch row n: rotate, and write where they belong.
void put(uint kind, uint n, uint o, vec2 y)
{
    uint head = o / HEAD_DIM, dim = o % HEAD_DIM;
    if (kind != 2u && dim < ROPE_DIM) {
        uint at = push.state_rope + n * ROPE_DIM + dim;
        float cosine = uintBitsToFloat(state[at]), sine = uintBitsToFloat(state[at + 1u]);
        y = vec2(y.x * cosine - y.y * sine, y.x * sine + y.y * cosine);
    }
    if (kind == 0u) {
        q_out[n * push.out_stride + o] = y.x * push.scale;
        q_out[n * push.out_stride + o + 1u] = y.y * push.scale;
        return;
    }
    uint format = format_of(kind);
    if (format >= KV_Q8_0) {
        uint at = ((n * 2u + kind - 1u) * N_HEAD_KV + head) * HEAD_DIM + dim;
        fresh[at] = y.x;
        fresh[at + 1u] = y.y;
        return;
    }
    uint slot = state[push.state_rows + n * GRAFT_ROW_WORDS + SLOT];
    uint at = (kind == 2u ? push.v_words : 0u) +
              (slot / GRAFT_PAGE_TOKENS * N_HEAD_KV + head) * kv_unit_words(format, HEAD_DIM);
    uint value = slot % GRAFT_PAGE_TOKENS * HEAD_DIM + dim;
    if (format == KV_F32) {
        kv[at + value] = floatBitsToUint(y.x);
        kv[at + value + 1u] = floatBitsToUint(y.y);
    } else {
        kv[at + value / 2u] = packHalf2x16(y);
    }
}

// Norm, rotate and write a head of batch row n, whose raw values begin at `from`. Every invocation takes pairs of its own.
void finish_head(uint kind, uint n, uint head, uint from)
{
    float squares = 0.0;
    for (uint d = gl_LocalInvocationIndex * 2u; d < HEAD_DIM; d += WORKGROUP * 2u) {
        vec2 y = vec2(raw_heads[from + d], raw_heads[from + d + 1u]);
        squares = fma(y.x, y.x, fma(y.y, y.y, squares));
    }
    float inverse_rms = inversesqrt(fma(workgroup_sum(squares), 1.0 / float(HEAD_DIM), push.eps));
    uint gain = push.norm + kind * HEAD_DIM;
    for (uint d = gl_LocalInvocationIndex * 2u; d < HEAD_DIM; d += WORKGROUP * 2u) {
        vec2 y = vec2(raw_heads[from + d], raw_heads[from + d + 1u]);
        uvec2 i = uvec2(weight_row(kind, d), weight_row(kind, d + 1u));
        vec2 gains = vec2(vectors[gain + i.x], vectors[gain + i.y]);
#ifdef LORA
        if (LORA_EXTRAS != 0u) {
            gains.x += norm_difference_of(push.lora.norm + kind, n, i.x);
            gains.y += norm_difference_of(push.lora.norm + kind, n, i.y);
        }
#endif
        y *= inverse_rms * gains;
        put(kind, n, head * HEAD_DIM + d, y);
    }
}

// This workgroup has left rows [begin, end) of the segment in raw_heads; heads that are complete now are finished.
void finish_heads(uint kind, uint segment, uint begin, uint end)
{
    uint n_heads = push.out_stride / HEAD_DIM + N_HEAD_KV, covered = OWNERS * R, rows = push.rows[segment];
    uint head = begin / HEAD_DIM, last = (min(end, rows) - 1u) / HEAD_DIM;
    do {
        uint first_group = head * HEAD_DIM / covered, last_group = (head * HEAD_DIM + HEAD_DIM - 1u) / covered;
        uint own = push.first[segment] / HEAD_DIM + head, among_all = own + (kind == 1u ? push.out_stride / HEAD_DIM : 0u);
        if (last_of_head(gl_WorkGroupID.y * n_heads + among_all, last_group - first_group + 1u)) {
            for (uint c = 0u; c < TILE_COLUMNS; c++) {
                uint n = gl_WorkGroupID.y * TILE_COLUMNS + c;
                finish_head(kind, n, own, (n * n_heads + among_all) * HEAD_DIM);
            }
            if (kind == 1u && KV_K >= KV_Q8_0) {
                memoryBarrierBuffer();
                WORKGROUP_BARRIER();
                for (uint c = gl_LocalInvocationIndex; c < TILE_COLUMNS; c += WORKGROUP) {
                    pack_head(kind, gl_WorkGroupID.y * TILE_COLUMNS + c, own);
                }
            }
        }
        head++;
    } while (head <= last);
}

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
    uint kind = (push.kinds >> (segment * 2u)) & 3u;
    uint rows = push.rows[segment], begin = group * OWNERS * R, first = begin + OWNER * R;
    uint index[R]; // of each row among its matrix's rows
    [[unroll]] for (uint r = 0u; r < R; r++) {
        index[r] = weight_row(kind, push.first[segment] + min(first + r, rows - 1u));
        row[r] = push.base[segment] + (index[r] - push.first[segment]) * push.row_bytes;
    }
    for (uint c = 0u; c < C; c++) {
        col[c] = (FIRST_COLUMN + c) * push.subs * 8u;
    }
    accumulate(push.subs);
    find_inverse(FIRST_COLUMN);
#ifdef LORA
    [[unroll]] for (uint r = 0u; r < R; r++) {
        lora_row[r] = index[r];
    }
    [[unroll]] for (uint c = 0u; c < C; c++) {
        lora_column[c] = FIRST_COLUMN + c;
    }
    expand(kind, 0u, R);
#endif
    reduce();
    uint width = N_HEAD_KV * HEAD_DIM; // of keys, and of values
    uint bias = push.vector + (kind == 0u ? 0u : push.out_stride + (kind == 1u ? 0u : width));
    uint out_row = push.first[segment] + first;
    if (LEADER && first < rows) {
        for (uint c = 0u; c < C; c++) {
            uint n = FIRST_COLUMN + c;
            for (uint r = 0u; r < R; r += 2u) {
                vec2 y = vec2(acc[r * C + c], acc[(r + 1u) * C + c]) * inverse[c];
                if (BIAS != 0u) {
                    y += vec2(vectors[bias + index[r]], vectors[bias + index[r + 1u]]);
                }
                if (HEAD_NORM != 0u && kind != 2u) {
                    uint at = n * (push.out_stride + width) + (kind == 1u ? push.out_stride : 0u) + out_row + r;
                    raw_heads[at] = y.x;
                    raw_heads[at + 1u] = y.y;
                } else {
                    put(kind, n, out_row + r, y);
                }
            }
        }
        if (kind != 0u && format_of(kind) >= KV_Q8_0 && (HEAD_NORM == 0u || kind == 2u)) {
            pack_head_by_the_last(kind, out_row / HEAD_DIM);
        }
    }
    if (HEAD_NORM != 0u && kind != 2u) {
        finish_heads(kind, segment, begin, begin + OWNERS * R);
    }
}
