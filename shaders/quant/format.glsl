// SPDX-License-Identifier: Apache-2.0
// The list of weight formats: name, GGUF's number of the type, parts of 32 weights, 1 if there is an offset. A module holds all
// formats of a family, -DFAMILY_plain or -DFAMILY_blocks, and the specialization constant FORMAT chooses one: compilers drop
// the others before they optimize. (A module for each format would make the library several times as large.)
//   Q_RAW            registers that hold 32 weights as stored
//   Q_PARTS, Q_MIN   of the chosen format
//   Q_LOAD(row, sub, raw, scale), q_value(raw, i), q_bits(raw, i): of the chosen format; see common.glsl
#ifdef FAMILY_plain
#define Q_RAW 32
#define Q_FORMATS(X) X(f32, 0u, 1u, 0u) X(f16, 1u, 1u, 0u) X(bf16, 30u, 1u, 0u)
#include "quant/bf16.glsl"
#include "quant/f16.glsl"
#include "quant/f32.glsl"
#else
#define Q_RAW 8
#define Q_FORMATS(X) \
    X(q4_0, 2u, 1u, 1u) \
    X(q4_1, 3u, 1u, 1u) \
    X(q5_0, 6u, 1u, 1u) \
    X(q5_1, 7u, 1u, 1u) \
    X(q8_0, 8u, 1u, 0u) \
    X(q2_k, 10u, 2u, 1u) \
    X(q3_k, 11u, 2u, 1u) \
    X(q4_k, 12u, 1u, 1u) \
    X(q5_k, 13u, 1u, 1u) \
    X(q6_k, 14u, 2u, 1u) \
    X(iq4_nl, 20u, 1u, 0u) \
    X(iq4_xs, 23u, 1u, 0u) \
    X(mxfp4, 39u, 1u, 1u)
#include "quant/iq4_nl.glsl"
#include "quant/iq4_xs.glsl"
#include "quant/mxfp4.glsl"
#include "quant/q2_k.glsl"
#include "quant/q3_k.glsl"
#include "quant/q4_0.glsl"
#include "quant/q4_1.glsl"
#include "quant/q4_k.glsl"
#include "quant/q5_0.glsl"
#include "quant/q5_1.glsl"
#include "quant/q5_k.glsl"
#include "quant/q6_k.glsl"
#include "quant/q8_0.glsl"
#endif

#ifndef Q_CHOSEN
#define Q_CHOSEN
layout(constant_id = GRAFT_FORMAT_CONSTANT) const uint FORMAT = 0u;
// Sums, since glslang 12 makes invalid modules of && and || between specialization constants.
#define Q_PARTS_CASE(name, number, parts, offset) + uint(FORMAT == number) * (parts - 1u)
#define Q_MIN_CASE(name, number, parts, offset) + uint(FORMAT == number) * offset
const uint Q_PARTS = 1u Q_FORMATS(Q_PARTS_CASE);
const bool Q_MIN = (0u Q_FORMATS(Q_MIN_CASE)) != 0u;
#define Q_VALUE_CASE(name, number, parts, offset) \
    if (FORMAT == number) { \
        v = name##_value(raw, i); \
    }
vec4 q_value(uint raw[Q_RAW], uint i)
{
    vec4 v;
    Q_FORMATS(Q_VALUE_CASE)
    return v;
}
#ifdef DOT
#define Q_BITS_CASE(name, number, parts, offset) \
    if (FORMAT == number) { \
        bits = name##_bits(raw, i); \
    }
uint q_bits(uint raw[Q_RAW], uint i)
{
    uint bits;
    Q_FORMATS(Q_BITS_CASE)
    return bits;
}
#endif
#define Q_LOAD_CASE(name, number, parts, offset) \
    if (FORMAT == number) { \
        Q_LOADER(name)(row, sub, raw, scale); \
    }
#endif
void Q_LOAD(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    Q_FORMATS(Q_LOAD_CASE)
}
