/* text/grammar.c - states of an answer and masks of tokens; see grammar.h.
 *
 * A *frame* is what is to be done when a rule or a repeated body ends: the node to go on with, or
 * the repetition and how often it has been round, and the frame below. A *stack* is a node that
 * reads (or the end) and its frame. A *state* is a sorted set of stacks. Frames and states are kept
 * once each and named by their index; state 0 is the empty set, from which nothing goes on.
 *
 * A count in a frame changes by one at most for each byte read. So, for a mask, counts that no
 * token can bring to a bound are all the same: masks are made for a state whose counts are lowered
 * accordingly (representative).
 *
 * When states or frames become many, all but those of living answers are forgotten (sweep); only
 * between masks, so that indices hold inside one. */
#include "text/grammar.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/rng.h"
#include "text/grammar_build.h"
#include "text/token_trie.h"
#include "text/vocab.h"

enum { CALLED = -1, SYMBOLS = 256 + GRAMMAR_SYMBOLS, UNKNOWN = -1 };

struct frame {
    int32_t node, count, below; /* count: CALLED, or rounds that ended; below: -1 is none */
    int32_t depth;
};

struct stack {
    int32_t node, frame;
};

struct state {
    int32_t from, n; /* of stacks */
    bool ends;
    int32_t *step; /* [SYMBOLS] the state after a byte or symbol, UNKNOWN; or
                      NULL */
    int32_t representative, mask; /* or -1 */
};

struct mask {
    int32_t state; /* whose it is */
    uint64_t used;
    uint32_t *bits;
};

struct grammar {
    /* set once */
    struct program p;
    const struct token_trie *trie; /* or NULL */
    int32_t words; /* of a mask */
    pthread_mutex_t lock;
    /* under lock */
    int owners;
    struct grammar_state *living;
    struct frame *frame; /* [n_frame] */
    int32_t n_frame, *frame_slot;
    struct state *state; /* [n_state] */
    int32_t n_state, *state_slot;
    struct stack *stacks; /* of all states, one after the other */
    int32_t n_stacks, stacks_room;
    struct mask *masks; /* [n_mask] */
    int32_t n_mask, most_masks;
    uint64_t now; /* counts uses of masks */
    int32_t *walk; /* [longest + 1] states along a token */
    /* a closure's scratch */
    struct stack *todo, *found; /* [LIMIT_GRAMMAR_STACKS * 2], [LIMIT_GRAMMAR_STACKS] */
    int32_t n_todo, n_found, n_seen;
    uint32_t *seen_at; /* [SEEN] which closure used the slot */
    struct stack *seen;
    uint32_t closure; /* number of the running one */
    int64_t work; /* since the last call from outside */
    enum sluice_status status; /* of the running call */
    struct sluice_error *err;
};

#define SEEN ((uint32_t)8 * LIMIT_GRAMMAR_STACKS)
#define FRAME_SLOTS (2 * LIMIT_GRAMMAR_FRAMES)
#define STATE_SLOTS (2 * LIMIT_GRAMMAR_STATES)

static void fail(struct grammar *g, enum sluice_status code, const char *text)
{
    if (g->status == SLUICE_OK)
        g->status = status_fail(g->err, code, -1, "%s", text);
}

/* ---- frames ---- */

static uint64_t hash3(int64_t a, int64_t b, int64_t c)
{
    return rng_mix(rng_mix((uint64_t)a * 0x9e3779b97f4a7c15u + (uint64_t)b) + (uint64_t)c);
}

/* The frame's index; -1 if it is too deep or there is no room. */
static int32_t frame(struct grammar *g, int32_t node, int32_t count, int32_t below)
{
    int32_t depth = below < 0 ? 1 : g->frame[below].depth + 1;
    if (depth > LIMIT_GRAMMAR_DEPTH)
        return -1;
    for (uint64_t h = hash3(node, count, below);; h++) {
        int32_t *slot = &g->frame_slot[h % FRAME_SLOTS];
        if (*slot) {
            const struct frame *f = &g->frame[*slot - 1];
            if (f->node == node && f->count == count && f->below == below)
                return *slot - 1;
            continue;
        }
        if (g->n_frame == LIMIT_GRAMMAR_FRAMES) {
            fail(g, SLUICE_ERR_LIMIT, "grammar: too many ways to read the answer");
            return -1;
        }
        g->frame[g->n_frame] = (struct frame){node, count, below, depth};
        *slot = ++g->n_frame;
        return g->n_frame - 1;
    }
}

