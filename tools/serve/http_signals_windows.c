// SPDX-License-Identifier: Apache-2.0
// Ctrl-C, Ctrl-Break, the closed window and the end of the session drain. A process that Windows has started as a service
// tells its service control manager how it is: a stop drains, "sc control NAME paramchange" reads again (Microsoft, "Service
// Control Handler Function").
#include <stdatomic.h>
#include <stdlib.h>

#include "tools/serve/http_private.h"

#include <windows.h>

enum {
    LAST_WORDS_MS = 4000, // Windows ends the process 5 s after a handler for a closed window was called
    STOP_HINT_MS = 60000  // a stop may take as long as answers that are under way
};

static atomic_int ends, agains; // asked for and not yet told
static atomic_bool ending;      // ever asked for
static HANDLE wake;
static _Atomic(SERVICE_STATUS_HANDLE) service; // NULL: no service

static void ask(atomic_int *what)
{
    atomic_fetch_add(what, 1);
    if (wake) {
        SetEvent(wake);
    }
}

// ---- as a service ----

static void tell_manager(DWORD state)
{
    SERVICE_STATUS status = {.dwServiceType = SERVICE_WIN32_OWN_PROCESS, .dwCurrentState = state};
    status.dwControlsAccepted =
        state == SERVICE_RUNNING ? SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_SHUTDOWN | SERVICE_ACCEPT_PARAMCHANGE : 0;
    status.dwWaitHint = state == SERVICE_STOP_PENDING ? STOP_HINT_MS : 0;
    SetServiceStatus(atomic_load(&service), &status);
}

static DWORD WINAPI on_service_control(DWORD control, DWORD event, void *data, void *user)
{
    (void)event, (void)data, (void)user;
    switch (control) {
    case SERVICE_CONTROL_STOP:
    case SERVICE_CONTROL_SHUTDOWN:
        tell_manager(SERVICE_STOP_PENDING);
        http_ask_to_end();
        return NO_ERROR;
    case SERVICE_CONTROL_PARAMCHANGE:
        ask(&agains);
        return NO_ERROR;
    case SERVICE_CONTROL_INTERROGATE:
        return NO_ERROR;
    default:
        return ERROR_CALL_NOT_IMPLEMENTED;
    }
}

// A server that ends by itself leaves this out: for the manager it has failed, and what is set for that happens.
static void tell_end(void)
{
    if (atomic_load(&ending)) {
        tell_manager(SERVICE_STOPPED);
    }
}

static void WINAPI service_main(DWORD count, wchar_t **arguments)
{
    (void)count, (void)arguments; // the command line has them all
    atomic_store(&service, RegisterServiceCtrlHandlerExW(L"", on_service_control, NULL));
    if (atomic_load(&service)) {
        tell_manager(SERVICE_RUNNING);
        atexit(tell_end);
    }
}

// Ends at once in a process that was not started as a service, else with the service.
static DWORD WINAPI dispatch(void *user)
{
    (void)user;
    static wchar_t name[] = L"";
    const SERVICE_TABLE_ENTRYW table[] = {{name, service_main}, {NULL, NULL}};
    StartServiceCtrlDispatcherW(table);
    return 0;
}

// ---- signals ----

// On a thread of its own.
static BOOL WINAPI on_control(DWORD event)
{
    if (event == CTRL_LOGOFF_EVENT && atomic_load(&service)) {
        return TRUE; // somebody logs off; a service stays
    }
    http_ask_to_end();
    if (event != CTRL_C_EVENT && event != CTRL_BREAK_EVENT) {
        Sleep(LAST_WORDS_MS); // when the handler returns, the process is ended
    }
    return TRUE;
}

void http_block_signals(void)
{
    if (wake) {
        return;
    }
    wake = CreateEventW(NULL, FALSE, FALSE, NULL);
    SetConsoleCtrlHandler(on_control, TRUE);
    HANDLE thread = CreateThread(NULL, 0, dispatch, NULL, 0, NULL);
    if (thread) {
        CloseHandle(thread);
    }
}

static bool take(atomic_int *what)
{
    int n = atomic_load(what);
    while (n > 0 && !atomic_compare_exchange_weak(what, &n, n - 1)) {
    }
    return n > 0;
}

enum http_signal http_next_signal(unsigned wait_ms)
{
    if (atomic_load(&ends) + atomic_load(&agains) == 0) {
        if (wake) {
            WaitForSingleObject(wake, wait_ms);
        } else {
            Sleep(wait_ms);
        }
    }
    return take(&ends) ? HTTP_SIGNAL_END : take(&agains) ? HTTP_SIGNAL_READ_AGAIN : HTTP_SIGNAL_NONE;
}

void http_ask_to_end(void)
{
    atomic_store(&ending, true);
    ask(&ends);
}
