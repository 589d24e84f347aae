/* server/http.c - see http.h. */
#include "server/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "base/check.h"
#include "base/limits.h"
#include "server/connections.h"
#include "server/tls.h"

struct exchange {
    struct http *h;
    struct exchange *next, **slot; /* among the open ones */
    struct evhttp_request *req;
    struct event *leaves; /* the peer closes its side */
    struct evkeyvalq query;
    char *path;
    const char *peer;
    bool streaming, too_slow;
    void (*gone)(void *ctx);
    void *gone_ctx;
};

struct http {
    struct loop *loop;
    struct evhttp *ev;
    struct evhttp_bound_socket *bound;
    struct connections *connections;
    struct tls *tls;
    struct exchange *open;
    int port;
    bool stopping;
    void (*handle)(void *ctx, struct exchange *x);
    void *ctx;
};

/* ---- the life of an exchange ---- */

static void exchange_free(struct exchange *x)
{
    *x->slot = x->next;
    if (x->next)
        x->next->slot = x->slot;
    if (x->leaves)
        event_free(x->leaves);
    evhttp_clear_headers(&x->query);
    free(x->path);
    free(x);
}

static int socket_of(struct evhttp_connection *c)
{
    return (int)bufferevent_getfd(evhttp_connection_get_bufferevent(c));
}

/* The exchange is over; what evhttp does with the request is its own affair. */
static void detach(struct exchange *x)
{
    struct evhttp_connection *c = evhttp_request_get_connection(x->req);
    if (c)
        evhttp_connection_set_closecb(c, NULL, NULL);
    void (*gone)(void *) = x->gone;
    void *ctx = x->gone_ctx;
    exchange_free(x);
    if (gone)
        gone(ctx);
}

/* evhttp found the connection broken. */
static void on_closed(struct evhttp_connection *c, void *arg)
{
    struct exchange *x = arg;
    struct evhttp_request *orphan = evhttp_request_get_connection(x->req) ? NULL : x->req;
    evhttp_connection_set_closecb(c, NULL, NULL);
    detach(x);
    if (orphan)
        evhttp_request_free(orphan);
}

/* The peer closed, or reads too slowly. */
static void on_leaves(evutil_socket_t fd, short what, void *arg)
{
    struct exchange *x = arg;
    struct evhttp_connection *c = evhttp_request_get_connection(x->req);
    detach(x);
    if (c)
        evhttp_connection_free(c);
}

static void on_complete(struct evhttp_request *req, void *arg)
{
    struct http *h = arg;
    struct evhttp_connection *c = evhttp_request_get_connection(req);
    if (c)
        connections_idle(h->connections, socket_of(c));
}

static char *decoded_path(struct evhttp_request *req)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    size_t len = 0;
    char *decoded = evhttp_uridecode(path && *path ? path : "/", /*plus=*/0, &len);
    /* %00 would hide what follows. */
    if (decoded && strlen(decoded) != len) {
        free(decoded);
        return NULL;
    }
    return decoded;
}

static void parse_query(struct exchange *x)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(x->req);
    const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
    if (query)
        evhttp_parse_query_str(query, &x->query);
}

static void on_request(struct evhttp_request *req, void *arg)
{
    struct http *h = arg;
    struct evhttp_connection *c = evhttp_request_get_connection(req);
    struct exchange *x = calloc(1, sizeof *x);
    char *path = decoded_path(req);
    if (!x || !path) {
        free(x);
        evhttp_send_error(req, path ? HTTP_INTERNAL : HTTP_BADREQUEST, NULL);
        free(path);
        return;
    }
    *x = (struct exchange){.h = h, .req = req, .path = path, .next = h->open, .slot = &h->open};
    if (h->open)
        h->open->slot = &x->next;
    h->open = x;
    TAILQ_INIT(&x->query);
    parse_query(x);
    char *peer = NULL;
    ev_uint16_t port;
    evhttp_connection_get_peer(c, &peer, &port);
    x->peer = peer ? peer : "";
    int fd = socket_of(c);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    connections_busy(h->connections, fd);
    evhttp_request_set_on_complete_cb(req, on_complete, h);
    evhttp_connection_set_closecb(c, on_closed, x);
    x->leaves = event_new(loop_base(h->loop), fd, EV_CLOSED, on_leaves, x);
    if (x->leaves)
        event_add(x->leaves, NULL);
    if (h->stopping)
        http_add_header(x, "Connection", "close");
    h->handle(h->ctx, x);
}

