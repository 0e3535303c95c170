// SPDX-License-Identifier: Apache-2.0
#include "tools/client_tls.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef GRAFT_HAVE_TLS
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <string.h>

#include "tools/net.h"
#include "tools/system.h"

enum { AUTHORITIES_BYTES = 16 << 20 };

struct client_tls {
    gnutls_session_t session;
    int fd;
    ssize_t code; // of the last call
};

// The authorities are read once: a process asks with one list of them.
static struct {
    pthread_mutex_t mutex;
    bool read;
    gnutls_certificate_credentials_t list;
    int code; // certificates that were read, or an error
} authorities = {.mutex = PTHREAD_MUTEX_INITIALIZER};

// Certificates that were read, or an error. GnuTLS would open the file itself, on Windows by another name than UTF-8.
static int read_file(const char *path)
{
    const char *why;
    FILE *file = system_open(path, &why);
    char *text = file ? malloc(AUTHORITIES_BYTES) : NULL;
    size_t n = text ? fread(text, 1, AUTHORITIES_BYTES, file) : 0;
    int code = !file ? GNUTLS_E_FILE_ERROR : !text ? GNUTLS_E_MEMORY_ERROR : 0;
    if (code == 0) {
        gnutls_datum_t all = {(unsigned char *)text, (unsigned)n};
        code = gnutls_certificate_set_x509_trust_mem(authorities.list, &all, GNUTLS_X509_FMT_PEM);
    }
    if (file) {
        fclose(file);
    }
    free(text);
    return code;
}

static int read_authorities(const char *file)
{
    pthread_mutex_lock(&authorities.mutex);
    if (!authorities.read) {
        authorities.read = true;
        authorities.code = gnutls_certificate_allocate_credentials(&authorities.list);
        if (authorities.code == 0) {
            authorities.code = file ? read_file(file) : gnutls_certificate_set_x509_system_trust(authorities.list);
        }
    }
    int code = authorities.code;
    pthread_mutex_unlock(&authorities.mutex);
    return code;
}

static bool is_address(const char *host)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

// ---- GnuTLS' way to the socket ----

static ssize_t moved(const struct client_tls *tls, ssize_t n)
{
    if (n < 0) {
        gnutls_transport_set_errno(tls->session, n == NET_LATER ? EAGAIN : ECONNRESET);
    }
    return n < 0 ? -1 : n;
}

static ssize_t pull(gnutls_transport_ptr_t user, void *bytes, size_t room)
{
    struct client_tls *tls = user;
    return moved(tls, net_receive(tls->fd, bytes, room));
}

static ssize_t push(gnutls_transport_ptr_t user, const void *bytes, size_t length)
{
    struct client_tls *tls = user;
    return moved(tls, net_send(tls->fd, bytes, length));
}

static int wait_for_bytes(gnutls_transport_ptr_t user, unsigned milliseconds)
{
    const struct client_tls *tls = user;
    return gnutls_system_recv_timeout((gnutls_transport_ptr_t)(intptr_t)tls->fd, milliseconds);
}

// ---- sessions ----

// Why a handshake failed, in words.
static void say_why(const struct client_tls *tls, const struct client_place *place, int code, char *why, size_t why_bytes)
{
    gnutls_datum_t text = {NULL, 0};
    unsigned status = gnutls_session_get_verify_cert_status(tls->session);
    if (code == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR &&
        gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) == 0) {
        size_t length = strlen((const char *)text.data);
        length -= length && text.data[length - 1] == ' ';
        snprintf(why, why_bytes, "%s:%s: %.*s (--tls-ca FILE names who may have signed it)", place->host, place->port,
                 (int)length, (const char *)text.data);
        gnutls_free(text.data);
    } else {
        snprintf(why, why_bytes, "%s:%s: no TLS: %s", place->host, place->port, gnutls_strerror(code));
    }
}

struct client_tls *client_tls_begin(int fd, const struct client_place *place, char *why, size_t why_bytes)
{
    int code = read_authorities(place->authorities);
    if (code < 0 || (code == 0 && place->authorities)) {
        snprintf(why, why_bytes, "%s: %s", place->authorities ? place->authorities : "the system's list of authorities",
                 code < 0 ? gnutls_strerror(code) : "no certificate in it");
        return NULL;
    }
    struct client_tls *tls = calloc(1, sizeof *tls);
    if (!tls || gnutls_init(&tls->session, GNUTLS_CLIENT) != 0) {
        snprintf(why, why_bytes, "no memory");
        free(tls);
        return NULL;
    }
    tls->fd = fd;
    code = gnutls_priority_set_direct(tls->session, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA", NULL);
    code = code == 0 ? gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE, authorities.list) : code;
    if (code == 0 && !is_address(place->host)) {
        code = gnutls_server_name_set(tls->session, GNUTLS_NAME_DNS, place->host, strlen(place->host));
    }
    gnutls_session_set_verify_cert(tls->session, place->host, 0);
    gnutls_transport_set_ptr(tls->session, tls);
    gnutls_transport_set_pull_function(tls->session, pull);
    gnutls_transport_set_push_function(tls->session, push);
    gnutls_transport_set_pull_timeout_function(tls->session, wait_for_bytes);
    gnutls_handshake_set_timeout(tls->session, GNUTLS_DEFAULT_HANDSHAKE_TIMEOUT);
    while (code == 0 && (code = gnutls_handshake(tls->session)) < 0 && !gnutls_error_is_fatal(code)) {
        code = 0; // a warning, or a signal
    }
    if (code < 0) {
        say_why(tls, place, code, why, why_bytes);
        client_tls_end(&tls);
    }
    return tls;
}

ssize_t client_tls_receive(struct client_tls *tls, void *bytes, size_t room)
{
    do {
        tls->code = gnutls_record_recv(tls->session, bytes, room);
    } while (tls->code == GNUTLS_E_INTERRUPTED || tls->code == GNUTLS_E_WARNING_ALERT_RECEIVED);
    return tls->code < 0 ? -1 : tls->code;
}

ssize_t client_tls_send(struct client_tls *tls, const void *bytes, size_t length)
{
    do {
        tls->code = gnutls_record_send(tls->session, bytes, length);
    } while (tls->code == GNUTLS_E_INTERRUPTED);
    return tls->code < 0 ? -1 : tls->code;
}

const char *client_tls_error(const struct client_tls *tls)
{
    return tls->code == GNUTLS_E_AGAIN ? "nothing came in time" : gnutls_strerror((int)tls->code);
}

void client_tls_end(struct client_tls **tls)
{
    if (*tls) {
        gnutls_bye((*tls)->session, GNUTLS_SHUT_WR);
        gnutls_deinit((*tls)->session);
        free(*tls);
        *tls = NULL;
    }
}

#else

struct client_tls *client_tls_begin(int fd, const struct client_place *place, char *why, size_t why_bytes)
{
    (void)fd;
    snprintf(why, why_bytes, "%s:%s: this graft was built without TLS (GnuTLS)", place->host, place->port);
    return NULL;
}

ssize_t client_tls_receive(struct client_tls *tls, void *bytes, size_t room)
{
    (void)tls, (void)bytes, (void)room;
    return -1;
}

ssize_t client_tls_send(struct client_tls *tls, const void *bytes, size_t length)
{
    (void)tls, (void)bytes, (void)length;
    return -1;
}

const char *client_tls_error(const struct client_tls *tls)
{
    (void)tls;
    return "no TLS";
}

void client_tls_end(struct client_tls **tls)
{
    *tls = NULL;
}
#endif
