// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// What a row's experts say, residual, and what the next norm needs: X += sum over k of weight[k] * Wd[e[k]] h[k];
// XN = X * gain; SS = parts of sum of X^2. The sum goes from the first expert of ROUTE to the last, whatever shares the batch.
//   weights [n_expert][n_embd][n_ff] quantized   h [n][n_used][n_ff]   X [n][n_embd] in place   vectors: gains   xn [n][n_embd]
//   ss_out [n][parts_out]   route [n][n_used] (expert, weight)   y [n][n_used][n_embd]
// PRODUCTS 1: computes Wd h itself, for batches whose rows hardly share experts; 0: experts_down left it in Y.
// LORA: adapters of the experts are added, if PRODUCTS (otherwise experts_down did), the norm's gain may change, and the last
// workgroup shrinks for the next layer (lib/shrink.glsl). Grid: x over n_embd, cut as residual cuts it; y = batch row.
// Reference: runtime/ref/experts.c.
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
layout(binding = 6, std430) readonly restrict buffer route_buffer { uvec2 route[]; };
layout(binding = 7, std430) readonly restrict buffer y_buffer { float y[]; };
#ifdef LORA
QUADS(8, lora_pool)
QUADS(9, lora_table)
layout(binding = 10, std430) writeonly restrict buffer t_buffer { float lora_t_out[]; };
layout(binding = 11, std430) coherent restrict buffer counter_buffer { uint lora_counter[]; };
QUADS(12, lora_rows)
VEC4S(13, lora_t)
#define EXPAND_EXPERT
layout(constant_id = 4) const uint LORA_EXTRAS = 0;
#endif
layout(constant_id = 3) const uint PRODUCTS = 1;
layout(push_constant) uniform push_block { graft_experts_push push; };
#include "lib/matmul.glsl"
#ifdef LORA_FOLD
#define SHRINK_X(i) vec4(xn[(i) * 4u], xn[(i) * 4u + 1u], xn[(i) * 4u + 2u], xn[(i) * 4u + 3u])
#define SHRINK_BY_THE_LAST
#include "lib/shrink.glsl"
#endif

#ifdef DOT
// To acc: the products of the row's k-th expert, whose inputs begin at col[0]. The inputs of a row's experts lie one behind the
// other: as many experts' as fit into a chunk are rounded together.
void multiply_expert(uint k)
{
    uint subs = push.subs, together = max(CHUNK / subs, 1u), place = k % together;
    begin_sums();
    for (uint base = 0u; base < subs; base += CHUNK) {
        if (place == 0u) {
            if (k + base > 0u) {
                barrier(); // others may still read the chunk
            }
            round_chunk(base, min(CHUNK, min(together, push.n_used - k) * subs - base));
            barrier();
        }
        multiply_chunk(base, place * subs, min(CHUNK, subs - base));
    }
}
#else
#define multiply_expert(k) accumulate(push.subs)
#endif

void main()
{
    uint n = gl_WorkGroupID.y, rows = push.rows, first = (gl_WorkGroupID.x * OWNERS + OWNER) * R;
    float total[R];
    [[unroll]] for (uint r = 0u; r < R; r++) {
        total[r] = 0.0;
    }
    for (uint k = 0u; k < push.n_used; k++) {
        uint pair = n * push.n_used + k;
        uvec2 chosen = route[pair];
        if (PRODUCTS != 0u) {
            for (uint r = 0u; r < R; r++) {
                row[r] = push.base[0] + chosen.x * push.expert_bytes + min(first + r, rows - 1u) * push.row_bytes;
            }
            col[0] = pair * push.subs * 8u;
            multiply_expert(k);
#ifdef LORA
            if (LORA_EXTRAS != 0u) {
                lora_expert = chosen.x;
                lora_column[0] = pair;
                [[unroll]] for (uint r = 0u; r < R; r++) {
                    lora_row[r] = min(first + r, rows - 1u);
                }
                expand(0u, 0u, R);
            }
#endif
            reduce();
        }
        [[unroll]] for (uint r = 0u; r < R; r++) {
            float value = PRODUCTS != 0u ? acc[r * C] : y[pair * rows + min(first + r, rows - 1u)];
            total[r] = fma(uintBitsToFloat(chosen.y), value, total[r]);
        }
    }
    float squares = 0.0;
    if (LEADER) {
        for (uint r = 0u; r < R; r++) {
            if (first + r < rows) {
                uint i = first + r;
                float value = residual[n * rows + i] + total[r], gain_i = vectors[push.vector + i];
#ifdef LORA
                if (LORA_EXTRAS != 0u) {
                    gain_i += norm_difference(n, i);
                }
#endif
                residual[n * rows + i] = value;
                xn[n * rows + i] = value * gain_i;
                squares = fma(value, value, squares);
            }
        }
    }
    squares = workgroup_sum(squares);
    if (gl_LocalInvocationIndex == 0u) {
        ss_out[n * push.parts_out + gl_WorkGroupID.x] = squares;
    }
#ifdef LORA_FOLD
    shrink_by_the_last(n, 1u, push.parts_out, rows / 4u);
#endif
}
