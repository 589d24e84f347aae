/* server/connections.h - how many connections are open, and which of them take too long to bring a
 * request. evhttp shows neither, so sockets are watched by their descriptor and the kernel's
 * cookie, which no two sockets share: a number that is used again is told from the one before.
 *
 * Threads: the loop's thread only. */
#ifndef SLUICE_SERVER_CONNECTIONS_H
#define SLUICE_SERVER_CONNECTIONS_H

#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "server/loop.h"

struct connections;

/* The listener pauses while max connections are open. */
enum sluice_status connections_open(struct event_base *base, int max, int read_seconds,
                                    struct connections **out, struct sluice_error *err);
void connections_close(struct connections *c); /* accepts NULL */
void connections_set_listener(struct connections *c, struct evconnlistener *listener);
int connections_count(const struct connections *c);

/* A connection was accepted; its descriptor is set on bev before the loop turns. */
void connections_add(struct connections *c, struct bufferevent *bev);
/* A request is being answered: its connection is not watched until connections_idle. */
void connections_busy(struct connections *c, int fd);
void connections_idle(struct connections *c, int fd);

#endif
