// SPDX-License-Identifier: Apache-2.0
// system.h on POSIX systems; processors and GPU nodes as Linux has them.
#include "tools/system.h"

#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "platform/plat.h"

bool system_begin(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    signal(SIGXFSZ, SIG_IGN);
    return true;
}

bool system_is_terminal(FILE *stream)
{
    return isatty(fileno(stream));
}

bool system_takes_escapes(FILE *stream)
{
    const char *term = getenv("TERM");
    return isatty(fileno(stream)) && term && strcmp(term, "dumb") != 0;
}

uint32_t system_columns(void)
{
    struct winsize size;
    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static void (*volatile on_interrupt)(void);

static void on_signal(int number)
{
    (void)number;
    void (*handler)(void) = on_interrupt;
    if (handler) {
        handler();
    }
}

void system_on_interrupt(void (*handler)(void))
{
    static struct sigaction before; // the first handler found it so
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    if (!handler) {
        sigaction(SIGINT, &before, NULL);
    } else {
        sigaction(SIGINT, &action, on_interrupt ? NULL : &before);
    }
    on_interrupt = handler;
}

void system_end_now(int code)
{
    _exit(code);
}

void folder_path(enum folder folder, char out[PATH_BYTES])
{
    static const struct {
        const char *variable, *below_home;
    } rules[] = {
        [FOLDER_DATA] = {"XDG_DATA_HOME", ".local/share"},
        [FOLDER_STATE] = {"XDG_STATE_HOME", ".local/state"},
        [FOLDER_CACHE] = {"XDG_CACHE_HOME", ".cache"},
    };
    const char *base = getenv(rules[folder].variable), *home = getenv("HOME");
    int length;
    if (base && base[0] == '/') { // the XDG rules: a relative one is to be ignored
        length = snprintf(out, PATH_BYTES, "%s/graft", base);
    } else {
        if (!home || home[0] != '/') {
            struct passwd *user = getpwuid(getuid());
            home = user ? user->pw_dir : NULL;
        }
        length = home ? snprintf(out, PATH_BYTES, "%s/%s/graft", home, rules[folder].below_home) : -1;
    }
    if (length < 0 || length >= PATH_BYTES - 300) {
        out[0] = 0;
    }
}

void system_list(const char *folder, void (*each)(void *user, const char *name), void *user)
{
    DIR *directory = opendir(folder);
    if (!directory) {
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        each(user, entry->d_name);
    }
    closedir(directory);
}

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool system_writable(const char *path)
{
    return access(path, W_OK) == 0;
}

FILE *system_open(const char *path, const char **why)
{
    FILE *file = fopen(path, "rb");
    *why = file ? NULL : strerror(errno);
    return file;
}

FILE *system_nameless(const char *beside)
{
    char path[PATH_BYTES + 32];
    snprintf(path, sizeof path, "%.*s.graft-eval-XXXXXX", (int)(graft_path_name(beside) - beside), beside);
    int fd = mkstemp(path);
    if (fd < 0) {
        return NULL;
    }
    unlink(path);
    FILE *file = fdopen(fd, "w+b");
    if (!file) {
        close(fd);
    }
    return file;
}

bool system_random(uint32_t *out)
{
    return getentropy(out, sizeof *out) == 0;
}

bool system_use_processors(int64_t count)
{
    cpu_set_t allowed, chosen;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return true;
    }
    CPU_ZERO(&chosen);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&chosen) < count; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &chosen);
        }
    }
    if (sched_setaffinity(0, sizeof chosen, &chosen) != 0) {
        return false;
    }
    char text[16];
    snprintf(text, sizeof text, "%d", CPU_COUNT(&chosen));
    setenv("LP_NUM_THREADS", text, 1); // what Mesa's software driver goes by; it counts processors, not the allowed ones
    return true;
}

void system_name(char *out, size_t bytes)
{
    struct utsname name;
    uname(&name);
    snprintf(out, bytes, "%s %s on %s", name.sysname, name.release, name.machine);
}

uint64_t system_memory_bytes(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void system_raise_files(uint64_t want)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < want) {
        limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

// A GPU's device node that this user may not open is the most common reason for a missing GPU.
void system_look_at_gpu(void (*say)(void *user, const char *level, const char *text), void *user)
{
    DIR *directory = opendir("/dev/dri");
    if (!directory) {
        say(user, "note", "/dev/dri is not there: no GPU driver of the kernel is loaded, or the container hides it");
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char path[300], text[400];
        snprintf(path, sizeof path, "/dev/dri/%s", entry->d_name);
        if (strncmp(entry->d_name, "renderD", 7) == 0) {
            bool good = access(path, R_OK | W_OK) == 0;
            snprintf(text, sizeof text, "%s %s", path,
                     good ? "can be opened"
                          : "cannot be opened; try: sudo usermod -aG render,video $USER, and log in again");
            say(user, good ? "good" : "bad", text);
        }
    }
    closedir(directory);
}
