/* text/schema_text.c - strings of a JSON schema, without their quotes; see grammar_build.h.
 *
 * In JSON a character is spelled as json.dumps would, but in strings without a pattern \u and \/
 * may occur too. In a parameter of a call a string is itself, and ends where "</｜DSML｜" begins.
 */
#include <json-c/json.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "text/grammar_build.h"

#define BAR 0xFF5C
#define UNICODE_MAX 0x10FFFF

static const struct {
    char c;
    const char *spelled;
} escapes[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"},
               {'\n', "\\n"}, {'\r', "\\r"},  {'\t', "\\t"}};
enum { N_ESCAPES = sizeof escapes / sizeof *escapes };

static bool holds(const struct gb_range *range, int n, int32_t c)
{
    for (int i = 0; i < n; i++)
        if (range[i].lo <= c && c <= range[i].hi)
            return true;
    return false;
}

/* The part of the ranges that lies in lo..hi. */
static int within(const struct gb_range *range, int n, int32_t lo, int32_t hi, struct gb_range *out)
{
    int k = 0;
    for (int i = 0; i < n; i++) {
        struct gb_range r = {range[i].lo > lo ? range[i].lo : lo,
                             range[i].hi < hi ? range[i].hi : hi};
        if (r.lo <= r.hi)
            out[k++] = r;
    }
    return k;
}

enum { MAX_RANGES = 520 };

static int32_t raw_class(struct gb *b, const struct gb_range *range, int n)
{
    struct gb_range out[2 * MAX_RANGES];
    int k = within(range, n, 1, BAR - 1, out);
    k += within(range, n, BAR + 1, UNICODE_MAX, out + k);
    return gb_class(b, out, k, /*inverted=*/false);
}

int32_t schema_class(struct gb *b, const struct gb_range *range, int n, enum schema_quote quote)
{
    SLUICE_ASSERT(n <= MAX_RANGES / 2);
    if (quote == SCHEMA_RAW)
        return raw_class(b, range, n);
    struct gb_range out[2 * MAX_RANGES];
    int k = within(range, n, 0x20, '"' - 1, out);
    k += within(range, n, '"' + 1, '\\' - 1, out + k);
    k += within(range, n, '\\' + 1, UNICODE_MAX, out + k);
    int32_t list = gb_list(b, GB_CHOICE);
    gb_add(b, list, gb_class(b, out, k, /*inverted=*/false));
    for (int i = 0; i < N_ESCAPES; i++)
        if (holds(range, n, escapes[i].c))
            gb_add_text(b, list, escapes[i].spelled);
    for (int32_t c = 0; c < 0x20; c++) {
        char text[8];
        bool named = false;
        for (int i = 0; i < N_ESCAPES; i++)
            named |= escapes[i].c == c;
        if (named || !holds(range, n, c))
            continue;
        snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
        gb_add_text(b, list, text);
    }
    return list;
}

/* ---- any character ---- */

static int32_t hex_digit(struct gb *b, const char *from_to)
{
    struct gb_range range[4];
    int n = 0;
    for (const char *p = from_to; *p; p += 2)
        range[n++] = (struct gb_range){p[0], p[1]};
    return gb_class(b, range, n, /*inverted=*/false);
}

/* \u and four digits, each of a class: pairs of first and last. */
static void add_code(struct gb *b, int32_t list, const char *one, const char *two)
{
    gb_add_text(b, list, "\\u");
    gb_add(b, list, hex_digit(b, one));
    gb_add(b, list, hex_digit(b, two));
    for (int i = 0; i < 2; i++)
        gb_add(b, list, hex_digit(b, "09afAF"));
}

/* One character of a JSON string, however it is spelled. */
static int32_t json_character(struct gb *b)
{
    static const struct gb_range all = {0, UNICODE_MAX};
    int32_t list = gb_list(b, GB_CHOICE);
    gb_add(b, list, schema_class(b, &all, 1, SCHEMA_JSON));
    gb_add_text(b, list, "\\/");
    static const char *const plain[][2] = {
        {"09acAC", "09afAF"}, {"ddDD", "07"}, {"efEF", "09afAF"}};
    for (int i = 0; i < 3; i++) {
        int32_t code = gb_list(b, GB_SEQUENCE);
        add_code(b, code, plain[i][0], plain[i][1]);
        gb_add(b, list, code);
    }
    int32_t pair = gb_list(b, GB_SEQUENCE);
    add_code(b, pair, "ddDD", "89abAB");
    add_code(b, pair, "ddDD", "cfCF");
    gb_add(b, list, pair);
    return list;
}

/* A state of the search for "</" BAR or "</DSML" BAR in a raw text: rule i has seen the first i
 * characters of "</DSML". */
