/* server/grammars.c - see grammars.h. */
#include "server/grammars.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/json_text.h"
#include "base/limits.h"

struct entry {
    struct buf key;
    struct sluice_grammar *grammar; /* NULL: the place is free */
    uint64_t used;
};

struct grammars {
    pthread_mutex_t lock;
    /* under lock */
    struct entry entry[LIMIT_SERVER_GRAMMARS];
    uint64_t now;
};

struct grammars *grammars_new(void)
{
    struct grammars *g = calloc(1, sizeof *g);
    if (g)
        pthread_mutex_init(&g->lock, NULL);
    return g;
}

static void clear(struct entry *e)
{
    sluice_grammar_free(e->grammar);
    buf_deinit(&e->key);
    *e = (struct entry){0};
}

void grammars_free(struct grammars *g)
{
    if (!g)
        return;
    for (int i = 0; i < LIMIT_SERVER_GRAMMARS; i++)
        clear(&g->entry[i]);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

/* One more share of the kept grammar, or NULL. */
static struct sluice_grammar *find(struct grammars *g, const struct buf *key)
{
    struct sluice_grammar *found = NULL;
    pthread_mutex_lock(&g->lock);
    for (int i = 0; i < LIMIT_SERVER_GRAMMARS && !found; i++) {
        struct entry *e = &g->entry[i];
        if (!e->grammar || e->key.len != key->len || memcmp(e->key.data, key->data, key->len) != 0)
            continue;
        e->used = ++g->now;
        found = sluice_grammar_hold(e->grammar);
    }
    pthread_mutex_unlock(&g->lock);
    return found;
}

/* Takes key over. */
static void keep(struct grammars *g, struct buf *key, struct sluice_grammar *grammar)
{
    pthread_mutex_lock(&g->lock);
    struct entry *oldest = g->entry;
    for (int i = 1; i < LIMIT_SERVER_GRAMMARS; i++)
        if (g->entry[i].used < oldest->used)
            oldest = &g->entry[i];
    clear(oldest);
    *oldest = (struct entry){*key, sluice_grammar_hold(grammar), ++g->now};
    pthread_mutex_unlock(&g->lock);
    buf_init(key, 0);
}

static void add_part(struct buf *key, const char *text, size_t len)
{
    buf_addf(key, "%zu ", text ? len : SIZE_MAX);
    buf_add(key, text ? text : "", text ? len : 0);
}

static enum sluice_status get(struct grammars *g, const struct source *source,
                              const struct sluice_grammar_options *o, struct sluice_grammar **out,
                              struct sluice_error *err)
{
    struct buf key;
    buf_init(&key, 0);
    buf_addf(&key, "%d %d ", o->one_call, o->loose);
    add_part(&key, o->gbnf, o->gbnf_len);
    add_part(&key, o->schema, o->schema_len);
    add_part(&key, o->tools, o->tools_len);
    add_part(&key, o->tool, o->tool ? strlen(o->tool) : 0);
    enum sluice_status st = buf_status(&key, err);
    if (st == SLUICE_OK) {
        *out = find(g, &key);
        if (!*out) {
            st = source->fn->grammar(source->ctx, o, out, err);
            if (st == SLUICE_OK)
                keep(g, &key, *out);
        }
    }
    buf_deinit(&key);
    return st;
}

static enum sluice_status make(struct grammars *g, const struct source *source,
                               const struct ask *ask, bool answer, struct sluice_grammar **out,
                               struct sluice_error *err)
{
    struct buf schema, tools;
    buf_init(&schema, 0);
    buf_init(&tools, 0);
    bool must = ask->choice == ASK_CALL, calls = ask->tools && ask->choice != ASK_NO_CALL;
    answer = answer && !must;
    if (answer && ask->schema)
        json_text_write(&schema, ask->schema);
    if (calls && !(answer && ask->gbnf))
        json_text_write(&tools, ask->tools);
    enum sluice_status st;
    struct sluice_grammar_options o = {
        .gbnf = answer ? ask->gbnf : NULL,
        .gbnf_len = answer && ask->gbnf ? strlen(ask->gbnf) : 0,
        .schema = schema.data,
        .schema_len = schema.len,
        .schema_name = ask->held_by,
        .tools = tools.data,
        .tools_len = tools.len,
        .tool = must ? ask->tool_name : NULL,
        .one_call = ask->one_call,
        .loose = !must,
    };
    TRY_OUT(buf_status(&schema, err));
    TRY_OUT(buf_status(&tools, err));
    st = get(g, source, &o, out, err);
out:
    buf_deinit(&schema);
    buf_deinit(&tools);
    return st;
}

enum sluice_status grammars_of(struct grammars *g, const struct source *source,
                               const struct ask *ask, struct sluice_grammar **out,
                               struct sluice_error *err)
{
    *out = NULL;
    if (!ask->held_by && ask->choice != ASK_CALL)
        return SLUICE_OK;
    return make(g, source, ask, /*answer=*/true, out, err);
}

enum sluice_status grammars_of_calls(struct grammars *g, const struct source *source,
                                     const struct ask *ask, struct sluice_grammar **out,
                                     struct sluice_error *err)
{
    *out = NULL;
    return make(g, source, ask, /*answer=*/false, out, err);
}
