/* sluice_status.h - status codes and the error record; part of the public interface (included by
 * sluice.h). */
#ifndef SLUICE_STATUS_H
#define SLUICE_STATUS_H

#include <stdint.h>

enum sluice_status {
    SLUICE_OK = 0,
    SLUICE_ERR_ARG,        /* a caller's argument or request is invalid */
    SLUICE_ERR_NOMEM,      /* memory or a memory budget is exhausted */
    SLUICE_ERR_IO,         /* the operating system refused a read, write or map */
    SLUICE_ERR_FORMAT,     /* a file or message is malformed or unsupported */
    SLUICE_ERR_MODEL,      /* a well-formed file is not a model that can be run */
    SLUICE_ERR_LIMIT,      /* a declared cap was exceeded (base/limits.h) */
    SLUICE_ERR_CANCELLED,  /* stopped at the caller's request */
    SLUICE_ERR_STATE,      /* the call is not allowed in the object's present state */
    SLUICE_ERR_INTERNAL,   /* an invariant did not hold; the object is unusable */
};

/* One failure. message is complete, without a trailing newline; position is a byte offset in the
 * input where one applies, else -1. */
struct sluice_error {
    enum sluice_status code;
    int64_t position;
    char message[512];
};

/* Stable lower-case name of a status ("io", "format"); never NULL. */
const char *sluice_status_name(enum sluice_status code);

#endif
