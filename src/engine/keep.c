/* engine/keep.c - see keep.h. */
#include "engine/keep.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/keep_store.h"
#include "os/clock.h"

struct keep {
    struct keep_config c;
    struct conversation **idle;      /* [n_idle] */
    size_t n_idle, room;
};

/* ---- one conversation ---- */

static void checkpoint_unref(struct keep *k, struct checkpoint *p)
{
    if (--p->refs > 0)
        return;
    *k->c.used -= (int64_t)k->c.layout->fixed_bytes;
    free(p);
}

void conversation_free(struct keep *k, struct conversation *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n_checkpoint; i++)
        checkpoint_unref(k, c->checkpoint[i]);
    kv_state_free(c->kv);
    free(c->checkpoint);
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

static enum sluice_status add_checkpoint(struct conversation *c, struct checkpoint *p,
                                         struct sluice_error *err)
{
    void *all = c->checkpoint;
    TRY(grow(&all, &c->checkpoint_room, c->n_checkpoint + 1, sizeof *c->checkpoint, err));
    c->checkpoint = all;
    c->checkpoint[c->n_checkpoint++] = p;
    return SLUICE_OK;
}

enum sluice_status keep_checkpoint(struct keep *k, struct conversation *c,
                                   struct sluice_error *err)
{
    int64_t n = c->kv->n_tokens;
    if (c->n_checkpoint && c->checkpoint[c->n_checkpoint - 1]->n == n)
        return SLUICE_OK;
    SLUICE_ASSERT(!c->n_checkpoint || c->checkpoint[c->n_checkpoint - 1]->n < n);
    if (!keep_make_room(k, (int64_t)k->c.layout->fixed_bytes)) {
        keep_store_put(&k->c, c);
        return SLUICE_OK;
    }
    struct checkpoint *p = malloc(sizeof *p + k->c.layout->fixed_bytes);
    FAIL_IF(!p, err, SLUICE_ERR_NOMEM, "out of memory for a checkpoint");
    p->n = n;
    p->refs = 1;
    kv_state_fixed_read(c->kv, p->bytes);
    enum sluice_status st = add_checkpoint(c, p, err);
    if (st != SLUICE_OK) {
        free(p);
        return st;
    }
    *k->c.used += (int64_t)k->c.layout->fixed_bytes;
    keep_store_put(&k->c, c);
    return SLUICE_OK;
}

/* Forgets checkpoints beyond n tokens. */
static void drop_checkpoints(struct keep *k, struct conversation *c, int64_t n)
{
    while (c->n_checkpoint && c->checkpoint[c->n_checkpoint - 1]->n > n)
        checkpoint_unref(k, c->checkpoint[--c->n_checkpoint]);
}

void conversation_trim(struct keep *k, struct conversation *c)
{
    drop_checkpoints(k, c, 0);
}

/* ---- the keep ---- */

enum sluice_status keep_open(const struct keep_config *config, struct keep **out,
                             struct sluice_error *err)
{
    struct keep *k = calloc(1, sizeof *k);
    *out = k;
    FAIL_IF(!k, err, SLUICE_ERR_NOMEM, "out of memory for conversations");
    k->c = *config;
    return SLUICE_OK;
}

void keep_set_store(struct keep *k, const struct page_sink *sink, struct page_key root)
{
    k->c.sink = sink;
    k->c.root = root;
}

void keep_close(struct keep *k)
{
    if (!k)
        return;
    while (k->n_idle)
        conversation_free(k, k->idle[--k->n_idle]);
    free(k->idle);
    free(k);
}

int32_t keep_count(const struct keep *k)
{
    return (int32_t)k->n_idle;
}

void keep_return(struct keep *k, struct conversation *c)
{
    if (!c)
        return;
    void *all = k->idle;
    if (c->kv->n_tokens == 0 ||
        grow(&all, &k->room, k->n_idle + 1, sizeof *k->idle, NULL) != SLUICE_OK) {
        conversation_free(k, c);
        return;
    }
    k->idle = all;
    c->n_ids = (size_t)c->kv->n_tokens;
    keep_store_put(&k->c, c);
    c->last_used = clock_seconds();
    k->idle[k->n_idle++] = c;
}

static void remove_idle(struct keep *k, size_t i)
{
    k->idle[i] = k->idle[--k->n_idle];
}

bool keep_make_room(struct keep *k, int64_t bytes)
{
    double now = clock_seconds();
    while (*k->c.used + bytes > k->c.budget && k->n_idle > 0) {
        size_t worst = 0;
        double least = 0;
        for (size_t i = 0; i < k->n_idle; i++) {
            const struct conversation *c = k->idle[i];
            double value = (double)c->kv->n_tokens / (now - c->last_used + 1);
            if (i == 0 || value < least) {
                least = value;
                worst = i;
            }
        }
        struct conversation *c = k->idle[worst];
        remove_idle(k, worst);
        conversation_free(k, c);
    }
    return *k->c.used + bytes <= k->c.budget;
}

