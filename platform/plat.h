// SPDX-License-Identifier: Apache-2.0
// The whole operating-system interface: file mapping, files that replace themselves safely, clock, threads.
#ifndef GRAFT_PLATFORM_PLAT_H
#define GRAFT_PLATFORM_PLAT_H

#include "platform/ctx.h"

// A read-only private mapping of a whole regular file.
struct graft_map {
    const uint8_t *data; // NULL if the file is empty
    uint64_t size;       // bytes
    void *handle;        // platform detail; NULL for bytes that are no mapping
};

// Map `path`. Directories, FIFOs, devices and missing files are refused without blocking: GRAFT_E_IO. Mapped pages are
// not counted in the ledger (the kernel can drop them at any time). On failure *map is zeroed.
GRAFT_MUST_CHECK enum graft_status graft_map_open(struct graft_map *map, const char *path);
// Map n files one behind the other into one range, each at the start of a page: file i is at starts[i] and has sizes[i] bytes.
// What is between them belongs to none and is not to be read (Windows has no memory there). Errors as graft_map_open, for the
// first file that cannot be mapped.
GRAFT_MUST_CHECK enum graft_status graft_map_open_all(struct graft_map *map, const char *const *paths, uint32_t n,
                                                      uint64_t *starts, uint64_t *sizes);
// Unmap; accepts a zeroed map.
void graft_map_close(struct graft_map *map);
// True once a page of the mapping could not be read, because the file was cut short or its disk failed: from that page on the
// bytes are zeros (see platform/guard.h; without graft_guard_mapped_files the process ends instead). Never false again.
// Windows lets nobody cut a mapped file short, and ends the process when its disk fails. Thread-safety: safe.
bool graft_map_damaged(const struct graft_map *map);

enum graft_advice { GRAFT_ADVICE_SEQUENTIAL, GRAFT_ADVICE_WILL_NEED, GRAFT_ADVICE_DONT_NEED };
// Tell the kernel what is coming for bytes [offset, offset + bytes) of the mapping. A hint: never fails.
void graft_map_advise(const struct graft_map *map, uint64_t offset, uint64_t bytes, enum graft_advice advice);

// Read a whole regular file of at most `max_bytes` into memory from graft_alloc, NUL added behind (not counted in *size).
// A file written to within the last 20 ms is waited for, at most 0.1 s. Errors: GRAFT_E_IO (also a file that changed while it
// was read), GRAFT_E_LIMIT (larger than max_bytes), GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK enum graft_status graft_file_read(struct graft_ctx *ctx, const char *path, uint64_t max_bytes, char **out,
                                                   uint64_t *size);
// Write a file so that `path` holds either its old or its new content at any moment: temporary file in the same
// directory, fsync, rename, fsync of the directory. Creates missing parent directories (0700). Errors: GRAFT_E_IO; no
// temporary file is left then.
GRAFT_MUST_CHECK enum graft_status graft_file_replace(const char *path, const void *data, uint64_t size);

// ---- paths: UTF-8 on every system ----

// True for what stands between the parts of a path: '/', and on Windows '\\'.
bool graft_path_separator(char c);
// The last part of a path, behind the last separator (on Windows also behind the colon of a drive): a pointer into `path`.
const char *graft_path_name(const char *path);
// True if a path does not depend on the current folder.
bool graft_path_absolute(const char *path);

// ---- a large file that replaces another one safely, written in pieces ----

// True if both paths name one existing file.
bool graft_same_file(const char *a, const char *b);

struct graft_output;
// Begin a file that will be `path`: a temporary .NAME.XXXXXXXX.TAG in the same folder, locked. Other files of that pattern in
// the folder that nobody has locked were left by a process that died, and are removed. tag: letters and dashes, at most 32
// bytes. Errors: GRAFT_E_IO, GRAFT_E_MEMORY, GRAFT_E_BUDGET. On failure *out is NULL and nothing is left.
GRAFT_MUST_CHECK enum graft_status graft_output_begin(struct graft_ctx *ctx, struct graft_output **out, const char *path,
                                                      const char *tag);
// Set the file's size and take its room on the disk, where the file system can. Errors: GRAFT_E_IO (no room, too large).
GRAFT_MUST_CHECK enum graft_status graft_output_reserve(struct graft_output *output, uint64_t bytes);
// Write at an offset. Errors: GRAFT_E_IO. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_output_write(struct graft_output *output, uint64_t offset, const void *data,
                                                      uint64_t bytes);
// Everything in front of `offset` is written: start its way to the disk, and let go of the page cache behind the call before
// last. A hint: never fails.
void graft_output_behind(struct graft_output *output, uint64_t offset);
// Make it durable and put it in its place: sync, rename, sync of the folder. *output becomes NULL. Errors: GRAFT_E_IO; `path`
// then holds what it held before, and no temporary is left.
GRAFT_MUST_CHECK enum graft_status graft_output_commit(struct graft_output **output);
// Remove the temporary; *output becomes NULL. NULL is accepted.
void graft_output_abandon(struct graft_output **output);

// Monotonic time in nanoseconds.
uint64_t graft_clock_ns(void);
// Number of processors this process may use, at least 1.
uint32_t graft_cpu_count(void);

// Where a Vulkan driver and its loader come from on this system, for the end of an error; and the whole sentence that there is
// no device.
extern const char graft_driver_advice[], graft_no_vulkan_device[];

// Size of a memory page in bytes.
uint64_t graft_page_bytes(void);

// Large pages would suit this freshly allocated memory: fewer page faults while it is filled. A hint: never fails.
void graft_pages_hint(void *memory, uint64_t bytes);

struct graft_thread;
// Run `run(user)` on a new thread. Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_INTERNAL (the system refused).
GRAFT_MUST_CHECK enum graft_status graft_thread_start(struct graft_ctx *ctx, struct graft_thread **out, void (*run)(void *user),
                                                      void *user);
// From now on the calling thread gives way to the others of the machine: for work that may take longer. A hint: never fails,
// and cannot be taken back.
void graft_thread_give_way(void);
// Wait for the thread to end and free it; *thread becomes NULL.
void graft_thread_join(struct graft_thread **thread);

struct graft_mutex;
GRAFT_MUST_CHECK enum graft_status graft_mutex_create(struct graft_ctx *ctx, struct graft_mutex **out);
void graft_mutex_destroy(struct graft_mutex **mutex);
void graft_mutex_lock(struct graft_mutex *mutex);
void graft_mutex_unlock(struct graft_mutex *mutex);

struct graft_cond;
GRAFT_MUST_CHECK enum graft_status graft_cond_create(struct graft_ctx *ctx, struct graft_cond **out);
void graft_cond_destroy(struct graft_cond **cond);
void graft_cond_wait(struct graft_cond *cond, struct graft_mutex *mutex);
void graft_cond_broadcast(struct graft_cond *cond);

#endif
