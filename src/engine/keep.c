/* engine/keep.c - see keep.h. */
#include "engine/keep.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/keep_store.h"
#include "os/clock.h"

struct keep {
    struct keep_config c;
    struct keep_store store;
    struct prefix *prefixes;
    struct conversation **idle;      /* [n_idle] */
    size_t n_idle, room;
};

/* ---- one conversation ---- */

static void checkpoint_unref(struct keep *k, struct checkpoint *p)
{
    if (--p->refs > 0)
        return;
    *k->c.used -= (int64_t)p->size;
    free(p);
}

/* Forgets checkpoints beyond n tokens. */
static void drop_places(struct keep *k, struct conversation *c, int64_t n)
{
    while (c->n_place && c->place[c->n_place - 1].checkpoint->n > n) {
        struct place *last = &c->place[--c->n_place];
        prefix_remove(k->prefixes, last->mark);
        checkpoint_unref(k, last->checkpoint);
    }
}

void conversation_free(struct keep *k, struct conversation *c)
{
    if (!c)
        return;
    drop_places(k, c, 0);
    prefix_remove(k->prefixes, c->whole);
    kv_state_free(c->kv);
    free(c->place);
    free(c->ids);
    free(c);
}

static enum sluice_status grow(void **array, size_t *room, size_t n, size_t size,
                               struct sluice_error *err)
{
    if (n <= *room)
        return SLUICE_OK;
    size_t want = *room * 2 > n ? *room * 2 : n;
    void *p = realloc(*array, want * size);
    FAIL_IF(!p, err, SLUICE_ERR_NOMEM, "out of memory for a conversation");
    *array = p;
    *room = want;
    return SLUICE_OK;
}

enum sluice_status conversation_add(struct conversation *c, int32_t id, struct sluice_error *err)
{
    void *ids = c->ids;
    TRY(grow(&ids, &c->room, c->n_ids + 1, sizeof *c->ids, err));
    c->ids = ids;
    c->ids[c->n_ids++] = id;
    return SLUICE_OK;
}

static enum sluice_status set_ids(struct conversation *c, const int32_t *ids, size_t n,
                                  struct sluice_error *err)
{
    void *p = c->ids;
    TRY(grow(&p, &c->room, n, sizeof *ids, err));
    c->ids = p;
    memcpy(c->ids, ids, n * sizeof *ids);
    c->n_ids = n;
    return SLUICE_OK;
}

/* Takes over the caller's reference if it succeeds. The ids up to p->n are c's. */
static enum sluice_status add_place(struct keep *k, struct conversation *c, struct checkpoint *p,
                                    struct sluice_error *err)
{
    void *all = c->place;
    TRY(grow(&all, &c->place_room, c->n_place + 1, sizeof *c->place, err));
    c->place = all;
    struct prefix_mark mark = {.n = p->n, .from = p->n, .owner = c, .item = p}, *added;
    TRY(prefix_add(k->prefixes, c->ids, &mark, &added, err));
    c->place[c->n_place++] = (struct place){p, added};
    return SLUICE_OK;
}

/* A turn leaves a checkpoint, and a long conversation has many turns. */
static void thin_places(struct keep *k, struct conversation *c)
{
    enum { FEW = 4 };
    size_t others = 0;
    for (size_t i = c->n_place; i-- > 0;) {
        if (c->place[i].checkpoint->n % k->c.every == 0 || ++others <= FEW)
            continue;
        prefix_remove(k->prefixes, c->place[i].mark);
        checkpoint_unref(k, c->place[i].checkpoint);
        c->n_place--;
        memmove(c->place + i, c->place + i + 1, (c->n_place - i) * sizeof *c->place);
    }
}

static enum sluice_status take_checkpoint(struct keep *k, struct conversation *c,
                                          struct sluice_error *err)
{
    int64_t n = c->kv->n_tokens;
    int64_t last = c->n_place ? c->place[c->n_place - 1].checkpoint->n : 0;
    if (last == n)
        return SLUICE_OK;
    SLUICE_ASSERT(last < n);
    size_t size = kv_state_checkpoint_bytes(k->c.layout, n);
    if (!keep_make_room(k, (int64_t)size))
        return SLUICE_OK;
    struct checkpoint *p = malloc(sizeof *p + size);
    FAIL_IF(!p, err, SLUICE_ERR_NOMEM, "out of memory for a checkpoint");
    p->n = n;
    p->refs = 1;
    p->size = size;
    kv_state_checkpoint_read(c->kv, p->bytes);
    enum sluice_status st = add_place(k, c, p, err);
    if (st != SLUICE_OK) {
        free(p);
        return st;
    }
    *k->c.used += (int64_t)size;
    thin_places(k, c);
    return SLUICE_OK;
}

