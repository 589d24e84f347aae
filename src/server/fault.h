/* server/fault.h - what goes wrong for a client: an HTTP status and what each API's error envelope
 * says. */
#ifndef SLUICE_SERVER_FAULT_H
#define SLUICE_SERVER_FAULT_H

#include "base/buf.h"
#include "base/status.h"

struct fault {
    int status; /* of HTTP */
    const char *code; /* "context_length_exceeded", or NULL */
    char param[64]; /* the member that is wrong, or "" */
    char message[560];
    int retry_after; /* seconds; 0: says nothing */
};

/* A failure of the layers below. "max_tokens: expected ..." names its member. */
void fault_from(struct fault *f, const struct sluice_error *err);
void fault_set(struct fault *f, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The body of an error reply: {"error": {"message", "type", "param", "code"}}. */
void fault_write_openai(const struct fault *f, struct buf *out);
/* {"type": "error", "error": {"type", "message"}} */
void fault_write_anthropic(const struct fault *f, struct buf *out);
/* The inner object of the first one. */
void fault_write_inner(const struct fault *f, struct buf *out);
const char *fault_type_openai(const struct fault *f);

#endif
