// SPDX-License-Identifier: Apache-2.0
// The pipeline cache's file: one per device, driver and build.
//
// Layout, little-endian: "GRAFTVKC", u32 version, u32 zero, 32 bytes key, u64 payload size, 32 bytes SHA-256 of the payload,
// payload. The key is the SHA-256 of the device's and the driver's identity and the build's id. Drivers are not made to survive
// damaged caches, so the payload reaches the driver only when size, key, digest and Vulkan's own header agree; otherwise it is
// discarded.
#include <sodium.h>
#include <stdio.h>

#include "runtime/vk/vk_internal.h"

enum { FILE_VERSION = 1, HEAD_BYTES = 8 + 4 + 4 + 32 + 8 + 32, MAX_FILE_BYTES = 256 << 20, VULKAN_HEADER_BYTES = 32 };
static const char MAGIC[8] = {'G', 'R', 'A', 'F', 'T', 'V', 'K', 'C'};

static void make_key(const struct graft_vk_caps *caps, const char *cache_key, uint8_t key[32])
{
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    uint32_t ids[3] = {caps->vendor_id, caps->device_id, caps->driver_version};
    crypto_hash_sha256_update(&state, (const uint8_t *)ids, sizeof ids);
    crypto_hash_sha256_update(&state, caps->device_uuid, sizeof caps->device_uuid);
    crypto_hash_sha256_update(&state, caps->driver_uuid, sizeof caps->driver_uuid);
    crypto_hash_sha256_update(&state, caps->pipeline_cache_uuid, sizeof caps->pipeline_cache_uuid);
    crypto_hash_sha256_update(&state, (const uint8_t *)caps->name, strlen(caps->name) + 1);
    crypto_hash_sha256_update(&state, (const uint8_t *)caps->driver, strlen(caps->driver) + 1);
    crypto_hash_sha256_update(&state, (const uint8_t *)cache_key, strlen(cache_key) + 1);
    crypto_hash_sha256_final(&state, key);
}

// Why the payload must not be used; NULL if it may.
static const char *find_fault(const struct graft_vk *vk, const uint8_t *file, uint64_t size)
{
    const uint8_t *payload = file + HEAD_BYTES;
    if (size < HEAD_BYTES || memcmp(file, MAGIC, sizeof MAGIC) != 0 || graft_load_u32(file + 8) != FILE_VERSION) {
        return "is not a pipeline cache of this version";
    }
    if (memcmp(file + 16, vk->cache_key, 32) != 0) {
        return "belongs to another device, driver or build";
    }
    uint64_t bytes = graft_load_u64(file + 48);
    if (bytes != size - HEAD_BYTES) {
        return "is cut short or has bytes behind its end";
    }
    uint8_t digest[32];
    crypto_hash_sha256(digest, payload, bytes);
    if (memcmp(digest, file + 56, 32) != 0) {
        return "is damaged";
    }
    if (bytes < VULKAN_HEADER_BYTES || graft_load_u32(payload) < VULKAN_HEADER_BYTES ||
        graft_load_u32(payload + 4) != VK_PIPELINE_CACHE_HEADER_VERSION_ONE ||
        graft_load_u32(payload + 8) != vk->caps.vendor_id || graft_load_u32(payload + 12) != vk->caps.device_id ||
        memcmp(payload + 16, vk->caps.pipeline_cache_uuid, sizeof vk->caps.pipeline_cache_uuid) != 0) {
        return "has a Vulkan header of another device or driver";
    }
    return NULL;
}