enum sluice_status keep_checkpoint(struct keep *k, struct conversation *c,
                                   struct sluice_error *err)
{
    TRY(take_checkpoint(k, c, err));
    keep_store_put(&k->store, c, STORE_STAYS);
    return SLUICE_OK;
}

enum sluice_status keep_pass(struct keep *k, struct conversation *c, struct sluice_error *err)
{
    int64_t n = c->kv->n_tokens;
    if (n % k->c.every == 0)
        return keep_checkpoint(k, c, err);
    return n % KEEP_STORE_STRIDE == 0 ? take_checkpoint(k, c, err) : SLUICE_OK;
}

void conversation_trim(struct keep *k, struct conversation *c)
{
    drop_places(k, c, 0);
}

/* ---- the keep ---- */

enum sluice_status keep_open(const struct keep_config *config, struct keep **out,
                             struct sluice_error *err)
{
    struct keep *k = calloc(1, sizeof *k);
    *out = k;
    FAIL_IF(!k, err, SLUICE_ERR_NOMEM, "out of memory for conversations");
    k->c = *config;
    k->c.clock = config->clock ? config->clock : clock_seconds;
    k->store = (struct keep_store){.layout = config->layout, .every = config->every};
    k->store.credit = keep_store_credit(&k->store);
    enum sluice_status st = prefix_open(&k->prefixes, err);
    if (st != SLUICE_OK) {
        free(k);
        *out = NULL;
    }
    return st;
}

void keep_set_store(struct keep *k, const struct page_sink *sink, struct page_key root)
{
    k->store.sink = sink;
    k->store.root = root;
}

void keep_close(struct keep *k)
{
    if (!k)
        return;
    while (k->n_idle) {
        struct conversation *c = k->idle[--k->n_idle];
        keep_store_put(&k->store, c, STORE_ENDS);
        conversation_free(k, c);
    }
    prefix_close(k->prefixes);
    free(k->idle);
    free(k);
}

int32_t keep_count(const struct keep *k)
{
    return (int32_t)k->n_idle;
}

static enum sluice_status add_idle(struct keep *k, struct conversation *c)
{
    void *all = k->idle;
    TRY(grow(&all, &k->room, k->n_idle + 1, sizeof *k->idle, NULL));
    k->idle = all;
    int64_t slack = c->kv->high - KV_SLACK, from = slack > c->kv->least ? slack : c->kv->least;
    struct prefix_mark mark = {.n = c->kv->n_tokens, .from = from, .owner = c};
    TRY(prefix_add(k->prefixes, c->ids, &mark, &c->whole, NULL));
    c->number = k->n_idle;
    k->idle[k->n_idle++] = c;
    return SLUICE_OK;
}

static void remove_idle(struct keep *k, struct conversation *c)
{
    prefix_remove(k->prefixes, c->whole);
    c->whole = NULL;
    struct conversation *last = k->idle[--k->n_idle];
    k->idle[c->number] = last;
    last->number = c->number;
}

void keep_return(struct keep *k, struct conversation *c)
{
    if (!c)
        return;
    if (c->kv->n_tokens > 0) {
        c->n_ids = (size_t)c->kv->n_tokens;
        keep_store_put(&k->store, c, STORE_STAYS);
        c->last_used = k->c.clock();
    }
    if (c->kv->n_tokens == 0 || add_idle(k, c) != SLUICE_OK)
        conversation_free(k, c);
}

/* Tokens that only this conversation has, per byte that it alone takes, and hour since its last
 * use, which is at least one: a small conversation beside a long one must not push it out by being
 * younger. What others share is neither lost with it nor won. */
static double value(const struct keep *k, const struct conversation *c, double now)
{
    const struct kv_state *kv = c->kv;
    int64_t tokens = kv->n_tokens, bytes = (int64_t)k->c.layout->fixed_bytes;
    for (int32_t j = 0; j < kv->n_page; j++) {
        bool shared = kv->page[j]->refs > 1;
        tokens -= shared ? KV_PAGE_TOKENS : 0;
        bytes += shared ? 0 : (int64_t)k->c.layout->page_bytes;
    }
    for (size_t i = 0; i < c->n_place; i++)
        bytes += c->place[i].checkpoint->refs > 1 ? 0 : (int64_t)c->place[i].checkpoint->size;
    double hours = 1 + (now - c->last_used) / 3600;
    return (double)(tokens > 0 ? tokens : 0) / (double)bytes / hours;
}

