// SPDX-License-Identifier: Apache-2.0
// Where barriers must stand: derived from the byte ranges that operations say they read and write.
//
// Two operations conflict if they touch a common byte of one buffer and at least one of them writes it. A barrier is global, so
// it orders everything before it against everything after it, and the list of touched ranges starts anew. A barrier between
// dispatches names only the compute stage (wider ones cost GPUs much); what lies before it is still unordered against a copy,
// so those ranges are kept, behind a mark that dispatches do not look past. Linear in the number of ranges since the last
// barrier.
#include "runtime/vk/vk_internal.h"

static bool conflicts(const struct graft_vk_touch *a, const struct graft_vk_touch *b)
{
    return a->buffer == b->buffer && (a->write || b->write) && a->begin < b->end && b->begin < a->end;
}

enum graft_status graft_vk_hazards_step(struct graft_vk_hazards *hazards, const struct graft_vk_touch *touches, uint32_t count,
                                        bool transfer, enum graft_vk_barrier_kind *barrier)
{
    if (hazards->capacity - hazards->count < count) {
        uint32_t capacity = hazards->capacity * 2 + count + 64;
        GRAFT_TRY(GRAFT_GROW(hazards->ctx, GRAFT_MEM_HOST, &hazards->touches, capacity, "tracked ranges"));
        hazards->capacity = capacity;
    }
    bool hit = false;
    for (uint32_t i = transfer ? 0 : hazards->mark; i < hazards->count && !hit; i++) {
        for (uint32_t k = 0; k < count && !hit; k++) {
            hit = conflicts(&hazards->touches[i], &touches[k]);
        }
    }
    *barrier = GRAFT_VK_BARRIER_NONE;
    if (hit && transfer) {
        *barrier = GRAFT_VK_BARRIER_FULL;
        hazards->count = hazards->mark = 0;
        hazards->transfer = false;
    } else if (hit) {
        *barrier = hazards->transfer ? GRAFT_VK_BARRIER_FROM_TRANSFER : GRAFT_VK_BARRIER_COMPUTE;
        hazards->mark = hazards->count;
        hazards->transfer = false;
    }
    if (count > 0) {
        memcpy(hazards->touches + hazards->count, touches, count * sizeof *touches);
        hazards->count += count;
    }
    hazards->transfer = hazards->transfer || transfer;
    return GRAFT_OK;
}

void graft_vk_hazards_reset(struct graft_vk_hazards *hazards)
{
    hazards->count = hazards->mark = 0;
    hazards->transfer = false;
}

void graft_vk_hazards_free(struct graft_vk_hazards *hazards)
{
    GRAFT_FREE(hazards->ctx, &hazards->touches);
    hazards->count = hazards->capacity = hazards->mark = 0;
    hazards->transfer = false;
}

uint32_t graft_vk_hazards_record(struct graft_vk *vk, VkCommandBuffer commands, enum graft_vk_barrier_kind barrier)
{
    VkPipelineStageFlags compute = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, both = compute | VK_PIPELINE_STAGE_TRANSFER_BIT;
    switch (barrier) {
    case GRAFT_VK_BARRIER_NONE:
        return 0;
    case GRAFT_VK_BARRIER_COMPUTE:
        graft_vk_barrier(vk, commands, compute, compute);
        break;
    case GRAFT_VK_BARRIER_FROM_TRANSFER:
        graft_vk_barrier(vk, commands, both, compute);
        break;
    case GRAFT_VK_BARRIER_FULL:
        graft_vk_barrier(vk, commands, both, both);
        break;
    }
    return 1;
}
