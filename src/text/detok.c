#include "text/detok.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "text/utf8.h"

static bool is_utf8(struct str text)
{
    for (size_t at = 0; at < text.len;) {
        int32_t c;
        size_t len = utf8_next(text.at + at, text.len - at, &c);
        if (len == 0 || c < 0)
            return false;
        at += len;
    }
    return true;
}

static enum sluice_status check_stops(const struct str *stops, int n, size_t *total,
                                      struct sluice_error *err)
{
    *total = 0;
    FAIL_IF(n < 0 || n > DETOK_MAX_STOPS, err, SLUICE_ERR_ARG,
            "%d stop strings, at most %d are supported", n, DETOK_MAX_STOPS);
    for (int i = 0; i < n; i++) {
        FAIL_IF(stops[i].len == 0, err, SLUICE_ERR_ARG, "stop string %d is empty", i);
        FAIL_IF(stops[i].len > DETOK_MAX_STOP_BYTES, err, SLUICE_ERR_ARG,
                "stop string %d has %zu bytes, at most %d are supported", i, stops[i].len,
                DETOK_MAX_STOP_BYTES);
        FAIL_IF(!is_utf8(stops[i]), err, SLUICE_ERR_ARG, "stop string %d is not valid UTF-8", i);
        *total += stops[i].len;
    }
    return SLUICE_OK;
}

/* Bytes of s that match once c follows: one step of Knuth, Morris and Pratt. */
static uint16_t step(const struct detok_stop *s, uint16_t matched, char c)
{
    if (matched == s->text.len)
        matched = s->fallback[matched - 1];
    while (matched > 0 && s->text.at[matched] != c)
        matched = s->fallback[matched - 1];
    return (uint16_t)(matched + (s->text.at[matched] == c));
}

static void fill_borders(struct detok_stop *s)
{
    s->fallback[0] = 0;
    for (size_t i = 1; i < s->text.len; i++)
        s->fallback[i] = step(s, s->fallback[i - 1], s->text.at[i]);
}

enum sluice_status detok_init(struct detok *d, const struct vocab *v, const struct str *stops,
                              int n_stops, struct sluice_error *err)
{
    size_t total;
    TRY(check_stops(stops, n_stops, &total, err));
    *d = (struct detok){.vocab = v, .n_stops = n_stops, .stop = -1};
    d->stops = calloc((size_t)n_stops + 1, sizeof d->stops[0]);
    d->borders = malloc((total + 1) * sizeof d->borders[0]);
    if (!d->stops || !d->borders) {
        free(d->stops);
        free(d->borders);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for %d stop strings", n_stops);
    }
    uint16_t *borders = d->borders;
    for (int i = 0; i < n_stops; i++) {
        d->stops[i] = (struct detok_stop){.text = stops[i], .fallback = borders};
        borders += stops[i].len;
        fill_borders(&d->stops[i]);
    }
    buf_init(&d->held, 0);
    return SLUICE_OK;
}

void detok_deinit(struct detok *d)
{
    free(d->stops);
    free(d->borders);
    buf_deinit(&d->held);
    *d = (struct detok){0};
}

int detok_stop(const struct detok *d)
{
    return d->stop;
}

/* Advances every stop string by one byte; the longest that is complete, or -1. */
static int advance(struct detok *d, char c)
{
    int found = -1;
    for (int i = 0; i < d->n_stops; i++) {
        struct detok_stop *s = &d->stops[i];
        s->matched = step(s, s->matched, c);
        if (s->matched == s->text.len && (found < 0 || s->text.len > d->stops[found].text.len))
            found = i;
    }
    return found;
}

/* Takes one complete character (or U+FFFD). */
static void take_char(struct detok *d, const char *c, size_t len, struct buf *out)
{
    if (d->n_stops == 0) {
        buf_add(out, c, len);
        return;
    }
    size_t keep = 0;
    buf_add(&d->held, c, len);
    for (size_t i = 0; i < len && d->stop < 0; i++)
        d->stop = advance(d, c[i]);
    if (d->held.status != SLUICE_OK)
        return;
    if (d->stop >= 0) {
        buf_add(out, d->held.data, d->held.len - d->stops[d->stop].text.len);
        buf_clear(&d->held);
        return;
    }
    for (int i = 0; i < d->n_stops; i++)
        keep = d->stops[i].matched > keep ? d->stops[i].matched : keep;
    buf_add(out, d->held.data, d->held.len - keep);
    buf_drop_front(&d->held, d->held.len - keep);
}

/* Feeds one byte through the partial character. */
static void take_byte(struct detok *d, char byte, struct buf *out)
{
    d->partial[d->n_partial++] = byte;
    while (d->n_partial > 0 && d->stop < 0) {
        int32_t c;
        size_t len = utf8_next(d->partial, d->n_partial, &c);
        if (len == 0)
            return;
        if (c >= 0)
            take_char(d, d->partial, len, out);
        else
            take_char(d, "\xEF\xBF\xBD", 3, out);
        d->n_partial -= len;
        memmove(d->partial, d->partial + len, d->n_partial);
    }
}

enum sluice_status detok_push_bytes(struct detok *d, struct str bytes, struct buf *out,
                                    struct sluice_error *err)
{
    for (size_t i = 0; i < bytes.len && d->stop < 0 && !d->finished; i++)
        take_byte(d, bytes.at[i], out);
    TRY(buf_status(&d->held, err));
    return buf_status(out, err);
}

enum sluice_status detok_push(struct detok *d, int32_t id, struct buf *out,
                              struct sluice_error *err)
{
    FAIL_IF(id < 0 || id >= vocab_count(d->vocab), err, SLUICE_ERR_ARG,
            "token id %d: expected 0 to %d", id, vocab_count(d->vocab) - 1);
    return detok_push_bytes(d, vocab_bytes(d->vocab, id), out, err);
}

enum sluice_status detok_finish(struct detok *d, struct buf *out, struct sluice_error *err)
{
    if (d->finished)
        return SLUICE_OK;
    if (d->stop < 0 && d->n_partial > 0)
        take_char(d, "\xEF\xBF\xBD", 3, out);
    if (d->stop < 0)
        buf_add(out, d->held.data, d->held.len);
    d->n_partial = 0;
    d->finished = true;
    TRY(buf_status(&d->held, err));
    return buf_status(out, err);
}
