// SPDX-License-Identifier: Apache-2.0
// The device, without Vulkan's types: everything above runtime/vk sees only this header.
//
// A device owns one queue. Buffers are whole VkBuffers with their own memory, or windows of an imported mapping. A pipeline is
// one SPIR-V module with specialization constants. A recording ("graft_vk_commands") is made once and submitted many times.
// Thread-safety of everything here: one thread at a time per device, unless said otherwise.
#ifndef GRAFT_RUNTIME_VK_VK_H
#define GRAFT_RUNTIME_VK_VK_H

#include "platform/plat.h"

enum graft_vk_kind { GRAFT_VK_DISCRETE, GRAFT_VK_INTEGRATED, GRAFT_VK_VIRTUAL, GRAFT_VK_SOFTWARE, GRAFT_VK_OTHER };

// What kernels choose their variants from. Plain numbers, so that tests can make up any device.
struct graft_vk_caps {
    enum graft_vk_kind kind;
    bool unified;                        // every device-local heap is host-visible memory of the same RAM
    uint32_t subgroup_size;              // default size
    uint32_t subgroup_min, subgroup_max; // equal to subgroup_size without size control
    bool subgroup_arithmetic;            // subgroupAdd and friends in compute shaders
    bool subgroup_shuffle;
    bool subgroup_size_control; // required size and full subgroups can be asked for
    bool storage_16bit;         // 16-bit values in storage buffers
    bool storage_8bit;
    bool shader_f16; // f16 arithmetic
    bool shader_i16, shader_i8;
    bool dot8;             // integer dot products
    bool dot8_accelerated; // of 4x8 packed signed, reported as accelerated
    bool coopmat_khr, coopmat_nv2;
    uint32_t matrix_m, matrix_n, matrix_k; // shape of f16 x f16 to f32 of a subgroup with coopmat_khr; 0: there is none
    bool buffer_array_indexing; // shaderStorageBufferArrayDynamicIndexing
    bool host_import;           // VK_EXT_external_memory_host
    bool timestamps;
    uint32_t max_shared_bytes;
    uint32_t max_invocations; // in a workgroup
    uint32_t max_group_count[3];
    uint32_t max_texel_elements;
    uint64_t max_uniform_bytes;
    uint64_t max_storage_bytes; // maxStorageBufferRange
    uint64_t max_allocation_bytes;
    uint64_t storage_alignment; // minStorageBufferOffsetAlignment
    uint64_t uniform_alignment; // minUniformBufferOffsetAlignment
    uint64_t texel_alignment; // offsets of all texel bindings (16 or less where VK_EXT_texel_buffer_alignment allows one texel)
    uint64_t import_alignment; // minImportedHostPointerAlignment
    uint64_t heap_bytes;       // of the largest device-local heap
    uint32_t vendor_id, device_id, driver_version;
    uint8_t device_uuid[16], driver_uuid[16];
    uint8_t pipeline_cache_uuid[16];
    char name[256];
    char driver[256]; // driver name and info
    char api_version[16];
};

// One entry of the list: a device found, and why it cannot be used, if so.
struct graft_vk_found {
    struct graft_vk_caps caps;
    bool usable;
    char reason[256]; // why not, or what is special; "" if nothing
};

// Fault injection for tests: the n-th Vulkan call of a kind fails once. ALLOCATE: device memory; CREATE: every other object;
// RECORD: begin and end of a command buffer, descriptor sets; SUBMIT: device lost; WAIT: a time-out.
enum graft_vk_fault {
    GRAFT_VK_FAULT_ALLOCATE,
    GRAFT_VK_FAULT_CREATE,
    GRAFT_VK_FAULT_RECORD,
    GRAFT_VK_FAULT_SUBMIT,
    GRAFT_VK_FAULT_WAIT
};

// All devices in the order they would be chosen: usable first; discrete, integrated, virtual, software; larger memory first.
// *out from graft_alloc, *count entries. No loader or no driver: GRAFT_E_DEVICE with a sentence that says what to install.
GRAFT_MUST_CHECK enum graft_status graft_vk_list(struct graft_ctx *ctx, struct graft_vk_found **out, uint32_t *count);

struct graft_vk;

