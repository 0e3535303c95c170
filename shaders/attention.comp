// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Causal attention of one batch row over its sequence's KV pages: AO[h] = sum over t <= pos of softmax(q[h] . k[t]) v[t], in
// one pass with a running maximum (online softmax: Milakov 2018; flash attention: Dao 2022). Queries are already scaled. With
// WINDOW a row attends to its last WINDOW positions; with CAP scores become CAP tanh(score / CAP).
//   q [n][n_head][head_dim]   kv pages (runtime/quant/kv.h): keys, values from v_quads on   state   ao [n][n_head][head_dim]
//   part [n][n_head][SPLITS][head_dim + 2] and counter [n][n_head_kv * head_groups]: only with SPLITS > 1
// Grid: x = (KV head, group of up to HEADS query heads that share it, split of the positions), y = batch row. Positions are
// taken TILE at a time; for the scores an invocation owns positions, for the values it owns dimensions. The last workgroup of a
// row and head to finish adds up the splits in order, so the result does not depend on timing.
// Limits: head_dim a multiple of 8 (32 where keys or values are quantized); WORKGROUP <= 64; HEADS <= 8.
// Reference: runtime/ref/attention.c.
#include "params.h"
#include "lib/io.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 8;
layout(constant_id = 1) const uint HEADS = 1;      // query heads of a workgroup
layout(constant_id = 2) const uint POSITIONS = 4;  // of an invocation in a tile; TILE = WORKGROUP * POSITIONS
layout(constant_id = 3) const uint QUADS_OF_K = 8; // head_dim / 8
// Pairs of dimensions an invocation owns for the values: ceil(head_dim / 2 / WORKGROUP).
layout(constant_id = 4) const uint PAIRS = 4;
layout(constant_id = 5) const uint SPLITS = 1;
layout(constant_id = 6) const uint KV_K = 0; // formats of keys and values
layout(constant_id = 8) const uint KV_V = 0;
layout(constant_id = 9) const uint WINDOW = 0; // positions a row attends to, itself included; 0: all
layout(constant_id = 10) const float CAP = 0.0;
VEC4S(0, q)
QUADS(1, kv)
WORDS(2, kv_words)
layout(binding = 3, std430) readonly restrict buffer state_buffer { uint state[]; };
#ifdef LORA_FOLD
layout(binding = 4, std430) coherent restrict buffer ao_buffer { float ao[]; };
#else
layout(binding = 4, std430) writeonly restrict buffer ao_buffer { float ao[]; };
#endif
layout(binding = 5, std430) coherent restrict buffer part_buffer { float part[]; };
layout(binding = 6, std430) coherent restrict buffer counter_buffer { uint counter[]; };
#ifdef LORA_FOLD
QUADS(7, lora_pool)
QUADS(8, lora_table)
layout(binding = 9, std430) writeonly restrict buffer t_buffer { float lora_t_out[]; };
layout(binding = 10, std430) coherent restrict buffer lora_counter_buffer { uint lora_counter[]; };
QUADS(11, lora_rows)
#endif
layout(push_constant) uniform push_block { graft_attention_push push; };
#include "lib/reduce.glsl"
#include "lib/kv.glsl"
#ifdef LORA_FOLD
#include "lib/lora.glsl"
#define SHRINK_X(i) vec4(ao[(i) * 4u], ao[(i) * 4u + 1u], ao[(i) * 4u + 2u], ao[(i) * 4u + 3u])
#define SHRINK_BY_THE_LAST
#include "lib/shrink.glsl"
#endif

const uint TILE = WORKGROUP * POSITIONS, HEAD_DIM = QUADS_OF_K * 8u;
#ifndef SUBGROUPS
shared float weights[HEADS * TILE];
#endif
#define ARRIVE last_of_splits
#define ARRIVE_COUNTER counter
#include "lib/arrive.glsl"

bool inside(uint t, uint begin, uint length)
{
    return (WINDOW == 0u || t >= begin) && t < length;
}