/* ---- closures: from nodes that read nothing to those that do ---- */

/* True the first time in this closure. */
static bool unseen(struct grammar *g, struct stack s)
{
    for (uint64_t h = hash3(s.node, s.frame, 0);; h++) {
        uint32_t slot = (uint32_t)(h % SEEN);
        if (g->seen_at[slot] != g->closure) {
            g->seen_at[slot] = g->closure;
            g->seen[slot] = s;
            g->n_seen++;
            return true;
        }
        if (g->seen[slot].node == s.node && g->seen[slot].frame == s.frame)
            return false;
    }
}

static void push(struct grammar *g, int32_t node, int32_t frame)
{
    struct stack s = {node, frame};
    if (g->status != SLUICE_OK || !unseen(g, s))
        return;
    if (g->n_todo == 2 * LIMIT_GRAMMAR_STACKS || g->n_seen > (int32_t)SEEN / 2 ||
        ++g->work > LIMIT_GRAMMAR_WORK) {
        fail(g, SLUICE_ERR_LIMIT, "grammar: too many ways to read the answer");
        return;
    }
    g->todo[g->n_todo++] = s;
}

/* A repetition of which count rounds have ended. */
static void repeat(struct grammar *g, int32_t node, int32_t count, int32_t below)
{
    const struct program_node *n = &g->p.node[node];
    if (count >= n->least)
        push(g, n->next, below);
    if (count >= n->most)
        return;
    if (n->most == GB_NO_LIMIT && count > n->least)
        count = n->least;
    int32_t inside = frame(g, node, count, below);
    if (inside >= 0)
        push(g, n->a, inside);
}

static void call(struct grammar *g, const struct program_node *n, int32_t below)
{
    /* A call at the end of a rule needs no frame: what follows is the caller's. */
    int32_t after = below;
    if (g->p.node[n->next].kind != P_END) {
        after = frame(g, n->next, CALLED, below);
        if (after < 0)
            return;
    }
    push(g, n->a, after);
}

/* The end of a rule or a body. old: frames from there on were made in this closure: such a body was
 * empty, and another round would be too. */
static void end(struct grammar *g, int32_t at, int32_t old, bool *ends)
{
    if (at < 0) {
        *ends = true;
        return;
    }
    struct frame f = g->frame[at];
    if (f.count == CALLED)
        push(g, f.node, f.below);
    else if (at >= old)
        push(g, g->p.node[f.node].next, f.below);
    else
        repeat(g, f.node, f.count + 1, f.below);
}

static int by_stack(const void *a, const void *b)
{
    const struct stack *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->frame < y->frame ? -1 : x->frame > y->frame;
}

static int32_t intern(struct grammar *g, bool ends);

static void begin_closure(struct grammar *g)
{
    g->n_todo = g->n_found = g->n_seen = 0;
    if (++g->closure == 0) {
        memset(g->seen_at, 0, SEEN * sizeof *g->seen_at);
        g->closure = 1;
    }
}

/* The state of what was pushed since begin_closure. */
static int32_t end_closure(struct grammar *g, int32_t old)
{
    bool ends = false;
    while (g->n_todo > 0 && g->status == SLUICE_OK) {
        struct stack s = g->todo[--g->n_todo];
        const struct program_node *n = &g->p.node[s.node];
        switch (n->kind) {
        case P_END:
            end(g, s.frame, old, &ends);
            break;
        case P_SPLIT:
            push(g, n->next, s.frame);
            push(g, n->a, s.frame);
            break;
        case P_CALL:
            call(g, n, s.frame);
            break;
        case P_REPEAT:
            repeat(g, s.node, 0, s.frame);
            break;
        case P_SET:
        case P_SYMBOL:
            if (g->n_found == LIMIT_GRAMMAR_STACKS) {
                fail(g, SLUICE_ERR_LIMIT, "grammar: too many ways to read the answer");
                break;
            }
            g->found[g->n_found++] = s;
        }
    }
    return g->status == SLUICE_OK ? intern(g, ends) : 0;
}

