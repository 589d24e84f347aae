/* base/json_text.c - see json_text.h. */
#include "base/json_text.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

/* ---- reading ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The code unit of "\uXXXX" at p, or -1. */
static int escaped_unit(const char *p, const char *end)
{
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return -1;
    int unit = 0;
    for (int i = 2; i < 6; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

static void add_supplementary(struct buf *b, int high, int low)
{
    unsigned c = 0x10000 + ((unsigned)(high - 0xd800) << 10) + (unsigned)(low - 0xdc00);
    char utf8[4] = {(char)(0xf0 | c >> 18), (char)(0x80 | (c >> 12 & 63)),
                    (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63))};
    buf_add(b, utf8, 4);
}

/* Copies one escape at p to b with surrogates resolved; returns its length. */
static size_t copy_escape(struct buf *b, const char *p, const char *end)
{
    int unit = escaped_unit(p, end);
    if (unit < 0xd800 || unit > 0xdfff) {
        size_t n = end - p < 2 ? 1 : 2;
        buf_add(b, p, n);
        return n;
    }
    int low = unit < 0xdc00 ? escaped_unit(p + 6, end) : -1;
    if (low >= 0xdc00 && low <= 0xdfff) {
        add_supplementary(b, unit, low);
        return 12;
    }
    buf_add_str(b, "\xef\xbf\xbd");
    return 6;
}

/* Length of a number's text at p that no 64-bit integer type holds, else 0. */
static size_t oversized_integer(const char *p, const char *end)
{
    const char *digits = p + (*p == '-'), *q = digits;
    while (q < end && *q >= '0' && *q <= '9')
        q++;
    if (q == digits || (q < end && (*q == '.' || *q == 'e' || *q == 'E')))
        return 0;
    char text[32];
    size_t n = (size_t)(q - p);
    if (n < sizeof text) {
        memcpy(text, p, n);
        text[n] = 0;
        errno = 0;
        if (*p == '-')
            strtoll(text, NULL, 10);
        else
            strtoull(text, NULL, 10);
        if (errno == 0)
            return 0;
    }
    return n;
}

/* The text with surrogates resolved (json-c joins them wrongly when other text follows). */
static enum sluice_status prepare(struct buf *b, const char *text, size_t len,
                                  struct sluice_error *err)
{
    const char *p = text, *end = text + len;
    bool in_string = false, in_number = false;
    while (p < end) {
        if (in_string && *p == '\\') {
            p += copy_escape(b, p, end);
            continue;
        }
        if (!in_string && (*p == '\'' || *p == '/')) /* json-c takes them; JSON does not */
            return status_fail(err, SLUICE_ERR_FORMAT, p - text,
                               "JSON: unexpected character '%c' at byte %td", *p, p - text);
        if (*p == '"')
            in_string = !in_string;
        bool number = !in_string && *p && strchr("-+.eE0123456789", *p);
        if (number && !in_number && oversized_integer(p, end))
            return status_fail(err, SLUICE_ERR_FORMAT, p - text,
                               "JSON integer %.*s...: expected one of at most 64 bits", 20, p);
        in_number = number;
        const char *run = p++;
        while (p < end && in_string && *p != '\\' && *p != '"')
            p++;
        buf_add(b, run, (size_t)(p - run));
    }
    return buf_status(b, err);
}

static enum sluice_status parse_prepared(struct json_tokener *tokener, const struct buf *b,
                                         struct json_object **out, struct sluice_error *err)
{
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    /* The terminating NUL is passed too: it ends a number at the top level. */
    struct json_object *value = json_tokener_parse_ex(tokener, b->data, (int)b->len + 1);
    enum json_tokener_error code = json_tokener_get_error(tokener);
    size_t at = json_tokener_get_parse_end(tokener);
    if (code != json_tokener_success) {
        json_object_put(value);
        return status_fail(err, SLUICE_ERR_FORMAT, (int64_t)at, "JSON: %s at byte %zu of %zu",
                           code == json_tokener_continue ? "unexpected end"
                                                         : json_tokener_error_desc(code),
                           at, b->len);
    }
    while (at < b->len && strchr(" \t\r\n", b->data[at]))
        at++;
    if (at < b->len) {
        json_object_put(value);
        return status_fail(err, SLUICE_ERR_FORMAT, (int64_t)at,
                           "JSON: expected the end at byte %zu, found more text", at);
    }
    *out = value;
    return SLUICE_OK;
}

enum sluice_status json_text_parse(const char *text, size_t len, struct json_object **out,
                                   struct sluice_error *err)
{
    *out = NULL;
    FAIL_IF(len > LIMIT_JSON_BYTES, err, SLUICE_ERR_LIMIT, "JSON of %zu bytes: at most %zu", len,
            (size_t)LIMIT_JSON_BYTES);
    const char *nul = memchr(text, 0, len);
    if (nul)
        return status_fail(err, SLUICE_ERR_FORMAT, nul - text, "JSON: NUL byte at byte %td",
                           nul - text);
    struct buf b;
    buf_init(&b, 0);
    buf_add(&b, "", 0);
    struct json_tokener *tokener = NULL;
    enum sluice_status st;
    TRY_OUT(prepare(&b, text, len, err));
    if (b.len == 0) {
        st = status_fail(err, SLUICE_ERR_FORMAT, 0, "JSON: expected a value, found nothing");
        goto out;
    }
    tokener = json_tokener_new_ex(LIMIT_JSON_DEPTH);
    if (!tokener) {
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory while reading JSON");
        goto out;
    }
    st = parse_prepared(tokener, &b, out, err);
out:
    if (tokener)
        json_tokener_free(tokener);
    buf_deinit(&b);
    return st;
}

/* ---- writing ---- */

void json_text_escape(struct buf *b, struct str text)
{
    size_t from = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_add(b, text.at + from, i - from);
        from = i + 1;
        static const char plain[] = "\"\\\n\r\t\b\f", letter[] = "\"\\nrtbf";
        const char *known = memchr(plain, c, sizeof plain - 1);
        if (known)
            buf_addf(b, "\\%c", letter[known - plain]);
        else
            buf_addf(b, "\\u%04x", c);
    }
    buf_add(b, text.at + from, text.len - from);
}

