/* base/status.h - how every module reports failure.
 *
 * A function that can fail returns enum sluice_status and takes a struct sluice_error *, which may
 * be NULL when the caller wants only the status. On success the record is untouched; on failure the
 * function that found the problem fills it once, and every caller above passes the status on with
 * TRY.
 *
 * Kinds: environment and input failures use this; programmer errors use SLUICE_ASSERT
 * (base/check.h). */
#ifndef SLUICE_BASE_STATUS_H
#define SLUICE_BASE_STATUS_H

#include <stdarg.h>
#include <stdint.h>

#include "sluice_status.h"

/* Fills *err (if not NULL) with a formatted message and returns code. position = -1 where none
 * applies. */
enum sluice_status status_fail(struct sluice_error *err, enum sluice_status code, int64_t position,
                               const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Prefixes the message of a failed call with context ("file.gguf: "); keeps code and position. */
void status_prefix(struct sluice_error *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Passes a failure on. The record has been filled by whoever failed. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        enum sluice_status try_status_ = (expr);                                                   \
        if (try_status_ != SLUICE_OK)                                                              \
            return try_status_;                                                                    \
    } while (0)

/* As TRY, for functions with one `out:` label and a local `enum sluice_status st`. */
#define TRY_OUT(expr)                                                                              \
    do {                                                                                           \
        st = (expr);                                                                               \
        if (st != SLUICE_OK)                                                                       \
            goto out;                                                                              \
    } while (0)

#define FAIL_IF(cond, err, code, ...)                                                              \
    do {                                                                                           \
        if (cond)                                                                                  \
            return status_fail((err), (code), -1, __VA_ARGS__);                                    \
    } while (0)

#endif
