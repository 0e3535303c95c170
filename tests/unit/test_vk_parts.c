// SPDX-License-Identifier: Apache-2.0
// The pure parts of the device layer: barriers from declared access, memory types and choice of device on made-up hardware.
#include <stdio.h>
#include <string.h>

#include "runtime/vk/vk_internal.h"
#include "support/support.h"

// ---- barriers ----

static char a, b, c, d; // stand for buffers
static struct graft_vk_hazards tracker;

static enum graft_vk_barrier_kind step(bool transfer, uint32_t count, const struct graft_vk_touch *touches)
{
    enum graft_vk_barrier_kind barrier;
    ck_assert_ok(graft_vk_hazards_step(&tracker, touches, count, transfer, &barrier));
    return barrier;
}
#define READS(buffer, from, to)                                                                                                \
    {                                                                                                                          \
        &(buffer), (from), (to), false                                                                                         \
    }
#define WRITES(buffer, from, to)                                                                                               \
    {                                                                                                                          \
        &(buffer), (from), (to), true                                                                                          \
    }
#define DISPATCH(...)                                                                                                          \
    step(false, sizeof((struct graft_vk_touch[]){__VA_ARGS__}) / sizeof(struct graft_vk_touch),                                \
         (struct graft_vk_touch[]){__VA_ARGS__})
#define COPY(...) step(true, 2, (struct graft_vk_touch[]){__VA_ARGS__})

static void start(void)
{
    tracker = (struct graft_vk_hazards){.ctx = graft_test_ctx(NULL, 0)};
}

static void finish(void)
{
    struct graft_ctx *ctx = tracker.ctx;
    graft_vk_hazards_free(&tracker);
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&ctx);
}

START_TEST(only_conflicting_accesses_need_a_barrier)
{
    start();
    ck_assert_int_eq(DISPATCH(READS(a, 0, 100), WRITES(b, 0, 100)), GRAFT_VK_BARRIER_NONE);
    ck_assert_int_eq(DISPATCH(READS(a, 0, 100), WRITES(c, 0, 100)), GRAFT_VK_BARRIER_NONE);    // read after read
    ck_assert_int_eq(DISPATCH(READS(a, 0, 100), WRITES(b, 100, 200)), GRAFT_VK_BARRIER_NONE);  // beside what was written
    ck_assert_int_eq(DISPATCH(READS(b, 199, 300), WRITES(d, 0, 4)), GRAFT_VK_BARRIER_COMPUTE); // read after write, by one byte
    ck_assert_int_eq(DISPATCH(READS(c, 0, 100)), GRAFT_VK_BARRIER_NONE);                       // that barrier covered c as well
    ck_assert_int_eq(DISPATCH(WRITES(c, 50, 51)), GRAFT_VK_BARRIER_COMPUTE);                   // write after read
    ck_assert_int_eq(DISPATCH(WRITES(c, 0, 51)), GRAFT_VK_BARRIER_COMPUTE);                    // write after write
    ck_assert_int_eq(DISPATCH(WRITES(c, 51, 60)), GRAFT_VK_BARRIER_NONE);
    finish();
}
END_TEST

START_TEST(copies_get_wider_barriers_and_look_behind_narrow_ones)
{
    start();
    ck_assert_int_eq(DISPATCH(WRITES(a, 0, 64)), GRAFT_VK_BARRIER_NONE);
    ck_assert_int_eq(DISPATCH(READS(a, 0, 64), WRITES(b, 0, 64)), GRAFT_VK_BARRIER_COMPUTE);
    // a lies behind a barrier between dispatches only: a copy must still wait for it.
    ck_assert_int_eq(COPY(READS(a, 0, 64), WRITES(c, 0, 64)), GRAFT_VK_BARRIER_FULL);
    ck_assert_int_eq(COPY(READS(b, 0, 64), WRITES(d, 0, 64)), GRAFT_VK_BARRIER_NONE); // covered by the full barrier
    ck_assert_int_eq(DISPATCH(READS(a, 0, 64)), GRAFT_VK_BARRIER_NONE);
    ck_assert_int_eq(DISPATCH(READS(c, 0, 64)), GRAFT_VK_BARRIER_FROM_TRANSFER);
    ck_assert_int_eq(DISPATCH(READS(d, 0, 64)), GRAFT_VK_BARRIER_NONE);
    ck_assert_int_eq(DISPATCH(WRITES(d, 0, 64)), GRAFT_VK_BARRIER_COMPUTE);
    ck_assert_int_eq(COPY(READS(c, 0, 64), WRITES(b, 64, 128)), GRAFT_VK_BARRIER_FULL); // copy after copy
    finish();
}
END_TEST