void json_text_write_str(struct buf *b, struct str text)
{
    buf_add_char(b, '"');
    json_text_escape(b, text);
    buf_add_char(b, '"');
}

void json_text_write_double(struct buf *b, double x)
{
    if (!isfinite(x)) {
        buf_add_str(b, isnan(x) ? "NaN" : x < 0 ? "-Infinity" : "Infinity");
        return;
    }
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, x);
        if (strtod(text, NULL) == x)
            break;
    }
    /* text is [-]d[.ddd]e[+-]xx; Python writes exponents outside [-4, 16) only. */
    char *e = strchr(text, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10);
    *e = 0;
    char digits[24];
    size_t n = 0;
    bool negative = text[0] == '-';
    for (const char *p = text + negative; *p; p++)
        if (*p != '.')
            digits[n++] = *p;
    if (negative)
        buf_add_char(b, '-');
    if (exponent < -4 || exponent >= 16) {
        buf_addf(b, "%s", text + negative);
        buf_addf(b, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0) {
        buf_addf(b, "0.%.*s", -exponent - 1, "000");
        buf_add(b, digits, n);
        return;
    }
    for (int i = 0; i <= exponent; i++)
        buf_add_char(b, (size_t)i < n ? digits[i] : '0');
    buf_add_char(b, '.');
    if (n > (size_t)exponent + 1)
        buf_add(b, digits + exponent + 1, n - (size_t)exponent - 1);
    else
        buf_add_char(b, '0');
}

static void write_object(struct buf *b, struct json_object *value)
{
    bool first = true;
    buf_add_char(b, '{');
    struct json_object_iterator it = json_object_iter_begin(value),
                                end = json_object_iter_end(value);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        if (!first)
            buf_add_str(b, ", ");
        first = false;
        json_text_write_str(b, str_of(json_object_iter_peek_name(&it)));
        buf_add_str(b, ": ");
        json_text_write(b, json_object_iter_peek_value(&it));
    }
    buf_add_char(b, '}');
}

static void write_array(struct buf *b, struct json_object *value)
{
    size_t n = json_object_array_length(value);
    buf_add_char(b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_add_str(b, ", ");
        json_text_write(b, json_object_array_get_idx(value, i));
    }
    buf_add_char(b, ']');
}

static void write_int(struct buf *b, struct json_object *value)
{
    int64_t i = json_object_get_int64(value);
    if (i == INT64_MAX)
        buf_addf(b, "%llu", (unsigned long long)json_object_get_uint64(value));
    else
        buf_addf(b, "%lld", (long long)i);
}

/* Depth is bounded by LIMIT_JSON_DEPTH, since values come from json_text_parse. */
void json_text_write(struct buf *b, struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        buf_add_str(b, "null");
        break;
    case json_type_boolean:
        buf_add_str(b, json_object_get_boolean(value) ? "true" : "false");
        break;
    case json_type_double:
        json_text_write_double(b, json_object_get_double(value));
        break;
    case json_type_int:
        write_int(b, value);
        break;
    case json_type_object:
        write_object(b, value);
        break;
    case json_type_array:
        write_array(b, value);
        break;
    case json_type_string:
        json_text_write_str(b, (struct str){json_object_get_string(value),
                                            (size_t)json_object_get_string_len(value)});
        break;
    }
}
