/* server/shelf.h - values by name in memory, the least recently used ones dropped when they are
 * more than a number of bytes: past responses, items that a client refers to by id, the exact text
 * of calls. Any thread. */
#ifndef SLUICE_SERVER_SHELF_H
#define SLUICE_SERVER_SHELF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/str.h"

struct shelf;

/* NULL if memory is short. cap: bytes of names, values and bookkeeping. */
struct shelf *shelf_new(size_t cap);
void shelf_free(struct shelf *s); /* accepts NULL */

/* Copies; replaces a value of the same name. A value larger than cap / 4, or without memory for it,
 * is not kept. */
void shelf_put(struct shelf *s, struct str name, struct str value);
/* Appends the value to out; false if there is none. */
bool shelf_get(struct shelf *s, struct str name, struct buf *out);
bool shelf_drop(struct shelf *s, struct str name);

#endif
