// SPDX-License-Identifier: Apache-2.0
// The expert and the (row, expert) pairs that a workgroup computes: those of its tile (GROUPED), or pair gl_WorkGroupID.y of
// ROUTE alone. Needs: uint work[], which is TILES or ROUTE; C; GROUPED.
uint assigned[C]; // pairs: row * n_used + place; GRAFT_NO_EXPERT: none, but nearest[c] is one whose inputs may be read
uint nearest[C];

// The expert, counted from the window's first one; push.expert_count or more: nothing to do.
uint find_expert()
{
    uint expert;
    if (GROUPED != 0u) {
        uint at = gl_WorkGroupID.y * (1u + C);
        expert = work[at];
        [[unroll]] for (uint c = 0u; c < C; c++) {
            assigned[c] = work[at + 1u + c];
            nearest[c] = assigned[c] != GRAFT_NO_EXPERT ? assigned[c] : work[at + 1u];
        }
    } else {
        expert = work[gl_WorkGroupID.y * 2u];
        [[unroll]] for (uint c = 0u; c < C; c++) {
            assigned[c] = nearest[c] = gl_WorkGroupID.y;
        }
    }
    return expert - push.expert_first;
}