struct graft_vk_options {
    const char
        *select; // NULL or "auto": first usable; a number: index in graft_vk_list; otherwise part of the name, without case
    const char *cache_key; // build id mixed into the pipeline cache's key
    // Capabilities to switch off, for tests and fallbacks: fields set true here are treated as absent.
    bool no_subgroups, no_f16, no_storage_16bit, no_storage_8bit, no_import, no_dot8, no_coopmat, no_texel;
    bool no_copy_queue;   // streams copy on the queue that computes
    bool no_size_control; // subgroups have the size that the driver chooses
    // Compile for subgroups of this size (0: the device's default). GRAFT_E_UNSUPPORTED where the device does not let it be
    // asked for.
    uint32_t subgroup_size;
    bool no_mapped_device; // GRAFT_VK_DEVICE buffers are never mapped: everything is staged, as on a discrete device
    uint32_t max_shared_bytes, max_invocations; // 0 = as the device says; otherwise a lower limit
    bool validation;     // enable VK_LAYER_KHRONOS_validation with synchronization validation; messages are counted and logged
    uint64_t timeout_ns; // of one submission; 0 = 60 s
    enum graft_vk_fault fault; // armed before the first Vulkan call, as by graft_vk_fault
    uint64_t fault_at;         // 0 = none
};

// Open a device. Errors: GRAFT_E_DEVICE (none usable: the reasons of all), GRAFT_E_MEMORY, GRAFT_E_BUDGET. On failure *out is
// NULL.
GRAFT_MUST_CHECK enum graft_status graft_vk_open(struct graft_ctx *ctx, struct graft_vk **out,
                                                 const struct graft_vk_options *options);
// Saves the pipeline cache, waits for the device, frees everything. All buffers, pipelines, recordings must be destroyed
// before.
void graft_vk_close(struct graft_vk **vk);
const struct graft_vk_caps *graft_vk_caps(const struct graft_vk *vk);
// Validation messages (warnings and errors) seen so far.
uint64_t graft_vk_validation_messages(const struct graft_vk *vk);

enum graft_vk_memory {
    GRAFT_VK_DEVICE,    // device-local; filled with graft_vk_upload
    GRAFT_VK_HOST_SEEN, // device-local and mapped if there is such a type, else host memory, mapped: small, written by the host
                        // each token
    GRAFT_VK_READBACK,  // host-cached, mapped: written by the device, read by the host
    GRAFT_VK_SLOT       // as GRAFT_VK_DEVICE, filled by a stream
};

struct graft_vk_buffer {
    struct graft_vk *vk;
    void *native; // private
    uint64_t bytes;
    void *mapped; // NULL if not host-visible
    bool imported;
    enum graft_mem_class mem_class;
};

// Make a storage buffer (also uniform, texel and transfer usage) of `bytes`, ledgered under mem_class, zeroed. Errors:
// GRAFT_E_BUDGET, GRAFT_E_MEMORY (the device's own refusal: heap and bytes named), GRAFT_E_DEVICE_LOST. On failure *out is
// NULL.
GRAFT_MUST_CHECK enum graft_status graft_vk_buffer_create(struct graft_vk *vk, struct graft_vk_buffer **out, uint64_t bytes,
                                                          enum graft_vk_memory where, enum graft_mem_class mem_class,
                                                          const char *what);
// Import host memory [data, data + bytes) read-only, zero-copy; data need not be aligned: the import is widened to
// import_alignment inside the mapping's pages and *skip gets the distance from the buffer's start to `data`. Imported bytes are
// file pages: not counted in the ledger. Returns GRAFT_E_UNSUPPORTED when the device or driver refuses (the caller then
// copies).
GRAFT_MUST_CHECK enum graft_status graft_vk_buffer_import(struct graft_vk *vk, struct graft_vk_buffer **out, const void *data,
                                                          uint64_t bytes, uint64_t *skip);
void graft_vk_buffer_destroy(struct graft_vk_buffer **buffer);
// Copy host bytes to the device. A mapped buffer is written at once: no submission in flight may use the range. Others go
// through the staging ring (GRAFT_MEM_STAGING, at most 32 MiB, less if the budget is short, freed by graft_vk_upload_end),
// ordered behind what was submitted before. Synchronous as seen by the caller once graft_vk_upload_end has returned. After a
// failure all that was staged since the last graft_vk_upload_end is in an unknown state.
GRAFT_MUST_CHECK enum graft_status graft_vk_upload(struct graft_vk *vk, struct graft_vk_buffer *to, uint64_t offset,
                                                   const void *data, uint64_t bytes);
