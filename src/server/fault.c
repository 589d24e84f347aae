/* server/fault.c - see fault.h. */
#include "server/fault.h"

#include <ctype.h>
#include <stdarg.h>

#include "base/check.h"
#include "base/json_text.h"
#include "text/utf8.h"

static int status_of(enum sluice_status code)
{
    switch (code) {
    case SLUICE_ERR_ARG:
    case SLUICE_ERR_FORMAT:
    case SLUICE_ERR_LIMIT:
        return 400;
    case SLUICE_ERR_NOMEM:
        return 503;
    default:
        return 500;
    }
}

/* A message may quote a client's text and cut it inside a character. */
static void clean(char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n;) {
        int32_t cp;
        size_t len = utf8_next(text + i, n - i, &cp);
        len = len ? len : n - i;
        if (cp < 0)
            memset(text + i, '?', len);
        i += len;
    }
}

/* The member that a message begins with: "messages[3].content: ...". */
static void find_param(struct fault *f)
{
    size_t n = strcspn(f->message, ":");
    if (f->message[n] != ':' || n == 0 || n >= sizeof f->param)
        return;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)f->message[i]) && !strchr("_[].", f->message[i]))
            return;
    memcpy(f->param, f->message, n);
    f->param[n] = '\0';
}

void fault_from(struct fault *f, const struct sluice_error *err)
{
    *f = (struct fault){.status = status_of(err->code)};
    snprintf(f->message, sizeof f->message, "%s", err->message);
    if (f->status == 503)
        f->retry_after = 1;
    clean(f->message);
    find_param(f);
}

void fault_set(struct fault *f, int status, const char *code, const char *fmt, ...)
{
    *f = (struct fault){.status = status, .code = code};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->message, sizeof f->message, fmt, ap);
    va_end(ap);
    clean(f->message);
    find_param(f);
}

const char *fault_type_openai(const struct fault *f)
{
    switch (f->status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    default:
        return f->status < 500 ? "invalid_request_error" : "server_error";
    }
}

static const char *type_anthropic(const struct fault *f)
{
    switch (f->status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    default:
        return f->status < 500 ? "invalid_request_error" : "api_error";
    }
}

void fault_write_inner(const struct fault *f, struct buf *out)
{
    buf_add_str(out, "{\"message\": ");
    json_text_write_str(out, str_of(f->message));
    buf_addf(out, ", \"type\": \"%s\", \"param\": ", fault_type_openai(f));
    if (f->param[0])
        json_text_write_str(out, str_of(f->param));
    else
        buf_add_str(out, "null");
    if (f->code)
        buf_addf(out, ", \"code\": \"%s\"}", f->code);
    else
        buf_add_str(out, ", \"code\": null}");
}

void fault_write_openai(const struct fault *f, struct buf *out)
{
    buf_add_str(out, "{\"error\": ");
    fault_write_inner(f, out);
    buf_add_str(out, "}");
}

void fault_write_anthropic(const struct fault *f, struct buf *out)
{
    buf_addf(out, "{\"type\": \"error\", \"error\": {\"type\": \"%s\", \"message\": ",
             type_anthropic(f));
    json_text_write_str(out, str_of(f->message));
    buf_add_str(out, "}}");
}
