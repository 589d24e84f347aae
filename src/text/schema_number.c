/* text/schema_number.c - numbers of a JSON schema; see grammar_build.h.
 *
 * Bounds are followed exactly where they are whole numbers: for integers, and for numbers, which
 * are then written without an exponent. Digits are limited, so that what comes fits 64 bits, and a
 * model that is lost in digits comes to an end. */
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "text/grammar_build.h"

#define DIGITS 18 /* of a whole number: always less than 2^63 */
#define LARGEST ((int64_t)999999999999999999)

static int32_t digits(struct gb *b, char lo, char hi, int32_t least, int32_t most)
{
    struct gb_range range = {lo, hi};
    return gb_repeat(b, gb_class(b, &range, 1, /*inverted=*/false), least, most);
}

/* ---- whole numbers from lo to hi, both of the same number of digits ---- */

/* Digits at and on of numbers between lo and hi, whose digits before are the same. */
static int32_t between(struct gb *b, const char *lo, const char *hi)
{
    size_t n = strlen(lo);
    int32_t list = gb_list(b, GB_CHOICE);
    if (n == 0)
        return gb_literal(b, STR_LIT(""));
    if (strspn(lo, "0") == n && strspn(hi, "9") == n)
        return digits(b, '0', '9', (int32_t)n, (int32_t)n);
    char nines[DIGITS + 2], zeros[DIGITS + 2], from = lo[0], to = hi[0];
    memset(nines, '9', n - 1);
    memset(zeros, '0', n - 1);
    nines[n - 1] = zeros[n - 1] = 0;
    bool low_whole = strspn(lo + 1, "0") == n - 1, high_whole = strspn(hi + 1, "9") == n - 1;
    if (from == to || !low_whole) { /* numbers that begin as lo does */
        int32_t part = gb_list(b, GB_SEQUENCE);
        gb_add(b, part, gb_literal(b, (struct str){lo, 1}));
        gb_add(b, part, between(b, lo + 1, from == to ? hi + 1 : nines));
        gb_add(b, list, part);
        from++;
    }
    if (to >= from && !high_whole) { /* as hi does */
        int32_t part = gb_list(b, GB_SEQUENCE);
        gb_add(b, part, gb_literal(b, (struct str){hi, 1}));
        gb_add(b, part, between(b, zeros, hi + 1));
        gb_add(b, list, part);
        to--;
    }
    if (from <= to) {
        int32_t part = gb_list(b, GB_SEQUENCE);
        gb_add(b, part, digits(b, from, to, 1, 1));
        gb_add(b, part, digits(b, '0', '9', (int32_t)n - 1, (int32_t)n - 1));
        gb_add(b, list, part);
    }
    return list;
}

/* Whole numbers from lo to hi, 0 <= lo <= hi <= LARGEST, without leading zeros; each followed by
 * the choice or sequence that tail makes. */
static int32_t whole(struct gb *b, int64_t lo, int64_t hi)
{
    int32_t list = gb_list(b, GB_CHOICE);
    char from[DIGITS + 2], to[DIGITS + 2];
    int64_t end = 9;
    for (int64_t at = lo; at <= hi; at = end + 1) {
        while (end < at)
            end = end * 10 + 9;
        snprintf(from, sizeof from, "%lld", (long long)at);
        snprintf(to, sizeof to, "%lld", (long long)(end < hi ? end : hi));
        gb_add(b, list, between(b, from, to));
    }
    return list;
}

/* ---- bounds ---- */

struct bound {
    bool is, open; /* open: the number itself is outside */
    int64_t at;
};

/* Numbers y >= 0 with lo <= y <= hi, as text without a sign. */
static int32_t magnitude(struct gb *b, struct bound lo, struct bound hi, bool integer)
{
    int32_t list = gb_list(b, GB_CHOICE);
    int64_t from = lo.at + (lo.open && integer),
            to = hi.is ? hi.at - (hi.open && integer) : LARGEST;
    if (integer) {
        if (from <= to)
            gb_add(b, list, whole(b, from, to));
        return list;
    }
    /* Whole parts whose every fraction is inside. */
    int64_t inner = from + lo.open, last = hi.is ? to - 1 : to;
    if (inner <= last) {
        int32_t part = gb_list(b, GB_SEQUENCE), fraction = gb_list(b, GB_SEQUENCE);
        gb_add(b, part, whole(b, inner, last));
        gb_add_text(b, fraction, ".");
        gb_add(b, fraction, digits(b, '0', '9', 1, DIGITS));
        gb_add(b, part, gb_repeat(b, fraction, 0, 1));
        gb_add(b, list, part);
    }
    if (lo.open && lo.at <= last) { /* the bound with a fraction that is not zero */
        int32_t part = gb_list(b, GB_SEQUENCE);
        gb_add(b, part, whole(b, lo.at, lo.at));
        gb_add_text(b, part, ".");
        gb_add(b, part, digits(b, '0', '0', 0, DIGITS));
        gb_add(b, part, digits(b, '1', '9', 1, 1));
        gb_add(b, part, digits(b, '0', '9', 0, DIGITS));
        gb_add(b, list, part);
    }
    if (hi.is && !hi.open && (hi.at > lo.at || (hi.at == lo.at && !lo.open))) {
        int32_t part = gb_list(b, GB_SEQUENCE), fraction = gb_list(b, GB_SEQUENCE);
        gb_add(b, part, whole(b, hi.at, hi.at));
        gb_add_text(b, fraction, ".");
        gb_add(b, fraction, digits(b, '0', '0', 1, DIGITS));
        gb_add(b, part, gb_repeat(b, fraction, 0, 1));
        gb_add(b, list, part);
    }
    return list;
}

