/* server/http.h - HTTP/1.1 on libevent: listening, limits, one exchange per request, streams.
 *
 * Invariants: (1) an exchange is answered exactly once: by http_reply, by http_stream_begin up to
 *                 http_stream_end, or by its client leaving; after that it is gone
 *             (2) a client that leaves is noticed at once, also while nothing is sent to it
 *             (3) a connection that does not bring a whole request within read_seconds is closed
 *             (4) at most max_connections are open; the next ones wait in the system's queue
 *
 *   ARRIVED --http_reply--------------------------------------> gone
 *      |----http_stream_begin--> STREAMING --http_stream_end--> gone
 *      '------ client leaves ------'------ on_gone is called -> gone
 *
 * Threads: the loop's thread only. */
#ifndef SLUICE_SERVER_HTTP_H
#define SLUICE_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "server/loop.h"

struct http;
struct exchange;

struct http_options {
    const char *host; /* a numeric address or a name; what it stands for is bound */
    int port; /* 0: the system chooses */
    const char *tls_cert, *tls_key; /* PEM files, or NULL: plain HTTP */
    int max_connections; /* 0: LIMIT_HTTP_CONNECTIONS */
    int read_seconds; /* 0: LIMIT_HTTP_READ_SECONDS */
    /* Takes the exchange and answers it, now or later. */
    void (*handle)(void *ctx, struct exchange *x);
    void *ctx;
};

/* SLUICE_ERR_IO: the address cannot be bound, or a certificate cannot be read. */
enum sluice_status http_open(struct loop *loop, const struct http_options *options,
                             struct http **out, struct sluice_error *err);
/* Open exchanges are gone. Accepts NULL. */
void http_close(struct http *h);
int http_port(const struct http *h);
int http_connections(const struct http *h);
/* No new connections from here on; open ones end with their exchange. */
void http_stop_listening(struct http *h);

/* ---- the request ---- */

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_DELETE, HTTP_OPTIONS, HTTP_OTHER };

enum http_method http_method(const struct exchange *x);
/* Percent-decoded, without the query; begins with "/". */
const char *http_path(const struct exchange *x);
/* A header or a field of the query, or NULL. Borrowed until the exchange is gone. */
const char *http_header(const struct exchange *x, const char *name);
const char *http_query(const struct exchange *x, const char *name);
/* Moves the body out, as it came; the caller frees it. False if memory is short. */
bool http_take_body(struct exchange *x, char **bytes, size_t *len);
/* "127.0.0.1", of the client. */
const char *http_peer(const struct exchange *x);

/* ---- the answer ---- */

/* A header of the answer, before it begins. */
void http_add_header(struct exchange *x, const char *name, const char *value);
void http_reply(struct exchange *x, int status, const char *type, struct str body);

void http_stream_begin(struct exchange *x, int status, const char *type);
/* Queues bytes. When more than LIMIT_HTTP_UNSENT wait for a slow reader, it counts as gone: on_gone
 * is called soon, not inside this call. */
void http_stream_write(struct exchange *x, struct str bytes);
void http_stream_end(struct exchange *x);

/* Called when the client leaves before the answer's end. */
void http_on_gone(struct exchange *x, void (*gone)(void *ctx), void *ctx);

#endif
