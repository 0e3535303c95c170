// SPDX-License-Identifier: Apache-2.0
// TLS for the tests' client: a thread that speaks TLS for a plain socket.
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "serve/http_world.h"
#include "support/certificate.h"

#ifdef _WIN32
#define poll WSAPoll
#else
#include <poll.h>
#endif

void make_certificate(struct world *world, const char *name, const char *cert_name, const char *key_name)
{
    char cert[128];
    snprintf(cert, sizeof cert, "%s", world_file(world, cert_name, ""));
    graft_test_certificate(name, cert, world_file(world, key_name, ""));
}

struct relay {
    int plain, wire;
    uint16_t port;
};

// What the session has goes to the plain side; false: the end.
static bool hand_over(gnutls_session_t session, int plain)
{
    char bytes[16384];
    ssize_t n = gnutls_record_recv(session, bytes, sizeof bytes);
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
        return true;
    }
    for (ssize_t done = 0; done < n;) {
        ssize_t k = net_send(plain, bytes + done, (size_t)(n - done));
        if (k == NET_LATER) {
            struct pollfd wait = {.fd = plain, .events = POLLOUT};
            poll(&wait, 1, 100);
            k = 0;
        } else if (k <= 0) {
            return false;
        }
        done += k;
    }
    return n > 0;
}

static void *relay(void *user)
{
    struct relay *r = user;
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
    gnutls_certificate_allocate_credentials(&credentials);
    gnutls_priority_set_direct(session, "NORMAL", NULL);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
    gnutls_transport_set_int(session, r->wire);
    gnutls_handshake_set_timeout(session, 5000);
    bool in = gnutls_handshake(session) == 0, out = in;
    while (in) {
        struct pollfd waits[2] = {{.fd = r->wire, .events = POLLIN}, {.fd = r->plain, .events = POLLIN}};
        unsigned n_waits = out ? 2 : 1;
        if (gnutls_record_check_pending(session) == 0) {
            poll(waits, n_waits, 100);
        } else {
            waits[0].revents = POLLIN;
        }
        if (n_waits == 2 && waits[1].revents) {
            char bytes[16384];
            ssize_t n = net_receive(r->plain, bytes, sizeof bytes);
            if (n < 0 || (n == 0 && waits[1].revents & POLLHUP)) {
                break; // closed
            }
            if (n == 0) {
                gnutls_bye(session, GNUTLS_SHUT_WR);
                net_end_sending(r->wire);
                out = false;
            } else if (gnutls_record_send(session, bytes, (size_t)n) < 0) {
                out = false;
            }
        }
        if (waits[0].revents) {
            in = hand_over(session, r->plain);
        }
    }
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
    net_close(r->wire);
    net_close(r->plain);
    free(r);
    return NULL;
}

int tls_client(uint16_t port)
{
    int pair[2];
    pthread_t thread;
    struct relay *r = malloc(sizeof *r);
    ck_assert(net_begin() && net_pair(pair));
    *r = (struct relay){.plain = pair[1], .wire = client_to(port)};
    ck_assert_int_eq(pthread_create(&thread, NULL, relay, r), 0);
    pthread_detach(thread);
    return pair[0];
}
