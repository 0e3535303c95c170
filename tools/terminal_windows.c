// SPDX-License-Identifier: Apache-2.0
// terminal.h on a Windows console.
#include "tools/terminal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "tools/output.h"
#include "tools/system.h"

static HANDLE in, out, asked; // asked: an event, somebody wants an end
static DWORD in_mode, out_mode;
static volatile LONG is_taken, wants_end;
static unsigned rows, columns; // as last drawn on
static int key;                // the last one, and how often it is still to be told: it was held down
static unsigned repeats;

bool terminal_utf8(void)
{
    return GetConsoleOutputCP() == CP_UTF8; // system_begin has seen to it, where there is a console
}

static void say(const char *sequence)
{
    fputs(sequence, stdout);
    fflush(stdout);
}

void terminal_give_back(void)
{
    if (InterlockedExchange(&is_taken, 0)) {
        static const char sequence[] = "\033[?25h\033[?1049l";
        DWORD n;
        WriteConsoleA(out, sequence, sizeof sequence - 1, &n, NULL);
        SetConsoleMode(in, in_mode);
        SetConsoleMode(out, out_mode);
    }
}

// On a thread of its own, which may come in the middle of everything: the second time the process ends at once.
static void on_interrupt(void)
{
    if (InterlockedExchange(&wants_end, 1)) {
        terminal_give_back();
        system_end_now(EXIT_INTERRUPTED);
    }
    SetEvent(asked);
}

static LONG WINAPI on_fault(EXCEPTION_POINTERS *fault)
{
    (void)fault;
    terminal_give_back();
    return EXCEPTION_CONTINUE_SEARCH;
}

static void on_abort(int number)
{
    (void)number;
    terminal_give_back();
}

bool terminal_take(void)
{
    in = GetStdHandle(STD_INPUT_HANDLE);
    out = GetStdHandle(STD_OUTPUT_HANDLE);
    asked = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (!asked || !GetConsoleMode(in, &in_mode) || !GetConsoleMode(out, &out_mode) ||
        !SetConsoleMode(out, ENABLE_PROCESSED_OUTPUT | ENABLE_WRAP_AT_EOL_OUTPUT | ENABLE_VIRTUAL_TERMINAL_PROCESSING)) {
        return false;
    }
    atexit(terminal_give_back);
    signal(SIGABRT, on_abort);
    SetUnhandledExceptionFilter(on_fault);
    system_on_interrupt(on_interrupt);
    InterlockedExchange(&is_taken, 1);
    SetConsoleMode(in, ENABLE_PROCESSED_INPUT | ENABLE_WINDOW_INPUT); // Ctrl-C stays
    say("\033[?1049h\033[?25l");
    terminal_size(&rows, &columns);
    return true;
}

bool terminal_goes_on(void)
{
    unsigned now_rows, now_columns;
    terminal_size(&now_rows, &now_columns);
    if (now_rows != rows || now_columns != columns) {
        rows = now_rows;
        columns = now_columns;
        say("\033[2J\033[?25l"); // a console shows its cursor again when its size changes
    }
    return !wants_end;
}

bool terminal_ends(void)
{
    return wants_end != 0;
}

bool terminal_interrupted(void)
{
    return wants_end != 0; // there are no other signals
}

static int key_of(const KEY_EVENT_RECORD *event)
{
    wchar_t c = event->uChar.UnicodeChar;
    return !event->bKeyDown                    ? KEY_NONE
           : event->wVirtualKeyCode == VK_UP   ? KEY_UP
           : event->wVirtualKeyCode == VK_DOWN ? KEY_DOWN
           : c > 0 && c < 0x80                 ? c
                                               : KEY_NONE;
}

int terminal_key(unsigned milliseconds)
{
    HANDLE both[] = {asked, in};
    ULONGLONG end = GetTickCount64() + milliseconds;
    while (!repeats) {
        INPUT_RECORD record;
        DWORD n = 0;
        ULONGLONG now = GetTickCount64();
        DWORD ready = WaitForMultipleObjects(2, both, FALSE, now < end ? (DWORD)(end - now) : 0);
        if (ready == WAIT_OBJECT_0 || ready == WAIT_TIMEOUT) {
            return KEY_NONE;
        }
        if (ready != WAIT_OBJECT_0 + 1 || !ReadConsoleInputW(in, &record, 1, &n)) {
            return KEY_LOST;
        }
        if (n && record.EventType == WINDOW_BUFFER_SIZE_EVENT) {
            return KEY_NONE; // to be drawn anew
        }
        if (n && record.EventType == KEY_EVENT && (key = key_of(&record.Event.KeyEvent)) != KEY_NONE) {
            repeats = record.Event.KeyEvent.wRepeatCount;
        }
    }
    repeats--;
    return key;
}

void terminal_size(unsigned *out_rows, unsigned *out_columns)
{
    CONSOLE_SCREEN_BUFFER_INFO info;
    bool known = GetConsoleScreenBufferInfo(out, &info) != 0;
    *out_rows = known ? (unsigned)(info.srWindow.Bottom - info.srWindow.Top + 1) : TERMINAL_ROWS;
    *out_columns = known ? (unsigned)(info.srWindow.Right - info.srWindow.Left + 1) : TERMINAL_COLUMNS;
}
