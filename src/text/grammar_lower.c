/* text/grammar_lower.c - the tree of a grammar to its program; see grammar_build.h.
 *
 * Every part is lowered with what follows it at hand, from the end to the beginning, so equal ends
 * are made once. Characters become sequences of byte ranges. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/rng.h"
#include "text/grammar_build.h"

struct lower {
    struct gb *b;
    struct program *p;
    int32_t *start; /* [n_rule] first node of a rule; P_CALL holds the rule until the end */
    int32_t *hash; /* [hash_room] nodes that may be shared, + 1 */
    size_t hash_room;
    int32_t *set_hash; /* [hash_room] sets, + 1 */
};

static bool room_for(struct lower *l, void **at, int32_t n, int32_t *room, size_t size)
{
    if (l->b->status != SLUICE_OK)
        return false;
    if (n >= LIMIT_GRAMMAR_NODES) {
        gb_fail(l->b, SLUICE_ERR_LIMIT, "grammar: more than %d parts", LIMIT_GRAMMAR_NODES);
        return false;
    }
    if (n < *room)
        return true;
    int32_t more = *room ? 2 * *room : 256;
    void *p = realloc(*at, (size_t)more * size);
    if (!p) {
        gb_fail(l->b, SLUICE_ERR_NOMEM, "out of memory for a grammar");
        return false;
    }
    *at = p;
    *room = more;
    return true;
}

static int32_t add(struct lower *l, struct program_node n)
{
    struct program *p = l->p;
    if (!room_for(l, (void **)&p->node, p->n_node, &p->node_room, sizeof *p->node))
        return 0;
    p->node[p->n_node] = n;
    return p->n_node++;
}

/* A node that equal ones share. */
static int32_t shared(struct lower *l, struct program_node n)
{
    uint64_t h = rng_mix((uint64_t)n.kind << 56 ^ (uint64_t)(uint32_t)n.a << 28 ^ (uint32_t)n.next);
    for (;; h++) {
        int32_t *slot = &l->hash[h & (l->hash_room - 1)];
        if (!*slot)
            return (*slot = add(l, n) + 1) - 1;
        const struct program_node *m = &l->p->node[*slot - 1];
        if (m->kind == n.kind && m->a == n.a && m->next == n.next)
            return *slot - 1;
    }
}

static int32_t set_index(struct lower *l, const uint32_t bits[8])
{
    struct program *p = l->p;
    uint64_t h = 0;
    for (int i = 0; i < 8; i++)
        h = rng_mix(h + bits[i] + 1);
    for (;; h++) {
        int32_t *slot = &l->set_hash[h & (l->hash_room - 1)];
        if (*slot && memcmp(p->set[*slot - 1], bits, sizeof *p->set) == 0)
            return *slot - 1;
        if (*slot)
            continue;
        if (!room_for(l, (void **)&p->set, p->n_set, &p->set_room, sizeof *p->set))
            return 0;
        memcpy(p->set[p->n_set], bits, sizeof *p->set);
        *slot = ++p->n_set;
        return p->n_set - 1;
    }
}

static int32_t byte_set(struct lower *l, unsigned lo, unsigned hi, int32_t next)
{
    uint32_t bits[8] = {0};
    for (unsigned c = lo; c <= hi; c++)
        bits[c / 32] |= 1u << c % 32;
    return shared(l, (struct program_node){.kind = P_SET, .a = set_index(l, bits), .next = next});
}

/* One or the other; -1: not there yet. */
static int32_t either(struct lower *l, int32_t one, int32_t other)
{
    if (one < 0 || one == other)
        return other;
    return shared(l, (struct program_node){.kind = P_SPLIT, .a = other, .next = one});
}

/* ---- characters ---- */

struct class_walk {
    struct lower *l;
    int32_t next, made; /* the choice so far, or -1 */
    uint32_t ascii[8];
    int depth;
};

static int encode(int32_t c, unsigned char out[4])
{
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (unsigned char)(0x80 | (c & 0x3F));
    out[0] = (unsigned char)((0xF00 >> n & 0xFF) | c);
    return n;
}

