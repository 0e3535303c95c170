// SPDX-License-Identifier: Apache-2.0
// Ctrl-C, Ctrl-Break, the closed window and the end of the session drain; nothing asks to read again.
#include <stdatomic.h>

#include "tools/serve/http_private.h"

#include <windows.h>

enum { LAST_WORDS_MS = 4000 }; // Windows ends the process 5 s after a handler for a closed window was called

static atomic_int asked;
static HANDLE wake;

// On a thread of its own.
static BOOL WINAPI on_control(DWORD event)
{
    http_ask_to_end();
    if (event != CTRL_C_EVENT && event != CTRL_BREAK_EVENT) {
        Sleep(LAST_WORDS_MS); // when the handler returns, the process is ended
    }
    return TRUE;
}

void http_block_signals(void)
{
    wake = wake ? wake : CreateEventW(NULL, FALSE, FALSE, NULL);
    SetConsoleCtrlHandler(on_control, TRUE);
}

enum http_signal http_next_signal(unsigned wait_ms)
{
    if (wake) {
        WaitForSingleObject(wake, wait_ms);
    } else {
        Sleep(wait_ms);
    }
    if (atomic_load(&asked) == 0) {
        return HTTP_SIGNAL_NONE;
    }
    if (atomic_fetch_sub(&asked, 1) > 1 && wake) {
        SetEvent(wake);
    }
    return HTTP_SIGNAL_END;
}

void http_ask_to_end(void)
{
    atomic_fetch_add(&asked, 1);
    if (wake) {
        SetEvent(wake);
    }
}
