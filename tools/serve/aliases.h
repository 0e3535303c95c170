// SPDX-License-Identifier: Apache-2.0
// Other names: of an adapter's versions (NAME@LABEL), and of what a request may run with (ALIAS -> the base, NAME, NAME@...).
//
// Both live in the table of adapters and are looked at where adapters are chosen, select.c. A label keeps its version: it can
// be asked for, and be what the name means again, after others have replaced it. An alias is resolved anew by every request.
#ifndef GRAFT_TOOLS_SERVE_ALIASES_H
#define GRAFT_TOOLS_SERVE_ALIASES_H

#include "tools/serve/adapters.h"

struct adapter_label {
    char name[ADAPTER_NAME_BYTES];
    bool from_file;
    struct adapter_version *version; // with a reference
    struct adapter_label *next;
};

struct adapter_alias {
    char name[ALIAS_BYTES], target[ALIAS_BYTES]; // target: the base's id, NAME, NAME@VERSION, NAME@LABEL
    bool from_file;
};

// Under the lock. NULL: there is none.
struct adapter_version *label_find(const struct adapter_entry *entry, const char *name);
const struct adapter_alias *alias_find(const struct adapters *table, const char *name);
// Under the lock: the adapter is unloaded.
void labels_drop(struct adapters *table, struct adapter_entry *entry);

// A label for the version of this number or digest, "" = the current one; it moves if it is there. Labels have 1 to 63 of
// A-Z a-z 0-9 . _ - and look like no version: not only digits, nor 8 and more hexadecimal ones. Errors: 400, 404.
bool label_set(struct adapters *table, const char *adapter, const char *label, const char *version, bool from_file,
               struct api_error *error);
bool label_remove(struct adapters *table, const char *adapter, const char *label, struct api_error *error);
// Aliases have 1 to 127 of A-Z a-z 0-9 . _ - / : and are none of the names. must_exist: 404 if the target is not there.
// Errors: 400, 404, 409 (an adapter or the base has that name; too many).
bool alias_set(struct adapters *table, const char *alias, const char *target, bool must_exist, bool from_file,
               struct api_error *error);
bool alias_remove(struct adapters *table, const char *alias, struct api_error *error);

// NAME=TARGET or NAME@LABEL=VERSION, as --alias has them.
bool alias_set_text(struct adapters *table, const char *text, struct api_error *error);
// A JSON object of such pairs; what an earlier reading of the file set and it does not name any more goes. Nothing is changed
// if it is not JSON, or one pair is wrong in itself; a target that is not there is noted. False: *error says why.
bool aliases_read(struct adapters *table, const char *path, struct api_error *error);

#endif