/* ---- open and close ---- */

static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
    struct http *h = arg;
    struct bufferevent *bev =
        h->tls ? tls_accept(h->tls, base) : bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (bev)
        connections_add(h->connections, bev);
    return bev;
}

static int bound_port(struct evhttp_bound_socket *bound)
{
    struct sockaddr_storage at = {0};
    socklen_t len = sizeof at;
    if (getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&at, &len) != 0)
        return 0;
    if (at.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&at)->sin6_port);
    return ntohs(((struct sockaddr_in *)&at)->sin_port);
}

static void configure(struct http *h, int read_seconds)
{
    evhttp_set_allowed_methods(h->ev, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST |
                                          EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PUT |
                                          EVHTTP_REQ_PATCH);
    evhttp_set_max_headers_size(h->ev, LIMIT_HTTP_HEADERS);
    evhttp_set_max_body_size(h->ev, LIMIT_HTTP_BODY);
    evhttp_set_timeout(h->ev, read_seconds);
    evhttp_set_default_content_type(h->ev, NULL);
    evhttp_set_gencb(h->ev, on_request, h);
    evhttp_set_bevcb(h->ev, on_accept, h);
}

enum sluice_status http_open(struct loop *loop, const struct http_options *options,
                             struct http **out, struct sluice_error *err)
{
    struct http *h = calloc(1, sizeof *h);
    FAIL_IF(!h, err, SLUICE_ERR_NOMEM, "out of memory for the HTTP server");
    h->loop = loop;
    h->handle = options->handle;
    h->ctx = options->ctx;
    int max = options->max_connections ? options->max_connections : LIMIT_HTTP_CONNECTIONS;
    int seconds = options->read_seconds ? options->read_seconds : LIMIT_HTTP_READ_SECONDS;
    enum sluice_status st;
    TRY_OUT(connections_open(loop_base(loop), max, seconds, &h->connections, err));
    if (options->tls_cert)
        TRY_OUT(tls_open(options->tls_cert, options->tls_key, &h->tls, err));
    h->ev = evhttp_new(loop_base(loop));
    if (!h->ev) {
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for the HTTP server");
        goto out;
    }
    configure(h, seconds);
    errno = 0;
    h->bound = evhttp_bind_socket_with_handle(h->ev, options->host, (ev_uint16_t)options->port);
    if (!h->bound) {
        st = status_fail(err, SLUICE_ERR_IO, -1, "cannot listen on %s port %d: %s", options->host,
                         options->port, errno ? strerror(errno) : "no such address");
        goto out;
    }
    connections_set_listener(h->connections, evhttp_bound_socket_get_listener(h->bound));
    h->port = bound_port(h->bound);
    *out = h;
    return SLUICE_OK;
out:
    http_close(h);
    return st;
}

void http_close(struct http *h)
{
    if (!h)
        return;
    while (h->open) {
        struct exchange *x = h->open;
        struct evhttp_connection *c = evhttp_request_get_connection(x->req);
        detach(x);
        if (c)
            evhttp_connection_free(c);
    }
    if (h->ev)
        evhttp_free(h->ev);
    connections_close(h->connections);
    tls_close(h->tls);
    free(h);
}

int http_port(const struct http *h)
{
    return h->port;
}