/* ---- states ---- */

static bool same_state(const struct grammar *g, const struct state *s, bool ends)
{
    return s->ends == ends && s->n == g->n_found &&
           memcmp(g->stacks + s->from, g->found, (size_t)s->n * sizeof *g->found) == 0;
}

/* The state with the stacks found. */
static int32_t intern(struct grammar *g, bool ends)
{
    if (g->n_found == 0 && !ends)
        return 0;
    qsort(g->found, (size_t)g->n_found, sizeof *g->found, by_stack);
    uint64_t h = ends;
    for (int32_t i = 0; i < g->n_found; i++)
        h = hash3((int64_t)h, g->found[i].node, g->found[i].frame);
    int32_t *slot;
    for (;; h++) {
        slot = &g->state_slot[h % STATE_SLOTS];
        if (!*slot)
            break;
        if (same_state(g, &g->state[*slot - 1], ends))
            return *slot - 1;
    }
    if (g->n_state == LIMIT_GRAMMAR_STATES) {
        fail(g, SLUICE_ERR_LIMIT, "grammar: too many ways to go on");
        return 0;
    }
    if (g->n_stacks + g->n_found > g->stacks_room) {
        int32_t room = 2 * (g->n_stacks + g->n_found) + 256;
        void *p = realloc(g->stacks, (size_t)room * sizeof *g->stacks);
        if (!p) {
            fail(g, SLUICE_ERR_NOMEM, "out of memory for a grammar");
            return 0;
        }
        g->stacks = p;
        g->stacks_room = room;
    }
    memcpy(g->stacks + g->n_stacks, g->found, (size_t)g->n_found * sizeof *g->found);
    g->state[g->n_state] = (struct state){
        .from = g->n_stacks, .n = g->n_found, .ends = ends, .representative = -1, .mask = -1};
    g->n_stacks += g->n_found;
    *slot = ++g->n_state;
    return g->n_state - 1;
}

static bool reads(const struct grammar *g, int32_t node, int32_t symbol)
{
    const struct program_node *n = &g->p.node[node];
    if (n->kind == P_SYMBOL)
        return symbol == 256 + n->a;
    return symbol < 256 && g->p.set[n->a][symbol / 32] >> symbol % 32 & 1;
}

static int32_t step_anew(struct grammar *g, int32_t from, int32_t symbol)
{
    int32_t old = g->n_frame;
    begin_closure(g);
    for (int32_t i = 0; i < g->state[from].n; i++) {
        struct stack s = g->stacks[g->state[from].from + i];
        if (reads(g, s.node, symbol))
            push(g, g->p.node[s.node].next, s.frame);
    }
    return end_closure(g, old);
}

/* The state after a byte, or after 256 + a symbol; 0 if there is none. */
static inline int32_t step(struct grammar *g, int32_t from, int32_t symbol)
{
    int32_t *table = g->state[from].step;
    if (table && table[symbol] != UNKNOWN)
        return table[symbol];
    if (!table) {
        table = malloc(SYMBOLS * sizeof *table);
        if (!table) {
            fail(g, SLUICE_ERR_NOMEM, "out of memory for a grammar");
            return 0;
        }
        memset(table, 0xff, SYMBOLS * sizeof *table);
        g->state[from].step = table;
    }
    int32_t to = step_anew(g, from, symbol);
    if (g->status == SLUICE_OK)
        table[symbol] = to;
    return to;
}

static int32_t first_state(struct grammar *g)
{
    int32_t old = g->n_frame;
    begin_closure(g);
    push(g, g->p.start, -1);
    return end_closure(g, old);
}

/* ---- masks ---- */

static int32_t lowered(const struct grammar *g, const struct frame *f)
{
    const struct program_node *n = &g->p.node[f->node];
    if (f->count == CALLED || n->most == GB_NO_LIMIT || n->most - f->count <= g->trie->longest)
        return f->count;
    if (f->count >= n->least)
        return n->least;
    return n->least - f->count > g->trie->longest ? 0 : f->count;
}

