// SPDX-License-Identifier: Apache-2.0
// The command line: one table of verbs and one of options, from which parsing, help, man pages and completion all come.
#ifndef GRAFT_TOOLS_OPTIONS_H
#define GRAFT_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Verbs in the order help lists them; each has a row in tables.c and a function verb_NAME.
#define VERB_MAP(X)                                                                                                            \
    X(RUN)                                                                                                                     \
    X(SERVE) X(KEY) X(PS) X(TOP) X(LOAD_TEST) X(BENCH) X(EVAL) X(ESTIMATE) X(INSPECT) X(ADAPTER) X(MERGE) X(DEVICES) X(DOCTOR) \
        X(TOKENIZE) X(DETOKENIZE) X(TEMPLATE) X(COMPLETION) X(MAN) X(VERSION)

#define VERB_ENUM(id) VERB_##id,
enum verb { VERB_MAP(VERB_ENUM) VERBS };
#undef VERB_ENUM

struct verb_info {
    const char *name, *line;
    const char *operands;       // what stands behind the options; "" = nothing is accepted
    const char *examples[4][2]; // command line without "graft ", what it does; up to a NULL
    const char *details;        // a paragraph for the man page and --help-all
};
extern const struct verb_info verb_infos[VERBS];

enum option_kind {
    OPTION_FLAG,   // bool
    OPTION_TEXT,   // const char *
    OPTION_FILE,   // const char *, completed as a file name
    OPTION_MODEL,  // const char *, completed as a file name or a name in the data folder
    OPTION_CHOICE, // const char *, one of `choices`
    OPTION_COUNT,  // int64_t in [low, high]
    OPTION_NUMBER, // double in [low, high]
    OPTION_BYTES,  // uint64_t: 600M, 1.5G, plain bytes
    OPTION_LIST,   // struct option_list: numbers in [low, high] with commas
    OPTION_TEXTS,  // struct option_texts: may be given several times
    OPTION_IGNORED // a flag of other programs that has no meaning here; high = 1: it has an argument
};

enum { OPTION_LIST_ITEMS = 16 };
struct option_list {
    uint32_t values[OPTION_LIST_ITEMS];
    uint32_t count;
};

enum { OPTION_TEXTS_ITEMS = 16 };
struct option_texts {
    const char *values[OPTION_TEXTS_ITEMS];
    uint32_t count;
};

struct option_info {
    const char *name;    // long name without dashes
    const char *shorter; // short name without its dash, may be several letters ("np"); or NULL
    const char *alias;   // another long name; or NULL
    enum option_kind kind;
    const char *argument; // as help shows it ("FILE"); NULL for flags
    const char *standard; // default as text for help; NULL = none worth saying
    const char *help;     // at most 52 bytes, no full stop
    uint32_t verbs;       // bit 1 << verb
    bool brief;           // shown by -h, not only by --help-all
    size_t offset;        // of its value in struct options
    double low, high;
    const char *choices; // "md|json|csv"
};
extern const struct option_info option_infos[];
extern const size_t option_info_count;

// The values, with defaults already filled in by options_parse.
struct options {
    enum verb verb;
    bool help, help_all, json, verbose, validation;
    const char *model, *prompt, *file, *system, *device, *weights, *template_file, *messages, *tokens, *format, *synthetic,
        *bench_adapters, *output, *to, *digest, *out, *merge_type, *eval_tokens, *adapter_out, *method, *sign_method, *dtype,
        *grammar, *json_schema, *stream, *kv, *kv_keys, *kv_values, *activations, *session_file, *require_signed;
    uint64_t memory; // bytes; 0 = no limit
    uint64_t adapter_pool;
    struct option_texts adapters;
    int64_t n_ctx, n_batch, n_seq, threads, predict, seed, top_k, penalty_window, repetitions, top, svd_rank;
    double temp, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty, keep_effect, density, svd_clamp;
    double typical_p, top_n_sigma, xtc_probability, xtc_threshold, dry_multiplier, dry_base, mirostat_tau, mirostat_eta;
    int64_t dry_allowed_length, dry_window, mirostat, draft_max;
    struct option_texts logit_biases;
    struct option_list bench_prompt, bench_gen;
    // of serve and load-test
    struct option_texts warm, aliases;
    const char *alias_file, *model_fallback;
    const char *adapter_dir, *url, *load_adapters, *api_key, *tls_ca;
    int64_t serve_seq, adapter_slots, max_waiting, request_seconds, load_streams, load_requests, load_idle, load_trickle,
        load_seconds, load_prompt, load_predict;
    double load_rate, load_first_limit, load_between_limit;
    int64_t load_long;
    bool load_random;
    const char *svg;
    // of ps and top
    double interval;
    bool once;
    const char *sort;
    // of serve and key
    struct option_texts listen, allow_hosts, key_adapters;
    const char *operator_listen, *keys, *jwt, *tls_cert, *tls_key, *access_log, *key_role, *key_tenant, *key_expires;
    int64_t max_connections, drain_seconds, reader_seconds, log_files, key_requests, key_tokens, key_concurrent;
    uint64_t log_size;
    bool insecure_plain_http, operator_routes_public, log_text;
    bool matrix_cores;
    bool context_shift, exact, raw, stats, special, no_bos, stages, all, no_history, deep, check_values, no_self_test;
    char **operands; // points into argv
    int n_operands;
};

// Parse what follows the verb into *out. On a mistake a three-part error has been printed: false.
bool options_parse(struct options *out, enum verb verb, int argc, char **argv);
// The verb of that name, or VERBS.
enum verb verb_find(const char *name);
// True if `option` belongs to `verb`.
bool option_is_of(const struct option_info *option, enum verb verb);
// Set one value by option name from text, as the command line would ("temp", "0.5"). False with a message in `why`.
bool options_set(struct options *options, const char *name, const char *value, char *why, size_t why_bytes);
// Bytes from "600M", "1.5G", "65536"; K, M, G, T are powers of 1024. False if it is not that.
bool parse_bytes(const char *text, uint64_t *out);

// The candidate nearest to `text` by edits (a swap of neighbours counts one), or NULL if none is near.
// next(user, i) gives the i-th candidate, NULL at the end.
const char *suggest(const char *text, const char *(*next)(const void *user, size_t i), const void *user);
// The verb nearest to `text`, or NULL.
const char *suggest_verb(const char *text);

// help.c: what -h, --help-all, `graft man` and `graft completion` print, all to standard output.
void help_program(void);
void help_verb(enum verb verb, bool all);
void help_man(enum verb verb); // VERBS: the page of the program
void help_completion(void);

#endif
