/* server/connections.c - see connections.h. */
#include "server/connections.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "base/check.h"

struct watched {
    bool used, busy;
    uint64_t socket;
    time_t since; /* when it began to wait for a request */
};

/* A connection between its acceptance and the next turn of the loop. */
struct arrival {
    struct connections *c;
    struct bufferevent *bev;
};

struct connections {
    struct event_base *base;
    struct event *tick;
    struct evconnlistener *listener;
    int max, read_seconds;
    int n;
    bool paused;
    struct watched *at; /* [room], by descriptor */
    size_t room;
};

static time_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static bool socket_at(int fd, uint64_t *socket)
{
    socklen_t size = sizeof *socket;
    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_COOKIE, socket, &size) == 0;
}

static void pause_at_limit(struct connections *c)
{
    bool full = c->n >= c->max;
    if (!c->listener || full == c->paused)
        return;
    c->paused = full;
    if (full)
        evconnlistener_disable(c->listener);
    else
        evconnlistener_enable(c->listener);
}

static void on_tick(evutil_socket_t unused, short what, void *arg)
{
    struct connections *c = arg;
    int n = 0;
    for (size_t fd = 0; fd < c->room; fd++) {
        struct watched *w = &c->at[fd];
        uint64_t socket;
        if (!w->used)
            continue;
        if (!socket_at((int)fd, &socket) || socket != w->socket) {
            w->used = false;
            continue;
        }
        n++;
        /* evhttp reads the end of the stream and closes. */
        if (!w->busy && now() - w->since >= c->read_seconds)
            shutdown((int)fd, SHUT_RDWR);
    }
    c->n = n;
    pause_at_limit(c);
}

enum sluice_status connections_open(struct event_base *base, int max, int read_seconds,
                                    struct connections **out, struct sluice_error *err)
{
    struct connections *c = calloc(1, sizeof *c);
    FAIL_IF(!c, err, SLUICE_ERR_NOMEM, "out of memory for the list of connections");
    c->base = base;
    c->max = max;
    c->read_seconds = read_seconds;
    c->tick = event_new(base, -1, EV_PERSIST, on_tick, c);
    if (!c->tick || event_add(c->tick, &(struct timeval){.tv_sec = 1}) != 0) {
        connections_close(c);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for the list of connections");
    }
    *out = c;
    return SLUICE_OK;
}

void connections_close(struct connections *c)
{
    if (!c)
        return;
    if (c->tick)
        event_free(c->tick);
    free(c->at);
    free(c);
}

void connections_set_listener(struct connections *c, struct evconnlistener *listener)
{
    c->listener = listener;
}

int connections_count(const struct connections *c)
{
    return c->n;
}

static struct watched *watched_at(struct connections *c, int fd)
{
    if (fd < 0)
        return NULL;
    if ((size_t)fd >= c->room) {
        size_t room = c->room ? c->room : 64;
        while (room <= (size_t)fd)
            room *= 2;
        struct watched *at = realloc(c->at, room * sizeof *at);
        if (!at)
            return NULL;
        memset(at + c->room, 0, (room - c->room) * sizeof *at);
        c->at = at;
        c->room = room;
    }
    return &c->at[fd];
}

static void arrived(evutil_socket_t unused, short what, void *arg)
{
    struct arrival *a = arg;
    uint64_t socket;
    int fd = bufferevent_getfd(a->bev);
    struct watched *w = socket_at(fd, &socket) ? watched_at(a->c, fd) : NULL;
    /* A request may have come before this. */
    if (w && !(w->used && w->socket == socket))
        *w = (struct watched){.used = true, .socket = socket, .since = now()};
    bufferevent_decref(a->bev);
    free(a);
}

void connections_add(struct connections *c, struct bufferevent *bev)
{
    struct arrival *a = malloc(sizeof *a);
    c->n++;
    pause_at_limit(c);
    if (!a)
        return;
    *a = (struct arrival){c, bev};
    bufferevent_incref(bev);
    if (event_base_once(c->base, -1, EV_TIMEOUT, arrived, a, NULL) != 0) {
        bufferevent_decref(bev);
        free(a);
    }
}

static void mark(struct connections *c, int fd, bool busy)
{
    uint64_t socket;
    struct watched *w = socket_at(fd, &socket) ? watched_at(c, fd) : NULL;
    if (w)
        *w = (struct watched){.used = true, .busy = busy, .socket = socket, .since = now()};
}

void connections_busy(struct connections *c, int fd)
{
    mark(c, fd, true);
}

void connections_idle(struct connections *c, int fd)
{
    mark(c, fd, false);
}
