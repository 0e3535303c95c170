// SPDX-License-Identifier: Apache-2.0
// What the verbs share: the functions that run them, folders and files, and opening context, device and model from options.
#ifndef GRAFT_TOOLS_TOOL_H
#define GRAFT_TOOLS_TOOL_H

#include "graft/graft.h"
#include "tools/options.h"
#include "tools/output.h"
#include "tools/system.h"

// One function per verb; returns the exit code.
#define VERB_FUNCTION(id) int verb_##id(const struct options *options);
VERB_MAP(VERB_FUNCTION)
#undef VERB_FUNCTION

// ---- folders and files (files.c) ----

// Names of the model files in the data folder, sorted. Free with models_free.
struct models {
    char **names;
    size_t count;
};
void models_list(struct models *out);
void models_free(struct models *models);
// What -m means: a path, a name in the data folder, or nothing when that folder holds exactly one model. Prints an error and
// returns the exit code if there is no such model.
int model_find(const char *given, char out[PATH_BYTES]);

// Where the ending -00001-of-0000N.gguf begins in the path of a part of a split model, with its two numbers. NULL: it is none.
const char *split_ending(const char *path, unsigned *part, unsigned *parts);

// A whole file, or standard input when path is NULL or "-", with a NUL behind; at most 1 GiB. Prints an error and returns the
// exit code.
struct text {
    char *data;
    size_t length;
};
int text_read(const char *path, struct text *out);
void text_free(struct text *text);
// A JSON value from a file or standard input; errors name line and column. *out is NULL on failure.
int json_read(const char *path, json_t **out);

// ---- context, device, model (session.c) ----

// "[NAME=]PATH[:WEIGHT]", as --adapter has it: without a name it is the last part of the path, without a weight 1.
struct adapter_spec {
    char name[64], path[PATH_BYTES];
    float weight;
};
void adapter_spec_parse(const char *text, struct adapter_spec *out);

struct session {
    char path[PATH_BYTES]; // of the model file; "" for a synthetic model
    char cache[PATH_BYTES];
    struct graft_ctx *ctx;
    struct graft_device *device;
    struct graft_model *model;
    struct graft_vocabulary *vocabulary;
    struct graft_model_info info;
    struct graft_device_info device_info;
    struct session_adapter {
        char name[64];
        char path[PATH_BYTES];
        struct graft_adapter *handle;
        float weight;
        bool active; // part of the blend
        uint64_t load_ns;
    } adapters[OPTION_TEXTS_ITEMS]; // of --adapter
    uint32_t n_adapters;
};
// Context only. Each of these prints an error and returns the exit code on failure; close a session in every case.
int session_context(struct session *session, const struct options *options);
// Context and device.
int session_device(struct session *session, const struct options *options);
// The active adapters of --adapter as a blend, for graft_seq_set_adapters and graft_chat_set_adapters; returns their number.
uint32_t session_blend(const struct session *session, struct graft_adapter_use uses[GRAFT_MAX_BLEND]);
// Context, device, model and the adapters of --adapter; params may be NULL: from the options alone.
int session_model(struct session *session, const struct options *options, const struct graft_model_params *params);
// Context and vocabulary, without a device.
int session_vocabulary(struct session *session, const struct options *options);
// What the options say about opening a model.
struct graft_model_params session_params(const struct options *options);
// What the session's model multiplies weights with: "f32", "int16", "int8".
const char *session_activations(const struct session *session);
void session_close(struct session *session);
const char *device_kind_name(enum graft_device_kind kind);
// All devices and the note on what is missing (NULL if nothing). Free *out.
int devices_list(struct graft_ctx *ctx, struct graft_device_info **out, uint32_t *count, const char **missing);
json_t *device_json(const struct graft_device_info *info, uint32_t number);

// ---- run and chat ----

// Everything an answer needs, shared by run.c and chat.c.
struct talk {
    struct options options; // of its own: /set changes them
    struct session session;
    struct graft_chat *chat;
    struct graft_sampling sampling;
    char *template_text; // of --template, or NULL
    char *system;        // or NULL
    struct graft_grammar *grammar; // of --grammar or --json-schema, or NULL
    double load_seconds;
};
// (Re)create talk->chat from its options, system prompt and sampling.
enum graft_status talk_start(struct talk *talk);
struct graft_sampling sampling_from(const struct options *options);
// Ask, and write the answer to standard output as it comes, or, if keep is not NULL, keep it (text_free); the interrupt key
// stops it (*interrupted, GRAFT_OK), a second time the program.
enum graft_status talk_ask(struct talk *talk, const struct text *prompt, struct text *keep, bool *interrupted);
// Another answer to the last question.
enum graft_status talk_again(struct talk *talk, bool *interrupted);
void talk_stats(const struct talk *talk, FILE *stream);
// The conversation on a terminal.
int chat_loop(struct talk *talk);

// ---- adapter files ----

// What graft adapter inspect prints; the exit code. misfit: why it does not fit the model, or NULL.
int adapter_inspect(const struct options *options, const struct graft_adapter_file *file, const char *misfit);
// What graft adapter diff prints; *code: EXIT_FAILED if anything differs. An error of the comparison is not printed.
enum graft_status adapter_diff(const struct options *options, struct graft_ctx *ctx, const struct graft_adapter_file *a,
                               const struct graft_adapter_file *b, int *code);

// chat_adapters.c: /adapters; /adapter (argument is cut into pieces); /compare NAME ... [QUESTION].
void adapters_show(const struct session *session);
void adapters_choose(struct talk *talk, char *argument);
void adapters_compare(struct talk *talk, char *argument);

#endif
