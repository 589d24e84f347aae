/* base/buf.h - a growable byte buffer with a cap.
 *
 * Errors are sticky: after an append fails (out of memory, cap exceeded) the buffer keeps what it
 * had, every later append does nothing, and buf_status tells what happened. So a sequence of
 * appends needs one check at its end. data is NUL-terminated whenever it is not NULL, so that text
 * can be handed to C functions; the NUL is not counted. */
#ifndef SLUICE_BASE_BUF_H
#define SLUICE_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct buf {
    char *data;    /* owned; NULL until the first append */
    size_t len;    /* bytes used, without the NUL */
    size_t room;   /* bytes allocated */
    size_t cap;    /* len never exceeds this; 0 means BUF_CAP_DEFAULT */
    enum sluice_status status;
};

#define BUF_CAP_DEFAULT ((size_t)1 << 30)

void buf_init(struct buf *b, size_t cap);
void buf_deinit(struct buf *b);
/* Forgets the contents and a sticky error; keeps the memory. */
void buf_clear(struct buf *b);

void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_add_str(struct buf *b, const char *text);
void buf_add_char(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Removes the first n bytes (n <= len). */
void buf_drop_front(struct buf *b, size_t n);

/* Keeps the first n bytes (n <= len). */
void buf_cut(struct buf *b, size_t n);

/* SLUICE_OK, or the first append's failure, described in *err. */
enum sluice_status buf_status(const struct buf *b, struct sluice_error *err);
/* Moves the bytes out to the caller, who frees them; never NULL on SLUICE_OK. The buffer is empty
 * after. */
char *buf_take(struct buf *b, size_t *len);

#endif
