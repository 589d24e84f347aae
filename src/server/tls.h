/* server/tls.h - TLS of the HTTP server, from certificate files. Built without it, tls_open says
 * so. Loop's thread only. */
#ifndef SLUICE_SERVER_TLS_H
#define SLUICE_SERVER_TLS_H

#include <event2/bufferevent.h>

#include "base/status.h"

struct tls;

/* PEM: a chain of certificates and its key. SLUICE_ERR_IO names the file. */
enum sluice_status tls_open(const char *cert, const char *key, struct tls **out,
                            struct sluice_error *err);
void tls_close(struct tls *t); /* accepts NULL */
/* The buffer of a connection that is to be accepted, or NULL. */
struct bufferevent *tls_accept(struct tls *t, struct event_base *base);

#endif
