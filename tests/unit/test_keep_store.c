/* What goes to a store and when: pages always, states as far as they are worth it. */
#include "engine/keep_store.h"
#include "ops/ref/ref.h"
#include "support/model.h"
#include "support/shelf.h"

enum { EVERY = 100, MOST = 1000 };

static struct sluice_error err;
static struct pool *pool;
static struct ops ops;
static struct kv_layout layout;
static struct shelf shelf;
static struct page_sink sink;
static struct keep_store store;
static struct conversation c;
static int32_t ids[MOST];

static int setup(void **state)
{
    struct shape s = {.n_layer = 3, .head_dim = 12, .rot_dim = 4, .window = 8, .index_dim = 8,
                      .ratio = {0, 4, 128}};
    assert_ok(pool_open(1, /*pin=*/false, &pool, &err));
    assert_ok(ops_open("ref", NULL, pool, &ops, &err));
    kv_layout_make(&s, 0, 3, KV_EXACT, &layout);
    sink = shelf_sink(&shelf);
    store = (struct keep_store){.layout = &layout, .sink = &sink, .root = {5, 6}, .every = EVERY};
    for (int i = 0; i < MOST; i++)
        ids[i] = i * 7 % 100;
    c = (struct conversation){.ids = ids, .n_ids = MOST};
    assert_ok(kv_state_new(&layout, &ops, MOST, &c.kv, &err));
    return 0;
}

static int teardown(void **state)
{
    kv_state_free(c.kv);
    shelf_empty(&shelf);
    ops_close(&ops);
    pool_close(pool);
    return 0;
}

/* Tokens go through the model: bytes that depend on how many. */
static void grow_to(int64_t n)
{
    assert_ok(kv_state_reserve(c.kv, n - c.kv->n_tokens, &err));
    c.kv->n_tokens = c.kv->high = n;
    for (size_t i = 0; i < layout.fixed_bytes; i++)
        c.kv->fixed[i] = (uint8_t)(i * 3 + (size_t)n);
    for (int32_t j = 0; j < c.kv->n_page; j++)
        memset(c.kv->page[j]->at, j + 1, layout.page_bytes);
}

/* How many states a put adds, and of how many tokens the last is. */
static int put(int64_t credit, enum keep_store_why why, int64_t *n)
{
    int before = shelf.n_checkpoint, done = shelf.n_done;
    store.credit = credit;
    keep_store_put(&store, &c, why);
    assert_int_equal(shelf.n_done, done + 1); /* with a state or without */
    *n = shelf.n_checkpoint ? shelf.checkpoint[shelf.n_checkpoint - 1].at.n : 0;
    return shelf.n_checkpoint - before;
}

static void states_live_on_credit(void **state)
{
    int64_t n, full = keep_store_credit(&store), some = full / 4;
    assert_true(full >= 4 * (int64_t)layout.fixed_bytes);
    grow_to(270);
    assert_int_equal(put(full, STORE_STAYS, &n), 1);
    assert_int_equal(n, 270);
    assert_int_equal(shelf.n_page, 1);
    assert_true(store.credit < full);
    assert_int_equal(put(full, STORE_STAYS, &n), 0); /* it is there */

    grow_to(330); /* 60 more */
    assert_int_equal(put(some, STORE_STAYS, &n), 0);
    assert_int_equal(put(0, STORE_LEAVES, &n), 0);
    assert_int_equal(put(0, STORE_ENDS, &n), 0);
    assert_int_equal(put(full, STORE_STAYS, &n), 1);

    grow_to(395); /* 65 more */
    assert_int_equal(put(0, STORE_LEAVES, &n), 0);
    assert_int_equal(put(0, STORE_ENDS, &n), 1);

    grow_to(520); /* 125 more */
    assert_int_equal(put(0, STORE_STAYS, &n), 0);
    assert_int_equal(shelf.n_page, 2);
    assert_int_equal(put(some, STORE_STAYS, &n), 1);
    grow_to(650);
    assert_int_equal(put(0, STORE_LEAVES, &n), 1);
    assert_true(store.credit < 0);

    grow_to(900); /* on the way through a prompt: 250 more, 350 more */
    assert_int_equal(put(full, STORE_STAYS, &n), 0);
    grow_to(1000);
    assert_int_equal(put(full, STORE_STAYS, &n), 0);
    assert_int_equal(put(0, STORE_LEAVES, &n), 1);
    assert_int_equal(n, 1000);
}

/* A checkpoint at 384 needs no rows of ratio 128, the state at 500 needs 116 of them. */
static void a_small_checkpoint_stands_in(void **state)
{
    int64_t n;
    struct place place;
    uint8_t expected[3000];
    grow_to(384);
    size_t size = kv_state_checkpoint_bytes(&layout, 384);
    assert_true(size <= sizeof expected && 3 * size < 2 * kv_state_checkpoint_bytes(&layout, 500));
    place.checkpoint = malloc(sizeof *place.checkpoint + size);
    *place.checkpoint = (struct checkpoint){.n = 384, .refs = 1, .size = size};
    kv_state_checkpoint_read(c.kv, place.checkpoint->bytes);
    memcpy(expected, place.checkpoint->bytes, size);
    c.place = &place;
    c.n_place = 1;
    grow_to(500);
    assert_int_equal(put(keep_store_credit(&store), STORE_STAYS, &n), 1);
    assert_int_equal(n, 384);

    struct page_checkpoint at;
    struct conversation again = {.ids = ids, .n_ids = MOST};
    uint8_t found[3000];
    assert_ok(kv_state_new(&layout, &ops, MOST, &again.kv, &err));
    assert_true(keep_store_find(&store, ids, 500, &at));
    assert_ok(keep_store_get(&store, &at, &again));
    assert_int_equal(again.kv->n_tokens, 384);
    kv_state_checkpoint_read(again.kv, found);
    assert_memory_equal(found, expected, size);
    /* The rows of 128 tokens after the whole page. */
    uint8_t rows[2][4000];
    size_t n_rows = kv_state_rows_bytes(&layout, 128);
    assert_true(n_rows <= sizeof rows[0]);
    kv_state_rows_read(c.kv, 1, 128, rows[0]);
    kv_state_rows_read(again.kv, 1, 128, rows[1]);
    assert_memory_equal(rows[0], rows[1], n_rows);

    grow_to(520); /* 136 after it: too far */
    assert_int_equal(put(keep_store_credit(&store), STORE_STAYS, &n), 1);
    assert_int_equal(n, 520);
    kv_state_free(again.kv);
    free(place.checkpoint);
}

/* What the sink refuses is offered again; a state does not go without its pages. */
static bool refuse_page(void *ctx, const struct page_link *page, const void *bytes, size_t n)
{
    return false;
}

static void refused_pages_are_offered_again(void **state)
{
    int64_t n;
    grow_to(300);
    sink.put_page = refuse_page;
    assert_int_equal(put(keep_store_credit(&store), STORE_ENDS, &n), 0);
    sink.put_page = shelf_put_page;
    assert_int_equal(put(keep_store_credit(&store), STORE_ENDS, &n), 1);
    assert_int_equal(shelf.n_page, 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(states_live_on_credit),
        TEST(a_small_checkpoint_stands_in),
        TEST(refused_pages_are_offered_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