/* The same stack of frames, counts lowered as far as no token can tell. */
static int32_t lower_frame(struct grammar *g, int32_t at)
{
    int32_t path[LIMIT_GRAMMAR_DEPTH], n = 0, made = -1;
    for (int32_t i = at; i >= 0; i = g->frame[i].below)
        path[n++] = i;
    while (n > 0) {
        struct frame f = g->frame[path[--n]];
        int32_t count = f.count;
        /* A count above the least is no round more than the least where the end is far. */
        if (count != CALLED)
            count = lowered(g, &f);
        made = frame(g, f.node, count, made);
    }
    return made;
}

static int32_t representative(struct grammar *g, int32_t id)
{
    struct state *s = &g->state[id];
    if (s->representative >= 0)
        return s->representative;
    begin_closure(g);
    for (int32_t i = 0; i < s->n; i++) {
        struct stack k = g->stacks[s->from + i];
        k.frame = lower_frame(g, k.frame);
        if (unseen(g, k))
            g->found[g->n_found++] = k;
    }
    int32_t to = g->status == SLUICE_OK ? intern(g, s->ends) : 0;
    if (g->status == SLUICE_OK)
        g->state[id].representative = to;
    return to;
}

static void walk(struct grammar *g, int32_t from, uint32_t *bits)
{
    const struct token_trie *t = g->trie;
    memset(bits, 0, (size_t)g->words * sizeof *bits);
    g->walk[0] = from;
    for (int32_t i = 1; i < t->n_node && g->status == SLUICE_OK;) {
        int32_t d = t->depth[i], to = step(g, g->walk[d - 1], t->byte[i]);
        if (to == 0) {
            i = t->end[i];
            continue;
        }
        g->walk[d] = to;
        for (int32_t k = t->first[i]; k < t->first[i + 1]; k++)
            bits[t->token[k] / 32] |= 1u << t->token[k] % 32;
        i++;
    }
    for (int s = 0; s < GRAMMAR_SYMBOLS; s++)
        if (t->symbol[s] >= 0 && step(g, from, 256 + s) != 0)
            bits[t->symbol[s] / 32] |= 1u << t->symbol[s] % 32;
    if (g->state[from].ends)
        bits[t->eos / 32] |= 1u << t->eos % 32;
}

/* A place for a mask: a new one, or the one that was used longest ago. */
static struct mask *place_mask(struct grammar *g)
{
    struct mask *m = g->masks;
    if (g->n_mask < g->most_masks) {
        m += g->n_mask;
        *m = (struct mask){.state = -1, .bits = malloc((size_t)g->words * sizeof *m->bits)};
        if (!m->bits) {
            fail(g, SLUICE_ERR_NOMEM, "out of memory for a mask of tokens");
            return NULL;
        }
        g->n_mask++;
        return m;
    }
    for (int32_t i = 1; i < g->n_mask; i++)
        if (g->masks[i].used < m->used)
            m = &g->masks[i];
    if (m->state >= 0)
        g->state[m->state].mask = -1;
    m->state = -1;
    return m;
}

static const uint32_t *mask_of(struct grammar *g, int32_t id)
{
    int32_t r = representative(g, id);
    if (g->status != SLUICE_OK)
        return NULL;
    if (g->state[r].mask < 0) {
        struct mask *m = place_mask(g);
        if (m)
            walk(g, r, m->bits);
        if (g->status != SLUICE_OK)
            return NULL;
        m->state = r;
        g->state[r].mask = (int32_t)(m - g->masks);
    }
    struct mask *m = &g->masks[g->state[r].mask];
    m->used = ++g->now;
    return m->bits;
}

/* ---- forgetting ---- */

static void forget(struct grammar *g)
{
    for (int32_t i = 0; i < g->n_state; i++)
        free(g->state[i].step);
    if (g->n_frame)
        memset(g->frame_slot, 0, FRAME_SLOTS * sizeof *g->frame_slot);
    if (g->n_state)
        memset(g->state_slot, 0, STATE_SLOTS * sizeof *g->state_slot);
    for (int32_t i = 0; i < g->n_mask; i++)
        g->masks[i] = (struct mask){.state = -1, .bits = g->masks[i].bits};
    g->n_frame = 0;
    g->n_stacks = 0;
    g->state[0] = (struct state){.representative = 0, .mask = -1};
    g->n_state = 1;
}

