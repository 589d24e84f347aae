/* text/grammar_gbnf.c - reads a grammar's text; the notation is in grammar.h. */
#include <ctype.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/rng.h"
#include "text/grammar_build.h"
#include "text/utf8.h"

#define MAX_RULES 8192

struct reader {
    struct gb *b;
    const char *at, *end;
    int32_t line;
    int depth;
    int32_t slot[2 * MAX_RULES]; /* rules by the hash of their names, + 1 */
};

static int32_t choice(struct reader *r);

/* "grammar, line 3: expected ..., found ..." */
static int32_t expected(struct reader *r, const char *what)
{
    if (r->at == r->end)
        return gb_fail(r->b, SLUICE_ERR_ARG, "grammar, line %d: expected %s, found the end",
                       r->line, what);
    size_t n = (size_t)(r->end - r->at) < 20 ? (size_t)(r->end - r->at) : 20;
    const char *stop = memchr(r->at, '\n', n);
    n = stop ? (size_t)(stop - r->at) : n;
    return gb_fail(r->b, SLUICE_ERR_ARG, "grammar, line %d: expected %s, found \"%.*s\"", r->line,
                   what, (int)n, r->at);
}

static bool more(const struct reader *r)
{
    return r->at < r->end && r->b->status == SLUICE_OK;
}

/* Blanks and comments; line breaks too where a rule goes on whatever follows. */
static void skip(struct reader *r, bool lines)
{
    while (more(r)) {
        if (*r->at == '#') {
            while (r->at < r->end && *r->at != '\n')
                r->at++;
        } else if (*r->at == '\n' && lines) {
            r->line++;
            r->at++;
        } else if (*r->at == ' ' || *r->at == '\t' || *r->at == '\r') {
            r->at++;
        } else {
            return;
        }
    }
}

