// SPDX-License-Identifier: Apache-2.0
// A few threads that divide one range of independent outputs between them; the calling thread takes a part too. What an output
// is computed from never depends on the division, so results are the same for any number of threads.
#ifndef GRAFT_RUNTIME_MODEL_WORKERS_H
#define GRAFT_RUNTIME_MODEL_WORKERS_H

#include "platform/plat.h"

enum { GRAFT_MAX_WORKERS = 16 };

struct graft_workers;
// n_threads: 1 to GRAFT_MAX_WORKERS, the caller included.
GRAFT_MUST_CHECK enum graft_status graft_workers_create(struct graft_ctx *ctx, struct graft_workers **out, uint32_t n_threads);
void graft_workers_destroy(struct graft_workers **workers);
// Call work(user, thread, first, last) so that the parts cover [0, n); returns when all are done. thread < count. `serial`: all
// of it on the calling thread, for work smaller than waking another one. Allocates nothing. Thread-safety: one thread at a
// time.
void graft_workers_run(struct graft_workers *workers, uint32_t n, bool serial,
                       void (*work)(void *user, uint32_t thread, uint32_t first, uint32_t last), void *user);

#endif
