// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Output projection or FFN down projection, residual, and what the next norm needs: X += W in; XN = X * gain; SS = parts of sum
// of X^2. With POST what is added is normed first: X += y gain / rms(y), y = W in; the last workgroup of a column tile to
// finish
// does that and leaves one part of SS.
//   weights [n_embd][n_in] quantized   x [n][n_in]   X [n][n_embd] in place   vectors: gains   xn [n][n_embd]
//   ss_out [n][parts_out]   raw [n][n_embd], counter [n]: POST
// LORA: adapters are added (lib/expand.glsl); LORA_FOLD: the last workgroup shrinks for the next step (lib/shrink.glsl).
// Each workgroup writes its own part of SS, so their sum has a fixed order (RMSNorm: Zhang 2019). Reference:
// runtime/ref/residual.c.
#include "params.h"
#include "lib/io.glsl"
WORDS(0, weights)
VEC4S(1, x)
layout(binding = 2, std430) restrict buffer residual_buffer { float residual[]; };
layout(binding = 3, std430) readonly restrict buffer vector_buffer { float vectors[]; };
#ifdef LORA_FOLD
layout(binding = 4, std430) coherent restrict buffer xn_buffer { float xn[]; };
#else
layout(binding = 4, std430) writeonly restrict buffer xn_buffer { float xn[]; };
#endif
layout(binding = 5, std430) writeonly restrict buffer ss_buffer { float ss_out[]; };
layout(binding = 6, std430) coherent restrict buffer raw_buffer { float raw[]; };
layout(binding = 7, std430) coherent restrict buffer post_counter_buffer { uint post_counter[]; };
#ifdef LORA
QUADS(8, lora_pool)
QUADS(9, lora_table)
VEC4S(10, lora_t)
QUADS(11, lora_rows)
layout(binding = 12, std430) writeonly restrict buffer t_buffer { float lora_t_out[]; };
layout(binding = 13, std430) coherent restrict buffer counter_buffer { uint lora_counter[]; };
layout(constant_id = 4) const uint LORA_EXTRAS = 0;
#endif
layout(constant_id = 7) const uint POST = 0; // the gain of the norm of what is added stands at push.norm
layout(push_constant) uniform push_block { graft_matmul_push push; };
#include "lib/matmul.glsl"
#ifdef LORA_FOLD
#define SHRINK_X(i) vec4(xn[(i) * 4u], xn[(i) * 4u + 1u], xn[(i) * 4u + 2u], xn[(i) * 4u + 3u])
#define SHRINK_BY_THE_LAST
#include "lib/shrink.glsl"
#endif

#ifdef MATRIX
#define GROUPS ((push.out_stride + TILE_ROWS - 1u) / TILE_ROWS) // workgroups that write a batch row
layout(constant_id = GRAFT_PART_ROWS_CONSTANT) const uint PART_ROWS = 16;
shared float tile_squares[TILE_COLUMNS * OWNERS];

// Parts of SS from the owners' squares, each of PART_ROWS rows, as workgroups of other variants leave them.
void put_parts(uint rows)
{
    uint owners = PART_ROWS / R, parts = TILE_ROWS / PART_ROWS;
    barrier();
    for (uint i = gl_LocalInvocationIndex; i < TILE_COLUMNS * parts; i += WORKGROUP) {
        uint part = gl_WorkGroupID.x * parts + i % parts, from = i / parts * OWNERS + i % parts * owners;
        float sum = 0.0;
        for (uint k = 0u; k < owners; k++) {
            sum += tile_squares[from + k];
        }
        if (part * PART_ROWS < rows) {
            ss_out[(gl_WorkGroupID.y * TILE_COLUMNS + i / parts) * push.parts_out + push.part_first + part] = sum;
        }
    }
}
#else
#define GROUPS push.parts_out
#endif

#define ARRIVE last_of_tile
#define ARRIVE_COUNTER post_counter
#include "lib/arrive.glsl"

// X, XN of value i in batch row n, to which `added` is added; X.
float add(uint n, uint i, float added)
{
    float value = residual[n * push.out_stride + i] + added, gain_i = vectors[push.vector + i];
#ifdef LORA
    if (LORA_EXTRAS != 0u) {
        gain_i += norm_difference(n, i);
    }
#endif
    residual[n * push.out_stride + i] = value;
    xn[n * push.out_stride + i] = value * gain_i;
    return value;
}