int http_connections(const struct http *h)
{
    return connections_count(h->connections);
}

void http_stop_listening(struct http *h)
{
    h->stopping = true;
    connections_set_listener(h->connections, NULL);
    if (h->bound)
        evhttp_del_accept_socket(h->ev, h->bound);
    h->bound = NULL;
}

/* ---- the request ---- */

enum http_method http_method(const struct exchange *x)
{
    switch (evhttp_request_get_command(x->req)) {
    case EVHTTP_REQ_GET:
        return HTTP_GET;
    case EVHTTP_REQ_HEAD:
        return HTTP_HEAD;
    case EVHTTP_REQ_POST:
        return HTTP_POST;
    case EVHTTP_REQ_DELETE:
        return HTTP_DELETE;
    case EVHTTP_REQ_OPTIONS:
        return HTTP_OPTIONS;
    default:
        return HTTP_OTHER;
    }
}

const char *http_path(const struct exchange *x)
{
    return x->path;
}

const char *http_header(const struct exchange *x, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(x->req), name);
}

const char *http_query(const struct exchange *x, const char *name)
{
    return evhttp_find_header(&x->query, name);
}

bool http_take_body(struct exchange *x, char **bytes, size_t *len)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(x->req);
    *len = evbuffer_get_length(in);
    *bytes = malloc(*len + 1);
    if (!*bytes)
        return false;
    evbuffer_remove(in, *bytes, *len);
    (*bytes)[*len] = '\0';
    return true;
}

const char *http_peer(const struct exchange *x)
{
    return x->peer;
}

/* ---- the answer ---- */

void http_add_header(struct exchange *x, const char *name, const char *value)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(x->req);
    evhttp_remove_header(headers, name);
    evhttp_add_header(headers, name, value);
}

void http_reply(struct exchange *x, int status, const char *type, struct str body)
{
    SLUICE_ASSERT(!x->streaming);
    struct evhttp_request *req = x->req;
    struct evbuffer *out = evbuffer_new();
    if (type)
        http_add_header(x, "Content-Type", type);
    if (out && http_method(x) != HTTP_HEAD)
        evbuffer_add(out, body.at, body.len);
    x->gone = NULL;
    detach(x);
    evhttp_send_reply(req, status, NULL, out);
    if (out)
        evbuffer_free(out);
}

void http_stream_begin(struct exchange *x, int status, const char *type)
{
    SLUICE_ASSERT(!x->streaming);
    x->streaming = true;
    http_add_header(x, "Content-Type", type);
    http_add_header(x, "Cache-Control", "no-cache");
    http_add_header(x, "X-Accel-Buffering", "no");
    evhttp_send_reply_start(x->req, status, NULL);
}

void http_stream_write(struct exchange *x, struct str bytes)
{
    SLUICE_ASSERT(x->streaming);
    struct evhttp_connection *c = evhttp_request_get_connection(x->req);
    if (bytes.len == 0 || !c || x->too_slow)
        return;
    struct evbuffer *unsent = bufferevent_get_output(evhttp_connection_get_bufferevent(c));
    if (evbuffer_get_length(unsent) > LIMIT_HTTP_UNSENT) {
        x->too_slow = true;
        if (x->leaves)
            event_active(x->leaves, EV_CLOSED, 0);
        return;
    }
    struct evbuffer *out = evbuffer_new();
    if (!out)
        return;
    evbuffer_add(out, bytes.at, bytes.len);
    evhttp_send_reply_chunk(x->req, out);
    evbuffer_free(out);
}

void http_stream_end(struct exchange *x)
{
    SLUICE_ASSERT(x->streaming);
    struct evhttp_request *req = x->req;
    x->gone = NULL;
    detach(x);
    evhttp_send_reply_end(req);
}

void http_on_gone(struct exchange *x, void (*gone)(void *ctx), void *ctx)
{
    x->gone = gone;
    x->gone_ctx = ctx;
}
