// SPDX-License-Identifier: Apache-2.0
// y[c][r] = sum over k of W[r][k] x[c][k], the core that qkv, residual, gate_up and head share.
//
// An "owner" computes a tile of R rows x C columns (batch rows) and holds the finished sums in registers:
//   default   the owner is one invocation; it walks K alone, so nothing is reduced. For devices whose loads are gathers anyway
//             (software Vulkan): bits do not depend on R or C.
//   TEAM      the owner is a team that shares K: a subgroup (SUBGROUPS) or the whole workgroup (shared memory); sums are added
//             in a fixed order, and every invocation of the team ends up with them. For GPUs: neighbours read neighbouring
//             blocks.
//   MATRIX    (with SUBGROUPS) the workgroup computes a tile with cooperative matrices and hands each of its invocations, the
//             owners, R rows and C columns of it (lib/matrix.glsl).
// DOT (with TEAM and SUBGROUPS): x is rounded to integers and multiplied with the weights' integers (lib/dot.glsl).
// The including kernel has bound weights (words) and x (vec4s), and calls accumulate().
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 8;
layout(constant_id = 1) const uint R = 4;
layout(constant_id = 2) const uint C = 1;

#include "lib/reduce.glsl"
#include "quant/common.glsl"

#define W_WORD(i) WORD(weights, i)
#define Q_LOADER(format) q_load_##format
#define Q_LOAD q_load
#include "quant/format.glsl"
#undef W_WORD
#undef Q_LOADER
#undef Q_LOAD
#ifdef SECOND_MATRIX
#define W_WORD(i) WORD(weights2, i)
#define Q_LOADER(format) q_load2_##format
#define Q_LOAD q_load2
#include "quant/format.glsl"
#undef W_WORD
#undef Q_LOADER
#undef Q_LOAD
#endif

#ifdef MATRIX
layout(constant_id = GRAFT_TILE_ROWS_CONSTANT) const uint TILE_ROWS = 64;
const uint OWNERS = TILE_ROWS / R;
const uint TILE_COLUMNS = WORKGROUP / OWNERS * C;
#define OWNER (gl_LocalInvocationIndex % OWNERS)
#define COLUMN_OWNER (gl_LocalInvocationIndex / OWNERS)
#define FIRST_COLUMN (gl_WorkGroupID.y * TILE_COLUMNS + COLUMN_OWNER * C)
#else
#define TILE_COLUMNS C // of a workgroup
#define FIRST_COLUMN (gl_WorkGroupID.y * C)
#endif
#ifdef MATRIX
#define FIRST_SUB 0u
#define STEP_SUB 1u
#define LEADER true
#elif defined(TEAM) && defined(SUBGROUPS)
#define OWNERS gl_NumSubgroups
#define OWNER gl_SubgroupID
#define FIRST_SUB gl_SubgroupInvocationID
#define STEP_SUB gl_SubgroupSize
#define LEADER (gl_SubgroupInvocationID == 0u)
#elif defined(TEAM)
#define OWNERS 1u
#define OWNER 0u
#define FIRST_SUB gl_LocalInvocationIndex
#define STEP_SUB WORKGROUP
#define LEADER (gl_LocalInvocationIndex == 0u)
#else
#define OWNERS WORKGROUP
#define OWNER gl_LocalInvocationIndex
#define FIRST_SUB 0u
#define STEP_SUB 1u
#define LEADER true
#endif

// Software Vulkan has no branches, only masks: what is not taken is computed all the same, and a loop that tests at its top
// computes its body once too often. Its loops test at the end; they run at least once, which is right where a team is one
// invocation.
#ifdef TEAM
#define LOOP_BEGIN(more) while (more)
#define LOOP_END(more)
#else
#define LOOP_BEGIN(more) do
#define LOOP_END(more) while (more);
#endif

// Private to the invocation (not parameters: glslang 12 fails now and then on parameters sized by specialization constants).
uint row[R];      // in: byte offset of each row's weights; with SECOND_MATRIX the upper half of the rows is read from weights2
uint col[C];      // in: vec4 index of each column's first value
float acc[R * C]; // out: acc[r * C + c] gets the sums

// Weights 32 sub .. + 31 of row r of an owner's tile, which begins at byte `at`.
void load_row(uint r, uint at, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
#ifdef SECOND_MATRIX
    if (r >= R / 2u) {
        q_load2(at, sub, raw, scale);
    } else
#endif
    {
        q_load(at, sub, raw, scale);
    }
}

