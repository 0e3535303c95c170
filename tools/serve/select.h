// SPDX-License-Identifier: Apache-2.0
// Which adapters a request runs with: one function for every way to say it.
#ifndef GRAFT_TOOLS_SERVE_SELECT_H
#define GRAFT_TOOLS_SERVE_SELECT_H

#include "tools/serve/adapters.h"

// The ways, each of which may be absent (NULL):
//   claim    of the caller's token: NAME or NAME@VERSION
//   route    /v1/{route}/chat/completions: an adapter's name
//   header   X-Adapter-ID: NAME or NAME@VERSION
//   adapter  member of the body: "NAME", "NAME@VERSION" or {"name", "version" or "generation", "scale"}
//   lora     member of the body: [{"id" or "name", "scale"}], a blend; [] is the base
//   model    member of the body: the base's id, NAME, NAME@VERSION, BASE:NAME, BASE:NAME@VERSION
// VERSION is a number, 8 or more hexadecimal digits of the digest, or a label. Instead of NAME or NAME@VERSION an alias may
// stand (aliases.h), whose target counts; that of the base says "no adapter". The first of them that says something in this
// order decides; one behind it that says something else is an error, as are adapter and lora together. The base's id in model
// says nothing. When nothing is said, it is the default set. With `fallback` a model that does not exist, or is not the
// caller's, says nothing either.
struct selection {
    const char *claim, *route, *header, *model;
    bool fallback;
    const json_t *adapter, *lora;
    bool (*allows)(const void *user, const char *name); // may the caller use it? NULL: every one
    const void *user;
};

struct selected {
    struct adapter_lease lease; // versions with a reference each, and weights
    char label[192];            // "legal", "legal+finance:0.5", "" = base
    char version[16];           // of a single adapter: its number; "" otherwise
    bool fell_back;             // the model is none
};

// Errors: 404 model_not_found for what is unknown, unloaded or not the caller's, always in the same words; 400 for what
// contradicts itself. Nothing is held then. What it takes grows with the number of adapters only: well below 1 ms.
bool adapters_select(struct adapters *table, const struct selection *selection, struct selected *out, struct api_error *error);
// Give the references back, where no lease was begun.
void selected_drop(struct adapters *table, struct selected *selected);

#endif