/* ---- finding a prefix ---- */

/* The tokens a request begins with, and where it may go on from. */
struct find {
    const int32_t *ids;              /* [n_ids] */
    size_t n_ids;
    /* best so far */
    struct conversation *c;
    int64_t n;                       /* tokens that are at hand */
    const struct checkpoint *from;   /* NULL: the sequence as it stands, a few tokens shortened */
};

static int64_t common(const struct conversation *c, const struct find *f)
{
    size_t n = (size_t)c->kv->n_tokens, most = n < f->n_ids ? n : f->n_ids, i = 0;
    while (i < most && c->ids[i] == f->ids[i])
        i++;
    return (int64_t)i;
}

static void found(struct find *f, struct conversation *c, int64_t n, const struct checkpoint *from)
{
    f->c = c;
    f->n = n;
    f->from = from;
}

/* Is c a better place to go on from? */
static bool consider(struct find *f, struct conversation *c, bool idle)
{
    if (c->kv->n_tokens <= f->n)
        return false;
    int64_t same = common(c, f);
    if (same <= f->n)
        return false;
    if (idle && c->kv->high - same <= KV_SLACK) {
        found(f, c, same, NULL);
        return true;
    }
    size_t i = c->n_checkpoint;
    while (i > 0 && c->checkpoint[i - 1]->n > same)
        i--;
    if (i == 0 || c->checkpoint[i - 1]->n <= f->n)
        return false;
    found(f, c, c->checkpoint[i - 1]->n, c->checkpoint[i - 1]);
    return true;
}

static enum sluice_status fork_from(struct keep *k, const struct find *at,
                                    struct conversation *c, struct sluice_error *err)
{
    TRY(kv_state_fork(c->kv, at->c->kv, err));
    kv_state_fixed_write(c->kv, at->from->bytes, at->n);
    for (size_t i = 0; i < at->c->n_checkpoint && at->c->checkpoint[i]->n <= at->n; i++) {
        TRY(add_checkpoint(c, at->c->checkpoint[i], err));
        at->c->checkpoint[i]->refs++;
    }
    at->c->last_used = clock_seconds();
    return SLUICE_OK;
}

static enum sluice_status start_new(struct keep *k, const struct find *at, size_t n,
                                    struct conversation **out, struct sluice_error *err)
{
    struct conversation *c = calloc(1, sizeof *c);
    FAIL_IF(!c, err, SLUICE_ERR_NOMEM, "out of memory for a conversation");
    enum sluice_status st;
    TRY_OUT(kv_state_new(k->c.layout, k->c.ops, k->c.max_tokens, &c->kv, err));
    if (at->from)
        TRY_OUT(fork_from(k, at, c, err));
    TRY_OUT(set_ids(c, at->ids, n, err));
    *out = c;
    c = NULL;
out:
    conversation_free(k, c);
    return st;
}

/* Goes on from the store where that has clearly more; false where it has not, or cannot. */
static bool start_stored(struct keep *k, const struct find *best, size_t n,
                         struct conversation **out)
{
    enum { CLEARLY = 64 };
    struct page_checkpoint at;
    if (!keep_store_find(&k->c, best->ids, best->n_ids, &at) || at.n < best->n + CLEARLY)
        return false;
    struct find nothing = {.ids = best->ids};
    struct conversation *c;
    if (start_new(k, &nothing, n, &c, NULL) != SLUICE_OK)
        return false;
    if (keep_store_get(&k->c, &at, c) != SLUICE_OK) {
        conversation_free(k, c);
        return false;
    }
    *out = c;
    return true;
}

enum sluice_status keep_start(struct keep *k, const struct keep_prompt *prompt,
                              struct conversation **out, struct sluice_error *err)
{
    SLUICE_ASSERT(prompt->n > 0);
    struct find best = {.ids = prompt->ids, .n_ids = prompt->n - 1};
    size_t index = 0;
    for (size_t i = 0; i < k->n_idle; i++)
        if (consider(&best, k->idle[i], /*idle=*/true))
            index = i;
    for (size_t i = 0; i < prompt->n_busy; i++)
        consider(&best, prompt->busy[i], /*idle=*/false);
    *out = NULL;
    if (start_stored(k, &best, prompt->n, out))
        return SLUICE_OK;
    if (!best.c || best.from)
        return start_new(k, &best, prompt->n, out, err);
    remove_idle(k, index);
    enum sluice_status st = kv_state_truncate(best.c->kv, best.n, err);
    if (st == SLUICE_OK)
        st = set_ids(best.c, prompt->ids, prompt->n, err);
    if (st != SLUICE_OK) {
        conversation_free(k, best.c);
        return st;
    }
    drop_checkpoints(k, best.c, best.n);
    *out = best.c;
    return SLUICE_OK;
}
