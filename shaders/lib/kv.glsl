// SPDX-License-Identifier: Apache-2.0
// Where keys and values lie in their pages: runtime/quant/kv.h.
const uint KV_F16 = 0u, KV_F32 = 1u, KV_Q8_0 = 2u, KV_Q4_0 = 3u;

// Words of a token's codes in a unit, of its scales, and of the whole unit.
uint kv_code_words(uint format, uint head_dim)
{
    return format == KV_F32 ? head_dim : format == KV_F16 ? head_dim / 2u : format == KV_Q8_0 ? head_dim / 4u : head_dim / 8u;
}

uint kv_scale_words(uint format, uint head_dim)
{
    return format >= KV_Q8_0 ? (head_dim / 32u + 1u) / 2u : 0u;
}

uint kv_unit_words(uint format, uint head_dim)
{
    return GRAFT_PAGE_TOKENS * (kv_code_words(format, head_dim) + kv_scale_words(format, head_dim));
}

// Four codes of q8_0; the four low halves of the bytes of q4_0 (shift the word by 4 for the others).
vec4 kv_q8(uint word)
{
    int w = int(word);
    return vec4(ivec4(w << 24, w << 16, w << 8, w) >> 24);
}

vec4 kv_q4(uint word)
{
    return vec4(uvec4(word, word >> 8, word >> 16, word >> 24) & 15u) - 8.0;
}
