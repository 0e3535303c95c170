// SPDX-License-Identifier: Apache-2.0
// The adapters a server knows: by name, in versions, some of them resident.
//
// A name has one current version; another content under the name is the next version, and requests that run with the old one
// end with it. A version is cold until somebody asks for it; it is evicted when others need its room and nothing runs with it,
// and loaded again when it is asked for. One thread of the table does all that, through graft_engine_run: requests whose
// adapters are resident never wait for it.
//
// Locks: the table's own, under which nothing waits and the engine is not called. All functions are safe from any thread.
#ifndef GRAFT_TOOLS_SERVE_ADAPTERS_H
#define GRAFT_TOOLS_SERVE_ADAPTERS_H

#include <pthread.h>
#include <stdatomic.h>

#include "graft/engine.h"
#include "tools/serve/body.h"
#include "tools/serve/usage.h"
#include "tools/tool.h"

enum {
    ADAPTERS_MOST = 512,     // names, those that were unloaded and are still counted included
    ADAPTER_NAME_BYTES = 64, // with its NUL
    ALIASES_MOST = 256,
    ALIAS_BYTES = 128,        // with its NUL
    ADAPTER_WAIT_SECONDS = 60 // a request waits no longer for its adapters to be loaded
};

struct adapter_version {
    struct adapter_entry *entry;
    uint32_t number;                // 1, 2 ... of the name
    char *path;                     // resolved
    struct graft_adapter *handle;   // NULL: cold
    struct graft_adapter_info info; // digest "" until it was loaded once; kept while cold
    uint32_t refs;                  // requests that are to run with it, and the table as long as it is current
    uint32_t holds;                 // requests that run with it: it stays resident
    bool gone;                      // did not come back with the device: the handle is given back as soon as nobody holds it
    bool draining;                  // has to make room: requests wait in line
    bool loading;
    uint32_t faults;              // requests that ended because its results were no numbers (adapters_blame)
    uint64_t used;                // of the table's clock
    struct adapter_version *next; // of the name
};

struct adapter_entry {
    char name[ADAPTER_NAME_BYTES];
    uint32_t id; // place in the table, for /lora-adapters
    bool known;  // false: unloaded
    bool pinned; // never evicted
    bool busy;   // a change is under way
    float scale; // in the default set; 0: not part of it
    uint32_t n_versions;
    struct adapter_version *current, *versions;
    struct adapter_label *labels; // aliases.h
    uint64_t loads, failures, evictions, load_ns, faults;
    struct adapter_usage usage;
};

struct adapter_task;
struct adapter_lease;
struct adapters {
    pthread_mutex_t mutex;
    pthread_cond_t wake; // for the table's thread
    pthread_t thread;
    bool started, quit;
    struct graft_engine *engine;
    char dir[PATH_BYTES]; // real path of --adapter-dir; "" = none
    char base[128];       // id of the base model
    uint64_t pool_bytes;
    uint32_t pool_slots;
    struct adapter_entry *entries[ADAPTERS_MOST];
    uint32_t n_entries;
    struct adapter_alias *aliases; // [ALIASES_MOST] aliases.h
    uint32_t n_aliases;
    uint64_t clock, changes; // changes: of names, versions and aliases
    struct adapter_task *tasks;
    struct adapter_lease *leases, **leases_end; // in line for their adapters
    uint32_t n_leases, max_leases;
    struct adapter_version *dead; // nobody wants them any more: to be given back on the engine's thread
    struct adapter_usage base_usage;
    uint64_t base_faults; // results of the base, or of a blend, that were no numbers
};

// ---- the table (adapters.c) ----

struct adapters_params {
    struct graft_engine *engine;
    const char *dir;  // NULL: adapters cannot be loaded by requests
    const char *base; // id of the base model
    uint64_t pool_bytes;
    uint32_t pool_slots, max_leases;
};
// Prints an error and returns the exit code if the folder cannot be used.
int adapters_open(struct adapters *table, const struct adapters_params *params);
// Start its thread.
int adapters_start(struct adapters *table);
// End its thread, give all handles back; the engine must be there still.
void adapters_close(struct adapters *table);

// [A-Za-z0-9._-]{1,63}, not beginning with a dot, not the base's id.
bool adapter_name_check(const struct adapters *table, const char *name, const char *param, struct api_error *error);
// The real path of what is named inside the folder (relative to it, or absolute): 403 if it is or leads outside, 404 if it is
// not there.
bool adapter_path_check(const struct adapters *table, const char *given, char out[PATH_BYTES], struct api_error *error);
// Make a name known, cold, for a path that was checked; what the command line names is not checked. False: 409.
bool adapters_add(struct adapters *table, const char *name, const char *path, struct api_error *error);
// Make every adapter in the folder known that is not: folders with an adapter_config.json, and .gguf files. How many were new.
uint32_t adapters_scan(struct adapters *table);