// What is on its way together, as registers allow: positions' values, eights of a position's key, splits. They come from memory
// one behind the other otherwise; software Vulkan has nothing to wait for.
#ifdef ONE_SUBGROUP
const uint AT_ONCE = 1u, KEYS_AT_ONCE = 1u, SPLITS_AT_ONCE = 1u;
#else
const uint AT_ONCE = PAIRS <= 2u ? 16u : PAIRS <= 4u ? 8u : 4u;
const uint KEYS = QUADS_OF_K % 8u == 0u ? 8u : QUADS_OF_K % 4u == 0u ? 4u : 1u;
const uint KEYS_AT_ONCE = POSITIONS < KEYS ? KEYS / POSITIONS : 1u;
const uint SPLITS_AT_ONCE = HEADS * PAIRS <= 8u ? 4u : 2u;
#endif
// Positions of a tile that an invocation each owns lie in so many pages.
const uint PAGES = (WORKGROUP + GRAFT_PAGE_TOKENS - 1u) / GRAFT_PAGE_TOKENS;

// Of a tile: where queries (in fours), keys and their scales (in words) are; scores; of AT_ONCE positions: pairs of values.
uint q_at[HEADS], k_at[POSITIONS], k_scale[POSITIONS];
float score[HEADS * POSITIONS];
vec2 v[AT_ONCE * PAIRS];

// Scores of the tile's positions with quantized keys: block by block, the scale on the block's sum.
void add_quantized_scores()
{
    [[unroll]] for (uint b = 0u; b < QUADS_OF_K / 4u; b++) {
        float part[HEADS * POSITIONS];
        [[unroll]] for (uint i = 0u; i < HEADS * POSITIONS; i++) {
            part[i] = 0.0;
        }
        [[unroll]] for (uint j = 0u; j < 4u; j++) {
            vec4 low[POSITIONS], high[POSITIONS];
            [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
                if (KV_K == KV_Q8_0) {
                    low[p] = kv_q8(WORD(kv_words, k_at[p] + b * 8u + j * 2u));
                    high[p] = kv_q8(WORD(kv_words, k_at[p] + b * 8u + j * 2u + 1u));
                } else {
                    uint word = WORD(kv_words, k_at[p] + b * 4u + j);
                    low[p] = kv_q4(word);
                    high[p] = kv_q4(word >> 4);
                }
            }
            uint at = b * 8u + (KV_K == KV_Q8_0 ? j * 2u : j), step = KV_K == KV_Q8_0 ? 1u : 4u;
            [[unroll]] for (uint h = 0u; h < HEADS; h++) {
                vec4 a = VEC4(q, q_at[h] + at), c = VEC4(q, q_at[h] + at + step);
                [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
                    part[h * POSITIONS + p] += dot(a, low[p]) + dot(c, high[p]);
                }
            }
        }
        [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
            vec2 scales = unpackHalf2x16(WORD(kv_words, k_scale[p] + b / 2u));
            float d = b % 2u == 0u ? scales.x : scales.y;
            [[unroll]] for (uint h = 0u; h < HEADS; h++) {
                score[h * POSITIONS + p] = fma(d, part[h * POSITIONS + p], score[h * POSITIONS + p]);
            }
        }
    }
}

// Pairs lane * PAIRS .. of a position's value, into those of v from `to` on. codes, scales: its words.
void load_quantized_values(uint to, uint lane, uint codes, uint scales)
{
    [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
        uint pair = min(lane * PAIRS + i, QUADS_OF_K * 4u - 1u), block = pair / 16u, e = pair % 16u * 2u; // e: first of 32
        vec2 d2 = unpackHalf2x16(WORD(kv_words, scales + block / 2u));
        float d = block % 2u == 0u ? d2.x : d2.y;
        if (KV_V == KV_Q8_0) {
            int w = int(WORD(kv_words, codes + pair / 2u) >> (pair % 2u * 16u));
            v[to + i] = d * vec2(ivec2(w << 24, w << 16) >> 24);
        } else {
            uint w = WORD(kv_words, codes + block * 4u + e % 16u / 4u) >> (e % 4u * 8u + e / 16u * 4u);
            v[to + i] = d * (vec2(uvec2(w, w >> 8) & 15u) - 8.0);
        }
    }
}