GRAFT_MUST_CHECK enum graft_status graft_vk_upload_end(struct graft_vk *vk);
// Send what is staged on its way, behind what was submitted before and in front of what will be; the staging ring stays.
GRAFT_MUST_CHECK enum graft_status graft_vk_upload_flush(struct graft_vk *vk);
// Instead of graft_vk_upload_end, for a caller that gives up: copies not yet submitted are dropped, so that their targets may
// be destroyed. Never fails.
void graft_vk_upload_drop(struct graft_vk *vk);
// A window of host memory (GRAFT_MEM_STAGING) for copies into buffers that are not mapped, taken before nothing may be
// allocated any more.
GRAFT_MUST_CHECK enum graft_status graft_vk_window_create(struct graft_vk *vk, struct graft_vk_buffer **out, uint64_t bytes,
                                                          const char *what);
// Copy host bytes to the device, or bytes of a buffer to a lower place in it, through such a window (NULL: the buffer is
// mapped). Offsets and bytes are multiples of 4. Synchronous, allocates nothing; no submission in flight may use the ranges.
// Errors: GRAFT_E_DEVICE_LOST; the range written is in an unknown state then.
GRAFT_MUST_CHECK enum graft_status graft_vk_write(struct graft_vk *vk, struct graft_vk_buffer *window,
                                                  struct graft_vk_buffer *to, uint64_t offset, const void *data,
                                                  uint64_t bytes);
GRAFT_MUST_CHECK enum graft_status graft_vk_move_down(struct graft_vk *vk, struct graft_vk_buffer *window,
                                                      struct graft_vk_buffer *buffer, uint64_t from, uint64_t to,
                                                      uint64_t bytes);
// Fill sizes[i] bytes at offsets[i] of each buffer with zeros (multiples of 4): on the host where the buffers are mapped, else
// in one submission. Synchronous, allocates nothing; no submission in flight may use the ranges. Errors: GRAFT_E_ARGUMENT
// (outside a buffer), GRAFT_E_DEVICE_LOST.
GRAFT_MUST_CHECK enum graft_status graft_vk_clear(struct graft_vk *vk, struct graft_vk_buffer *const *buffers,
                                                  uint32_t n_buffers, const uint64_t *offsets, const uint64_t *sizes,
                                                  uint32_t n_offsets);
// Synchronous copy back for tests and rare reads.
GRAFT_MUST_CHECK enum graft_status graft_vk_download(struct graft_vk *vk, const struct graft_vk_buffer *from, uint64_t offset,
                                                     void *data, uint64_t bytes);

enum graft_vk_access { GRAFT_VK_READ = 1, GRAFT_VK_WRITE = 2, GRAFT_VK_READ_WRITE = 3 };
enum graft_vk_bind_kind {
    GRAFT_VK_STORAGE,
    GRAFT_VK_UNIFORM,     // uniform buffer: at most max_uniform_bytes
    GRAFT_VK_TEXEL_U32X4, // uniform texel buffer, R32G32B32A32_UINT
    GRAFT_VK_TEXEL_U32,   // R32_UINT
    GRAFT_VK_TEXEL_F32X4  // R32G32B32A32_SFLOAT
};
enum { GRAFT_VK_MAX_BINDINGS = 16, GRAFT_VK_MAX_CONSTANTS = 32, GRAFT_VK_MAX_PUSH_BYTES = 128 };

