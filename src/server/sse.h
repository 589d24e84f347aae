/* server/sse.h - framing of server-sent events, and pieces of JSON that several APIs write. */
#ifndef SLUICE_SERVER_SSE_H
#define SLUICE_SERVER_SSE_H

#include "server/event.h"

#define SSE_TYPE "text/event-stream"

/* "event: NAME" (NULL: none) and "data: "; the JSON follows, on one line, then sse_end. */
void sse_begin(struct buf *out, const char *event);
void sse_end(struct buf *out);
/* A comment: readers pass over it. */
void sse_comment(struct buf *out, const char *text);

/* ", \"key\": " and a string. */
void json_member(struct buf *out, const char *key, struct str text);
/* The text of a buffer that may be empty. */
struct str buf_text(const struct buf *b);
/* A logarithm as JSON, which has no infinities. */
void json_logprob(struct buf *out, float x);

/* Appends text; what is no UTF-8 becomes U+FFFD. */
void sse_clean(struct buf *b, struct str raw);
/* The text of one token as a JSON string, and its bytes as an array (if wanted). What is no whole
 * UTF-8 becomes U+FFFD in the string. */
void json_token(struct buf *out, const struct reply *r, int32_t id, bool with_bytes);
/* [{"token", "bytes", "logprob", "top_logprobs"}] of the answer's tokens from one on. */
void json_tokens(struct buf *out, const struct reply *r, const struct answer *a, int32_t from);

#endif