#ifdef MATRIX
#include "lib/matrix.glsl"
#elif defined(DOT)
#include "lib/dot.glsl"
#else
void accumulate(uint subs)
{
    [[unroll]] for (uint i = 0u; i < R * C; i++) {
        acc[i] = 0.0;
    }
    uint sub = FIRST_SUB;
    LOOP_BEGIN(sub < subs) {
        uint raw[R][Q_RAW];
        vec2 scale[R][2];
        [[unroll]] for (uint r = 0u; r < R; r++) {
            load_row(r, row[r], sub, raw[r], scale[r]);
        }
        [[unroll]] for (uint part = 0u; part < Q_PARTS; part++) {
            float sum[R * C];
            float x_sum[C];
            [[unroll]] for (uint i = 0u; i < R * C; i++) {
                sum[i] = 0.0;
            }
            [[unroll]] for (uint c = 0u; c < C; c++) {
                x_sum[c] = 0.0;
            }
            [[unroll]] for (uint j = 0u; j < 8u / Q_PARTS; j++) {
                uint i = part * (8u / Q_PARTS) + j;
                vec4 q[R];
                [[unroll]] for (uint r = 0u; r < R; r++) {
                    q[r] = q_value(raw[r], i);
                }
                [[unroll]] for (uint c = 0u; c < C; c++) {
                    vec4 v = VEC4(x, col[c] + sub * 8u + i);
                    if (Q_MIN) {
                        x_sum[c] += (v.x + v.y) + (v.z + v.w);
                    }
                    [[unroll]] for (uint r = 0u; r < R; r++) {
                        float t = sum[r * C + c];
                        t = fma(q[r].x, v.x, t);
                        t = fma(q[r].y, v.y, t);
                        t = fma(q[r].z, v.z, t);
                        sum[r * C + c] = fma(q[r].w, v.w, t);
                    }
                }
            }
            [[unroll]] for (uint r = 0u; r < R; r++) {
                [[unroll]] for (uint c = 0u; c < C; c++) {
                    if (Q_MIN) {
                        acc[r * C + c] = fma(scale[r][part].y, x_sum[c], acc[r * C + c]);
                    }
                    acc[r * C + c] = fma(scale[r][part].x, sum[r * C + c], acc[r * C + c]);
                }
            }
        }
        sub += STEP_SUB;
    } LOOP_END(sub < subs)
}
#endif

// Add up what the members of the team have.
void reduce()
{
#ifdef TEAM
    [[unroll]] for (uint i = 0u; i < R * C; i++) {
#ifdef SUBGROUPS
        acc[i] = subgroupAdd(acc[i]);
#else
        acc[i] = workgroup_sum(acc[i]);
#endif
    }
#endif
}

#ifdef RMS
// After find_inverse: 1 / root mean square of X in each column's batch row, and the root mean square.
float inverse[C], root[C];

// This invocation's share of the parts of the sum of squares of batch row `n`.
float rms_share(uint n)
{
    float share = 0.0;
#ifdef SUBGROUPS
    for (uint part = gl_SubgroupInvocationID; part < push.parts_in; part += gl_SubgroupSize) {
        share += ss[n * push.parts_in + part];
    }
#else
    for (uint part = gl_LocalInvocationIndex; part < push.parts_in; part += WORKGROUP) {
        share += ss[n * push.parts_in + part];
    }
#endif
    return share;
}

// 1 / root mean square, and the root mean square, from the shares. All invocations of a subgroup (or workgroup) take part: call
// it in uniform control flow.
vec2 rms_of(float share)
{
#ifdef SUBGROUPS
    float total = subgroupAdd(share);
#else
    float total = workgroup_sum(share);
#endif
    float mean = fma(total, push.inv_n, push.eps), inverse_root = inversesqrt(mean);
    return vec2(inverse_root, mean * inverse_root);
}

void find_inverse(uint n0)
{
#ifdef MATRIX
    find_tile_inverse();
#endif
    [[unroll]] for (uint c = 0u; c < C; c++) {
#ifdef MATRIX
        vec2 both = tile_rms[COLUMN_OWNER * C + c];
#else
        vec2 both = rms_of(rms_share(RMS_ROW(n0 + c)));
#endif
        inverse[c] = both.x;
        root[c] = both.y;
    }
}
#endif

#ifdef LORA
#include "lib/lora.glsl"
#include "lib/expand.glsl"
#endif
