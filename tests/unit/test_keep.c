/* Conversations in memory without a model: what goes first when memory is short, what stays of
 * checkpoints, and where a prompt goes on from. */
#include "engine/keep.h"
#include "ops/ref/ref.h"
#include "support/model.h"

enum { EVERY = 256, MOST = 4000 };
#define BUDGET ((int64_t)1 << 40)

static struct sluice_error err;
static struct pool *pool;
static struct ops ops;
static struct kv_layout layout;
static struct keep *keep;
static _Atomic int64_t used;
static double now;
static int32_t ids[4][MOST];

static double the_time(void)
{
    return now;
}

static int setup(void **state)
{
    struct shape s = {.n_layer = 3, .head_dim = 12, .rot_dim = 4, .window = 8, .index_dim = 8,
                      .ratio = {0, 4, 128}};
    assert_ok(pool_open(1, /*pin=*/false, &pool, &err));
    assert_ok(ops_open("ref", NULL, pool, &ops, &err));
    kv_layout_make(&s, 0, 3, KV_EXACT, &layout);
    layout.used = &used;
    struct keep_config config = {.layout = &layout, .ops = &ops, .max_tokens = MOST,
                                 .budget = BUDGET, .every = EVERY, .used = &used,
                                 .clock = the_time};
    now = 0;
    assert_ok(keep_open(&config, &keep, &err));
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < MOST; i++)
            ids[k][i] = k * 1000 + i % 997;
    return 0;
}

static int teardown(void **state)
{
    keep_close(keep);
    assert_int_equal(used, 0);
    ops_close(&ops);
    pool_close(pool);
    return 0;
}

/* A conversation of ids[k][0 .. n), read with checkpoints at every interval; *cached: how much of
 * it was at hand. */
static struct conversation *begin(int k, size_t n, int64_t *cached)
{
    struct conversation *c;
    assert_ok(keep_start(keep, ids[k], n, &c, &err));
    *cached = c->kv->n_tokens;
    while (c->kv->n_tokens < (int64_t)n) {
        int64_t at = c->kv->n_tokens, next = (at / EVERY + 1) * EVERY;
        next = next < (int64_t)n ? next : (int64_t)n;
        assert_ok(kv_state_reserve(c->kv, next - at, &err));
        c->kv->n_tokens = next;
        c->kv->high = c->kv->high > next ? c->kv->high : next;
        if (next % EVERY == 0)
            assert_ok(keep_checkpoint(keep, c, &err));
    }
    return c;
}

/* n tokens more of ids[k]. */
static void go_on(struct conversation *c, int k, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        assert_ok(conversation_add(c, ids[k][c->n_ids], &err));
    assert_ok(kv_state_reserve(c->kv, n, &err));
    c->kv->n_tokens += n;
    c->kv->high = c->kv->n_tokens;
}

static void run(int k, size_t n, int64_t cached)
{
    int64_t found;
    struct conversation *c = begin(k, n, &found);
    assert_int_equal(found, cached);
    keep_return(keep, c);
}

/* Frees one conversation. */
static void squeeze(void)
{
    int32_t n = keep_count(keep);
    assert_true(keep_make_room(keep, BUDGET - used + 1));
    assert_int_equal(keep_count(keep), n - 1);
}

/* A title that is asked for beside a long conversation; and an old one beside a new. */
static void small_and_old_ones_go_first(void **state)
{
    run(0, 3000, 0);
    now += 600;
    run(1, 200, 0);
    squeeze();
    run(0, 3001, 3000);
    now += 600;
    run(2, 3000, 0);
    now += 6 * 3600;
    run(3, 2800, 0);
    squeeze();
    squeeze();
    run(3, 2801, 2800);
    run(1, 200, 0);
}

/* Forks cost little to make again while one of them is there. */
static void what_others_share_is_not_lost(void **state)
{
    memcpy(ids[3], ids[0], 2900 * sizeof ids[0][0]);
    run(0, 3000, 0);
    run(3, 3000, 11 * EVERY);
    run(1, 600, 0);
    squeeze();
    run(1, 601, 600);
    ids[2][0] = ids[0][0]; /* agrees with one of the two still */
    memcpy(ids[2], ids[0], 2900 * sizeof ids[0][0]);
    run(2, 2950, 11 * EVERY);
}

/* Of checkpoints at the ends of prompts four stay, all of those at the interval. */
static void checkpoints_are_thinned(void **state)
{
    int64_t cached;
    struct conversation *c = begin(0, 600, &cached);
    for (int i = 0; i < 30; i++) {
        go_on(c, 0, 13);
        assert_ok(keep_checkpoint(keep, c, &err));
    }
    assert_int_equal(c->kv->n_tokens, 990);
    assert_int_equal(c->n_place, 2 + 4);
    assert_int_equal(c->place[1].checkpoint->n, 512);
    assert_int_equal(c->place[2].checkpoint->n, 990 - 3 * 13);
    assert_int_equal(c->place[5].checkpoint->n, 990);
    keep_return(keep, c);
    memcpy(ids[1], ids[0], 960 * sizeof ids[0][0]);
    run(1, 1000, 951);
}

/* A fork that has hardly gone on holds no rows before its checkpoint: it cannot be shortened to
 * before it, although it is short enough since. */
static void forks_are_not_shortened_too_far(void **state)
{
    memcpy(ids[1], ids[0], 3 * EVERY * sizeof ids[0][0]);
    memcpy(ids[2], ids[0], (3 * EVERY - 8) * sizeof ids[0][0]);
    run(0, 1000, 0);
    run(1, 3 * EVERY + 2, 3 * EVERY);
    run(2, 900, 2 * EVERY);
    run(1, 3 * EVERY + 3, 3 * EVERY + 2);
}

/* An answer leaves checkpoints in passing, for memory alone where they are only small. */
static void answers_leave_checkpoints(void **state)
{
    int64_t cached;
    struct conversation *c = begin(0, 100, &cached);
    for (int i = 0; i < 300; i++) {
        go_on(c, 0, 1);
        assert_ok(keep_pass(keep, c, &err));
    }
    assert_int_equal(c->n_place, 3);
    assert_int_equal(c->place[0].checkpoint->n, 128);
    assert_int_equal(c->place[1].checkpoint->n, 256);
    assert_int_equal(c->place[2].checkpoint->n, 384);
    keep_return(keep, c);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(small_and_old_ones_go_first), TEST(what_others_share_is_not_lost),
        TEST(checkpoints_are_thinned),     TEST(forks_are_not_shortened_too_far),
        TEST(answers_leave_checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