static int32_t bounded(struct schema *s, struct bound lo, struct bound hi, bool integer)
{
    struct gb *b = s->b;
    int32_t list = gb_list(b, GB_CHOICE);
    struct bound zero = {.is = true};
    bool none = lo.is && hi.is &&
                (lo.at > hi.at || (lo.at == hi.at && (lo.open || hi.open)) ||
                 (integer && lo.at + lo.open > hi.at - hi.open));
    if (none)
        return schema_refuse(s, "minimum", "leaves no number");
    if (!hi.is || hi.at > 0 || (hi.at == 0 && !hi.open)) {
        struct bound from = lo.is && lo.at >= 0 ? lo : zero;
        gb_add(b, list, magnitude(b, from, hi, integer));
    }
    if (!lo.is || lo.at < 0) {
        /* The mirror: from -hi, at least above 0, to -lo. */
        struct bound from = {.is = true, .open = true};
        struct bound to = {lo.is, lo.open, lo.is ? -lo.at : 0};
        if (hi.is && (hi.at < 0 || (hi.at == 0 && hi.open)))
            from = (struct bound){true, hi.open, -hi.at};
        int32_t part = gb_list(b, GB_SEQUENCE);
        gb_add_text(b, part, "-");
        gb_add(b, part, magnitude(b, from, to, integer));
        gb_add(b, list, part);
    }
    return list;
}

/* keyword's value into *to, if it is narrower; open: of exclusiveMinimum and -Maximum. */
static bool read_bound(struct schema *s, struct json_object *schema, const char *key, bool integer,
                       struct bound *to)
{
    struct json_object *value = schema ? json_object_object_get(schema, key) : NULL;
    bool open = key[0] == 'e', lower = strstr(key, "inimum") != NULL;
    if (!value)
        return true;
    double x = json_object_get_double(value);
    bool number =
        json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
    if (!number || !(fabs(x) <= 1e15) || (x != floor(x) && !integer)) {
        schema_refuse(s, key, "is supported for whole numbers of at most 15 digits only");
        return false;
    }
    if (x != floor(x)) { /* of an integer: the next one inside */
        x = lower ? ceil(x) : floor(x);
        open = false;
    }
    int64_t at = (int64_t)x;
    bool narrower = !to->is || (lower ? at > to->at : at < to->at) || (at == to->at && open);
    if (narrower)
        *to = (struct bound){true, open, at};
    return true;
}

int32_t schema_number(struct schema *s, struct json_object *schema, bool integer)
{
    struct gb *b = s->b;
    struct bound lo = {0}, hi = {0};
    if (!read_bound(s, schema, "minimum", integer, &lo) ||
        !read_bound(s, schema, "exclusiveMinimum", integer, &lo) ||
        !read_bound(s, schema, "maximum", integer, &hi) ||
        !read_bound(s, schema, "exclusiveMaximum", integer, &hi))
        return 0;
    if (lo.is || hi.is)
        return bounded(s, lo, hi, integer);
    int32_t list = gb_list(b, GB_SEQUENCE), choice = gb_list(b, GB_CHOICE),
            more = gb_list(b, GB_SEQUENCE);
    gb_add(b, list, gb_repeat(b, gb_literal(b, STR_LIT("-")), 0, 1));
    gb_add_text(b, choice, "0");
    gb_add(b, more, digits(b, '1', '9', 1, 1));
    gb_add(b, more, digits(b, '0', '9', 0, DIGITS - 1));
    gb_add(b, choice, more);
    gb_add(b, list, choice);
    if (integer)
        return list;
    int32_t fraction = gb_list(b, GB_SEQUENCE), power = gb_list(b, GB_SEQUENCE);
    static const struct gb_range e[] = {{'e', 'e'}, {'E', 'E'}}, sign[] = {{'+', '+'}, {'-', '-'}};
    gb_add_text(b, fraction, ".");
    gb_add(b, fraction, digits(b, '0', '9', 1, DIGITS));
    gb_add(b, list, gb_repeat(b, fraction, 0, 1));
    gb_add(b, power, gb_class(b, e, 2, false));
    gb_add(b, power, gb_repeat(b, gb_class(b, sign, 2, false), 0, 1));
    gb_add(b, power, digits(b, '0', '9', 1, 2));
    gb_add(b, list, gb_repeat(b, power, 0, 1));
    return list;
}