START_TEST(a_decoded_token_needs_one_barrier_per_dependent_stage)
{
    // Five stages per layer, each reads what the one before wrote; weights are only read; K and V rows of one token are written
    // into pages that attention reads. Two independent dispatches share the interval of the first stage.
    enum { LAYERS = 30 };
    start();
    static char x, qkv, cache, att, hidden, weights, shrunk;
    uint32_t barriers = 0;
    for (uint64_t layer = 0; layer < LAYERS; layer++) {
        barriers += DISPATCH(READS(x, 0, 64), READS(weights, 0, 1), WRITES(qkv, 0, 64),
                             WRITES(cache, layer * 10, layer * 10 + 1)) != GRAFT_VK_BARRIER_NONE;
        barriers += DISPATCH(READS(x, 0, 64), WRITES(shrunk, 0, 8)) != GRAFT_VK_BARRIER_NONE;
        barriers +=
            DISPATCH(READS(qkv, 0, 64), READS(cache, layer * 10, layer * 10 + 10), WRITES(att, 0, 64)) != GRAFT_VK_BARRIER_NONE;
        barriers += DISPATCH(READS(att, 0, 64), READS(weights, 0, 1), {&x, 0, 64, true}) != GRAFT_VK_BARRIER_NONE;
        barriers += DISPATCH(READS(x, 0, 64), WRITES(hidden, 0, 64)) != GRAFT_VK_BARRIER_NONE;
        barriers += DISPATCH(READS(hidden, 0, 64), {&x, 0, 64, true}) != GRAFT_VK_BARRIER_NONE;
    }
    ck_assert_uint_eq(barriers, 5 * LAYERS - 1);
    finish();
}
END_TEST

START_TEST(the_tracker_agrees_with_a_plain_model_of_memory)
{
    // The model: per byte, the last writer and reader and what each barrier has ordered. Every conflict must lie across a
    // barrier, and no barrier may stand where none of the operations since the last one conflicts.
    enum { BYTES = 24, STEPS = 4000 };
    start();
    struct graft_test_random random = {5};
    static int wrote[BYTES], was_read[BYTES]; // step number + 1
    memset(wrote, 0, sizeof wrote);
    memset(was_read, 0, sizeof was_read);
    int since = 0; // step number + 1 of the first operation after the last barrier
    for (int i = 1; i <= STEPS; i++) {
        struct graft_vk_touch touches[2];
        bool conflict = false;
        for (int k = 0; k < 2; k++) {
            uint64_t at = graft_test_random_u64(&random) % BYTES;
            touches[k] = (struct graft_vk_touch){&a, at, at + 1 + graft_test_random_u64(&random) % (BYTES - at), k == 1};
            if (graft_test_random_u64(&random) % 2) { // short ranges, so that not everything conflicts
                touches[k].end = at + 1;
            }
            for (uint64_t byte = touches[k].begin; byte < touches[k].end; byte++) {
                conflict = conflict || (wrote[byte] && wrote[byte] >= since) ||
                           (touches[k].write && was_read[byte] && was_read[byte] >= since);
            }
        }
        ck_assert_int_eq(step(false, 2, touches) != GRAFT_VK_BARRIER_NONE, conflict);
        since = conflict ? i : since;
        for (uint64_t byte = touches[0].begin; byte < touches[0].end; byte++) {
            was_read[byte] = i;
        }
        for (uint64_t byte = touches[1].begin; byte < touches[1].end; byte++) {
            wrote[byte] = i;
        }
    }
    finish();
}
END_TEST

// ---- memory types ----

enum { L = 1, V = 2, H = 4, K = 8 }; // VkMemoryPropertyFlagBits: local, visible, coherent, cached

static VkPhysicalDeviceMemoryProperties made_up(uint32_t count, const uint32_t *flags)
{
    VkPhysicalDeviceMemoryProperties memory = {.memoryTypeCount = count};
    for (uint32_t i = 0; i < count; i++) {
        memory.memoryTypes[i].propertyFlags = flags[i];
    }
    return memory;
}

START_TEST(memory_types_suit_the_kind_of_device)
{
    uint32_t types[32];
    // A discrete device with a mapped window: device memory first without the window, staging never in it.
    VkPhysicalDeviceMemoryProperties discrete = made_up(5, (const uint32_t[]){0, L, V | H, V | H | K, L | V | H});
    ck_assert_uint_eq(graft_vk_memory_types(&discrete, ~0u, GRAFT_VK_DEVICE, false, types), 2);
    ck_assert(types[0] == 1 && types[1] == 4);
    ck_assert_uint_eq(graft_vk_memory_types(&discrete, ~0u, GRAFT_VK_HOST_SEEN, false, types), 3);
    ck_assert(types[0] == 4 && types[1] == 2 && types[2] == 3);
    ck_assert_uint_ge(graft_vk_memory_types(&discrete, ~0u, GRAFT_VK_READBACK, false, types), 1);
    ck_assert_uint_eq(types[0], 3);
    graft_vk_memory_types(&discrete, ~0u, GRAFT_VK_STAGING, false, types);
    ck_assert_uint_eq(types[0], 2);
    ck_assert_uint_eq(graft_vk_memory_types(&discrete, 1u << 2, GRAFT_VK_DEVICE, false, types),
                      0); // never falls back to the host
    // Unified memory with an uncached and a cached, not coherent type.
    VkPhysicalDeviceMemoryProperties unified = made_up(3, (const uint32_t[]){L, L | V | H, L | V | K});
    graft_vk_memory_types(&unified, ~0u, GRAFT_VK_DEVICE, true, types);
    ck_assert_uint_eq(types[0], 1);
    graft_vk_memory_types(&unified, ~0u, GRAFT_VK_READBACK, true, types);
    ck_assert_uint_eq(types[0], 2);
    // AMD's device-coherent types need a feature: never taken.
    VkPhysicalDeviceMemoryProperties amd = made_up(2, (const uint32_t[]){L | V | H | 0xc0, L | V | H});
    ck_assert_uint_eq(graft_vk_memory_types(&amd, ~0u, GRAFT_VK_DEVICE, true, types), 1);
    ck_assert_uint_eq(types[0], 1);
}
END_TEST

