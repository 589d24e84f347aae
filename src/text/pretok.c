#include "text/pretok.h"

#include <utf8proc.h>

#include "text/utf8.h"

/* Classes of a character, as bits so that a rule's set is a mask. */
enum {
    CLASS_L = 1,      /* \p{L} */
    CLASS_M = 2,      /* \p{M} */
    CLASS_N = 4,      /* \p{N} */
    CLASS_PS = 8,     /* \p{P} or \p{S} */
    CLASS_SPACE = 16, /* White_Space, line ends included */
    CLASS_EOL = 32,   /* CR, LF */
    CLASS_CJK = 64,   /* the set of split 2 */
    CLASS_AZ = 128,   /* A-Z a-z */
    CLASS_PUNCT = 256 /* ASCII punctuation and symbols */
};

struct mark {
    unsigned class;
    unsigned len; /* bytes; 0 past the end */
};

static unsigned class_ascii(int32_t c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return CLASS_L | CLASS_AZ;
    if (c >= '0' && c <= '9')
        return CLASS_N;
    if (c == '\r' || c == '\n')
        return CLASS_SPACE | CLASS_EOL;
    if (c == ' ' || (c >= '\t' && c <= '\f'))
        return CLASS_SPACE;
    return c > ' ' && c < 0x7F ? CLASS_PS | CLASS_PUNCT : 0;
}

static bool is_white_space(int32_t c)
{
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static unsigned class_of(int32_t c)
{
    unsigned cjk = (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF) ? CLASS_CJK : 0;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CLASS_L | cjk;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return CLASS_M | cjk;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CLASS_N | cjk;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return CLASS_PS | cjk;
    default:
        return (is_white_space(c) ? CLASS_SPACE : 0) | cjk;
    }
}

static struct mark mark_at(struct str text, size_t at, size_t end)
{
    int32_t c;
    if (at >= end)
        return (struct mark){0, 0};
    size_t len = utf8_next(text.at + at, end - at, &c);
    if (len == 1 && c >= 0)
        return (struct mark){class_ascii(c), 1};
    if (len == 0 || c < 0)
        return (struct mark){0, 1};
    return (struct mark){class_of(c), (unsigned)len};
}

static size_t skip_run(struct str text, size_t at, size_t end, unsigned set)
{
    struct mark m = mark_at(text, at, end);
    while (m.class & set) {
        at += m.len;
        m = mark_at(text, at, end);
    }
    return at;
}

/* Splits 1 and 2: the end of the part that starts at p->at. A part of digits needs no split 3. */
static size_t find_part(const struct pretok *p, bool *digits)
{
    struct str text = p->text;
    struct mark m = mark_at(text, p->at, text.len);
    size_t at = p->at;
    *digits = m.class & CLASS_N;
    if (*digits) {
        for (int n = 0; n < 3 && m.class & CLASS_N; n++) {
            at += m.len;
            m = mark_at(text, at, text.len);
        }
        return at;
    }
    unsigned cjk = m.class & CLASS_CJK;
    while (m.len && !(m.class & CLASS_N) && (m.class & CLASS_CJK) == cjk) {
        at += m.len;
        m = mark_at(text, at, text.len);
    }
    return at;
}

/* The whitespace alternatives of split 3 for the run that starts at `at`. */
static size_t match_space(struct str text, size_t at, size_t end)
{
    size_t line_end = 0, last = at, run = at;
    for (;;) {
        struct mark m = mark_at(text, run, end);
        if (!(m.class & CLASS_SPACE))
            break;
        last = run;
        run += m.len;
        if (m.class & CLASS_EOL)
            line_end = run;
    }
    if (line_end)
        return line_end;
    /* \s+(?!\S): all of it at the end of the part, else all but the last; \s+ takes a lone one. */
    return run == end || last == at ? run : last;
}

/* Split 3 at one place: the end of the match that starts at `at`, or `at` if none does. */
static size_t match_rules(struct str text, size_t at, size_t end)
{
    struct mark m = mark_at(text, at, end);
    struct mark next = mark_at(text, at + m.len, end);
    if (m.class & CLASS_PUNCT && next.class & CLASS_AZ)
        return skip_run(text, at + 1, end, CLASS_AZ);
    if (m.class & CLASS_L)
        return skip_run(text, at, end, CLASS_L | CLASS_M);
    if (!(m.class & (CLASS_EOL | CLASS_PS)) && next.class & (CLASS_L | CLASS_M))
        return skip_run(text, at + m.len, end, CLASS_L | CLASS_M);
    if (m.class & CLASS_M)
        return at + m.len;
    if (m.class & CLASS_PS || (text.at[at] == ' ' && next.class & CLASS_PS)) {
        size_t run = skip_run(text, at + m.len, end, CLASS_PS);
        return skip_run(text, run, end, CLASS_EOL);
    }
    return m.class & CLASS_SPACE ? match_space(text, at, end) : at;
}

void pretok_init(struct pretok *p, struct str text)
{
    *p = (struct pretok){.text = text};
}

static bool emit(struct pretok *p, size_t end, struct str *piece)
{
    *piece = (struct str){p->text.at + p->at, end - p->at};
    p->at = end;
    return true;
}

bool pretok_next(struct pretok *p, struct str *piece)
{
    if (p->at == p->text.len)
        return false;
    if (p->match_end > p->at)
        return emit(p, p->match_end, piece);
    if (p->at == p->part_end) {
        bool digits;
        p->part_end = find_part(p, &digits);
        if (digits)
            return emit(p, p->part_end, piece);
    }
    size_t start = p->at, end = match_rules(p->text, start, p->part_end);
    while (end == start && start < p->part_end) {
        start += mark_at(p->text, start, p->part_end).len;
        end = start < p->part_end ? match_rules(p->text, start, p->part_end) : start;
    }
    if (start == p->at)
        return emit(p, end, piece);
    p->match_end = end;
    return emit(p, start, piece);
}