static bool take(struct reader *r, char c)
{
    if (!more(r) || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_';
}

static struct str name(struct reader *r)
{
    struct str n = {r->at, 0};
    while (r->at < r->end && is_name(*r->at))
        r->at++;
    n.len = (size_t)(r->at - n.at);
    return n;
}

/* The rule of that name; one that is not there yet is made, without a body. */
static int32_t find_rule(struct reader *r, struct str name)
{
    struct gb *b = r->b;
    char text[128];
    if (name.len >= sizeof text)
        return expected(r, "a rule's name of at most 127 characters");
    if (b->n_rule == MAX_RULES)
        return gb_fail(b, SLUICE_ERR_LIMIT, "grammar, line %d: more than %d rules", r->line,
                       MAX_RULES);
    uint64_t h = 0;
    for (size_t i = 0; i < name.len; i++)
        h = rng_mix(h + (unsigned char)name.at[i] + 1);
    int32_t *slot;
    while (*(slot = &r->slot[h++ % (2 * MAX_RULES)]))
        if (str_is(name, b->rule[*slot - 1].name))
            return *slot - 1;
    memcpy(text, name.at, name.len);
    text[name.len] = 0;
    int32_t made = gb_rule(b, text);
    if (b->status != SLUICE_OK)
        return 0;
    b->rule[made].line = r->line;
    *slot = made + 1;
    return made;
}

static int32_t hex(struct reader *r, int digits)
{
    int32_t value = 0;
    for (int i = 0; i < digits; i++) {
        if (!more(r) || !isxdigit((unsigned char)*r->at))
            return expected(r, "hexadecimal digits");
        int c = tolower((unsigned char)*r->at++);
        value = value << 4 | (isdigit(c) ? c - '0' : c - 'a' + 10);
        if (value > 0x10FFFF)
            return expected(r, "a code point of at most 10FFFF");
    }
    return value;
}

/* The next character of a literal or a class. */
static int32_t character(struct reader *r)
{
    static const char from[] = "nrt\\\"[]^-'/", to[] = "\n\r\t\\\"[]^-'/";
    if (!more(r) || *r->at == '\n')
        return expected(r, "the end of a literal or class on its line");
    if (!take(r, '\\')) {
        int32_t cp;
        size_t n = utf8_next(r->at, (size_t)(r->end - r->at), &cp);
        if (cp < 0)
            return expected(r, "UTF-8");
        r->at += n;
        return cp;
    }
    char c = r->at < r->end ? *r->at++ : 0;
    const char *p = c ? strchr(from, c) : NULL;
    if (p)
        return (unsigned char)to[p - from];
    if (c == 'x' || c == 'u' || c == 'U')
        return hex(r, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    r->at--;
    return expected(r, "an escape that is known");
}

static void put_utf8(struct buf *b, int32_t c)
{
    char out[4];
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(n == 1 ? c : (0xF00 >> n & 0xFF) | c);
    buf_add(b, out, (size_t)n);
}

static int32_t literal(struct reader *r)
{
    struct buf text;
    buf_init(&text, LIMIT_GRAMMAR_TEXT);
    while (r->b->status == SLUICE_OK && !take(r, '"')) {
        int32_t c = character(r);
        if (c >= 0xD800 && c < 0xE000)
            expected(r, "code points that are no surrogates");
        put_utf8(&text, c);
    }
    struct str view = {text.data ? text.data : "", text.len};
    int32_t made = gb_literal(r->b, view);
    buf_deinit(&text);
    return made;
}

static int32_t class(struct reader *r)
{
    struct gb_range range[256];
    int n = 0;
    bool inverted = take(r, '^');
    while (r->b->status == SLUICE_OK && !take(r, ']')) {
        if (n == 256)
            return expected(r, "at most 256 parts of a class");
        int32_t lo = character(r), hi = lo;
        if (more(r) && *r->at == '-' && r->at + 1 < r->end && r->at[1] != ']') {
            r->at++;
            hi = character(r);
        }
        if (hi < lo)
            return expected(r, "a range's characters in order");
        range[n++] = (struct gb_range){lo, hi};
    }
    return gb_class(r->b, range, n, inverted);
}

static int32_t group(struct reader *r)
{
    if (++r->depth > LIMIT_GRAMMAR_NEST)
        return gb_fail(r->b, SLUICE_ERR_LIMIT,
                       "grammar, line %d: more than %d groups in each other", r->line,
                       LIMIT_GRAMMAR_NEST);
    skip(r, true);
    int32_t made = choice(r);
    skip(r, true);
    if (r->b->status == SLUICE_OK && !take(r, ')'))
        return expected(r, "\")\"");
    r->depth--;
    return made;
}

/* A part of a sequence, without what repeats it; 0: none begins here. */
static int32_t part(struct reader *r)
{
    static const struct gb_range all = {0, 0x10FFFF};
    if (!more(r))
        return 0;
    if (take(r, '"'))
        return literal(r);
    if (take(r, '['))
        return class(r);
    if (take(r, '('))
        return group(r);
    if (take(r, '.'))
        return gb_class(r->b, &all, 1, false);
    if (!is_name(*r->at))
        return 0;
    const char *before = r->at;
    struct str n = name(r);
    skip(r, false);
    if (r->end - r->at >= 3 && memcmp(r->at, "::=", 3) == 0) { /* the next rule */
        r->at = before;
        return 0;
    }
    return gb_ref(r->b, find_rule(r, n));
}

static int32_t number(struct reader *r)
{
    int32_t n = 0;
    if (!more(r) || !isdigit((unsigned char)*r->at))
        return expected(r, "a number of repetitions");
    for (; more(r) && isdigit((unsigned char)*r->at); r->at++)
        n = n > LIMIT_GRAMMAR_COUNT ? n : 10 * n + (*r->at - '0');
    return n;
}

static int32_t counted(struct reader *r, int32_t made)
{
    skip(r, false);
    int32_t least = number(r), most = least;
    skip(r, false);
    if (take(r, ',')) {
        skip(r, false);
        most = more(r) && isdigit((unsigned char)*r->at) ? number(r) : GB_NO_LIMIT;
        skip(r, false);
    }
    if (r->b->status == SLUICE_OK && !take(r, '}'))
        return expected(r, "\"}\"");
    return gb_repeat(r->b, made, least, most);
}

static int32_t repeated(struct reader *r)
{
    int32_t made = part(r);
    for (int marks = 0; made && more(r); marks++) {
        skip(r, r->depth > 0);
        if (marks == LIMIT_GRAMMAR_NEST)
            return expected(r, "fewer repetitions of repetitions");
        if (take(r, '*'))
            made = gb_repeat(r->b, made, 0, GB_NO_LIMIT);
        else if (take(r, '+'))
            made = gb_repeat(r->b, made, 1, GB_NO_LIMIT);
        else if (take(r, '?'))
            made = gb_repeat(r->b, made, 0, 1);
        else if (take(r, '{'))
            made = counted(r, made);
        else
            break;
    }
    return made;
}

static int32_t sequence(struct reader *r)
{
    int32_t list = gb_list(r->b, GB_SEQUENCE);
    for (int32_t child; (child = repeated(r));) {
        gb_add(r->b, list, child);
        skip(r, r->depth > 0);
    }
    return list;
}

static int32_t choice(struct reader *r)
{
    int32_t first = sequence(r), list = 0;
    while (r->b->status == SLUICE_OK && take(r, '|')) {
        if (!list) {
            list = gb_list(r->b, GB_CHOICE);
            gb_add(r->b, list, first);
        }
        skip(r, true);
        gb_add(r->b, list, sequence(r));
    }
    return list ? list : first;
}

static void rule(struct reader *r)
{
    struct str n = name(r);
    if (n.len == 0) {
        expected(r, "a rule's name");
        return;
    }
    int32_t made = find_rule(r, n);
    skip(r, false);
    if (r->b->status == SLUICE_OK && (r->end - r->at < 3 || memcmp(r->at, "::=", 3) != 0))
        expected(r, "\"::=\"");
    if (r->b->status == SLUICE_OK && r->b->rule[made].body >= 0)
        gb_fail(r->b, SLUICE_ERR_ARG, "grammar, line %d: rule \"%.100s\" is defined twice", r->line,
                r->b->rule[made].name);
    if (r->b->status != SLUICE_OK)
        return;
    r->at += 3;
    skip(r, true);
    gb_define(r->b, made, choice(r));
    skip(r, false);
    if (more(r) && *r->at != '\n')
        expected(r, "a part of a rule or the end of the line");
}

int32_t gb_read_gbnf(struct gb *b, struct str text)
{
    struct reader r = {.b = b, .at = text.at, .end = text.at + text.len, .line = 1};
    if (text.len > LIMIT_GRAMMAR_TEXT)
        return gb_fail(b, SLUICE_ERR_LIMIT, "grammar: expected at most %zu bytes, found %zu",
                       LIMIT_GRAMMAR_TEXT, text.len);
    for (skip(&r, true); more(&r); skip(&r, true))
        rule(&r);
    for (int32_t i = 0; b->status == SLUICE_OK && i < b->n_rule; i++)
        if (strcmp(b->rule[i].name, "root") == 0)
            return i;
    return gb_fail(b, SLUICE_ERR_ARG, "grammar: expected a rule named root, found none");
}