struct graft_vk_pipeline_params {
    const char *name; // for debug names and errors
    const uint32_t *spirv;
    uint64_t spirv_bytes;
    bool spirv_constant; // the words never change, so that their address stands for them: saves hashing them at every request
    uint32_t n_bindings; // set 0, bindings 0 .. n-1
    enum graft_vk_bind_kind kinds[GRAFT_VK_MAX_BINDINGS];
    enum graft_vk_access access[GRAFT_VK_MAX_BINDINGS];
    uint32_t push_bytes;
    uint32_t n_constants; // specialization constants with ids 0 .. n-1
    uint32_t constants[GRAFT_VK_MAX_CONSTANTS];
    uint32_t required_subgroup_size; // 0 = the driver's choice
    bool full_subgroups;
};
struct graft_vk_pipeline;
// Make a compute pipeline through the on-disk cache. The same parameters give the same object (reference counted).
GRAFT_MUST_CHECK enum graft_status graft_vk_pipeline_get(struct graft_vk *vk, struct graft_vk_pipeline **out,
                                                         const struct graft_vk_pipeline_params *params);
void graft_vk_pipeline_put(struct graft_vk *vk, struct graft_vk_pipeline **pipeline);
// While held, pipelines that nobody uses are kept, for somebody who is about to ask for the same again.
void graft_vk_pipelines_hold(struct graft_vk *vk, bool hold);
// Store the pipeline cache now, if it changed (graft_vk_close does it, too). A failure is only logged.
void graft_vk_cache_save(struct graft_vk *vk);

struct graft_vk_bind {
    const struct graft_vk_buffer *buffer;
    uint64_t offset, bytes; // a range of the buffer; offset aligned as the caps say
};

struct graft_vk_commands;
// Begin a recording meant to be submitted many times, of at most max_dispatches dispatches and copies. The buffers it uses must
// outlive it (its pipelines are kept alive by it).
GRAFT_MUST_CHECK enum graft_status graft_vk_commands_create(struct graft_vk *vk, struct graft_vk_commands **out,
                                                            uint32_t max_dispatches, bool timed);
// Record one dispatch. Descriptor sets are written now, once. A barrier is put in front exactly when a declared access
// conflicts (read after write, write after read, write after write, by byte ranges of buffers) with one since the last barrier;
// it is one global memory barrier.
GRAFT_MUST_CHECK enum graft_status graft_vk_dispatch(struct graft_vk_commands *commands, struct graft_vk_pipeline *pipeline,
                                                     const struct graft_vk_bind *binds, const void *push,
                                                     const uint32_t groups[3]);
// Record a copy between buffers (barriers derived in the same way).
GRAFT_MUST_CHECK enum graft_status graft_vk_copy(struct graft_vk_commands *commands, const struct graft_vk_buffer *from,
                                                 uint64_t from_offset, const struct graft_vk_buffer *to, uint64_t to_offset,
                                                 uint64_t bytes);
// End the recording; makes the last writes visible to the host.
GRAFT_MUST_CHECK enum graft_status graft_vk_commands_end(struct graft_vk_commands *commands);
void graft_vk_commands_destroy(struct graft_vk_commands **commands);

// Submit recordings in order as ONE queue submission (with a full compute barrier between two of them: their declared hazards
// are taken as conflicting) and return at once. At most one submission is in flight: a second call waits first.
GRAFT_MUST_CHECK enum graft_status graft_vk_submit(struct graft_vk *vk, struct graft_vk_commands *const *commands,
                                                   uint32_t count);
// Wait for the submission in flight, with the time-out. Errors: GRAFT_E_DEVICE_LOST (also after a time-out). Never spins.
GRAFT_MUST_CHECK enum graft_status graft_vk_wait(struct graft_vk *vk);
// Nanoseconds of each dispatch of a timed recording in its last submission (waits for it), in the order of recording: from the
// end of the operation before it to its own end. count: at most the number of dispatches. GRAFT_E_UNSUPPORTED without
// timestamps.
GRAFT_MUST_CHECK enum graft_status graft_vk_times(struct graft_vk_commands *commands, uint64_t *ns, uint32_t count);

// ---- streams: more data than device memory, in turns ----

