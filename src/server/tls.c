/* server/tls.c - see tls.h. */
#include "server/tls.h"

#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "base/check.h"

struct tls {
    SSL_CTX *ctx;
};

static enum sluice_status refuse(const char *what, const char *path, struct sluice_error *err)
{
    char reason[160] = "unknown reason";
    unsigned long code = ERR_get_error();
    if (code)
        ERR_error_string_n(code, reason, sizeof reason);
    return status_fail(err, SLUICE_ERR_IO, -1, "%s %s: %s", what, path, reason);
}

enum sluice_status tls_open(const char *cert, const char *key, struct tls **out,
                            struct sluice_error *err)
{
    FAIL_IF(!key, err, SLUICE_ERR_ARG, "TLS certificate %s: expected a key file too", cert);
    struct tls *t = calloc(1, sizeof *t);
    FAIL_IF(!t, err, SLUICE_ERR_NOMEM, "out of memory for TLS");
    enum sluice_status st = SLUICE_OK;
    ERR_clear_error();
    t->ctx = SSL_CTX_new(TLS_server_method());
    if (!t->ctx)
        st = refuse("TLS", "context", err);
    else if (SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1)
        st = refuse("TLS", "version", err);
    else if (SSL_CTX_use_certificate_chain_file(t->ctx, cert) != 1)
        st = refuse("TLS certificate", cert, err);
    else if (SSL_CTX_use_PrivateKey_file(t->ctx, key, SSL_FILETYPE_PEM) != 1)
        st = refuse("TLS key", key, err);
    else if (SSL_CTX_check_private_key(t->ctx) != 1)
        st = refuse("TLS key does not belong to the certificate:", key, err);
    if (st != SLUICE_OK) {
        tls_close(t);
        return st;
    }
    /* Idle connections are many: they give their buffers back, and sessions are the clients' to
     * keep (tickets). */
    SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
    *out = t;
    return SLUICE_OK;
}

void tls_close(struct tls *t)
{
    if (!t)
        return;
    SSL_CTX_free(t->ctx);
    free(t);
}

struct bufferevent *tls_accept(struct tls *t, struct event_base *base)
{
    SSL *ssl = SSL_new(t->ctx);
    if (!ssl)
        return NULL;
    struct bufferevent *bev = bufferevent_openssl_socket_new(
        base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (!bev)
        SSL_free(ssl);
    else
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}