// Under the lock: the entry that is known by this name; NULL if none is.
struct adapter_entry *adapters_find(const struct adapters *table, const char *name);
// Under the lock: the entry of this name, known or not, a new one if need be; NULL if there are too many.
struct adapter_entry *adapters_entry(struct adapters *table, const char *name);
// Under the lock: the version of this label, number or digest (at least 8 hexadecimal digits of it); "" = the current one.
struct adapter_version *adapter_find_version(const struct adapter_entry *entry, const char *which);
// Under the lock: 16 hexadecimal digits that stand for a version's content; "" before it was loaded once.
struct adapter_generation {
    char text[17];
};
struct adapter_generation adapter_generation(const struct adapter_version *version);
// Under the lock: bytes and number of the resident ones.
uint64_t adapters_resident(const struct adapters *table, uint32_t *count);
// Under the lock: take or give back the right to use a version; without any it goes when it is no longer current.
void adapter_version_drop(struct adapters *table, struct adapter_version *version);
// Under the lock: this version is what the name means from now on.
void adapter_publish(struct adapter_entry *entry, struct adapter_version *version, struct adapters *table);
// Under the lock: the resident version that was used longest ago and that nothing runs with (or, with held, also those that are
// run with); never a pinned one, nor `except`.
struct adapter_version *adapters_oldest(const struct adapters *table, bool held);

// ---- a request's adapters (adapters.c) ----

struct adapter_lease {
    struct adapter_version *versions[GRAFT_MAX_BLEND];
    float weights[GRAFT_MAX_BLEND];
    uint32_t n;
    atomic_bool cancelled; // leave the line: ready is called with 499; may be set from anywhere
    uint32_t n_held;
    uint64_t begun_ns;
    // Called once: the adapters are there until adapters_lease_end, or *error says why not (the lease is over then). On the
    // caller's thread if they are there already, else on the table's.
    void (*ready)(void *user, const struct api_error *error);
    void *user;
    struct adapter_lease *next;
};
// Versions and weights are filled in, with a reference each (select.h). Too many in line: 429 through ready.
void adapters_lease_begin(struct adapters *table, struct adapter_lease *lease);
// After ready without an error: the request has ended.
void adapters_lease_end(struct adapters *table, struct adapter_lease *lease);
// What the engine wants; under no lock, between ready and adapters_lease_end.
uint32_t adapters_lease_uses(const struct adapter_lease *lease, struct graft_adapter_use uses[GRAFT_MAX_BLEND]);

// A request with these adapters ended because what was computed is no number (GRAFT_E_NOT_FINITE). Counted; the third time that
// one adapter alone, with a weight of at most 1, is to blame, it is set aside. Larger weights are the client's choice.
void adapters_blame(struct adapters *table, const struct adapter_lease *lease);
// Under the lock: is the version set aside? Requests are refused until it is loaded again.
enum { ADAPTER_FAULTS = 3 };
static inline bool adapter_quarantined(const struct adapter_version *version)
{
    return version->faults >= ADAPTER_FAULTS;
}

// On the engine's thread, after the device was lost and set up again: adapters whose files are not what they were are no longer
// resident. Requests that want them wait until they are loaded anew.
void adapters_revise(struct adapters *table);

// ---- changes (adapters_load.c) ----

struct adapter_change {
    char name[ADAPTER_NAME_BYTES], path[PATH_BYTES];
    bool replace;      // a known name may get another content
    char expected[65]; // generation that must be current; "" = any
    bool pin;
};
// What became of it, on the table's thread: error->status 0 and the version (under the lock), or the error.
typedef void adapter_done(void *user, struct adapter_version *version, const struct api_error *error);
// Load a file under a name, beside serving. False with *error: not even begun.
bool adapters_load(struct adapters *table, const struct adapter_change *change, adapter_done *done, void *user,
                   struct api_error *error);
// Make a known adapter resident.
bool adapters_warm(struct adapters *table, const char *name, adapter_done *done, void *user, struct api_error *error);
// Take a name away; its bytes go when the last request with it has ended.
bool adapters_unload(struct adapters *table, const char *name, const char *expected, struct api_error *error);
bool adapters_pin(struct adapters *table, const char *name, bool pinned, struct api_error *error);
// A change in line.
// A version with this path and nothing else; NULL: no memory.
struct adapter_version *adapter_version_new(const char *path);
struct adapter_task {
    struct adapter_change change;
    struct adapter_entry *entry;
    bool warm; // the current version, nothing new
    adapter_done *done;
    void *user;
    uint64_t begun_ns;
    struct adapter_task *next;
};
// Under the lock: put it at the end of the line.
void adapters_add_task(struct adapters *table, struct adapter_task *task);
// The table's thread.
void *adapters_thread(void *table);

#endif
