// SPDX-License-Identifier: Apache-2.0
// accumulate() of lib/matmul.glsl for many columns, with cooperative matrices (VK_KHR_cooperative_matrix): weights and x as
// f16, sums in f32. A workgroup computes TILE_ROWS x TILE_COLUMNS sums, a subgroup M of these rows; chunks of KSUBS groups of
// 32 weights of each row, and of x, go through shared memory as f16, then the sums back to the invocations, each of which owns
// R rows x C columns from there on.
//   A [M][K] weights   B [K][N] x, a column of the batch each   sums [M][N]
// x beyond the range of f16 becomes its largest value.
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
layout(constant_id = GRAFT_MATRIX_M_CONSTANT) const uint M = 16;
layout(constant_id = GRAFT_MATRIX_N_CONSTANT) const uint N = 16;
layout(constant_id = GRAFT_MATRIX_K_CONSTANT) const uint K = 16;
layout(constant_id = GRAFT_KSUBS_CONSTANT) const uint KSUBS = 2;
// In shared memory eight halves stand in a uvec4 and four sums in a vec4: matrices are loaded from and stored to addresses that
// must be multiples of 16 bytes (SPV_KHR_cooperative_matrix), which an array of halves need not begin at.
const uint STRIDE = KSUBS * 4u + 1u; // of a row; the one more: rows begin in different banks
const uint NS = TILE_COLUMNS / N;
shared uvec4 tile_w[TILE_ROWS * STRIDE];
shared uvec4 tile_x[TILE_COLUMNS * STRIDE];
shared vec4 tile_sums[TILE_COLUMNS * TILE_ROWS / 4u]; // [column][row]
shared uint tile_row[TILE_ROWS];
shared uint tile_col[TILE_COLUMNS];

uvec4 to_halves(vec4 a, vec4 b)
{
    return uvec4(packHalf2x16(a.xy), packHalf2x16(a.zw), packHalf2x16(b.xy), packHalf2x16(b.zw));
}

void put_weights(uint t, uint s, uint sub)
{
    uint raw[Q_RAW];
    vec2 scale[2];
    load_row(t % R, tile_row[t], sub, raw, scale);
    [[unroll]] for (uint i = 0u; i < 8u; i += 2u) {
        vec2 own = scale[i / (8u / Q_PARTS)];
        vec4 a = fma(q_value(raw, i), vec4(own.x), vec4(own.y)), b = fma(q_value(raw, i + 1u), vec4(own.x), vec4(own.y));
        tile_w[t * STRIDE + s * 4u + i / 2u] = to_halves(a, b);
    }
}

void accumulate(uint subs)
{
    uint index = gl_LocalInvocationIndex;
    if (COLUMN_OWNER == 0u) {
        [[unroll]] for (uint r = 0u; r < R; r++) {
            tile_row[OWNER * R + r] = row[r];
        }
    }
    if (OWNER == 0u) {
        [[unroll]] for (uint c = 0u; c < C; c++) {
            tile_col[COLUMN_OWNER * C + c] = col[c];
        }
    }
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sum[NS];
    [[unroll]] for (uint n = 0u; n < NS; n++) {
        sum[n] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
    }
    for (uint base = 0u; base < subs; base += KSUBS) {
        uint count = min(KSUBS, subs - base);
        barrier();
        for (uint i = index; i < TILE_ROWS * KSUBS; i += WORKGROUP) {
            uint t = i / KSUBS, s = i % KSUBS;
            if (s < count) {
                put_weights(t, s, base + s);
            }
        }
        [[unroll]] for (uint i = index; i < TILE_COLUMNS * KSUBS * 4u; i += WORKGROUP) {
            uint c = i / (KSUBS * 4u), k = i % (KSUBS * 4u);
            if (k < count * 4u) {
                uint at = tile_col[c] + base * 8u + k * 2u;
                tile_x[c * STRIDE + k] = to_halves(clamp(VEC4(x, at), -65504.0, 65504.0),
                                                   clamp(VEC4(x, at + 1u), -65504.0, 65504.0));
            }
        }
        barrier();
        for (uint k = 0u; k < count * 32u; k += K) {
            coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a;
            coopMatLoad(a, tile_w, gl_SubgroupID * M * STRIDE + k / 8u, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint n = 0u; n < NS; n++) {
                coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b;
                coopMatLoad(b, tile_x, n * N * STRIDE + k / 8u, STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
                sum[n] = coopMatMulAdd(a, b, sum[n]);
            }
        }
    }
    [[unroll]] for (uint n = 0u; n < NS; n++) {
        coopMatStore(sum[n], tile_sums, (n * N * TILE_ROWS + gl_SubgroupID * M) / 4u, TILE_ROWS / 4u,
                     gl_CooperativeMatrixLayoutColumnMajor);
    }
    barrier();
    [[unroll]] for (uint r = 0u; r < R; r++) {
        [[unroll]] for (uint c = 0u; c < C; c++) {
            uint at = (COLUMN_OWNER * C + c) * TILE_ROWS + OWNER * R + r;
            acc[r * C + c] = tile_sums[at / 4u][at % 4u];
        }
    }
}

#ifdef RMS
float rms_share(uint n);
float rms_inverse(float share);
shared float tile_inverse[TILE_COLUMNS];

// find_inverse of lib/matmul.glsl: a column at a time by a subgroup, for all owners of the column.
void find_tile_inverse()
{
    for (uint c = gl_SubgroupID; c < TILE_COLUMNS; c += gl_NumSubgroups) {
        float one = rms_inverse(rms_share(RMS_ROW(gl_WorkGroupID.y * TILE_COLUMNS + c)));
        if (subgroupElect()) {
            tile_inverse[c] = one;
        }
    }
    barrier();
}
#endif