// ---- choice ----

static struct graft_vk_found device(const char *name, enum graft_vk_kind kind, uint64_t heap, const char *reason)
{
    struct graft_vk_found found = {.usable = reason == NULL, .caps = {.kind = kind, .heap_bytes = heap}};
    snprintf(found.caps.name, sizeof found.caps.name, "%s", name);
    snprintf(found.reason, sizeof found.reason, "%s", reason ? reason : "");
    return found;
}

START_TEST(devices_are_ordered_by_use_kind_and_memory)
{
    struct graft_vk_found order[] = {
        device("big", GRAFT_VK_DISCRETE, 24, NULL),    device("small", GRAFT_VK_DISCRETE, 8, NULL),
        device("igpu", GRAFT_VK_INTEGRATED, 64, NULL), device("virtual", GRAFT_VK_VIRTUAL, 64, NULL),
        device("soft", GRAFT_VK_SOFTWARE, 64, NULL),   device("old", GRAFT_VK_DISCRETE, 48, "has Vulkan 1.0"),
    };
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 6; k++) {
            ck_assert_int_eq(graft_vk_found_before(&order[i], &order[k]), i < k);
        }
    }
}
END_TEST

START_TEST(selection_names_what_there_is)
{
    struct graft_vk_found list[] = {
        device("NVIDIA Test 4090", GRAFT_VK_DISCRETE, 24, NULL),
        device("llvmpipe (LLVM)", GRAFT_VK_SOFTWARE, 64, NULL),
        device("Old Card", GRAFT_VK_DISCRETE, 4, "has Vulkan 1.0.5, 1.2 or newer is needed"),
    };
    const struct graft_vk_found *const found[] = {&list[0], &list[1], &list[2]};
    uint32_t index = 9;
    ck_assert_ok(graft_vk_select(found, 3, NULL, &index));
    ck_assert_uint_eq(index, 0);
    ck_assert_ok(graft_vk_select(found, 3, "auto", &index));
    ck_assert_uint_eq(index, 0);
    ck_assert_ok(graft_vk_select(found, 3, "1", &index));
    ck_assert_uint_eq(index, 1);
    ck_assert_ok(graft_vk_select(found, 3, "LLVMPIPE", &index));
    ck_assert_uint_eq(index, 1);
    ck_assert_status(graft_vk_select(found, 3, "3", &index), GRAFT_E_DEVICE);
    ck_assert_status(graft_vk_select(found, 3, "99999999999999999999", &index), GRAFT_E_DEVICE);
    ck_assert_status(graft_vk_select(found, 3, "radeon", &index), GRAFT_E_DEVICE);
    ck_assert_error_has("NVIDIA Test 4090");
    ck_assert_error_has("llvmpipe");
    ck_assert_status(graft_vk_select(found, 3, "old", &index), GRAFT_E_DEVICE);
    ck_assert_error_has("1.2 or newer");
    ck_assert_status(graft_vk_select(found + 2, 1, NULL, &index), GRAFT_E_DEVICE);
    ck_assert_error_has("Old Card");
    ck_assert_error_has("1.2 or newer");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vk parts");
    TCase *tcase = tcase_create("pure");
    tcase_add_test(tcase, only_conflicting_accesses_need_a_barrier);
    tcase_add_test(tcase, copies_get_wider_barriers_and_look_behind_narrow_ones);
    tcase_add_test(tcase, a_decoded_token_needs_one_barrier_per_dependent_stage);
    tcase_add_test(tcase, the_tracker_agrees_with_a_plain_model_of_memory);
    tcase_add_test(tcase, memory_types_suit_the_kind_of_device);
    tcase_add_test(tcase, devices_are_ordered_by_use_kind_and_memory);
    tcase_add_test(tcase, selection_names_what_there_is);
    suite_add_tcase(suite, tcase);
    return graft_test_main(suite);
}