static int32_t raw_text(struct schema *s)
{
    static const char sought[] = "</DSML";
    enum { N = sizeof sought - 1 };
    struct gb *b = s->b;
    int32_t rule[N + 1];
    if (s->raw >= 0)
        return gb_ref(b, s->raw);
    for (int i = 0; i <= N; i++)
        rule[i] = gb_rule(b, "text of a parameter");
    for (int i = 0; i <= N; i++) {
        int32_t list = gb_list(b, GB_CHOICE), other = gb_list(b, GB_SEQUENCE);
        struct gb_range not [4] = {{0, 0}, {'<', '<'}};
        int n = 2;
        if (i > 0 && i < N)
            not [n++] = (struct gb_range){sought[i], sought[i]};
        if (i == 2 || i == N)
            not [n++] = (struct gb_range){BAR, BAR};
        gb_add(b, other, gb_class(b, not, n, /*inverted=*/true));
        gb_add(b, other, gb_ref(b, rule[0]));
        gb_add(b, list, other);
        for (int k = 0; k < 2; k++) { /* on, or "<" again */
            char c[2] = {k ? '<' : i < N ? sought[i] : 0};
            if (!c[0] || (k && i == 0))
                continue;
            int32_t on = gb_list(b, GB_SEQUENCE);
            gb_add_text(b, on, c);
            gb_add(b, on, gb_ref(b, rule[k ? 1 : i + 1]));
            gb_add(b, list, on);
        }
        gb_add_text(b, list, "");
        gb_define(b, rule[i], list);
    }
    s->raw = rule[0];
    return gb_ref(b, s->raw);
}

/* ---- formats ---- */

#define DAY31 "(0[1-9]|[12][0-9]|3[01])"
#define DAY30 "(0[1-9]|[12][0-9]|30)"
#define DAY28 "(0[1-9]|1[0-9]|2[0-8])"
#define DATE "[0-9]{4}-((0[13578]|1[02])-" DAY31 "|(0[469]|11)-" DAY30 "|02-" DAY28 ")"
#define TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?"
#define ZONE "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define HEX4 "[0-9a-f]{4}"

/* Texts that have the format; not all that have (no 29 February, no quoted mail names). */
static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME ZONE "$"},
    {"date-time", "^" DATE "T" TIME ZONE "$"},
    {"duration", "^P([0-9]{1,9}W|[0-9]{1,9}D|[0-9]{1,9}M|[0-9]{1,9}Y|T[0-9]{1,9}[HMS])$"},
    {"uuid", "^" HEX4 HEX4 "-" HEX4 "-" HEX4 "-" HEX4 "-" HEX4 HEX4 HEX4 "$"},
    {"email", "^[a-zA-Z0-9_+-]+(\\.[a-zA-Z0-9_+-]+)*@" LABEL "(\\." LABEL "){1,4}$"},
    {"hostname", "^" LABEL "(\\." LABEL "){0,4}$"},
    {"ipv4", "^" OCTET "(\\." OCTET "){3}$"},
    {"uri", "^[a-z][a-z0-9+.-]*://" LABEL "(\\." LABEL "){0,4}(:[0-9]{1,4})?"
            "(/[a-zA-Z0-9._~!$&'()*+,;=:@-]*)*(\\?[a-zA-Z0-9._~!$&'()*+,;=:@/?-]*)?$"},
};

static int32_t pattern_of(struct schema *s, const char *keyword, struct str pattern,
                          enum schema_quote quote)
{
    const char *why = NULL;
    int32_t made = schema_pattern(s->b, pattern, quote, &why);
    if (!made && why) {
        char text[120];
        snprintf(text, sizeof text, "is not supported: %s", why);
        return schema_refuse(s, keyword, text);
    }
    return made;
}

static int32_t formatted(struct schema *s, struct json_object *format, enum schema_quote quote)
{
    const char *name =
        json_object_is_type(format, json_type_string) ? json_object_get_string(format) : "";
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0)
            return pattern_of(s, "format", str_of(formats[i].pattern), quote);
    char why[160];
    snprintf(why, sizeof why,
             "\"%.40s\" is not supported, but date, time, date-time, duration, uuid, email, "
             "hostname, ipv4 and uri are",
             name);
    return schema_refuse(s, "format", why);
}

int32_t schema_text(struct schema *s, struct json_object *schema, enum schema_quote quote)
{
    static const struct gb_range all = {0, UNICODE_MAX};
    struct json_object *pattern = schema_get(schema, "pattern"),
                       *format = schema_get(schema, "format");
    bool length = schema_get(schema, "minLength") || schema_get(schema, "maxLength");
    if (pattern && (format || length))
        return schema_refuse(s, "pattern",
                             "beside format, minLength or maxLength is not supported");
    if (format && length)
        return schema_refuse(s, "format", "beside minLength or maxLength is not supported");
    if (pattern && !json_object_is_type(pattern, json_type_string))
        return schema_refuse(s, "pattern", "must be a string");
    if (format)
        return formatted(s, format, quote);
    if (pattern)
        return pattern_of(s, "pattern",
                          (struct str){json_object_get_string(pattern),
                                       (size_t)json_object_get_string_len(pattern)},
                          quote);
    if (quote == SCHEMA_RAW && !length)
        return raw_text(s);
    int32_t least = schema ? schema_count(s, schema, "minLength", 0) : 0;
    int32_t most = schema ? schema_count(s, schema, "maxLength", GB_NO_LIMIT) : GB_NO_LIMIT;
    if (least > most)
        return schema_refuse(s, "minLength", "is more than maxLength");
    int32_t one =
        quote == SCHEMA_JSON ? json_character(s->b) : schema_class(s->b, &all, 1, SCHEMA_RAW);
    return gb_repeat(s->b, one, least, most);
}
