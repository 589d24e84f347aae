/* server/sse.c - see sse.h. */
#include "server/sse.h"

#include <math.h>

#include "base/json_text.h"
#include "server/source.h"
#include "text/utf8.h"

void sse_begin(struct buf *out, const char *event)
{
    if (event)
        buf_addf(out, "event: %s\n", event);
    buf_add_str(out, "data: ");
}

void sse_end(struct buf *out)
{
    buf_add_str(out, "\n\n");
}

void sse_comment(struct buf *out, const char *text)
{
    buf_addf(out, ": %s\n\n", text);
}

void json_member(struct buf *out, const char *key, struct str text)
{
    buf_addf(out, ", \"%s\": ", key);
    json_text_write_str(out, text);
}

struct str buf_text(const struct buf *b)
{
    return (struct str){b->data ? b->data : "", b->len};
}

void json_logprob(struct buf *out, float x)
{
    buf_addf(out, "%.9g", isfinite(x) ? (double)x : -9999.0);
}

void sse_clean(struct buf *b, struct str raw)
{
    const char *text = raw.at;
    size_t n = raw.len;
    for (size_t i = 0; i < n;) {
        int32_t cp;
        size_t len = utf8_next(text + i, n - i, &cp);
        if (len == 0)
            len = n - i;
        if (cp < 0)
            buf_add_str(b, "\xef\xbf\xbd");
        else
            buf_add(b, text + i, len);
        i += len;
    }
}

void json_token(struct buf *out, const struct reply *r, int32_t id, bool with_bytes)
{
    struct sluice_text text = {0};
    struct buf clean = {0};
    if (r->source->fn->detokenize(r->source->ctx, &id, 1, &text, NULL) == SLUICE_OK)
        sse_clean(&clean, (struct str){text.at, text.len});
    json_text_write_str(out, buf_text(&clean));
    if (with_bytes) {
        buf_add_str(out, ", \"bytes\": [");
        for (size_t i = 0; i < text.len; i++)
            buf_addf(out, "%s%d", i ? ", " : "", (unsigned char)text.at[i]);
        buf_add_str(out, "]");
    }
    buf_deinit(&clean);
    r->source->fn->free(text.at);
}

void json_tokens(struct buf *out, const struct reply *r, const struct answer *a, int32_t from)
{
    buf_add_str(out, "[");
    for (int32_t i = from; i < a->n_token; i++) {
        const struct answer_token *t = &a->token[i];
        buf_addf(out, "%s{\"token\": ", i > from ? ", " : "");
        json_token(out, r, t->id, /*with_bytes=*/true);
        buf_add_str(out, ", \"logprob\": ");
        json_logprob(out, t->logprob);
        buf_add_str(out, ", \"top_logprobs\": [");
        for (int32_t k = 0; k < t->n; k++) {
            buf_addf(out, "%s{\"token\": ", k ? ", " : "");
            json_token(out, r, a->top[t->first + k].id, /*with_bytes=*/true);
            buf_add_str(out, ", \"logprob\": ");
            json_logprob(out, a->top[t->first + k].logprob);
            buf_add_str(out, "}");
        }
        buf_add_str(out, "]}");
    }
    buf_add_str(out, "]");
}