/* Code points lo to hi as sequences of byte ranges. */
static void add_range(struct class_walk *w, int32_t lo, int32_t hi)
{
    static const int32_t border[] = {0x7F, 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF};
    if (lo > hi || (lo >= 0xD800 && hi <= 0xDFFF))
        return;
    for (size_t i = 0; i < sizeof border / sizeof *border; i++) {
        if (lo <= border[i] && border[i] < hi) {
            add_range(w, lo, border[i]);
            add_range(w, border[i] + 1, hi);
            return;
        }
    }
    for (int32_t c = lo; hi < 0x80 && c <= hi; c++)
        w->ascii[c / 32] |= 1u << c % 32;
    if (hi < 0x80)
        return;
    for (int i = 1; i < 4; i++) {
        int32_t low = (1 << 6 * i) - 1;
        if ((lo & ~low) == (hi & ~low))
            continue;
        if (lo & low) {
            add_range(w, lo, lo | low);
            add_range(w, (lo | low) + 1, hi);
            return;
        }
        if ((hi & low) != low) {
            add_range(w, lo, (hi & ~low) - 1);
            add_range(w, hi & ~low, hi);
            return;
        }
    }
    unsigned char from[4], to[4];
    int n = encode(lo, from);
    encode(hi, to);
    int32_t at = w->next;
    for (int i = n - 1; i >= 0; i--)
        at = byte_set(w->l, from[i], to[i], at);
    w->made = either(w->l, w->made, at);
}

static int32_t lower_class(struct lower *l, const struct gb_node *n, int32_t next)
{
    struct class_walk w = {.l = l, .next = next, .made = -1};
    bool ascii = false;
    for (int32_t i = 0; i < n->b; i++)
        add_range(&w, l->b->range[n->a + i].lo, l->b->range[n->a + i].hi);
    for (int i = 0; i < 8; i++)
        ascii |= w.ascii[i] != 0;
    if (!ascii)
        return w.made < 0 ? 0 : w.made;
    int32_t one =
        shared(l, (struct program_node){.kind = P_SET, .a = set_index(l, w.ascii), .next = next});
    return either(l, w.made, one);
}

/* ---- lists ---- */

static int32_t lower(struct lower *l, int32_t at, int32_t next);

/* The children of a list; the caller frees. */
static int32_t *children(struct lower *l, const struct gb_node *n)
{
    int32_t *list = malloc(((size_t)n->a + 1) * sizeof *list), i = 0;
    if (!list) {
        gb_fail(l->b, SLUICE_ERR_NOMEM, "out of memory for a grammar");
        return NULL;
    }
    for (int32_t k = n->first; k; k = l->b->node[k].next)
        list[i++] = k;
    return list;
}

static int32_t lower_sequence(struct lower *l, const struct gb_node *n, int32_t next)
{
    int32_t count = n->a, *list = children(l, n);
    for (int32_t i = count - 1; list && i >= 0; i--)
        next = lower(l, list[i], next);
    free(list);
    return next;
}

static struct str literal(const struct gb *b, int32_t at)
{
    const struct gb_node *n = &b->node[at];
    return (struct str){b->bytes.data ? b->bytes.data + n->a : "", (size_t)n->b};
}

static int by_text(const void *a, const void *b, void *gb)
{
    struct str x = literal(gb, *(const int32_t *)a), y = literal(gb, *(const int32_t *)b);
    int c = memcmp(x.at, y.at, x.len < y.len ? x.len : y.len);
    return c ? c : (x.len > y.len) - (x.len < y.len);
}

/* The bytes of text from `from` on, then next. */
static int32_t lower_bytes(struct lower *l, struct str text, size_t from, int32_t next)
{
    for (size_t at = text.len; at > from; at--)
        next = byte_set(l, (unsigned char)text.at[at - 1], (unsigned char)text.at[at - 1], next);
    return next;
}

/* Literals that share their beginning share its nodes, so that a choice among a thousand is a few
 * stacks. list: sorted, n > 0; the first `from` bytes of all are the same, and done with. */
static int32_t lower_words(struct lower *l, const int32_t *list, int32_t n, size_t from,
                           int32_t next)
{
    struct str first = literal(l->b, list[0]), last = literal(l->b, list[n - 1]);
    size_t same = from;
    while (same < first.len && same < last.len && first.at[same] == last.at[same])
        same++;
    int32_t made = -1, i = 0;
    for (; i < n && literal(l->b, list[i]).len == same; i++)
        made = next;
    for (int32_t k; i < n; i = k) {
        char c = literal(l->b, list[i]).at[same];
        for (k = i + 1; k < n && literal(l->b, list[k]).at[same] == c;)
            k++;
        struct str one = {&c, 1};
        int32_t rest = lower_words(l, list + i, k - i, same + 1, next);
        made = either(l, made, lower_bytes(l, one, 0, rest));
    }
    first.len = same;
    return lower_bytes(l, first, from, made);
}