// The same in any format. unit: where the page's unit begins; offset: the position's place in it.
void load_values(uint to, uint lane, uint unit, uint offset)
{
    uint at = unit + offset * kv_code_words(KV_V, HEAD_DIM);
    if (KV_V >= KV_Q8_0) {
        uint scales = unit + GRAFT_PAGE_TOKENS * kv_code_words(KV_V, HEAD_DIM) + offset * kv_scale_words(KV_V, HEAD_DIM);
        load_quantized_values(to, lane, at, scales);
    } else if (KV_V == KV_F32) {
        [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
            uint from = at + min(lane * PAIRS + i, QUADS_OF_K * 4u - 1u) * 2u;
            v[to + i] = vec2(uintBitsToFloat(WORD(kv_words, from)), uintBitsToFloat(WORD(kv_words, from + 1u)));
        }
    } else if (PAIRS % 4u == 0u) {
        [[unroll]] for (uint i = 0u; i < PAIRS / 4u; i++) {
            uvec4 four = QUAD(kv, at / 4u + min(lane * (PAIRS / 4u) + i, QUADS_OF_K - 1u));
            v[to + i * 4u] = unpackHalf2x16(four.x);
            v[to + i * 4u + 1u] = unpackHalf2x16(four.y);
            v[to + i * 4u + 2u] = unpackHalf2x16(four.z);
            v[to + i * 4u + 3u] = unpackHalf2x16(four.w);
        }
    } else {
        [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
            v[to + i] = unpackHalf2x16(WORD(kv_words, at + min(lane * PAIRS + i, QUADS_OF_K * 4u - 1u)));
        }
    }
}

// AO of a pair of dimensions of a head, if there are such.
void put_pair(uint n, uint head, uint head_end, uint pair, vec2 value)
{
    if (pair * 2u < HEAD_DIM && head < head_end) {
        uint at = (n * push.n_head + head) * HEAD_DIM + pair * 2u;
        ao[at] = value.x;
        ao[at + 1u] = value.y;
    }
}

// AO from what `splits` workgroups have left in `part`, heads and SPLITS_AT_ONCE splits side by side.
void add_splits(uint n, uint head0, uint head_end, uint splits)
{
    uint lane = gl_LocalInvocationIndex, stride = HEAD_DIM + 2u;
    uint at[HEADS];
    float top[HEADS], sum[HEADS];
    vec2 value[HEADS * PAIRS];
    [[unroll]] for (uint h = 0u; h < HEADS; h++) {
        at[h] = (n * push.n_head + min(head0 + h, head_end - 1u)) * SPLITS * stride;
        top[h] = -3.0e38;
        sum[h] = 0.0;
        [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
            value[h * PAIRS + i] = vec2(0.0);
        }
    }
    for (uint s = lane; s < splits; s += WORKGROUP) {
        [[unroll]] for (uint h = 0u; h < HEADS; h++) {
            top[h] = max(top[h], part[at[h] + s * stride + HEAD_DIM]);
        }
    }
    [[unroll]] for (uint h = 0u; h < HEADS; h++) {
        top[h] = workgroup_max(top[h]);
    }
    for (uint s = 0u; s < splits; s += SPLITS_AT_ONCE) {
        [[unroll]] for (uint k = 0u; k < SPLITS_AT_ONCE; k++) {
            [[unroll]] for (uint h = 0u; h < HEADS; h++) {
                uint from = at[h] + min(s + k, splits - 1u) * stride;
                float weight = s + k < splits ? exp(part[from + HEAD_DIM] - top[h]) : 0.0;
                sum[h] = fma(part[from + HEAD_DIM + 1u], weight, sum[h]);
                [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
                    uint dim = min(lane * PAIRS + i, QUADS_OF_K * 4u - 1u) * 2u;
                    vec2 one = vec2(part[from + dim], part[from + dim + 1u]);
                    value[h * PAIRS + i] = fma(one, vec2(weight), value[h * PAIRS + i]);
                }
            }
        }
    }
    [[unroll]] for (uint h = 0u; h < HEADS; h++) {
        [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
            put_pair(n, head0 + h, head_end, lane * PAIRS + i, value[h * PAIRS + i] / sum[h]);
        }
    }
}

