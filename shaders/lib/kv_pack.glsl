// SPDX-License-Identifier: Apache-2.0
// Quantizing new keys and values into their pages, as runtime/quant/q8_0.c and q4_0.c do. Included by qkv.comp.

// 1 / d, or 0 where that is no finite number.
float kv_inverse(float d)
{
    float inverse = d == 0.0 ? 0.0 : 1.0 / d;
    return isinf(inverse) ? 0.0 : inverse;
}

// Block of 32 values from fresh[from] on into words at `codes`; returns the scale.
float kv_pack_q8(uint from, uint codes)
{
    float most = 0.0;
    for (uint j = 0u; j < 32u; j++) {
        most = max(most, abs(fresh[from + j]));
    }
    float d = most / 127.0, inverse = kv_inverse(d);
    for (uint w = 0u; w < 8u; w++) {
        uint word = 0u;
        for (uint j = 0u; j < 4u; j++) {
            float v = fresh[from + w * 4u + j] * inverse;
            float code = clamp(floor(abs(v) + 0.5), 0.0, 127.0); // half away from zero
            word |= (uint(int(v < 0.0 ? -code : code)) & 255u) << (8u * j);
        }
        kv[codes + w] = word;
    }
    return d;
}

float kv_pack_q4(uint from, uint codes)
{
    float extreme = fresh[from];
    for (uint j = 1u; j < 32u; j++) {
        float v = fresh[from + j];
        extreme = abs(v) > abs(extreme) ? v : extreme;
    }
    float d = extreme / -8.0, inverse = kv_inverse(d);
    for (uint w = 0u; w < 4u; w++) {
        uint word = 0u;
        for (uint j = 0u; j < 8u; j++) {
            float v = fresh[from + w * 4u + j % 4u + j / 4u * 16u] * inverse;
            word |= uint(clamp(v + 8.5, 0.0, 15.0)) << (8u * (j % 4u) + 4u * (j / 4u));
        }
        kv[codes + w] = word;
    }
    return d;
}

// Pack a head of batch row n, whose values are in `fresh`.
void pack_head(uint kind, uint n, uint head)
{
    uint format = kind == 2u ? KV_V : KV_K, blocks = HEAD_DIM / 32u;
    uint code_words = kv_code_words(format, HEAD_DIM), scale_words = kv_scale_words(format, HEAD_DIM);
    uint slot = state[push.state_rows + n * GRAFT_ROW_WORDS + SLOT], offset = slot % GRAFT_PAGE_TOKENS;
    uint unit = (kind == 2u ? push.v_words : 0u) +
                (slot / GRAFT_PAGE_TOKENS * N_HEAD_KV + head) * kv_unit_words(format, HEAD_DIM);
    uint from = ((n * 2u + kind - 1u) * N_HEAD_KV + head) * HEAD_DIM;
    for (uint b = 0u; b < blocks; b += 2u) {
        vec2 scales = vec2(0.0);
        for (uint k = 0u; k < 2u && b + k < blocks; k++) {
            uint codes = unit + offset * code_words + (b + k) * (code_words / blocks);
            float d = format == KV_Q8_0 ? kv_pack_q8(from + (b + k) * 32u, codes) : kv_pack_q4(from + (b + k) * 32u, codes);
            scales = k == 0u ? vec2(d, 0.0) : vec2(scales.x, d);
        }
        kv[unit + GRAFT_PAGE_TOKENS * code_words + offset * scale_words + b / 2u] = packHalf2x16(scales);
    }
}

// R values of a KV head in the owner's C batch rows are in `fresh`. Of the head's HEAD_DIM / R tiles, whoever comes last packs
// the head in all C rows. Each tile has one caller.
void pack_head_by_the_last(uint kind, uint head)
{
    uint first = FIRST_COLUMN, count = (first / C * N_HEAD_KV + head) * 2u + kind - 1u;
    memoryBarrierBuffer();
    uint arrived = atomicAdd(fresh_count[count], 1u);
    if (arrived != HEAD_DIM / R - 1u) {
        return;
    }
    fresh_count[count] = 0u;
    memoryBarrierBuffer();
    for (uint c = 0u; c < C; c++) {
        pack_head(kind, first + c, head);
    }
}
