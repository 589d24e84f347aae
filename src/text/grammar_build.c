/* text/grammar_build.c - the tree of a grammar; see grammar_build.h. */
#include "text/grammar_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"

#define UNICODE_MAX 0x10FFFF

/* Node 0 is nothing. */
static int32_t node(struct gb *b, enum gb_kind kind, int32_t a, int32_t count);

void gb_init(struct gb *b, struct sluice_error *err)
{
    *b = (struct gb){.err = err};
    buf_init(&b->bytes, LIMIT_GRAMMAR_TEXT);
    node(b, GB_SEQUENCE, 0, 0);
}

void gb_deinit(struct gb *b)
{
    for (int32_t i = 0; i < b->n_rule; i++)
        free(b->rule[i].name);
    free(b->node);
    free(b->rule);
    free(b->range);
    buf_deinit(&b->bytes);
    *b = (struct gb){0};
}

int32_t gb_fail(struct gb *b, enum sluice_status code, const char *fmt, ...)
{
    if (b->status != SLUICE_OK)
        return 0;
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    b->status = status_fail(b->err, code, -1, "%s", text);
    return 0;
}

/* Makes room for one more of *n elements. */
static bool grow(struct gb *b, void **at, int32_t n, int32_t *room, size_t size)
{
    if (b->status != SLUICE_OK)
        return false;
    if (n >= LIMIT_GRAMMAR_NODES) {
        gb_fail(b, SLUICE_ERR_LIMIT, "grammar: more than %d parts", LIMIT_GRAMMAR_NODES);
        return false;
    }
    if (n < *room)
        return true;
    int32_t more = *room ? 2 * *room : 64;
    void *p = realloc(*at, (size_t)more * size);
    if (!p) {
        gb_fail(b, SLUICE_ERR_NOMEM, "out of memory for a grammar");
        return false;
    }
    *at = p;
    *room = more;
    return true;
}

static int32_t node(struct gb *b, enum gb_kind kind, int32_t a, int32_t count)
{
    if (!grow(b, (void **)&b->node, b->n_node, &b->node_room, sizeof *b->node))
        return 0;
    b->node[b->n_node] = (struct gb_node){.kind = kind, .a = a, .b = count};
    return b->n_node++;
}

int32_t gb_literal(struct gb *b, struct str text)
{
    size_t at = b->bytes.len;
    if (b->status != SLUICE_OK)
        return 0;
    buf_add(&b->bytes, text.at, text.len);
    if (b->bytes.status != SLUICE_OK)
        return gb_fail(b, SLUICE_ERR_LIMIT, "grammar: more than %zu bytes of literals",
                       LIMIT_GRAMMAR_TEXT);
    return node(b, GB_LITERAL, (int32_t)at, (int32_t)text.len);
}

