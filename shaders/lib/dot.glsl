// SPDX-License-Identifier: Apache-2.0
// accumulate() of lib/matmul.glsl with integer dot products (SPV_KHR_integer_dot_product: four products of bytes and their sum
// in one instruction). The values of x are rounded to integers in groups of 32 with a scale each, as published for q8_1:
//   d = max |x| / LEVELS, q = round(x / d)
//   sum of W x = sum over the parts of all groups: s d (sum of w q) + m d (sum of q), where a weight is s w + m
// PLANES 1: q has 8 bits, LEVELS is 127. PLANES 2: q has 15, LEVELS is 127 * 128, in two planes of bytes: q = 128 high + low,
// and products are made with each. The sums of products are exact; reference: runtime/ref/rounding.c.
//
// A workgroup rounds x for itself, in chunks of CHUNK groups for all its columns, into shared memory, four invocations to a
// group: no kernel, no barrier between kernels and no buffer is added, x is read once a workgroup and not once an owner, and
// what is read are the producer's f32 values, which adapters and norms need as well. An invocation takes the same groups of 32
// in the same order whatever CHUNK and C are, so that bits do not depend on the batch.
#extension GL_EXT_spirv_intrinsics : require
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int op_s_dot(uint a, uint b, spirv_literal int packed_format);
#define DOT_4X8(a, b) op_s_dot(a, b, 0) // signed bytes of two words

layout(constant_id = GRAFT_PLANES_CONSTANT) const uint PLANES = 1;
layout(constant_id = GRAFT_CHUNK_CONSTANT) const uint CHUNK = 32; // a power of two
const uint BLOCKS = CHUNK * C;
shared uvec2 x_bits[PLANES * 4u * BLOCKS]; // [plane][quarter of a group][column][group of the chunk]: eight integers
shared float x_scale[BLOCKS];              // d
shared float x_sum[2u * BLOCKS];           // [half of a group]: d (sum of q)

// Groups of a column that an invocation rounds, the loads of up to four of them together.
const uint ROUNDED = CHUNK * 4u / WORKGROUP, TOGETHER = ROUNDED < 1u ? 1u : ROUNDED < 4u ? ROUNDED : 4u;

// Group i of column c, of which this invocation has the values a and b; the other three of its quad have the others.
void round_group(uint c, uint i, uint quarter, vec4 a, vec4 b)
{
    float levels = PLANES == 1u ? 127.0 : 16256.0;
    uint at = c * CHUNK + i;
    // Magnitudes in the order of their bits, where NaN comes last: it becomes the scale, and so the result.
    uvec4 bits = max(floatBitsToUint(a) & 0x7fffffffu, floatBitsToUint(b) & 0x7fffffffu);
    uint largest = max(max(bits.x, bits.y), max(bits.z, bits.w));
    largest = max(largest, subgroupShuffleXor(largest, 1u));
    largest = max(largest, subgroupShuffleXor(largest, 2u));
    float most = uintBitsToFloat(largest);
    float factor = largest < 0x0d800000u ? 0.0 : levels / most; // below 2^-100: all are 0
    float scale = most * (1.0 / levels);
    ivec4 p = ivec4(roundEven(a * factor)), q = ivec4(roundEven(b * factor));
    ivec4 both = p + q;
    int sum = (both.x + both.y) + (both.z + both.w);
    sum += subgroupShuffleXor(sum, 1u);
    uint to = quarter * BLOCKS + at;
    if (PLANES == 1u) {
        x_bits[to] = uvec2(q_to_bytes(p), q_to_bytes(q));
    } else {
        ivec4 high_p = (p + 64) >> 7, high_q = (q + 64) >> 7;
        x_bits[to] = uvec2(q_to_bytes(high_p), q_to_bytes(high_q));
        x_bits[4u * BLOCKS + to] = uvec2(q_to_bytes(p - high_p * 128), q_to_bytes(q - high_q * 128));
    }
    if ((quarter & 1u) == 0u) {
        x_sum[(quarter >> 1) * BLOCKS + at] = scale * float(sum);
    }
    if (quarter == 0u) {
        x_scale[at] = scale;
    }
}

