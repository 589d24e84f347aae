/* text/schema_pattern.c - regular expressions of a JSON schema (ECMA-262), as far as they are
 * regular: groups, choices, classes, \d \w \s, repetitions (greedy or not is one for a grammar), ^
 * at the beginning and $ at the end. Without them the pattern may lie anywhere in the text. */
#include <ctype.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "text/grammar_build.h"
#include "text/utf8.h"

#define UNICODE_MAX 0x10FFFF
enum { MAX_PARTS = 128 };

struct pattern {
    struct gb *b;
    const char *at, *end;
    enum schema_quote quote;
    const char *why;
    int depth;
};

/* A set of characters while it is read. */
struct set {
    struct gb_range range[MAX_PARTS + 64];
    int n;
};

static int32_t choice(struct pattern *p);

static int32_t refuse(struct pattern *p, const char *why)
{
    p->why = p->why ? p->why : why;
    return 0;
}

static bool more(const struct pattern *p)
{
    return p->at < p->end && !p->why && p->b->status == SLUICE_OK;
}

static bool take(struct pattern *p, char c)
{
    if (!more(p) || *p->at != c)
        return false;
    p->at++;
    return true;
}

static void put(struct pattern *p, struct set *s, int32_t lo, int32_t hi)
{
    if (s->n >= MAX_PARTS)
        refuse(p, "a class has too many parts");
    else
        s->range[s->n++] = (struct gb_range){lo, hi};
}

/* \d, \w, \s and their opposites; false if c is none of them. */
static bool shorthand(struct pattern *p, char c, struct set *s)
{
    static const struct gb_range digit[] = {{'0', '9'}},
                                 word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                                 space[] = {{'\t', '\r'}, {' ', ' '}};
    char kind = (char)tolower((unsigned char)c);
    const struct gb_range *of = kind == 'd' ? digit : kind == 'w' ? word : space;
    int n = kind == 'd' ? 1 : kind == 'w' ? 4 : 2;
    struct gb_range out[6];
    if (kind != 'd' && kind != 'w' && kind != 's')
        return false;
    n = gb_ranges(of, n, c != kind, out);
    for (int i = 0; i < n; i++)
        put(p, s, out[i].lo, out[i].hi);
    return true;
}

static int32_t hex(struct pattern *p, int digits)
{
    int32_t value = 0;
    for (int i = 0; i < digits; i++) {
        if (!more(p) || !isxdigit((unsigned char)*p->at))
            return refuse(p, "an escape lacks digits");
        int c = tolower((unsigned char)*p->at++);
        value = value << 4 | (isdigit(c) ? c - '0' : c - 'a' + 10);
    }
    return value;
}

/* The character behind a backslash. */
static int32_t escaped(struct pattern *p)
{
    static const char from[] = "nrtfv0", to[] = "\n\r\t\f\v\0";
    char c = more(p) ? *p->at++ : 0;
    const char *known = c ? strchr(from, c) : NULL;
    if (known)
        return to[known - from];
    if (c == 'x' || c == 'u')
        return hex(p, c == 'x' ? 2 : 4);
    if (c == 0 || isalnum((unsigned char)c) || (unsigned char)c >= 0x80)
        return refuse(p, "an escape that is not known");
    return c;
}

static int32_t character(struct pattern *p)
{
    int32_t cp = 0;
    size_t n = utf8_next(p->at, (size_t)(p->end - p->at), &cp);
    if (cp < 0)
        return refuse(p, "it is not UTF-8");
    p->at += n;
    return cp;
}

static int32_t emit(struct pattern *p, const struct set *s, bool inverted)
{
    struct gb_range out[MAX_PARTS + 65];
    int n = gb_ranges(s->range, s->n, inverted, out);
    return p->why ? 0 : schema_class(p->b, out, n, p->quote);
}

static int32_t class(struct pattern *p)
{
    struct set s = {.n = 0};
    bool inverted = take(p, '^');
    while (more(p) && *p->at != ']') {
        bool whole = false;
        int32_t lo;
        if (take(p, '\\')) {
            if (more(p) && *p->at == 'b') {
                p->at++;
                lo = '\b';
            } else if (more(p) && shorthand(p, *p->at, &s)) {
                p->at++;
                whole = true;
                lo = 0;
            } else {
                lo = escaped(p);
            }
        } else {
            lo = character(p);
        }
        int32_t hi = lo;
        if (more(p) && *p->at == '-' && p->at + 1 < p->end && p->at[1] != ']') {
            p->at++;
            if (whole)
                return refuse(p, "a range from a class");
            hi = take(p, '\\') ? escaped(p) : character(p);
        }
        if (hi < lo)
            return refuse(p, "a range out of order");
        if (!whole)
            put(p, &s, lo, hi);
    }
    return take(p, ']') ? emit(p, &s, inverted) : refuse(p, "a class without an end");
}