static int by_start(const void *a, const void *b)
{
    const struct gb_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

int gb_ranges(const struct gb_range *in, int n, bool inverted, struct gb_range *out)
{
    int k = 0;
    if (n)
        memcpy(out, in, (size_t)n * sizeof *out);
    qsort(out, (size_t)n, sizeof *out, by_start);
    for (int i = 0; i < n; i++) {
        if (k > 0 && out[i].lo <= out[k - 1].hi + 1)
            out[k - 1].hi = out[i].hi > out[k - 1].hi ? out[i].hi : out[k - 1].hi;
        else
            out[k++] = out[i];
    }
    if (!inverted)
        return k;
    int32_t from = 0;
    int m = 0;
    for (int i = 0; i < k; i++) {
        struct gb_range r = out[i];
        if (from < r.lo)
            out[m++] = (struct gb_range){from, r.lo - 1};
        from = r.hi + 1;
    }
    if (from <= UNICODE_MAX)
        out[m++] = (struct gb_range){from, UNICODE_MAX};
    return m;
}

int32_t gb_class(struct gb *b, const struct gb_range *ranges, int n, bool inverted)
{
    struct gb_range *sorted = calloc((size_t)n + 1, sizeof *sorted);
    if (!sorted)
        return gb_fail(b, SLUICE_ERR_NOMEM, "out of memory for a grammar");
    int k = gb_ranges(ranges, n, inverted, sorted);
    int32_t from = b->n_range;
    for (int i = 0; i < k; i++)
        if (grow(b, (void **)&b->range, b->n_range, &b->range_room, sizeof *b->range))
            b->range[b->n_range++] = sorted[i];
    free(sorted);
    return node(b, GB_CLASS, from, k);
}

int32_t gb_symbol(struct gb *b, int symbol)
{
    return node(b, GB_SYMBOL, symbol, 0);
}

int32_t gb_list(struct gb *b, enum gb_kind kind)
{
    return node(b, kind, 0, 0);
}

void gb_add(struct gb *b, int32_t list, int32_t child)
{
    if (b->status != SLUICE_OK || !list || !child)
        return;
    struct gb_node *parent = &b->node[list];
    if (parent->last)
        b->node[parent->last].next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->a++;
}

void gb_add_text(struct gb *b, int32_t list, const char *text)
{
    gb_add(b, list, gb_literal(b, str_of(text)));
}

int32_t gb_repeat(struct gb *b, int32_t child, int32_t least, int32_t most)
{
    if (b->status == SLUICE_OK && (most < least || least > LIMIT_GRAMMAR_COUNT ||
                                   (most > LIMIT_GRAMMAR_COUNT && most != GB_NO_LIMIT)))
        return gb_fail(b, SLUICE_ERR_LIMIT,
                       "grammar: expected a repetition of at most %d, and least before most, "
                       "found {%d,%d}",
                       LIMIT_GRAMMAR_COUNT, least, most);
    int32_t at = node(b, GB_REPEAT, least, most);
    if (at && child)
        b->node[at].first = b->node[at].last = child;
    return at;
}

int32_t gb_ref(struct gb *b, int32_t rule)
{
    return node(b, GB_RULE, rule, 0);
}

int32_t gb_rule(struct gb *b, const char *name)
{
    if (!grow(b, (void **)&b->rule, b->n_rule, &b->rule_room, sizeof *b->rule))
        return 0;
    char *copy = strdup(name);
    if (!copy)
        return gb_fail(b, SLUICE_ERR_NOMEM, "out of memory for a grammar");
    b->rule[b->n_rule] = (struct gb_rule){.name = copy, .body = -1};
    return b->n_rule++;
}

void gb_define(struct gb *b, int32_t rule, int32_t body)
{
    if (b->status == SLUICE_OK)
        b->rule[rule].body = body;
}

/* ---- checks ---- */

/* May the node be empty; can it be completed, by what is known of the rules so far? */
struct traits {
    bool nullable, productive;
};

static struct traits traits_of(const struct gb *b, int32_t at)
{
    const struct gb_node *n = &b->node[at];
    struct traits t = {.nullable = n->kind == GB_SEQUENCE, .productive = n->kind != GB_CHOICE};
    switch (n->kind) {
    case GB_LITERAL:
        return (struct traits){n->b == 0, true};
    case GB_CLASS:
        return (struct traits){false, n->b > 0};
    case GB_SYMBOL:
        return (struct traits){false, true};
    case GB_RULE:
        return (struct traits){b->rule[n->a].nullable, b->rule[n->a].productive};
    case GB_REPEAT:
        t = traits_of(b, n->first);
        return (struct traits){t.nullable || n->a == 0, t.productive || n->a == 0};
    default:
        break;
    }
    for (int32_t k = n->first; k; k = b->node[k].next) {
        struct traits c = traits_of(b, k);
        t.nullable = n->kind == GB_SEQUENCE ? t.nullable && c.nullable : t.nullable || c.nullable;
        t.productive =
            n->kind == GB_SEQUENCE ? t.productive && c.productive : t.productive || c.productive;
    }
    return t;
}

bool gb_nullable(const struct gb *b, int32_t node)
{
    return traits_of(b, node).nullable;
}

static void find_traits(struct gb *b)
{
    enum { PASSES = 256 };
    int pass = 0;
    for (bool more = true; more; pass++) {
        more = false;
        if (pass == PASSES)
            gb_fail(b, SLUICE_ERR_LIMIT, "grammar: rules lean on each other in too long chains");
        if (b->status != SLUICE_OK)
            return;
        for (int32_t k = 0; k < b->n_rule; k++) {
            struct gb_rule *r = &b->rule[pass % 2 ? k : b->n_rule - 1 - k];
            if (r->nullable && r->productive)
                continue;
            struct traits t = traits_of(b, r->body);
            more |= t.nullable != r->nullable || t.productive != r->productive;
            r->nullable = t.nullable;
            r->productive = t.productive;
        }
    }
}

/* ---- left recursion: a walk over "may come first", with the path in mark ---- */

enum mark { UNSEEN, OPEN, DONE };

struct first_walk {
    struct gb *b;
    uint8_t *mark; /* [n_rule] */
    int32_t *todo; /* rules that may come first in the one looked at */
    int32_t n_todo, room;
};

static void add_first(struct first_walk *w, int32_t at)
{
    struct gb *b = w->b;
    const struct gb_node *n = &b->node[at];
    if (n->kind == GB_RULE) {
        if (grow(b, (void **)&w->todo, w->n_todo, &w->room, sizeof *w->todo))
            w->todo[w->n_todo++] = n->a;
        return;
    }
    for (int32_t k = n->first; k; k = b->node[k].next) {
        add_first(w, k);
        if (n->kind == GB_SEQUENCE && !traits_of(b, k).nullable)
            break;
    }
}

/* Depth first without recursion: a rule stays in todo below those that it begins with, and is DONE
 * when it is on top again. */
static void check_left_recursion(struct gb *b)
{
    struct first_walk w = {.b = b, .mark = calloc((size_t)b->n_rule, 1)};
    if (!w.mark)
        gb_fail(b, SLUICE_ERR_NOMEM, "out of memory for a grammar");
    for (int32_t i = 0; i < b->n_rule && b->status == SLUICE_OK; i++) {
        if (w.mark[i] == UNSEEN && grow(b, (void **)&w.todo, w.n_todo, &w.room, sizeof *w.todo))
            w.todo[w.n_todo++] = i;
        while (w.n_todo > 0 && b->status == SLUICE_OK) {
            int32_t r = w.todo[w.n_todo - 1], from = w.n_todo;
            if (w.mark[r] != UNSEEN) {
                w.mark[r] = DONE;
                w.n_todo--;
                continue;
            }
            w.mark[r] = OPEN;
            add_first(&w, b->rule[r].body);
            int32_t kept = from;
            for (int32_t k = from; k < w.n_todo; k++) {
                if (w.mark[w.todo[k]] == OPEN)
                    gb_fail(b, SLUICE_ERR_ARG,
                            "grammar: rule \"%.100s\" is left-recursive: it may begin with itself",
                            b->rule[w.todo[k]].name);
                if (w.mark[w.todo[k]] == UNSEEN)
                    w.todo[kept++] = w.todo[k];
            }
            w.n_todo = kept;
        }
    }
    free(w.mark);
    free(w.todo);
}

static void check_rules(struct gb *b)
{
    for (int32_t i = 0; i < b->n_rule; i++)
        if (b->rule[i].body < 0)
            gb_fail(b, SLUICE_ERR_ARG, "grammar, line %d: rule \"%.100s\" is not defined",
                    b->rule[i].line, b->rule[i].name);
    if (b->status != SLUICE_OK)
        return;
    find_traits(b);
    for (int32_t i = 0; i < b->n_rule; i++)
        if (!b->rule[i].productive)
            gb_fail(b, SLUICE_ERR_ARG, "grammar: rule \"%.100s\" has no text that ends",
                    b->rule[i].name);
    if (b->status == SLUICE_OK)
        check_left_recursion(b);
}

enum sluice_status gb_finish(struct gb *b, int32_t root, struct program *out)
{
    *out = (struct program){0};
    if (b->status == SLUICE_OK)
        check_rules(b);
    if (b->status != SLUICE_OK)
        return b->status;
    return gb_lower(b, root, out);
}