static struct conversation *least_valuable(const struct keep *k)
{
    double now = k->c.clock(), least = 0;
    struct conversation *worst = NULL;
    for (size_t i = 0; i < k->n_idle; i++) {
        double v = value(k, k->idle[i], now);
        if (!worst || v < least) {
            least = v;
            worst = k->idle[i];
        }
    }
    return worst;
}

bool keep_make_room(struct keep *k, int64_t bytes)
{
    while (*k->c.used + bytes > k->c.budget && k->n_idle > 0) {
        struct conversation *worst = least_valuable(k);
        remove_idle(k, worst);
        keep_store_put(&k->store, worst, STORE_LEAVES);
        conversation_free(k, worst);
    }
    return *k->c.used + bytes <= k->c.budget;
}

/* ---- finding a prefix ---- */

/* What a request begins with, and where it may go on from. */
struct start {
    const int32_t *ids;              /* [n] */
    size_t n;
    struct conversation *c;          /* NULL: nothing is at hand */
    int64_t same;                    /* tokens that are at hand */
    struct checkpoint *from;         /* NULL: c as it stands, a few tokens shortened */
};

static enum sluice_status fork_from(struct keep *k, const struct start *at, struct conversation *c,
                                    struct sluice_error *err)
{
    TRY(kv_state_fork(c->kv, at->c->kv, err));
    kv_state_checkpoint_write(c->kv, at->from->bytes, at->same);
    for (size_t i = 0; i < at->c->n_place; i++) {
        struct checkpoint *p = at->c->place[i].checkpoint;
        if (p->n > at->same)
            break;
        TRY(add_place(k, c, p, err));
        p->refs++;
    }
    at->c->last_used = k->c.clock();
    return SLUICE_OK;
}

static enum sluice_status start_new(struct keep *k, const struct start *at,
                                    struct conversation **out, struct sluice_error *err)
{
    struct conversation *c = calloc(1, sizeof *c);
    FAIL_IF(!c, err, SLUICE_ERR_NOMEM, "out of memory for a conversation");
    enum sluice_status st;
    TRY_OUT(set_ids(c, at->ids, at->n, err));
    TRY_OUT(kv_state_new(k->c.layout, k->c.ops, k->c.max_tokens, &c->kv, err));
    if (at->from)
        TRY_OUT(fork_from(k, at, c, err));
    *out = c;
    c = NULL;
out:
    conversation_free(k, c);
    return st;
}

/* Goes on from the store where that has clearly more; false where it has not, or cannot. */
static bool start_stored(struct keep *k, const struct start *best, struct conversation **out)
{
    enum { CLEARLY = 64 };
    struct page_checkpoint at;
    if (!keep_store_find(&k->store, best->ids, best->n - 1, &at) || at.n < best->same + CLEARLY)
        return false;
    struct start nothing = {.ids = best->ids, .n = best->n};
    struct conversation *c;
    if (start_new(k, &nothing, &c, NULL) != SLUICE_OK)
        return false;
    if (keep_store_get(&k->store, &at, c) != SLUICE_OK) {
        conversation_free(k, c);
        return false;
    }
    *out = c;
    return true;
}

/* Takes an idle conversation that the prompt goes on from. */
static enum sluice_status start_taken(struct keep *k, const struct start *best,
                                      struct conversation **out, struct sluice_error *err)
{
    struct conversation *c = best->c;
    remove_idle(k, c);
    enum sluice_status st = kv_state_truncate(c->kv, best->same, err);
    if (st == SLUICE_OK)
        st = set_ids(c, best->ids, best->n, err);
    if (st != SLUICE_OK) {
        conversation_free(k, c);
        return st;
    }
    drop_places(k, c, best->same);
    *out = c;
    return SLUICE_OK;
}

enum sluice_status keep_start(struct keep *k, const int32_t *ids, size_t n,
                              struct conversation **out, struct sluice_error *err)
{
    SLUICE_ASSERT(n > 0);
    struct start best = {.ids = ids, .n = n};
    const struct prefix_mark *mark = prefix_find(k->prefixes, ids, n - 1, &best.same);
    if (mark) {
        best.c = mark->owner;
        best.from = mark->item;
    }
    *out = NULL;
    if (start_stored(k, &best, out))
        return SLUICE_OK;
    return mark && !best.from ? start_taken(k, &best, out, err) : start_new(k, &best, out, err);
}
