/* How long the longest kept prefix takes to find: in memory (engine/prefix.h) and on disk
 * (kvstore/), among N kept ones of 6,000 tokens. Prints the median, the 99th percentile and
 * the slowest of 2,000 questions, in microseconds; what else the machine does shows in the last.
 * usage: prefix [N]      N: 10000 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "engine/prefix.h"
#include "kvstore/store_internal.h"
#include "os/clock.h"

enum { TOKENS = 6000, QUESTIONS = 2000 };

/* Where kept sequences part from each other. */
enum shape {
    AT_ONCE,        /* at their first token */
    LATE,           /* after a common beginning of 5,900 tokens */
    ANYWHERE,       /* each from another one, at a random place */
};
static const char *const shape_name[] = {
    "all different", "5,900 tokens in common", "forks of forks"};

static int32_t (*ids)[TOKENS];

static void make_ids(enum shape shape, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        size_t same = shape == LATE ? 5900 : shape == ANYWHERE && k ? rng_u64(1, k) % TOKENS : 0;
        size_t from = shape == ANYWHERE && k ? rng_u64(2, k) % k : 0;
        memcpy(ids[k], ids[from], same * sizeof **ids);
        for (size_t i = same; i < TOKENS; i++)
            ids[k][i] = (int32_t)(rng_u64(3 + k, i) % 129280);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *where, enum shape shape, size_t n, double *seconds)
{
    qsort(seconds, QUESTIONS, sizeof *seconds, by_value);
    printf("%-10s %-24s %6zu kept: median %7.1f us, 99 of 100 %7.1f us, slowest %7.1f us\n", where,
           shape_name[shape], n, seconds[QUESTIONS / 2] * 1e6, seconds[QUESTIONS * 99 / 100] * 1e6,
           seconds[QUESTIONS - 1] * 1e6);
}

/* Question i: a kept sequence up to a random place, often near its end, then other tokens. */
static void make_question(size_t i, size_t n, int32_t *question)
{
    size_t k = rng_u64(4, i) % n, same = rng_u64(5, i) % TOKENS;
    same = i % 2 ? same : TOKENS - same % 120;
    memcpy(question, ids[k], same * sizeof *question);
    for (size_t j = same; j < TOKENS; j++)
        question[j] = 1;
}

static void memory(enum shape shape, size_t n)
{
    static double seconds[QUESTIONS];
    int32_t question[TOKENS];
    struct prefix *t;
    struct prefix_mark *added;
    if (prefix_open(&t, NULL) != SLUICE_OK)
        exit(4);
    for (size_t k = 0; k < n; k++) {
        /* As a conversation has them: checkpoints every 2,048 tokens, and as it stands. */
        for (int64_t at = 2048; at < TOKENS; at += 2048) {
            struct prefix_mark mark = {.n = at, .from = at};
            prefix_add(t, ids[k], &mark, &added, NULL);
        }
        struct prefix_mark mark = {.n = TOKENS, .from = TOKENS - 16};
        prefix_add(t, ids[k], &mark, &added, NULL);
    }
    for (size_t i = 0; i < QUESTIONS; i++) {
        int64_t same;
        make_question(i, n, question);
        double began = clock_seconds();
        prefix_find(t, question, TOKENS, &same);
        seconds[i] = clock_seconds() - began;
    }
    print("in memory", shape, n, seconds);
    prefix_close(t);
}

static const struct page_identity identity = {.model = 1, .page_bytes = 8, .fixed_bytes = 8};

static void keys(const int32_t *of, size_t n, struct page_key *chain)
{
    chain[0] = page_key_root(&identity);
    for (size_t i = 0; i < n / PAGE_SINK_TOKENS; i++)
        chain[i + 1] = page_key_next(chain[i], of + i * PAGE_SINK_TOKENS, PAGE_SINK_TOKENS);
}

/* The index alone, without files. */
static void index_record(struct kvstore *s, const struct record *r)
{
    struct index_entry e = {.r = *r, .at_root = page_key_same(r->parent, s->root), .bytes = 1};
    if (!index_find(&s->index, r->key) && !index_add(&s->index, &e))
        exit(4);
}

static void disk(enum shape shape, size_t n)
{
    static double seconds[QUESTIONS];
    int32_t question[TOKENS];
    struct page_key chain[TOKENS / PAGE_SINK_TOKENS + 1];
    char dir[] = "/tmp/sluice-bench-XXXXXX", command[64];
    struct kvstore *s;
    struct kvstore_options o = {.dir = mkdtemp(dir), .identity = identity};
    if (!o.dir || kvstore_open(&o, &s, NULL) != SLUICE_OK)
        exit(1);
    for (size_t k = 0; k < n; k++) {
        size_t at = TOKENS - 1 - k % 97, pages = at / PAGE_SINK_TOKENS;
        keys(ids[k], at, chain);
        for (size_t i = 0; i < pages; i++)
            index_record(s, &(struct record){RECORD_PAGE, chain[i + 1], chain[i], 0});
        struct page_key key = page_key_next(chain[pages], ids[k] + pages * PAGE_SINK_TOKENS,
                                            at % PAGE_SINK_TOKENS);
        index_record(s, &(struct record){RECORD_CHECKPOINT, record_checkpoint_key(key),
                                         chain[pages], (int64_t)at});
    }
    for (size_t i = 0; i < QUESTIONS; i++) {
        struct page_checkpoint found;
        make_question(i, n, question);
        double began = clock_seconds();
        keys(question, TOKENS, chain);
        kvstore_sink(s)->find(kvstore_sink(s)->ctx, chain, question, TOKENS, &found);
        seconds[i] = clock_seconds() - began;
    }
    print("on disk", shape, n, seconds);
    kvstore_close(s);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command) != 0)
        exit(1);
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    ids = calloc(n, sizeof *ids);
    if (!ids || n == 0)
        return 4;
    for (enum shape shape = AT_ONCE; shape <= ANYWHERE; shape++) {
        make_ids(shape, n);
        memory(shape, n);
        disk(shape, n);
    }
    free(ids);
    return 0;
}