// Units of data (layers) take turns in slots of device memory, unit u in slot u % n_slots. A thread of the stream's own copies
// them there in their order, behind the last the first again, each as soon as what its slot held has been used. Where slots are
// mapped it writes them itself; elsewhere it fills pieces of a staging buffer, and the device's copy queue (one for transfers
// alone, else a second one, else the only one) copies from there. Computing waits for a copy on the device, by a timeline
// semaphore; the copy waits for computing in the stream's thread, by another.
struct graft_vk_stream_part {
    const uint8_t *data;    // must outlive the stream; read again at every turn
    uint64_t bytes, offset; // where it goes in the slot
};
struct graft_vk_stream_params {
    uint32_t n_units, n_slots;                // more units than slots
    struct graft_vk_buffer *const *slots;     // GRAFT_VK_SLOT, all of one kind
    const struct graft_vk_stream_part *parts; // unit by unit, in each by ascending offset
    const uint32_t *n_parts;                  // of each unit
    const uint8_t *map; // where parts lie in a mapped file: the bytes around them, of which the system is told what comes next;
    uint64_t map_bytes; // NULL: nowhere
};
struct graft_vk_stream;
// Bytes of the staging buffer of a stream whose largest unit has `bytes`, where slots are not mapped.
uint64_t graft_vk_stream_staging(uint64_t bytes);
// Take the staging buffer (GRAFT_MEM_STAGING), record the copies, start the thread, which begins with unit 0. params and its
// lists are copied as far as needed. Nothing is allocated later. Errors: GRAFT_E_BUDGET, GRAFT_E_MEMORY, GRAFT_E_INTERNAL (no
// thread), GRAFT_E_DEVICE_LOST. On failure *out is NULL.
GRAFT_MUST_CHECK enum graft_status graft_vk_stream_create(struct graft_vk *vk, struct graft_vk_stream **out,
                                                          const struct graft_vk_stream_params *params);
// End the thread and wait for its copies. Slots and data may go afterwards.
void graft_vk_stream_destroy(struct graft_vk_stream **stream);
// Before the first submission of a batch: unit 0 is next. If the last batch did not come to its end, or a copy failed, what is
// on its way is waited for and the stream begins anew. Errors: GRAFT_E_DEVICE_LOST.
GRAFT_MUST_CHECK enum graft_status graft_vk_stream_begin(struct graft_vk_stream *stream);
// Submit recordings that use the next unit, behind everything submitted before; returns at once, or as soon as the unit's copy
// is in its slot or submitted. The recordings may be on their way still from an earlier batch only if graft_vk_stream_wait was
// called since. count 0: nothing uses the unit, its slot is free again. Errors: those of the copy; GRAFT_E_DEVICE_LOST.
GRAFT_MUST_CHECK enum graft_status graft_vk_stream_submit(struct graft_vk_stream *stream,
                                                          struct graft_vk_commands *const *commands, uint32_t count);
// Wait until everything submitted here has been computed, with the time-out; copies for the next batch go on. Errors:
// GRAFT_E_DEVICE_LOST.
GRAFT_MUST_CHECK enum graft_status graft_vk_stream_wait(struct graft_vk_stream *stream);
// Wait until the stream can do no more: every slot is full, no copy on its way. For measurements. Errors: as
// graft_vk_stream_submit.
GRAFT_MUST_CHECK enum graft_status graft_vk_stream_settle(struct graft_vk_stream *stream);

// Running totals, for `bench` and for tests that hold per-token counts.
struct graft_vk_counters {
    uint64_t dispatches, barriers;                       // executed: added up at each submission
    uint64_t submissions;                                // vkQueueSubmit calls, uploads included
    uint64_t recordings;                                 // command buffers begun
    uint64_t descriptor_updates, pipelines, allocations; // made so far
    uint64_t cache_bytes;                                // taken from the pipeline cache's file when the device was opened
};
void graft_vk_counters(const struct graft_vk *vk, struct graft_vk_counters *out);

// From now on, the n-th call of this kind fails once (n from 1; 0 = off).
void graft_vk_fault(struct graft_vk *vk, enum graft_vk_fault fault, uint64_t n);
// For tests: dispatches of pipelines whose name contains this are left out of recordings, as if they computed nothing. NULL:
// none. Borrowed.
void graft_vk_spoil(struct graft_vk *vk, const char *name);

// SHA-256 of what the pipeline cache belongs to: device, driver and build.
void graft_vk_identity(const struct graft_vk *vk, uint8_t out[32]);
// Take capabilities away from an open device, as the options of graft_vk_open do; what exists already stays as it is.
void graft_vk_restrict(struct graft_vk *vk, bool no_texel, bool no_subgroups, bool no_dot8);

#endif
