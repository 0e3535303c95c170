// SPDX-License-Identifier: Apache-2.0
#ifndef GRAFT_TESTS_CERTIFICATE_H
#define GRAFT_TESTS_CERTIFICATE_H

// A certificate for this name, signed by itself, valid for an hour, and its key, written into these files.
void graft_test_certificate(const char *name, const char *cert_path, const char *key_path);

#endif