enum graft_status graft_vk_cache_open(struct graft_vk *vk, const char *cache_key)
{
    make_key(&vk->caps, cache_key, vk->cache_key);
    const char *dir = graft_ctx_cache_dir(vk->ctx);
    uint8_t *file = NULL;
    uint64_t size = 0;
    bool use = false;
    if (dir) {
        uint64_t room = strlen(dir) + 64;
        GRAFT_TRY(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &vk->cache_path, room, "the pipeline cache's path"));
        char hex[17];
        for (int i = 0; i < 8; i++) {
            snprintf(hex + 2 * i, 3, "%02x", vk->cache_key[i]);
        }
        snprintf(vk->cache_path, (size_t)room, "%s/pipelines-%s.cache", dir, hex);
        enum graft_status status = graft_file_read(vk->ctx, vk->cache_path, MAX_FILE_BYTES, (char **)&file, &size);
        if (status == GRAFT_OK) {
            const char *fault = find_fault(vk, file, size);
            use = fault == NULL;
            if (fault) {
                graft_log(vk->ctx, GRAFT_LOG_WARN, "%s %s; it is discarded", vk->cache_path, fault);
            }
        } else if (status != GRAFT_E_IO) { // a missing file is the usual case
            graft_log(vk->ctx, GRAFT_LOG_WARN, "the pipeline cache is not used: %s", graft_last_error());
        }
    }
    VkPipelineCacheCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
        .initialDataSize = use ? (size_t)(size - HEAD_BYTES) : 0,
        .pInitialData = use ? file + HEAD_BYTES : NULL,
    };
    VkResult result =
        GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreatePipelineCache(vk->device, &info, NULL, &vk->cache));
    if (result == VK_SUCCESS && use) {
        memcpy(vk->cache_digest, file + 56, sizeof vk->cache_digest);
        vk->counters.cache_bytes = size - HEAD_BYTES;
    }
    GRAFT_FREE(vk->ctx, &file);
    if (result != VK_SUCCESS) {
        vk->cache = VK_NULL_HANDLE;
        return graft_vk_fail(vk, result, "creating a pipeline cache");
    }
    return GRAFT_OK;
}

static enum graft_status save(struct graft_vk *vk)
{
    size_t bytes = 0;
    VkResult result = vk->fn.vkGetPipelineCacheData(vk->device, vk->cache, &bytes, NULL);
    if (result != VK_SUCCESS || bytes < VULKAN_HEADER_BYTES || bytes > MAX_FILE_BYTES - HEAD_BYTES) {
        return GRAFT_OK;
    }
    uint8_t *file;
    GRAFT_TRY(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &file, HEAD_BYTES + (uint64_t)bytes, "the pipeline cache"));
    enum graft_status status = GRAFT_OK;
    result = vk->fn.vkGetPipelineCacheData(vk->device, vk->cache, &bytes, file + HEAD_BYTES);
    uint8_t digest[32];
    crypto_hash_sha256(digest, file + HEAD_BYTES, bytes);
    if (result == VK_SUCCESS && memcmp(digest, vk->cache_digest, sizeof digest) != 0) {
        memcpy(file, MAGIC, sizeof MAGIC);
        file[8] = FILE_VERSION;
        memcpy(file + 16, vk->cache_key, 32);
        for (int i = 0; i < 8; i++) {
            file[48 + i] = (uint8_t)((uint64_t)bytes >> (8 * i));
        }
        memcpy(file + 56, digest, sizeof digest);
        status = graft_file_replace(vk->cache_path, file, HEAD_BYTES + (uint64_t)bytes);
        if (status == GRAFT_OK) {
            memcpy(vk->cache_digest, digest, sizeof digest);
        }
    }
    GRAFT_FREE(vk->ctx, &file);
    return status;
}

void graft_vk_cache_save(struct graft_vk *vk)
{
    if (vk->cache && vk->cache_path && !vk->lost && save(vk) != GRAFT_OK) {
        graft_log(vk->ctx, GRAFT_LOG_WARN, "the pipeline cache is not stored: %s", graft_last_error());
    }
}

void graft_vk_cache_close(struct graft_vk *vk)
{
    graft_vk_cache_save(vk);
    if (vk->cache && !vk->abandoned) {
        vk->fn.vkDestroyPipelineCache(vk->device, vk->cache, NULL);
    }
    vk->cache = VK_NULL_HANDLE;
    GRAFT_FREE(vk->ctx, &vk->cache_path);
}
