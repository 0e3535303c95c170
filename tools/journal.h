// SPDX-License-Identifier: Apache-2.0
// Whether standard error goes to systemd's journal, which takes a priority in front of a line: "<3>text" (sd-daemon(3)).
#ifndef GRAFT_TOOLS_JOURNAL_H
#define GRAFT_TOOLS_JOURNAL_H

// Priorities as syslog.h has them, which is not on every system.
enum { JOURNAL_ERROR = 3, JOURNAL_WARNING = 4, JOURNAL_INFO = 6 };

// "<3>", or "" where nobody would take it off: $JOURNAL_STREAM must name the file that standard error is (systemd.exec(5)).
// priority: 0 to 7. Looked up once; "" on Windows. Thread-safety: safe.
const char *journal_prefix(int priority);

#endif
