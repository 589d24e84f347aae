/* text/detok.h - token ids to text while they are produced.
 *
 * Invariants:
 *   (1) text handed out is valid UTF-8 and never changes afterwards
 *   (2) what is handed out does not depend on where token borders fall, only on the bytes
 *   (3) text that may be the start of a stop string is held back until that is decided
 *   (4) after a stop string nothing more is handed out
 *
 *   OPEN --push: a stop string is complete--> STOPPED
 *     |                                          |
 *     +--finish--> FINISHED <------finish--------+     (push then does nothing)
 *
 * Of several stop strings the one that is complete first wins; if several end at the same byte,
 * the longest. Bytes that can no longer become a UTF-8 character turn into U+FFFD, one for each
 * maximal subpart; a character that is still incomplete waits for the next token or for
 * detok_finish.
 *
 * Threads: one detok belongs to one thread at a time; its vocab may be shared. */
#ifndef SLUICE_TEXT_DETOK_H
#define SLUICE_TEXT_DETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"
#include "text/vocab.h"

#define DETOK_MAX_STOPS 64
#define DETOK_MAX_STOP_BYTES 1024

struct detok_stop {
    struct str text;   /* borrowed */
    uint16_t matched;  /* bytes of text that the last bytes of `held` match */
    uint16_t *fallback; /* [text.len] longest proper border of text[0..i]; in detok.borders */
};

/* Caller-owned; fields are private to detok.c. */
struct detok {
    const struct vocab *vocab; /* borrowed */
    struct detok_stop *stops;  /* owned, [n_stops] */
    uint16_t *borders;         /* owned */
    int n_stops;
    int stop;        /* index of the stop string found, or -1 */
    bool finished;
    char partial[4]; /* an incomplete character */
    size_t n_partial;
    struct buf held; /* complete characters that may belong to a stop string */
};

/* stops: n_stops strings (NULL if 0), not empty, valid UTF-8, borrowed until detok_deinit;
 * otherwise SLUICE_ERR_ARG. On failure d needs no detok_deinit. */
enum sluice_status detok_init(struct detok *d, const struct vocab *v, const struct str *stops,
                              int n_stops, struct sluice_error *err);
void detok_deinit(struct detok *d);

/* Takes the next token and appends the text that is now certain to *out (possibly nothing). Added
 * tokens come out as their literal text; a caller that does not want them does not push them.
 * SLUICE_ERR_ARG for an id outside the vocabulary. */
enum sluice_status detok_push(struct detok *d, int32_t id, struct buf *out,
                              struct sluice_error *err);
/* The same for bytes that did not come from a token. */
enum sluice_status detok_push_bytes(struct detok *d, struct str bytes, struct buf *out,
                                    struct sluice_error *err);
/* No more tokens: appends what was held back, unless a stop string was found. */
enum sluice_status detok_finish(struct detok *d, struct buf *out, struct sluice_error *err);

/* Index of the stop string that was found, or -1. Its text and what follows it are never handed
 * out. */
int detok_stop(const struct detok *d);

#endif