static int32_t group(struct pattern *p)
{
    if (take(p, '?') && !take(p, ':'))
        return refuse(p, "groups that look ahead or behind, or have names");
    if (++p->depth > LIMIT_GRAMMAR_NEST)
        return refuse(p, "groups lie too deep in each other");
    int32_t made = choice(p);
    p->depth--;
    return take(p, ')') ? made : refuse(p, "a group without an end");
}

static int32_t atom(struct pattern *p)
{
    struct set s = {.n = 0};
    if (take(p, '('))
        return group(p);
    if (take(p, '['))
        return class(p);
    if (take(p, '.')) {
        put(p, &s, '\n', '\n');
        put(p, &s, '\r', '\r');
        put(p, &s, 0x2028, 0x2029);
        return emit(p, &s, /*inverted=*/true);
    }
    if (strchr("^$*+?{}", *p->at))
        return refuse(p, "^ or $ inside, or a repetition of nothing");
    int32_t c;
    if (take(p, '\\')) {
        if (more(p) && shorthand(p, *p->at, &s)) {
            p->at++;
            return emit(p, &s, false);
        }
        c = escaped(p);
    } else {
        c = character(p);
    }
    put(p, &s, c, c);
    return emit(p, &s, false);
}

static int32_t number(struct pattern *p)
{
    int32_t n = 0;
    if (!more(p) || !isdigit((unsigned char)*p->at))
        return refuse(p, "a repetition without a number");
    for (; more(p) && isdigit((unsigned char)*p->at); p->at++)
        n = n > LIMIT_GRAMMAR_COUNT ? n : 10 * n + (*p->at - '0');
    return n;
}

static int32_t repeated(struct pattern *p)
{
    int32_t made = atom(p), least = 0, most = GB_NO_LIMIT;
    if (!more(p) || !strchr("*+?{", *p->at))
        return made;
    char c = *p->at++;
    if (c == '{') {
        least = most = number(p);
        if (take(p, ','))
            most = more(p) && *p->at == '}' ? GB_NO_LIMIT : number(p);
        if (!take(p, '}'))
            return refuse(p, "a repetition without an end");
    } else {
        least = c == '+';
        most = c == '?' ? 1 : GB_NO_LIMIT;
    }
    take(p, '?');
    if (more(p) && strchr("*+?{", *p->at))
        return refuse(p, "a repetition of a repetition");
    return p->why ? 0 : gb_repeat(p->b, made, least, most);
}

static int32_t sequence(struct pattern *p)
{
    int32_t list = gb_list(p->b, GB_SEQUENCE);
    while (more(p) && *p->at != '|' && *p->at != ')')
        gb_add(p->b, list, repeated(p));
    return list;
}

static int32_t choice(struct pattern *p)
{
    int32_t list = gb_list(p->b, GB_CHOICE);
    do
        gb_add(p->b, list, sequence(p));
    while (take(p, '|'));
    return list;
}

/* Does a choice stand outside of groups? ^ and $ then belong to its ends only. */
static bool has_choice(struct str t)
{
    int depth = 0;
    bool class = false;
    for (size_t i = 0; i < t.len; i++) {
        char c = t.at[i];
        if (c == '\\')
            i++;
        else if (class)
            class = c != ']';
        else if (c == '[')
            class = true;
        else if (c == '(' || c == ')')
            depth += c == '(' ? 1 : -1;
        else if (c == '|' && depth == 0)
            return true;
    }
    return false;
}

int32_t schema_pattern(struct gb *b, struct str text, enum schema_quote quote, const char **why)
{
    static const struct gb_range all = {0, UNICODE_MAX};
    struct pattern p = {.b = b, .at = text.at, .end = text.at + text.len, .quote = quote};
    bool begins = text.len > 0 && text.at[0] == '^';
    size_t slashes = 0;
    while (slashes + 1 < text.len && text.at[text.len - 2 - slashes] == '\\')
        slashes++;
    bool ends = text.len > begins && text.at[text.len - 1] == '$' && slashes % 2 == 0;
    p.at += begins;
    p.end -= ends;
    if ((begins || ends) && has_choice((struct str){p.at, (size_t)(p.end - p.at)})) {
        *why = "a choice beside ^ or $: put it in a group";
        return 0;
    }
    int32_t list = gb_list(b, GB_SEQUENCE);
    if (!begins)
        gb_add(b, list, gb_repeat(b, schema_class(b, &all, 1, quote), 0, GB_NO_LIMIT));
    gb_add(b, list, choice(&p));
    if (!ends)
        gb_add(b, list, gb_repeat(b, schema_class(b, &all, 1, quote), 0, GB_NO_LIMIT));
    if (!p.why && p.at < p.end)
        refuse(&p, "a \")\" without its \"(\"");
    *why = p.why;
    return p.why ? 0 : list;
}
