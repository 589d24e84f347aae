/* A week of agents' traffic without a model: 10,000 turns of 50 conversations go through the keep
 * and the store (engine/keep.h, kvstore/) in the geometry of three layers of Flash (ratios 0, 4 and
 * 128), rows being random. Prints what is written to disk against the rows that were new, and the
 * share of prompts that was at hand; fails if the folder ever exceeds its budget, or memory its own.
 *
 * A conversation begins with one of three system prompts of 12,000 to 20,000 tokens. A turn adds the
 * result of a tool or a question (30 to 4,000 tokens) and an answer (20 to 800). Now and then one is
 * forked, is edited (its end is dropped), or becomes too long and begins anew with a summary; every
 * tenth turn a small request of its own asks for a title. Three conversations at a time are busy
 * for a while; a turn takes a minute, and the process is restarted every day.
 * usage: traffic [TURNS] [MEMORY IN MB] [SEED]      10000 400 77: memory for some 25 conversations */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "engine/keep.h"
#include "kvstore/store_internal.h"
#include "os/pool.h"

enum { TALKS = 50, CONTEXT = 60000, EVERY = 2048, SYSTEM = 3 };
#define FOLDER ((int64_t)1 << 30)

struct talk {
    int32_t *ids;                    /* [CONTEXT] */
    size_t n;
};

static struct {
    int64_t memory;                  /* bytes of all conversations */
    char dir[40];
    struct ops ops;
    struct kv_layout layout;
    _Atomic int64_t used;
    struct keep *keep;
    struct kvstore *store;
    struct kvstore_stats before;     /* of stores that were closed */
    struct talk talk[TALKS], title;
    uint64_t seed, draws, tokens_made, pages_filled;
    int64_t asked, cached, most_bytes;
} w;

static _Atomic int64_t the_time;

static int64_t now(void)
{
    return the_time;
}

static double seconds(void)
{
    return (double)the_time;
}

static void die(const char *what)
{
    fprintf(stderr, "traffic: %s\n", what);
    exit(1);
}

static uint64_t draw(uint64_t below)
{
    return rng_u64(w.seed, w.draws++) % below;
}

static void check(enum sluice_status st)
{
    if (st != SLUICE_OK)
        die("out of memory");
}

/* ---- the process ---- */

static void start(void)
{
    struct kvstore_options o = {
        .dir = w.dir, .bytes = FOLDER,
        .identity = {.page_bytes = w.layout.page_bytes, .fixed_bytes = w.layout.fixed_bytes}};
    struct keep_config config = {.layout = &w.layout, .ops = &w.ops, .max_tokens = CONTEXT,
                                 .budget = w.memory, .every = EVERY, .used = &w.used,
                                 .clock = seconds};
    check(kvstore_open(&o, &w.store, NULL));
    check(keep_open(&config, &w.keep, NULL));
    keep_set_store(w.keep, kvstore_sink(w.store), page_key_root(&o.identity));
}

static void stop(void)
{
    struct kvstore_stats s;
    keep_close(w.keep);
    kvstore_flush(w.store);
    kvstore_stats(w.store, &s);
    w.before.written_bytes += s.written_bytes;
    w.before.written += s.written;
    w.before.evicted += s.evicted;
    w.before.dropped += s.dropped;
    kvstore_close(w.store);
}

/* ---- a turn ---- */

/* n tokens go through the model: rows appear. */
static void advance(struct conversation *c, int64_t n)
{
    int64_t from = c->kv->n_tokens / KV_PAGE_TOKENS;
    if (!keep_make_room(w.keep, (n / KV_PAGE_TOKENS + 2) * (int64_t)w.layout.page_bytes))
        die("the budget of memory is too small");
    check(kv_state_reserve(c->kv, n, NULL));
    c->kv->n_tokens += n;
    c->kv->high = c->kv->high > c->kv->n_tokens ? c->kv->high : c->kv->n_tokens;
    for (int64_t j = from; j < c->kv->n_page; j++) {
        uint64_t *words = (uint64_t *)(void *)c->kv->page[j]->at, seed = w.pages_filled++;
        for (size_t i = 0; i < w.layout.page_bytes / sizeof *words; i++)
            words[i] = rng_mix(seed * 1000003 + i);
    }
    uint64_t *words = (uint64_t *)(void *)c->kv->fixed;
    for (size_t i = 0; i < w.layout.fixed_bytes / sizeof *words; i++)
        words[i] = rng_mix(w.pages_filled + i);
}

/* As the scheduler does: checkpoints at every interval and before the prompt's last token. */
static void read_prompt(struct conversation *c, size_t n)
{
    while (c->kv->n_tokens < (int64_t)n) {
        int64_t at = c->kv->n_tokens, next = (at / EVERY + 1) * EVERY, last = (int64_t)n - 1;
        next = at < last && last < next ? last : next < (int64_t)n ? next : (int64_t)n;
        advance(c, next - at);
        if (next % EVERY == 0 || next == last)
            check(keep_checkpoint(w.keep, c, NULL));
    }
}

static void say(struct talk *t, size_t n)
{
    for (size_t i = 0; i < n && t->n < CONTEXT; i++) {
        t->ids[t->n++] = (int32_t)draw(129280);
        w.tokens_made++;
    }
}

