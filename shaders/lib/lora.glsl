// SPDX-License-Identifier: Apache-2.0
// Adapters as kernels see them: the pairs of a batch row, the entries of the adapter table (params.h), and what an adapter adds
// to a norm's gain. Needs, as QUADS: lora_pool, lora_table, and lora_rows, which is the state; push.lora, push.state_rows.
//
// LORA_EXTRAS, a specialization constant: adapters may have more than A and B (DoRA's multiplier, biases, embeddings, norms).
// Software Vulkan has no branches, only masks, so that code which is there costs time even where it is not taken.

struct lora_target {
    uint a, b, rank, dora, bias;
    bool dense;
};

// Slots and weights of row n's pairs; GRAFT_NO_SLOT behind the last one.
void lora_row_pairs(uint n, out uvec4 slots, out vec4 weights)
{
    uint at = (push.state_rows + GRAFT_ROW_LORA + n * GRAFT_ROW_WORDS) / 4u;
    uvec4 first = QUAD(lora_rows, at), second = QUAD(lora_rows, at + 1u);
    slots = uvec4(first.xz, second.xz);
    weights = uintBitsToFloat(uvec4(first.yw, second.yw));
}

lora_target lora_entry(uint slot, uint target)
{
    uint at = (slot * push.lora.stride + target) * (GRAFT_LORA_ENTRY / 4u);
    uvec4 first = QUAD(lora_table, at), second = QUAD(lora_table, at + 1u);
    return lora_target(first.x, first.y, first.z, first.w, second.x, second.y != 0u);
}

// The entry of an expert, from the table that a target's entry points to.
lora_target lora_expert_entry(uint slot, uint target, uint expert)
{
    uint table = QUAD(lora_table, (slot * push.lora.stride + target) * (GRAFT_LORA_ENTRY / 4u)).x;
    if (table == 0u) {
        return lora_target(0u, 0u, 0u, 0u, 0u, false);
    }
    uint at = table + expert * (GRAFT_LORA_ENTRY / 4u);
    uvec4 first = QUAD(lora_pool, at), second = QUAD(lora_pool, at + 1u);
    return lora_target(first.x + table, first.y + table, first.z, first.w != 0u ? first.w + table : 0u,
                       second.x != 0u ? second.x + table : 0u, false);
}

vec4 lora_low(uvec4 w)
{
    return vec4(unpackHalf2x16(w.x), unpackHalf2x16(w.y));
}

vec4 lora_high(uvec4 w)
{
    return vec4(unpackHalf2x16(w.z), unpackHalf2x16(w.w));
}

// sum + w . (x0, x1), eight values of A or B each. One fma after the other: written as dot(), compilers would sum in the order
// that suits a kernel, and a row's bits would depend on which kernel its batch needs.
float lora_dot(uvec4 w, vec4 x0, vec4 x1, float sum)
{
    vec4 low = lora_low(w), high = lora_high(w);
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        sum = fma(low[i], x0[i], sum);
    }
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        sum = fma(high[i], x1[i], sum);
    }
    return sum;
}

// Value i of an f32 vector of the pool.
float lora_value(uint at, uint i)
{
    return uintBitsToFloat(QUAD(lora_pool, at + i / 4u)[i % 4u]);
}

// What the adapters of row n add to gain i of the norm whose entry is given. Only with LORA_EXTRAS.
float norm_difference_of(uint norm, uint n, uint i)
{
    float sum = 0.0;
    uvec4 slots;
    vec4 weights;
    lora_row_pairs(n, slots, weights);
    for (uint pair = 0u; pair < GRAFT_LORA_PAIRS && slots[pair] != GRAFT_NO_SLOT; pair++) {
        uint at = lora_entry(slots[pair], norm).a;
        sum = at != 0u ? fma(weights[pair], lora_value(at, i), sum) : sum;
    }
    return sum;
}

float norm_difference(uint n, uint i)
{
    return norm_difference_of(push.lora.norm, n, i);
}
