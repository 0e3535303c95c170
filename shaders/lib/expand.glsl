// SPDX-License-Identifier: Apache-2.0
// Expand: what the adapters of each column's batch row add to the sums of lib/matmul.glsl, as more terms of the same sum (so
// the team shares them and the reduction order stays fixed): B T; with LORA_EXTRAS DoRA's share of the base's part and a bias.
// Columns with the same adapters, which neighbours mostly are, share one fetch of B.
//   lora_t [row][pair][target of the stage][GRAFT_LORA_RANK] f32; the rest: lib/lora.glsl
// EXPAND_EXPERT: the tile's matrix is that of expert lora_expert, and rows of lora_t are (row, expert) pairs.
// Batching by row after Punica (Chen 2023) and S-LoRA (Sheng 2023); DoRA: Liu 2024.
#ifdef EXPAND_EXPERT
uint lora_expert;
#define EXPAND_ENTRY(slot, target) lora_expert_entry(slot, target, lora_expert)
#define EXPAND_STAGE GRAFT_LORA_EXPERT_STAGE
#define EXPAND_ROW(c) (lora_column[c] / push.n_used)
#else
#define EXPAND_ENTRY(slot, target) lora_entry(slot, target)
#define EXPAND_STAGE GRAFT_LORA_STAGE
#define EXPAND_ROW(c) lora_column[c]
#endif
uint lora_row[R];    // in: index of each row among its target's outputs
uint lora_column[C]; // in: batch row of each column; EXPAND_EXPERT: (row, expert) pair, row * n_used + place

uvec4 lora_slots[C]; // of each column's batch row
vec4 lora_weights[C];
float base_part[R * C]; // the sums before anything was added

// B T of one pair of columns [c_begin, c_end), for rows [r_begin, r_end) of the tile.
void expand_pair(lora_target target, uint pair, uint stage_target, uint r_begin, uint r_end, uint c_begin, uint c_end)
{
    uint i = FIRST_SUB, quads = target.rank / 8u;
    uint t[C];
    [[unroll]] for (uint c = 0u; c < C; c++) {
        t[c] = ((lora_column[c] * GRAFT_LORA_PAIRS + pair) * EXPAND_STAGE + stage_target) * (GRAFT_LORA_RANK / 4u);
    }
    if (i < quads) {
        LOOP_BEGIN(i < quads) {
            uvec4 w[R];
            [[unroll]] for (uint r = 0u; r < R; r++) {
                if (r >= r_begin && r < r_end) {
                    w[r] = QUAD(lora_pool, target.b + lora_row[r] * quads + i);
                }
            }
            [[unroll]] for (uint c = 0u; c < C; c++) {
                if (c >= c_begin && c < c_end) {
                    vec4 t0 = VEC4(lora_t, t[c] + i * 2u), t1 = VEC4(lora_t, t[c] + i * 2u + 1u);
                    [[unroll]] for (uint r = 0u; r < R; r++) {
                        if (r >= r_begin && r < r_end) {
                            acc[r * C + c] = lora_dot(w[r], t0, t1, acc[r * C + c]);
                        }
                    }
                }
            }
            i += STEP_SUB;
        } LOOP_END(i < quads)
    }
}

#ifdef LORA_DENSE
// A dense difference to the base's matrix: B [n_out][n_in], multiplied with the input itself.
void expand_dense(lora_target target, uint pair, uint c_begin, uint c_end)
{
    uint quads = push.subs * 4u;
    for (uint i = FIRST_SUB; i < quads; i += STEP_SUB) {
        uvec4 w[R];
        [[unroll]] for (uint r = 0u; r < R; r++) {
            w[r] = QUAD(lora_pool, target.b + lora_row[r] * quads + i);
        }
        [[unroll]] for (uint c = 0u; c < C; c++) {
            if (c >= c_begin && c < c_end) {
                vec4 x0 = VEC4(x, col[c] + i * 2u) * lora_weights[c][pair], x1 = VEC4(x, col[c] + i * 2u + 1u) *
                                                                                 lora_weights[c][pair];
                [[unroll]] for (uint r = 0u; r < R; r++) {
                    acc[r * C + c] = lora_dot(w[r], x0, x1, acc[r * C + c]);
                }
            }
        }
    }
}
#endif

// One pair's multiplier and bias, for the rows and columns of expand_pair; the weight may differ from column to column.
void expand_vectors(lora_target target, uint pair, uint r_begin, uint r_end, uint c_begin, uint c_end)
{
    [[unroll]] for (uint r = 0u; r < R; r++) {
        if (r < r_begin || r >= r_end) {
            continue;
        }
        float dora = target.dora != 0u ? lora_value(target.dora, lora_row[r]) : 0.0;
        float bias = target.bias != 0u && FIRST_SUB == 0u ? lora_value(target.bias, lora_row[r]) : 0.0; // once a team
        [[unroll]] for (uint c = 0u; c < C; c++) {
            if (c >= c_begin && c < c_end) {
#ifdef RMS
                float undone = bias * root[c]; // the whole sum is divided by it in the end
#else
                float undone = bias;
#endif
                float own = fma(dora, base_part[r * C + c], undone);
                acc[r * C + c] = fma(lora_weights[c][pair], own, acc[r * C + c]);
            }
        }
    }
}

// stage_target: which of the targets that share the input; rows [r_begin, r_end) of the tile belong to it.
void expand(uint stage_target, uint r_begin, uint r_end)
{
    bool as_before[C]; // a column has the adapters of the one before it
    [[unroll]] for (uint c = 0u; c < C; c++) {
        lora_row_pairs(EXPAND_ROW(c), lora_slots[c], lora_weights[c]);
        as_before[c] = c > 0u && lora_slots[c] == lora_slots[max(c, 1u) - 1u];
    }
    if (LORA_EXTRAS != 0u) {
        [[unroll]] for (uint i = 0u; i < R * C; i++) {
            base_part[i] = acc[i];
        }
    }
    uint c_begin = 0u;
    do {
        uint c_end = C;
        uvec4 slots = lora_slots[0];
        [[unroll]] for (uint c = C - 1u; c > 0u; c--) {
            c_end = c > c_begin && !as_before[c] ? c : c_end;
            slots = c == c_begin ? lora_slots[c] : slots;
        }
        if (slots.x != GRAFT_NO_SLOT) {
            uint pair = 0u;
            bool more;
            do {
                uint slot = pair == 0u ? slots.x : pair == 1u ? slots.y : pair == 2u ? slots.z : slots.w;
                lora_target target = EXPAND_ENTRY(slot, push.lora.entry + stage_target);
                if (LORA_EXTRAS != 0u) {
                    expand_vectors(target, pair, r_begin, r_end, c_begin, c_end);
                }
#ifdef LORA_DENSE
                if (target.dense) {
                    expand_dense(target, pair, c_begin, c_end);
                    target.rank = 0u;
                }
#endif
                expand_pair(target, pair, stage_target, r_begin, r_end, c_begin, c_end);
                pair++;
                more = pair == 1u ? slots.y != GRAFT_NO_SLOT : pair == 2u ? slots.z != GRAFT_NO_SLOT : slots.w != GRAFT_NO_SLOT;
            } while (more && pair < GRAFT_LORA_PAIRS);
        }
        c_begin = c_end;
    } while (c_begin < C);
}