/* A state's stacks with whole frames, apart from the grammar's tables. */
struct saved {
    struct stack *stack; /* frame: index into frames, or -1 */
    int32_t n;
    bool ends;
    struct frame *frames; /* below: index into frames, or -1 */
    int32_t n_frames;
};

static bool save(const struct grammar *g, int32_t id, struct saved *out)
{
    const struct state *s = &g->state[id];
    int32_t *place = calloc((size_t)g->n_frame + 1, sizeof *place); /* + 1 */
    *out = (struct saved){.n = s->n,
                          .ends = s->ends,
                          .stack = malloc(((size_t)s->n + 1) * sizeof *out->stack),
                          .frames = malloc(((size_t)g->n_frame + 1) * sizeof *out->frames)};
    bool ok = place && out->stack && out->frames;
    for (int32_t i = 0; ok && i < s->n; i++) {
        out->stack[i] = g->stacks[s->from + i];
        for (int32_t f = out->stack[i].frame; f >= 0 && !place[f]; f = g->frame[f].below)
            place[f] = 1;
    }
    /* A frame below has the lower index, so it has its place first. */
    for (int32_t f = 0; ok && f < g->n_frame; f++) {
        if (!place[f])
            continue;
        struct frame copy = g->frame[f];
        copy.below = copy.below < 0 ? -1 : place[copy.below] - 1;
        out->frames[out->n_frames++] = copy;
        place[f] = out->n_frames;
    }
    for (int32_t i = 0; ok && i < s->n; i++)
        if (out->stack[i].frame >= 0)
            out->stack[i].frame = place[out->stack[i].frame] - 1;
    free(place);
    return ok;
}

static int32_t restore(struct grammar *g, struct saved *s)
{
    for (int32_t i = 0; i < s->n_frames; i++) {
        struct frame f = s->frames[i];
        /* What was a place in s->frames becomes the new index: the lower ones are done. */
        s->frames[i].depth = frame(g, f.node, f.count, f.below < 0 ? -1 : s->frames[f.below].depth);
    }
    g->n_found = 0;
    for (int32_t i = 0; i < s->n; i++) {
        struct stack k = s->stack[i];
        k.frame = k.frame < 0 ? -1 : s->frames[k.frame].depth;
        g->found[g->n_found++] = k;
    }
    return s->n == 0 && !s->ends ? 0 : intern(g, s->ends);
}

/* Forgets all but the states of living answers, if much is remembered. */
static void sweep(struct grammar *g)
{
    if (g->n_frame < LIMIT_GRAMMAR_FRAMES / 2 && g->n_state < LIMIT_GRAMMAR_STATES / 2)
        return;
    int n = 0, k = 0;
    for (struct grammar_state *s = g->living; s; s = s->next)
        n++;
    struct saved *saved = calloc((size_t)n + 1, sizeof *saved);
    bool ok = saved != NULL;
    for (struct grammar_state *s = g->living; ok && s; s = s->next)
        ok = save(g, s->id, &saved[k++]);
    if (ok) {
        forget(g);
        k = 0;
        for (struct grammar_state *s = g->living; s; s = s->next)
            s->id = restore(g, &saved[k++]);
    } else {
        fail(g, SLUICE_ERR_NOMEM, "out of memory for a grammar");
    }
    for (int i = 0; saved && i < n; i++) {
        free(saved[i].stack);
        free(saved[i].frames);
    }
    free(saved);
}

/* ---- the interface ---- */

static void enter(struct grammar *g, struct sluice_error *err)
{
    pthread_mutex_lock(&g->lock);
    g->status = SLUICE_OK;
    g->err = err;
    g->work = 0;
    sweep(g);
}

static enum sluice_status leave(struct grammar *g)
{
    enum sluice_status st = g->status;
    pthread_mutex_unlock(&g->lock);
    return st;
}

