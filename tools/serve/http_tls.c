// SPDX-License-Identifier: Apache-2.0
// The certificate: given to every handshake anew, so that it can be replaced while connections go on.
//
// GnuTLS's callback knows the session and nothing else, so what is current is kept here for the process; a process has one
// server. A certificate that was replaced lives until the end: a handshake may still be using it, and there are few.
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "tools/serve/http_private.h"

enum { CHAIN = 8, PEM_BYTES = 1 << 20, MAX_CERTIFICATES = 64, KEY_ID_BYTES = 64 };

struct certificate {
    gnutls_pcert_st chain[CHAIN];
    unsigned n;
    gnutls_privkey_t key;
};

static struct {
    struct certificate list[MAX_CERTIFICATES];
    atomic_uint count; // the last one is current
} held;

static int retrieve(gnutls_session_t session, const gnutls_datum_t *authorities, int n_authorities,
                    const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **chain, unsigned *n,
                    gnutls_privkey_t *key)
{
    (void)session;
    (void)authorities;
    (void)n_authorities;
    (void)algorithms;
    (void)n_algorithms;
    struct certificate *current = &held.list[atomic_load(&held.count) - 1];
    *chain = current->chain;
    *n = current->n;
    *key = current->key;
    return 0;
}

// The key is the one the certificate speaks of.
static bool belong_together(struct certificate *certificate)
{
    gnutls_pubkey_t own = NULL;
    unsigned char a[KEY_ID_BYTES], b[KEY_ID_BYTES];
    size_t a_bytes = sizeof a, b_bytes = sizeof b;
    bool good = gnutls_pubkey_init(&own) == 0 && gnutls_pubkey_import_privkey(own, certificate->key, 0, 0) == 0 &&
                gnutls_pubkey_get_key_id(own, GNUTLS_KEYID_USE_SHA256, a, &a_bytes) == 0 &&
                gnutls_pubkey_get_key_id(certificate->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, b, &b_bytes) == 0 &&
                a_bytes == b_bytes && memcmp(a, b, a_bytes) == 0;
    if (own) {
        gnutls_pubkey_deinit(own);
    }
    return good;
}

static void release(struct certificate *certificate)
{
    for (unsigned i = 0; i < certificate->n; i++) {
        gnutls_pcert_deinit(&certificate->chain[i]);
    }
    if (certificate->key) {
        gnutls_privkey_deinit(certificate->key);
    }
    *certificate = (struct certificate){.n = 0};
}

static enum graft_status read_pair(const struct http_config *config, const char *cert, uint64_t cert_bytes, const char *key,
                                   uint64_t key_bytes, struct certificate *out)
{
    gnutls_datum_t datum = {(unsigned char *)(uintptr_t)cert, (unsigned)cert_bytes};
    out->n = CHAIN;
    int code = gnutls_pcert_list_import_x509_raw(out->chain, &out->n, &datum, GNUTLS_X509_FMT_PEM, 0);
    if (code != 0) {
        out->n = 0;
        return graft_fail(GRAFT_E_FORMAT, "%s: no certificate in PEM with a chain of at most %d: %s", config->tls_cert, CHAIN,
                          gnutls_strerror(code));
    }
    datum = (gnutls_datum_t){(unsigned char *)(uintptr_t)key, (unsigned)key_bytes};
    code = gnutls_privkey_init(&out->key);
    code = code == 0 ? gnutls_privkey_import_x509_raw(out->key, &datum, GNUTLS_X509_FMT_PEM, NULL, 0) : code;
    if (code != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: no private key in PEM without a password: %s", config->tls_key,
                          gnutls_strerror(code));
    }
    if (!belong_together(out)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: the key is not the one of the certificate %s", config->tls_key,
                          config->tls_cert);
    }
    return GRAFT_OK;
}

