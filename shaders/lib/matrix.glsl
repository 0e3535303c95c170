// SPDX-License-Identifier: Apache-2.0
// accumulate() of lib/matmul.glsl for many columns, with cooperative matrices (VK_KHR_cooperative_matrix): weights and x as
// f16, sums in f32. A workgroup computes TILE_ROWS x TILE_COLUMNS sums, a subgroup M of these rows; chunks of KSUBS groups of
// 32 weights of each row, and of x, go through shared memory as f16, the next chunk on its way to registers while one is
// multiplied; then the sums back to the invocations, each of which owns R rows x C columns from there on.
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
shared vec4 tile_sums[N * TILE_ROWS / 4u]; // [column][row], of N columns at a time
shared uint tile_row[TILE_ROWS];
shared uint tile_col[TILE_COLUMNS];

// What an invocation brings of a chunk: groups of weights, eights of x. Where there are too few, some bring the last one again.
const uint W_TASKS = (TILE_ROWS * KSUBS + WORKGROUP - 1u) / WORKGROUP;
const uint X_TASKS = (TILE_COLUMNS * KSUBS * 4u + WORKGROUP - 1u) / WORKGROUP;
uint chunk_raw[W_TASKS][Q_RAW];
vec2 chunk_scale[W_TASKS][2];
vec4 chunk_x[X_TASKS * 2u];

uvec4 to_halves(vec4 a, vec4 b)
{
    return uvec4(packHalf2x16(a.xy), packHalf2x16(a.zw), packHalf2x16(b.xy), packHalf2x16(b.zw));
}

// Groups [base, base + KSUBS) of all rows and columns; behind the last one, weights of any group and zeros of x.
void fetch_chunk(uint base, uint subs)
{
    [[unroll]] for (uint j = 0u; j < W_TASKS; j++) {
        uint i = min(gl_LocalInvocationIndex + j * WORKGROUP, TILE_ROWS * KSUBS - 1u), t = i / KSUBS;
        load_row(t % R, tile_row[t], min(base + i % KSUBS, subs - 1u), chunk_raw[j], chunk_scale[j]);
    }
    [[unroll]] for (uint j = 0u; j < X_TASKS; j++) {
        uint i = min(gl_LocalInvocationIndex + j * WORKGROUP, TILE_COLUMNS * KSUBS * 4u - 1u);
        uint c = i / (KSUBS * 4u), at = base * 4u + i % (KSUBS * 4u), from = tile_col[c] + min(at, subs * 4u - 1u) * 2u;
        bool there = at < subs * 4u;
        chunk_x[j * 2u] = there ? VEC4(x, from) : vec4(0.0);
        chunk_x[j * 2u + 1u] = there ? VEC4(x, from + 1u) : vec4(0.0);
    }
}

void put_chunk()
{
    [[unroll]] for (uint j = 0u; j < W_TASKS; j++) {
        uint i = min(gl_LocalInvocationIndex + j * WORKGROUP, TILE_ROWS * KSUBS - 1u);
        uint to = i / KSUBS * STRIDE + i % KSUBS * 4u;
        [[unroll]] for (uint k = 0u; k < 4u; k++) {
            vec4 scale = vec4(chunk_scale[j][k / (4u / Q_PARTS)].x), low = vec4(chunk_scale[j][k / (4u / Q_PARTS)].y);
            vec4 a = fma(q_value(chunk_raw[j], k * 2u), scale, low), b = fma(q_value(chunk_raw[j], k * 2u + 1u), scale, low);
            tile_w[to + k] = to_halves(a, b);
        }
    }
    [[unroll]] for (uint j = 0u; j < X_TASKS; j++) {
        uint i = min(gl_LocalInvocationIndex + j * WORKGROUP, TILE_COLUMNS * KSUBS * 4u - 1u);
        tile_x[i / (KSUBS * 4u) * STRIDE + i % (KSUBS * 4u)] = to_halves(clamp(chunk_x[j * 2u], -65504.0, 65504.0),
                                                                         clamp(chunk_x[j * 2u + 1u], -65504.0, 65504.0));
    }
}

void accumulate(uint subs)
{
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
    barrier();
    fetch_chunk(0u, subs);
    for (uint base = 0u; base < subs; base += KSUBS) {
        barrier();
        put_chunk();
        barrier();
        fetch_chunk(base + KSUBS, subs);
        [[unroll]] for (uint k = 0u; k < KSUBS * 32u; k += K) {
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
        barrier();
        coopMatStore(sum[n], tile_sums, gl_SubgroupID * M / 4u, TILE_ROWS / 4u, gl_CooperativeMatrixLayoutColumnMajor);
        barrier();
        [[unroll]] for (uint c = 0u; c < C; c++) {
            uint column = COLUMN_OWNER * C + c;
            if (column / N == n) {
                [[unroll]] for (uint r = 0u; r < R; r++) {
                    uint at = column % N * TILE_ROWS + OWNER * R + r;
                    acc[r * C + c] = tile_sums[at / 4u][at % 4u];
                }
            }
        }
    }
}

#ifdef RMS
float rms_share(uint n);
vec2 rms_of(float share);
shared vec2 tile_rms[TILE_COLUMNS];

// find_inverse of lib/matmul.glsl: a column at a time by a subgroup, for all owners of the column.
void find_tile_inverse()
{
    for (uint c = gl_SubgroupID; c < TILE_COLUMNS; c += gl_NumSubgroups) {
        vec2 both = rms_of(rms_share(RMS_ROW(gl_WorkGroupID.y * TILE_COLUMNS + c)));
        if (subgroupElect()) {
            tile_rms[c] = both;
        }
    }
    barrier();
}
#endif