// AO of this workgroup's heads. False if another workgroup, which takes more splits, will write it.
bool attend()
{
    uint n = gl_WorkGroupID.y, lane = gl_LocalInvocationIndex;
    uint split = gl_WorkGroupID.x % SPLITS, group = gl_WorkGroupID.x / SPLITS;
    uint kv_head = group / push.head_groups;
    uint per_kv = push.n_head / push.n_head_kv;
    uint head0 = kv_head * per_kv + (group % push.head_groups) * HEADS;
    uint head_end = (kv_head + 1u) * per_kv;
    uint row = push.state_rows + n * GRAFT_ROW_WORDS;
    uint length = state[row + GRAFT_ROW_POS] + 1u;
    uint begin = WINDOW != 0u && length > WINDOW ? length - WINDOW : 0u; // positions before it are not read
    uint table = push.state_tables + state[row + GRAFT_ROW_TABLE];
    uint tiles = (length + TILE - 1u) / TILE, before = begin / TILE, share = (tiles - before + SPLITS - 1u) / SPLITS;
    uint first_tile = before + split * share, end_tile = min(first_tile + share, tiles);
    uint splits = (tiles - before + share - 1u) / share; // that have tiles: few, where there are few positions
    if (split >= splits) {
        return false;
    }

    float maximum[HEADS], total[HEADS];
    vec2 acc[HEADS * PAIRS];
    [[unroll]] for (uint h = 0u; h < HEADS; h++) {
        q_at[h] = (n * push.n_head + min(head0 + h, head_end - 1u)) * QUADS_OF_K * 2u;
        maximum[h] = -3.0e38;
        total[h] = 0.0;
        [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
            acc[h * PAIRS + i] = vec2(0.0);
        }
    }
    for (uint tile = first_tile; tile < end_tile; tile++) {
        uint pages[POSITIONS * PAGES]; // those behind the last position's are not read from
        [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
            [[unroll]] for (uint k = 0u; k < PAGES; k++) {
                uint t = min(tile * TILE + p * WORKGROUP + k * GRAFT_PAGE_TOKENS, length - 1u);
                pages[p * PAGES + k] = state[table + t / GRAFT_PAGE_TOKENS];
            }
        }
        [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
            uint t = clamp(tile * TILE + p * WORKGROUP + lane, begin, length - 1u);
            uint page = pages[p * PAGES];
            [[unroll]] for (uint k = 1u; k < PAGES; k++) {
                uint first = (tile * TILE + p * WORKGROUP) / GRAFT_PAGE_TOKENS;
                page = t / GRAFT_PAGE_TOKENS == first + k ? pages[p * PAGES + k] : page;
            }
            uint unit = (page * push.n_head_kv + kv_head) * kv_unit_words(KV_K, HEAD_DIM), offset = t % GRAFT_PAGE_TOKENS;
            k_at[p] = unit + offset * kv_code_words(KV_K, HEAD_DIM);
            k_scale[p] = unit + GRAFT_PAGE_TOKENS * kv_code_words(KV_K, HEAD_DIM) + offset * kv_scale_words(KV_K, HEAD_DIM);
            [[unroll]] for (uint h = 0u; h < HEADS; h++) {
                score[h * POSITIONS + p] = 0.0;
            }
        }
        if (KV_K >= KV_Q8_0) {
            add_quantized_scores();
        }
        [[unroll]] for (uint i = 0u; i < (KV_K >= KV_Q8_0 ? 0u : QUADS_OF_K); i += KEYS_AT_ONCE) {
            uvec4 key[KEYS_AT_ONCE * POSITIONS], more[KEYS_AT_ONCE * POSITIONS]; // more: the upper four, where they are f32
            [[unroll]] for (uint k = 0u; k < KEYS_AT_ONCE; k++) {
                [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
                    if (KV_K == KV_F32) {
                        key[k * POSITIONS + p] = QUAD(kv, k_at[p] / 4u + (i + k) * 2u);
                        more[k * POSITIONS + p] = QUAD(kv, k_at[p] / 4u + (i + k) * 2u + 1u);
                    } else {
                        key[k * POSITIONS + p] = QUAD(kv, k_at[p] / 4u + i + k);
                    }
                }
            }
            [[unroll]] for (uint k = 0u; k < KEYS_AT_ONCE; k++) {
                vec4 low[POSITIONS], high[POSITIONS];
                [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
                    uvec4 own = key[k * POSITIONS + p];
                    if (KV_K == KV_F32) {
                        low[p] = uintBitsToFloat(own);
                        high[p] = uintBitsToFloat(more[k * POSITIONS + p]);
                    } else {
                        low[p] = vec4(unpackHalf2x16(own.x), unpackHalf2x16(own.y));
                        high[p] = vec4(unpackHalf2x16(own.z), unpackHalf2x16(own.w));
                    }
                }
                [[unroll]] for (uint h = 0u; h < HEADS; h++) {
                    vec4 a = VEC4(q, q_at[h] + (i + k) * 2u), b = VEC4(q, q_at[h] + (i + k) * 2u + 1u);
                    [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
                        score[h * POSITIONS + p] += dot(a, low[p]) + dot(b, high[p]);
                    }
                }
            }
        }
        [[unroll]] for (uint h = 0u; h < HEADS; h++) {
            float top = -3.0e38;
            [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
                if (CAP != 0.0) { // tanh(z) = 1 - 2 / (exp(2 z) + 1), which no z drives out of its range
                    score[h * POSITIONS + p] = CAP - 2.0 * CAP / (exp(score[h * POSITIONS + p] * (2.0 / CAP)) + 1.0);
                }
                if (!inside(tile * TILE + p * WORKGROUP + lane, begin, length)) {
                    score[h * POSITIONS + p] = -3.0e38;
                }
                top = max(top, score[h * POSITIONS + p]);
            }
            top = max(maximum[h], workgroup_max(top));
            float rescale = exp(maximum[h] - top), sum = 0.0;
            maximum[h] = top;
            [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
                bool seen = inside(tile * TILE + p * WORKGROUP + lane, begin, length);
                float weight = seen ? exp(score[h * POSITIONS + p] - top) : 0.0;
                score[h * POSITIONS + p] = weight;
                sum += weight;
#ifndef SUBGROUPS
                weights[h * TILE + p * WORKGROUP + lane] = weight;
#endif
            }
            total[h] = fma(total[h], rescale, workgroup_sum(sum));
            [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
                acc[h * PAIRS + i] *= rescale;
            }
        }
#ifndef SUBGROUPS
        barrier();
#endif
        [[unroll]] for (uint p = 0u; p < POSITIONS; p++) {
            uint t0 = tile * TILE + p * WORKGROUP, count = min(WORKGROUP, length - min(length, t0));
            uint from = WINDOW != 0u ? max(begin, t0) - t0 : 0u;
            [[unroll]] for (uint k = 0u; k < PAGES; k++) {
                uint j = max(from, k * GRAFT_PAGE_TOKENS), end = min(count, (k + 1u) * GRAFT_PAGE_TOKENS);
                uint head = pages[p * PAGES + k] * push.n_head_kv + kv_head;
                uint unit = push.v_quads * 4u + head * kv_unit_words(KV_V, HEAD_DIM);
                for (; j < end; j += AT_ONCE) { // those behind the end weigh nothing
                    [[unroll]] for (uint m = 0u; m < AT_ONCE; m++) {
                        load_values(m * PAIRS, lane, unit, (t0 + min(j + m, end - 1u)) % GRAFT_PAGE_TOKENS);
                    }
                    [[unroll]] for (uint m = 0u; m < AT_ONCE; m++) {
                        [[unroll]] for (uint h = 0u; h < HEADS; h++) {
#ifdef SUBGROUPS
                            float weight = subgroupShuffle(score[h * POSITIONS + p], min(j + m, WORKGROUP - 1u));
#else
                            float weight = weights[h * TILE + p * WORKGROUP + min(j + m, WORKGROUP - 1u)];
#endif
                            weight = m == 0u || j + m < end ? weight : 0.0;
                            [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
                                acc[h * PAIRS + i] = fma(vec2(weight), v[m * PAIRS + i], acc[h * PAIRS + i]);
                            }
                        }
                    }
                }
            }
        }
#ifndef SUBGROUPS
        barrier();
#endif
    }

    if (SPLITS == 1u || splits == 1u) {
        [[unroll]] for (uint h = 0u; h < HEADS; h++) {
            [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
                put_pair(n, head0 + h, head_end, lane * PAIRS + i, acc[h * PAIRS + i] / total[h]);
            }
        }
        return true;
    }
    uint stride = HEAD_DIM + 2u;
    [[unroll]] for (uint h = 0u; h < HEADS && head0 + h < head_end; h++) {
        uint at = ((n * push.n_head + head0 + h) * SPLITS + split) * stride;
        [[unroll]] for (uint i = 0u; i < PAIRS; i++) {
            uint dim = (lane * PAIRS + i) * 2u;
            if (dim < HEAD_DIM) {
                part[at + dim] = acc[h * PAIRS + i].x;
                part[at + dim + 1u] = acc[h * PAIRS + i].y;
            }
        }
        if (lane == 0u) {
            part[at + HEAD_DIM] = maximum[h];
            part[at + HEAD_DIM + 1u] = total[h];
        }
    }
    if (!last_of_splits(n * push.n_head_kv * push.head_groups + group, splits)) {
        return false;
    }
    add_splits(n, head0, head_end, splits);
    return true;
}

void main()
{
    bool done = attend();
#ifdef LORA_FOLD
    if (done) {
        shrink_by_the_last(gl_WorkGroupID.y, 1u, push.n_head_kv * push.head_groups, push.n_head * QUADS_OF_K * 2u);
    }
#endif
}