static enum sluice_status open_tables(struct grammar *g, struct sluice_error *err)
{
    size_t longest = g->trie ? (size_t)g->trie->longest : 0;
    g->words = g->trie ? (g->trie->n_vocab + 31) / 32 : 1;
    size_t masks = LIMIT_GRAMMAR_MASKS / ((size_t)g->words * sizeof(uint32_t));
    g->most_masks = masks < 4 ? 4 : masks > 4096 ? 4096 : (int32_t)masks;
    g->frame = malloc(LIMIT_GRAMMAR_FRAMES * sizeof *g->frame);
    g->frame_slot = calloc(FRAME_SLOTS, sizeof *g->frame_slot);
    g->state = calloc(LIMIT_GRAMMAR_STATES, sizeof *g->state);
    g->state_slot = calloc(STATE_SLOTS, sizeof *g->state_slot);
    g->stacks_room = 256;
    g->stacks = malloc((size_t)g->stacks_room * sizeof *g->stacks);
    g->masks = calloc((size_t)g->most_masks, sizeof *g->masks);
    g->walk = calloc(longest + 1, sizeof *g->walk);
    g->todo = malloc(2 * LIMIT_GRAMMAR_STACKS * sizeof *g->todo);
    g->found = malloc(LIMIT_GRAMMAR_STACKS * sizeof *g->found);
    g->seen = malloc(SEEN * sizeof *g->seen);
    g->seen_at = calloc(SEEN, sizeof *g->seen_at);
    FAIL_IF(!g->frame || !g->frame_slot || !g->state || !g->state_slot || !g->stacks || !g->masks ||
                !g->walk || !g->todo || !g->found || !g->seen || !g->seen_at,
            err, SLUICE_ERR_NOMEM, "out of memory for a grammar");
    forget(g);
    return SLUICE_OK;
}

static int32_t read_answer(struct gb *b, const struct grammar_ask *ask)
{
    if (ask->gbnf.at)
        return gb_read_gbnf(b, ask->gbnf);
    struct schema s;
    schema_init(&s, b, ask->schema, ask->schema_name ? ask->schema_name : "schema");
    int32_t rule = gb_rule(b, "answer");
    gb_define(b, rule, schema_value(&s, ask->schema));
    schema_deinit(&s);
    return rule;
}

static enum sluice_status compile(struct grammar *g, const struct grammar_ask *ask,
                                  struct sluice_error *err)
{
    const char *name = ask->schema_name ? ask->schema_name : "grammar";
    struct gb b;
    gb_init(&b, ask->gbnf.at ? name : "", err);
    int32_t root = -1;
    if (ask->gbnf.at || ask->schema)
        root = read_answer(&b, ask);
    if (ask->tools) {
        b.name = "";
        int32_t calls = gb_calls(&b, ask), both = gb_list(&b, GB_CHOICE);
        gb_add(&b, both, gb_ref(&b, calls));
        if (root >= 0)
            gb_add(&b, both, gb_ref(&b, root));
        root = gb_rule(&b, "answer or calls");
        gb_define(&b, root, both);
    }
    b.name = name;
    enum sluice_status st = gb_finish(&b, root, &g->p);
    gb_deinit(&b);
    return st;
}

enum sluice_status grammar_new(const struct grammar_ask *ask, const struct token_trie *trie,
                               struct grammar **out, struct sluice_error *err)
{
    *out = NULL;
    SLUICE_ASSERT(ask->gbnf.at || ask->schema || ask->tools);
    struct grammar *g = calloc(1, sizeof *g);
    FAIL_IF(!g, err, SLUICE_ERR_NOMEM, "out of memory for a grammar");
    g->owners = 1;
    g->trie = trie;
    pthread_mutex_init(&g->lock, NULL);
    enum sluice_status st = compile(g, ask, err);
    if (st == SLUICE_OK)
        st = open_tables(g, err);
    if (st != SLUICE_OK) {
        grammar_free(g);
        return st;
    }
    *out = g;
    return SLUICE_OK;
}

struct grammar *grammar_hold(struct grammar *g)
{
    pthread_mutex_lock(&g->lock);
    g->owners++;
    pthread_mutex_unlock(&g->lock);
    return g;
}

