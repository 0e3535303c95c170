// SPDX-License-Identifier: Apache-2.0
// Whether standard error goes to systemd's journal, which takes a priority in front of a line: "<3>text" (sd-daemon(3)).
#ifndef GRAFT_TOOLS_JOURNAL_H
#define GRAFT_TOOLS_JOURNAL_H

// "<3>", or "" where nobody would take it off: $JOURNAL_STREAM must name the file that standard error is (systemd.exec(5)).
// priority: as syslog.h has it, 0 to 7. Looked up once. Thread-safety: safe.
const char *journal_prefix(int priority);

#endif