static int32_t lower_choice(struct lower *l, const struct gb_node *n, int32_t next)
{
    int32_t count = n->a, *list = children(l, n), words = 0, made = -1;
    for (int32_t i = 0; list && i < count; i++) {
        if (l->b->node[list[i]].kind == GB_LITERAL) {
            int32_t word = list[i];
            memmove(list + words + 1, list + words, (size_t)(i - words) * sizeof *list);
            list[words++] = word;
        }
    }
    if (list && words > 0) {
        qsort_r(list, (size_t)words, sizeof *list, by_text, l->b);
        made = lower_words(l, list, words, 0, next);
    }
    for (int32_t i = words; list && i < count; i++)
        made = either(l, made, lower(l, list[i], next));
    free(list);
    return made < 0 ? next : made;
}

/* ---- repetitions ---- */

/* At least none, or one, and any number: a loop through a node that goes on or round. */
static int32_t lower_loop(struct lower *l, int32_t body, bool once, int32_t next)
{
    int32_t loop = add(l, (struct program_node){.kind = P_SPLIT, .a = next, .next = next});
    int32_t first = lower(l, body, loop);
    if (l->b->status == SLUICE_OK)
        l->p->node[loop].a = first;
    return once ? first : loop;
}

static int32_t lower_repeat(struct lower *l, const struct gb_node *n, int32_t next)
{
    int32_t body = n->first, least = n->a, most = n->b;
    if (!body || most == 0)
        return next;
    if (most == 1)
        return least ? lower(l, body, next) : either(l, next, lower(l, body, next));
    if (most == GB_NO_LIMIT && least <= 1)
        return lower_loop(l, body, least == 1, next);
    bool nullable = gb_nullable(l->b, body);
    struct program_node r = {.kind = P_REPEAT,
                             .a = lower(l, body, 0),
                             .next = next,
                             .least = nullable ? 0 : least,
                             .most = most,
                             .nullable = nullable};
    return add(l, r);
}

static int32_t lower(struct lower *l, int32_t at, int32_t next)
{
    const struct gb_node n = l->b->node[at];
    if (l->b->status != SLUICE_OK)
        return 0;
    switch (n.kind) {
    case GB_LITERAL:
        return lower_bytes(l, literal(l->b, at), 0, next);
    case GB_CLASS:
        return lower_class(l, &n, next);
    case GB_SYMBOL:
        return shared(l, (struct program_node){.kind = P_SYMBOL, .a = n.a, .next = next});
    case GB_SEQUENCE:
        return lower_sequence(l, &n, next);
    case GB_CHOICE:
        return lower_choice(l, &n, next);
    case GB_REPEAT:
        return lower_repeat(l, &n, next);
    case GB_RULE:
        return shared(l, (struct program_node){.kind = P_CALL, .a = n.a, .next = next});
    }
    return 0;
}

enum sluice_status gb_lower(struct gb *b, int32_t root, struct program *out)
{
    struct lower l = {.b = b, .p = out, .hash_room = 4 * LIMIT_GRAMMAR_NODES};
    l.start = calloc((size_t)b->n_rule, sizeof *l.start);
    l.hash = calloc(l.hash_room, sizeof *l.hash);
    l.set_hash = calloc(l.hash_room, sizeof *l.set_hash);
    if (!l.start || !l.hash || !l.set_hash)
        gb_fail(b, SLUICE_ERR_NOMEM, "out of memory for a grammar");
    add(&l, (struct program_node){.kind = P_END});
    for (int32_t i = 0; i < b->n_rule && b->status == SLUICE_OK; i++)
        l.start[i] = lower(&l, b->rule[i].body, 0);
    for (int32_t i = 0; i < out->n_node && b->status == SLUICE_OK; i++)
        if (out->node[i].kind == P_CALL)
            out->node[i].a = l.start[out->node[i].a];
    if (b->status == SLUICE_OK)
        out->start = l.start[root];
    else
        program_deinit(out);
    free(l.start);
    free(l.hash);
    free(l.set_hash);
    return b->status;
}

void program_deinit(struct program *p)
{
    free(p->node);
    free(p->set);
    *p = (struct program){0};
}