static void ask(struct talk *t, size_t answer)
{
    struct conversation *c;
    if (!keep_make_room(w.keep, 2 * (int64_t)w.layout.fixed_bytes))
        die("the budget of memory is too small");
    check(keep_start(w.keep, t->ids, t->n, &c, NULL));
    w.asked += (int64_t)t->n;
    w.cached += c->kv->n_tokens;
    read_prompt(c, t->n);
    size_t from = t->n;
    say(t, answer);
    for (size_t i = from; i < t->n; i++)
        check(conversation_add(c, t->ids[i], NULL));
    /* The last token of an answer is not read. */
    for (int64_t left = (int64_t)(t->n - 1 - from); left > 0;) {
        int64_t run = 128 - c->kv->n_tokens % 128;
        run = run < left ? run : left;
        advance(c, run);
        check(keep_pass(w.keep, c, NULL));
        left -= run;
    }
    keep_return(w.keep, c);
    kvstore_flush(w.store);
    struct kvstore_stats s;
    kvstore_stats(w.store, &s);
    w.most_bytes = s.bytes > w.most_bytes ? s.bytes : w.most_bytes;
    if (s.bytes > FOLDER || w.used > w.memory)
        die("a budget is exceeded");
}

/* System prompts are the same in all conversations: new only once. */
static void begin(struct talk *t)
{
    static bool seen[SYSTEM];
    uint64_t which = draw(SYSTEM);
    t->n = 12000 + 4000 * (size_t)which;
    for (size_t i = 0; i < t->n; i++)
        t->ids[i] = (int32_t)(rng_u64(1000 + which, i) % 129280);
    w.tokens_made += seen[which] ? 0 : t->n;
    seen[which] = true;
}

static void turn(struct talk *t)
{
    if (t->n == 0 || t->n > CONTEXT - 6000) {
        begin(t);
        say(t, 300 + draw(1500)); /* the task, or a summary */
    } else if (draw(25) == 0) {
        t->n -= draw(t->n - 12000 + 1) / 4; /* an edit, mostly of what is recent */
    } else if (draw(25) == 0) {
        const struct talk *from = &w.talk[draw(TALKS)];
        memcpy(t->ids, from->ids, from->n * sizeof *t->ids);
        t->n = from->n;
        if (t->n == 0)
            begin(t);
    }
    say(t, draw(4) ? 100 + draw(1400) : draw(8) ? 30 + draw(70) : 4000);
    ask(t, 20 + draw(draw(5) ? 250 : 780));
}

static void ask_title(void)
{
    w.title.n = 0;
    say(&w.title, 200 + draw(600));
    ask(&w.title, 12);
}

/* What is counted does not depend on syncing; when a record was written does on the time here. */
static int only_date(int fd)
{
    struct timespec t = {.tv_sec = (time_t)the_time};
    return futimens(fd, (struct timespec[]){t, t});
}

int main(int argc, char **argv)
{
    long turns = argc > 1 ? strtol(argv[1], NULL, 10) : 10000;
    w.memory = (argc > 2 ? strtol(argv[2], NULL, 10) : 400) << 20;
    w.seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 77;
    struct shape s = {.n_layer = 3, .head_dim = 512, .rot_dim = 64, .window = 128,
                      .index_dim = 128, .ratio = {0, 4, 128}};
    struct pool *pool;
    char command[64];
    size_t busy[3] = {0, 1, 2};
    the_time = (int64_t)time(NULL);
    store_io.now = now;
    store_io.sync = only_date;
    strcpy(w.dir, "/tmp/sluice-bench-XXXXXX");
    check(pool_open(1, false, &pool, NULL));
    check(ops_open("ref", NULL, pool, &w.ops, NULL));
    kv_layout_make(&s, 0, 3, KV_FP8, &w.layout);
    w.layout.used = &w.used;
    for (int i = 0; i < TALKS; i++)
        w.talk[i].ids = calloc(CONTEXT, sizeof(int32_t));
    w.title.ids = calloc(CONTEXT, sizeof(int32_t));
    if (!mkdtemp(w.dir) || !w.title.ids)
        die("cannot begin");
    start();
    for (long i = 0; i < turns; i++) {
        size_t k = draw(3);
        if (draw(20) == 0)
            busy[k] = draw(TALKS);
        turn(&w.talk[busy[k]]);
        the_time += 60;
        if (i % 10 == 0)
            ask_title();
        if (i % 1400 == 1399) {
            stop();
            start();
        }
    }
    stop();
    double rows = (double)w.tokens_made * (double)w.layout.page_bytes / KV_PAGE_TOKENS;
    printf("%ld turns: %.1f million new tokens, %.0f MB of rows; written %.0f MB in %lld records: "
           "%.3f times the new rows; %lld given up, %lld not saved\n",
           turns, (double)w.tokens_made / 1e6, rows / 1e6, (double)w.before.written_bytes / 1e6,
           (long long)w.before.written, (double)w.before.written_bytes / rows,
           (long long)w.before.evicted, (long long)w.before.dropped);
    printf("at hand: %.2f %% of the tokens of prompts; most on disk %.1f of %.1f MB\n",
           100.0 * (double)w.cached / (double)w.asked, (double)w.most_bytes / 1e6,
           (double)FOLDER / 1e6);
    snprintf(command, sizeof command, "rm -rf '%s'", w.dir);
    return system(command) != 0;
}
