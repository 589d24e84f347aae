#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void buf_init(struct buf *b, size_t cap)
{
    *b = (struct buf){.cap = cap ? cap : BUF_CAP_DEFAULT};
}

void buf_deinit(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->status = SLUICE_OK;
    if (b->data)
        b->data[0] = 0;
}

/* Makes room for n more bytes and the NUL; false leaves the sticky status set. */
static int buf_reserve(struct buf *b, size_t n)
{
    size_t cap = b->cap ? b->cap : BUF_CAP_DEFAULT;
    if (b->status != SLUICE_OK)
        return 0;
    if (n > cap || b->len > cap - n) {
        b->status = SLUICE_ERR_LIMIT;
        return 0;
    }
    size_t need = b->len + n + 1;
    if (need <= b->room)
        return 1;
    size_t room = b->room ? b->room : 64;
    while (room < need)
        room *= 2;
    char *data = realloc(b->data, room);
    if (!data) {
        b->status = SLUICE_ERR_NOMEM;
        return 0;
    }
    b->data = data;
    b->room = room;
    return 1;
}

void buf_add(struct buf *b, const void *bytes, size_t n)
{
    if (!buf_reserve(b, n))
        return;
    if (n)
        memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
}

void buf_add_str(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_add_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    SLUICE_ASSERT(n >= 0);
    if (buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_drop_front(struct buf *b, size_t n)
{
    SLUICE_ASSERT(n <= b->len);
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    b->data[b->len] = 0;
}

void buf_cut(struct buf *b, size_t n)
{
    SLUICE_ASSERT(n <= b->len);
    if (n == b->len)
        return;
    b->len = n;
    b->data[n] = 0;
}

enum sluice_status buf_status(const struct buf *b, struct sluice_error *err)
{
    if (b->status == SLUICE_OK)
        return SLUICE_OK;
    if (b->status == SLUICE_ERR_LIMIT)
        return status_fail(err, b->status, -1, "buffer would exceed its cap of %zu bytes", b->cap);
    return status_fail(err, b->status, -1, "out of memory growing a buffer of %zu bytes", b->len);
}

char *buf_take(struct buf *b, size_t *len)
{
    if (!buf_reserve(b, 0))
        return NULL;
    b->data[b->len] = 0;
    char *data = b->data;
    if (len)
        *len = b->len;
    *b = (struct buf){.cap = b->cap};
    return data;
}
