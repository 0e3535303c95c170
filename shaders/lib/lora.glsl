// SPDX-License-Identifier: Apache-2.0
// Expand: adds B (A x) of the adapters of each column's batch row to the sums of lib/matmul.glsl, as more terms of the same
// sum (so the team
// shares them and the reduction order stays fixed). Weights and scales are already in B and T.
//   lora_pool [quads] f16 pairs   lora_table [slot][layer][target] entries   lora_t [row][pair][target of the
//   stage][GRAFT_LORA_RANK] f32
// Batching by row after Punica (Chen 2023) and S-LoRA (Sheng 2023).
// stage_target: which of the targets that share the input; rows r_begin .. r_end of the tile belong to it.
uint lora_row[R];    // in: index of each row among its target's outputs
uint lora_column[C]; // in: batch row of each column

void expand(uint stage_target, uint r_begin, uint r_end)
{
    for (uint c = 0u; c < C; c++) {
        uint n = lora_column[c];
        uint pairs = push.state_rows + n * GRAFT_ROW_WORDS + GRAFT_ROW_LORA;
        for (uint pair = 0u; pair < GRAFT_LORA_PAIRS; pair++) {
            uint slot = state[pairs + pair * 2u];
            if (slot == GRAFT_NO_SLOT) {
                break;
            }
            uint entry = ((slot * push.lora_n_layer + push.lora_layer) * GRAFT_LORA_TARGETS + push.lora_target + stage_target) *
                         GRAFT_LORA_ENTRY;
            uint b = lora_table[entry + 1u], quads = lora_table[entry + 2u] / 8u;
            uint t = ((n * GRAFT_LORA_PAIRS + pair) * GRAFT_LORA_STAGE + stage_target) * (GRAFT_LORA_RANK / 4u);
            for (uint i = FIRST_SUB; i < quads; i += STEP_SUB) {
                vec4 t0 = VEC4(lora_t, t + i * 2u), t1 = VEC4(lora_t, t + i * 2u + 1u);
                [[unroll]] for (uint r = 0u; r < R; r++) {
                    if (r >= r_begin && r < r_end) {
                        uvec4 w = QUAD(lora_pool, b + lora_row[r] * quads + i);
                        vec4 low = vec4(unpackHalf2x16(w.x), unpackHalf2x16(w.y));
                        vec4 high = vec4(unpackHalf2x16(w.z), unpackHalf2x16(w.w));
                        acc[r * C + c] += dot(low, t0) + dot(high, t1);
                    }
                }
            }
        }
    }
}