#ifndef MATRIX
// The workgroup's sum of its owners' squares: in fours of rows, however many an owner has, so that bits do not depend on R.
float sum_of_fours(float squares)
{
#if defined(TEAM) && defined(SUBGROUPS)
    if (R == 2u) {
        if (LEADER) {
            reduce_shared[OWNER] = squares;
        }
        barrier();
        float sum = 0.0;
        for (uint i = 0u; i < OWNERS; i += 2u) {
            sum += reduce_shared[i] + reduce_shared[i + 1u];
        }
        barrier();
        return sum;
    }
#endif
    return workgroup_sum(squares);
}
#endif

// Norm and add what all workgroups have left for batch row n.
void add_normed(uint n)
{
    float squares = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < push.out_stride; i += WORKGROUP) {
        float y = raw[n * push.out_stride + i];
        squares = fma(y, y, squares);
    }
    float inverse_rms = inversesqrt(fma(workgroup_sum(squares), push.inv_n, push.eps));
    squares = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < push.out_stride; i += WORKGROUP) {
        float post = vectors[push.norm + i];
#ifdef LORA
        if (LORA_EXTRAS != 0u) {
            post += norm_difference_of(push.kinds, n, i);
        }
#endif
        float value = add(n, i, raw[n * push.out_stride + i] * inverse_rms * post);
        squares = fma(value, value, squares);
    }
    squares = workgroup_sum(squares);
    if (gl_LocalInvocationIndex == 0u) {
        ss_out[n] = squares;
    }
}

void main()
{
    uint rows = push.rows[0], first = (gl_WorkGroupID.x * OWNERS + OWNER) * R;
    for (uint r = 0u; r < R; r++) {
        row[r] = push.base[0] + min(first + r, rows - 1u) * push.row_bytes;
    }
    for (uint c = 0u; c < C; c++) {
        col[c] = (FIRST_COLUMN + c) * push.subs * 8u;
    }
    accumulate(push.subs);
#ifdef LORA
    [[unroll]] for (uint r = 0u; r < R; r++) {
        lora_row[r] = push.first[0] + min(first + r, rows - 1u);
    }
    [[unroll]] for (uint c = 0u; c < C; c++) {
        lora_column[c] = FIRST_COLUMN + c;
    }
    expand(0u, 0u, R);
#endif
    reduce();
    for (uint c = 0u; c < C; c++) {
        uint n = FIRST_COLUMN + c;
        float squares = 0.0;
        if (LEADER) {
            float two = 0.0;
            for (uint r = 0u; r < R; r++) {
                uint i = push.first[0] + first + r;
                if (first + r < rows && POST != 0u) {
                    raw[n * push.out_stride + i] = acc[r * C + c];
                } else if (first + r < rows) {
                    float value = add(n, i, acc[r * C + c]);
                    two = fma(value, value, two);
                }
                if (r % 2u == 1u) {
                    squares += two;
                    two = 0.0;
                }
            }
        }
#ifdef MATRIX
        tile_squares[(COLUMN_OWNER * C + c) * OWNERS + OWNER] = squares;
#else
        if (POST == 0u) {
            squares = sum_of_fours(squares);
            if (gl_LocalInvocationIndex == 0u) {
                ss_out[n * push.parts_out + push.part_first + gl_WorkGroupID.x] = squares;
            }
        }
#endif
    }
#ifdef MATRIX
    if (POST == 0u) {
        put_parts(rows);
    }
#endif
    uint n0 = gl_WorkGroupID.y * TILE_COLUMNS;
    if (POST != 0u) {
        if (!last_of_tile(n0, GROUPS)) {
            return;
        }
        for (uint c = 0u; c < TILE_COLUMNS; c++) {
            add_normed(n0 + c);
        }
    }
#ifdef LORA_FOLD
    shrink_by_the_last(n0, TILE_COLUMNS, POST != 0u ? 1u : GROUPS, push.out_stride / 4u);
#endif
}
