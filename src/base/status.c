#include "base/status.h"

#include <stdio.h>
#include <string.h>

const char *sluice_status_name(enum sluice_status code)
{
    static const char *const names[] = {
        [SLUICE_OK] = "ok",
        [SLUICE_ERR_ARG] = "argument",
        [SLUICE_ERR_NOMEM] = "memory",
        [SLUICE_ERR_IO] = "io",
        [SLUICE_ERR_FORMAT] = "format",
        [SLUICE_ERR_MODEL] = "model",
        [SLUICE_ERR_LIMIT] = "limit",
        [SLUICE_ERR_CANCELLED] = "cancelled",
        [SLUICE_ERR_STATE] = "state",
        [SLUICE_ERR_INTERNAL] = "internal",
    };
    if ((unsigned)code >= sizeof names / sizeof names[0])
        return "unknown";
    return names[code];
}

enum sluice_status status_fail(struct sluice_error *err, enum sluice_status code, int64_t position,
                               const char *fmt, ...)
{
    if (!err)
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    err->code = code;
    err->position = position;
    return code;
}

void status_prefix(struct sluice_error *err, const char *fmt, ...)
{
    if (!err)
        return;
    char joined[sizeof err->message];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(joined, sizeof joined, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof joined)
        return;
    snprintf(joined + n, sizeof joined - (size_t)n, "%s", err->message);
    memcpy(err->message, joined, sizeof joined);
}