void grammar_free(struct grammar *g)
{
    if (!g)
        return;
    pthread_mutex_lock(&g->lock);
    bool last = --g->owners == 0;
    pthread_mutex_unlock(&g->lock);
    if (!last)
        return;
    SLUICE_ASSERT(!g->living);
    for (int32_t i = 0; i < g->n_state; i++)
        free(g->state[i].step);
    for (int32_t i = 0; i < g->n_mask; i++)
        free(g->masks[i].bits);
    void *all[] = {g->frame, g->frame_slot, g->state, g->state_slot, g->stacks, g->masks,
                   g->walk,  g->todo,       g->found, g->seen,       g->seen_at};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    program_deinit(&g->p);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

enum sluice_status grammar_state_init(struct grammar_state *s, struct grammar *g,
                                      struct sluice_error *err)
{
    *s = (struct grammar_state){0};
    enter(g, err);
    if (g->status == SLUICE_OK)
        s->id = first_state(g);
    if (g->status != SLUICE_OK)
        return leave(g);
    s->g = g;
    g->owners++;
    s->next = g->living;
    s->slot = &g->living;
    if (s->next)
        s->next->slot = &s->next;
    g->living = s;
    return leave(g);
}

void grammar_state_deinit(struct grammar_state *s)
{
    struct grammar *g = s->g;
    if (!g)
        return;
    pthread_mutex_lock(&g->lock);
    *s->slot = s->next;
    if (s->next)
        s->next->slot = s->slot;
    pthread_mutex_unlock(&g->lock);
    *s = (struct grammar_state){0};
    grammar_free(g);
}

static void read_bytes(struct grammar *g, int32_t *id, struct str bytes)
{
    for (size_t i = 0; i < bytes.len && g->status == SLUICE_OK; i++) {
        int32_t to = step(g, *id, (unsigned char)bytes.at[i]);
        if (g->status == SLUICE_OK && to == 0)
            g->status = status_fail(g->err, SLUICE_ERR_FORMAT, (int64_t)i,
                                    "the text leaves its grammar at byte %zu", i);
        *id = to;
    }
}

enum sluice_status grammar_state_bytes(struct grammar_state *s, struct str bytes,
                                       struct sluice_error *err)
{
    struct grammar *g = s->g;
    enter(g, err);
    int32_t id = s->id;
    read_bytes(g, &id, bytes);
    if (g->status == SLUICE_OK)
        s->id = id;
    return leave(g);
}

enum sluice_status grammar_state_token(struct grammar_state *s, int32_t token,
                                       struct sluice_error *err)
{
    struct grammar *g = s->g;
    SLUICE_ASSERT(g->trie);
    enter(g, err);
    int32_t id = s->id, symbol = 0;
    while (symbol < GRAMMAR_SYMBOLS && g->trie->symbol[symbol] != token)
        symbol++;
    bool text = symbol == GRAMMAR_SYMBOLS && !vocab_is_added(g->trie->vocab, token);
    if (text)
        read_bytes(g, &id, vocab_bytes(g->trie->vocab, token));
    else
        id = symbol < GRAMMAR_SYMBOLS && g->status == SLUICE_OK ? step(g, id, 256 + symbol) : 0;
    if (g->status == SLUICE_OK && id == 0)
        g->status = status_fail(err, SLUICE_ERR_FORMAT, 0,
                                "token %d is not among those that the grammar allows", token);
    if (g->status == SLUICE_OK)
        s->id = id;
    return leave(g);
}

bool grammar_state_ends(const struct grammar_state *s)
{
    pthread_mutex_lock(&s->g->lock);
    bool ends = s->g->state[s->id].ends;
    pthread_mutex_unlock(&s->g->lock);
    return ends;
}

enum sluice_status grammar_state_mask(struct grammar_state *s, uint32_t *mask,
                                      struct sluice_error *err)
{
    struct grammar *g = s->g;
    SLUICE_ASSERT(g->trie);
    enter(g, err);
    const uint32_t *bits = g->status == SLUICE_OK ? mask_of(g, s->id) : NULL;
    if (bits)
        memcpy(mask, bits, (size_t)g->words * sizeof *mask);
    return leave(g);
}