// Groups [base, base + count) of every column.
void round_chunk(uint base, uint count)
{
    uint lane = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID, quarter = lane & 3u, step = WORKGROUP / 4u;
    [[unroll]] for (uint c = 0u; c < C; c++) {
        for (uint first = lane >> 2; first < count; first += step * TOGETHER) {
            vec4 a[TOGETHER], b[TOGETHER];
            [[unroll]] for (uint k = 0u; k < TOGETHER; k++) {
                uint from = col[c] + (base + min(first + k * step, count - 1u)) * 8u + quarter * 2u;
                a[k] = VEC4(x, from);
                b[k] = VEC4(x, from + 1u);
            }
            [[unroll]] for (uint k = 0u; k < TOGETHER; k++) {
                if (first + k * step < count) {
                    round_group(c, first + k * step, quarter, a[k], b[k]);
                }
            }
        }
    }
}

void begin_sums()
{
    [[unroll]] for (uint i = 0u; i < R * C; i++) {
        acc[i] = 0.0;
    }
}

// Groups [base, base + count) of the weights' rows times those that round_chunk left, from place `at` of its chunk on.
void multiply_chunk(uint base, uint at, uint count)
{
    // Group `sub` is the owner's invocation sub % STEP_SUB's.
    for (uint i = (FIRST_SUB - base) & (STEP_SUB - 1u); i < count; i += STEP_SUB) {
        uint raw[R][Q_RAW];
        vec2 scale[R][2];
        [[unroll]] for (uint r = 0u; r < R; r++) {
            load_row(r, row[r], base + i, raw[r], scale[r]);
        }
        [[unroll]] for (uint part = 0u; part < Q_PARTS; part++) {
            int sum[R * C];
            [[unroll]] for (uint k = 0u; k < R * C; k++) {
                sum[k] = 0;
            }
            [[unroll]] for (uint plane = 0u; plane < PLANES; plane++) {
                [[unroll]] for (uint j = 0u; j < 4u / Q_PARTS; j++) {
                    uint quarter = part * (4u / Q_PARTS) + j;
                    uvec2 w[R];
                    [[unroll]] for (uint r = 0u; r < R; r++) {
                        w[r] = uvec2(q_bits(raw[r], quarter * 2u), q_bits(raw[r], quarter * 2u + 1u));
                    }
                    [[unroll]] for (uint c = 0u; c < C; c++) {
                        uvec2 v = x_bits[(plane * 4u + quarter) * BLOCKS + c * CHUNK + at + i];
                        [[unroll]] for (uint r = 0u; r < R; r++) {
                            sum[r * C + c] += DOT_4X8(w[r].x, v.x);
                            sum[r * C + c] += DOT_4X8(w[r].y, v.y);
                        }
                    }
                }
                [[unroll]] for (uint k = 0u; k < R * C; k++) {
                    sum[k] *= plane + 1u < PLANES ? 128 : 1;
                }
            }
            [[unroll]] for (uint c = 0u; c < C; c++) {
                uint place = c * CHUNK + at + i;
                float d = x_scale[place];
                float total = Q_PARTS == 1u ? x_sum[place] + x_sum[BLOCKS + place] : x_sum[part * BLOCKS + place];
                [[unroll]] for (uint r = 0u; r < R; r++) {
                    if (Q_MIN) {
                        acc[r * C + c] = fma(scale[r][part].y, total, acc[r * C + c]);
                    }
                    acc[r * C + c] = fma(scale[r][part].x * d, float(sum[r * C + c]), acc[r * C + c]);
                }
            }
        }
    }
}

void accumulate(uint subs)
{
    begin_sums();
    for (uint base = 0u; base < subs; base += CHUNK) {
        uint count = min(CHUNK, subs - base);
        if (base > 0u) {
            barrier();
        }
        round_chunk(base, count);
        barrier();
        multiply_chunk(base, 0u, count);
    }
}
