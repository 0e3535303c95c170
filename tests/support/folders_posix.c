// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support/support.h"

// One of the entries of a folder, and how many there are; false: none.
static bool any_entry(const char *path, char *out, size_t room, int *count)
{
    DIR *folder = opendir(path);
    *count = 0;
    ck_assert_msg(folder != NULL, "%s cannot be read", path);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            snprintf(out, room, "%s/%s", path, entry->d_name);
            (*count)++;
        }
    }
    closedir(folder);
    return *count > 0;
}

void graft_test_remove_all(const char *path)
{
    char inside[1024];
    int count;
    while (any_entry(path, inside, sizeof inside, &count)) {
        if (unlink(inside) != 0) {
            graft_test_remove_all(inside);
        }
    }
    ck_assert_msg(rmdir(path) == 0, "%s cannot be removed", path);
}

int graft_test_entries(const char *path)
{
    char inside[1024];
    int count;
    any_entry(path, inside, sizeof inside, &count);
    return count;
}