enum graft_status http_tls_read(struct http_server *server)
{
    const struct http_config *config = &server->config;
    unsigned count = atomic_load(&held.count);
    if (count == MAX_CERTIFICATES) {
        return graft_fail(GRAFT_E_LIMIT, "the certificate was replaced %d times since the start; start the server again",
                          MAX_CERTIFICATES - 1);
    }
    char *cert = NULL, *key = NULL;
    uint64_t cert_bytes = 0, key_bytes = 0;
    struct certificate *next = &held.list[count];
    *next = (struct certificate){.n = 0};
    enum graft_status status = graft_file_read(server->ctx, config->tls_cert, PEM_BYTES, &cert, &cert_bytes);
    status = status == GRAFT_OK ? graft_file_read(server->ctx, config->tls_key, PEM_BYTES, &key, &key_bytes) : status;
    status = status == GRAFT_OK ? read_pair(config, cert, cert_bytes, key, key_bytes, next) : status;
    if (status == GRAFT_OK) {
        atomic_store(&held.count, count + 1);
    } else {
        release(next);
    }
    if (key) {
        sodium_memzero(key, key_bytes);
    }
    GRAFT_FREE(server->ctx, &cert);
    GRAFT_FREE(server->ctx, &key);
    return status;
}

void http_tls_free(void)
{
    unsigned count = atomic_exchange(&held.count, 0);
    for (unsigned i = 0; i < count; i++) {
        release(&held.list[i]);
    }
}

// TLS 1.2 with forward secrecy, and 1.3.
static const char priorities[] = "SECURE128:+SECURE192:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:%SERVER_PRECEDENCE";

enum graft_status http_tls_start(struct http_server *server)
{
    int code = gnutls_certificate_allocate_credentials(&server->credentials);
    code = code == 0 ? gnutls_priority_init(&server->priorities, priorities, NULL) : code;
    if (code != 0) {
        return graft_fail(GRAFT_E_INTERNAL, "TLS could not be started: %s", gnutls_strerror(code));
    }
    gnutls_certificate_set_retrieve_function2(server->credentials, retrieve);
    return GRAFT_OK;
}

void http_tls_stop(struct http_server *server)
{
    if (server->credentials) {
        gnutls_certificate_free_credentials(server->credentials);
        server->credentials = NULL;
    }
    if (server->priorities) {
        gnutls_priority_deinit(server->priorities);
        server->priorities = NULL;
    }
}

gnutls_session_t http_tls_session(struct http_server *server, int fd)
{
    static const gnutls_datum_t protocol = {(unsigned char *)(uintptr_t) "http/1.1", 8};
    gnutls_session_t session;
    if (gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != 0) {
        return NULL;
    }
    if (gnutls_priority_set(session, server->priorities) != 0 ||
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, server->credentials) != 0 ||
        gnutls_alpn_set_protocols(session, &protocol, 1, 0) != 0) {
        gnutls_deinit(session);
        return NULL;
    }
    gnutls_transport_set_int(session, fd);
    return session;
}

// ---- a client's socket, with or without TLS ----

ssize_t http_wire_recv(struct http_connection *c, char *out, size_t room)
{
    if (!c->tls) {
        ssize_t n = net_receive(c->fd, out, room);
        return n > 0 ? n : n == NET_LATER ? 0 : -1;
    }
    for (;;) {
        ssize_t n = gnutls_record_recv(c->tls, out, room);
        if (n > 0) {
            return n;
        }
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
            return 0;
        }
        if (n == 0 || (n != GNUTLS_E_WARNING_ALERT_RECEIVED && gnutls_error_is_fatal((int)n)) || n == GNUTLS_E_REHANDSHAKE) {
            return -1;
        }
    }
}

ssize_t http_wire_send(struct http_connection *c, const char *bytes, size_t length)
{
    if (!c->tls) {
        ssize_t n = net_send(c->fd, bytes, length);
        return n >= 0 ? n : n == NET_LATER ? 0 : -1;
    }
    ssize_t n = c->half_sent ? gnutls_record_send(c->tls, NULL, 0) : gnutls_record_send(c->tls, bytes, length);
    bool later = n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED;
    if (c->half_sent) {
        c->half_sent = later;
        return later ? 0 : n < 0 ? -1 : 0;
    }
    c->half_sent = later;
    return later ? (ssize_t)length : n > 0 ? n : -1;
}
