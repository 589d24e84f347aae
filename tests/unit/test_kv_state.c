/* KV layout, pages, truncation, forks; and the store of resident experts. */
#include <math.h>

#include "ops/ref/ref.h"
#include "support/model.h"

static struct pool *pool;
static struct ops ops;
static struct kv_layout layout;
static struct sluice_error err;

/* Ratios 0, 4, 128 with sizes that divide nothing evenly. */
static struct shape small_shape(void)
{
    return (struct shape){
        .n_layer = 3, .n_vocab = 10, .dim = 20, .n_stream = 4, .n_head = 2, .head_dim = 12,
        .rot_dim = 4, .window = 8, .n_index_head = 2, .index_top_k = 3, .index_dim = 8,
        .ratio = {0, 4, 128},
    };
}

static int setup(void **state)
{
    struct shape s = small_shape();
    assert_ok(pool_open(1, /*pin=*/false, &pool, &err));
    assert_ok(ops_open("ref", NULL, pool, &ops, &err));
    kv_layout_make(&s, 0, 3, KV_EXACT, &layout);
    return 0;
}

static int teardown(void **state)
{
    ops_close(&ops);
    pool_close(pool);
    return 0;
}

static struct kv_state *kv_of(int64_t max_tokens)
{
    struct kv_state *kv;
    assert_ok(kv_state_new(&layout, &ops, max_tokens, &kv, &err));
    return kv;
}

/* What a successful step of n rows does to the counters. */
static void grow(struct kv_state *kv, int64_t n)
{
    assert_ok(kv_state_reserve(kv, n, &err));
    kv->n_tokens += n;
    if (kv->high < kv->n_tokens)
        kv->high = kv->n_tokens;
}

static void layout_has_room_for_every_part(void **state)
{
    const struct kv_layer_layout *l = layout.layer;
    assert_int_equal(layout.main_row_bytes, 12 * 4);
    assert_int_equal(layout.index_row_bytes, 8 * 4);
    assert_int_equal(l[0].ring_rows, 8 + KV_SLACK);
    assert_int_equal(l[0].tail_rows, 0);
    assert_int_equal(l[1].tail_rows, 8 + KV_SLACK);
    assert_int_equal(l[1].index_tail_rows, 8 + KV_SLACK);
    assert_int_equal(l[2].tail_rows, 128 + KV_SLACK);
    assert_int_equal(l[2].index_tail_rows, 0);
    assert_true(l[1].tail_offset >= l[1].ring_offset + 24 * 48);
    assert_true(l[1].index_tail_offset >= l[1].tail_offset + 24 * 2 * 24 * 4);
    assert_true(l[2].ring_offset >= l[1].index_tail_offset + 24 * 2 * 16 * 4);
    assert_true(layout.fixed_bytes >= l[2].tail_offset + 144 * 2 * 12 * 4);
    assert_true(l[1].index_page_offset >= l[1].page_offset + 64 * 48);
    assert_true(l[2].page_offset >= l[1].index_page_offset + 64 * 32);
    assert_true(layout.page_bytes >= l[2].page_offset + 2 * 48);
}

static void layout_of_a_range_describes_just_it(void **state)
{
    struct shape s = small_shape();
    struct kv_layout part, draft;
    kv_layout_make(&s, 1, 3, KV_FP8, &part);
    assert_int_equal(part.n_layer, 2);
    assert_int_equal(part.layer[0].index_tail_rows, 8 + KV_SLACK);
    assert_int_equal(part.layer[1].tail_rows, 128 + KV_SLACK);
    draft_kv_layout(&s, KV_FP8, &draft);
    assert_int_equal(draft.n_layer, 1);
    assert_int_equal(draft.page_bytes, 0);
    assert_int_equal(draft.layer[0].tail_rows, 0);
}

static void pages_come_with_reserve(void **state)
{
    struct kv_state *kv = kv_of(600);
    assert_int_equal(kv->page_room, 3);
    assert_int_equal(kv->n_page, 0);
    grow(kv, 1);
    assert_int_equal(kv->n_page, 1);
    grow(kv, 255);
    assert_int_equal(kv->n_page, 1);
    grow(kv, 1);
    assert_int_equal(kv->n_page, 2);
    assert_ptr_equal(kv->page_table[1], kv->page[1]->at);
    assert_int_equal(kv_state_reserve(kv, 344, &err), SLUICE_ERR_LIMIT);
    assert_non_null(strstr(err.message, "600"));
    assert_int_equal(kv->n_page, 2);
    grow(kv, 343);
    assert_int_equal(kv->n_tokens, 600);
    kv_state_reset(kv);
    assert_int_equal(kv->n_page, 0);
    assert_int_equal(kv->n_tokens, 0);
    kv_state_free(kv);
    kv_state_free(NULL);
}

static void a_context_of_no_tokens_is_refused(void **state)
{
    struct kv_state *kv;
    assert_int_equal(kv_state_new(&layout, &ops, 0, &kv, &err), SLUICE_ERR_ARG);
    assert_null(kv);
}

static void truncation_is_bounded_by_the_slack(void **state)
{
    struct kv_state *kv = kv_of(600);
    grow(kv, 100);
    assert_int_equal(kv_state_truncate(kv, 101, &err), SLUICE_ERR_ARG);
    assert_int_equal(kv_state_truncate(kv, -1, &err), SLUICE_ERR_ARG);
    assert_int_equal(kv_state_truncate(kv, 100 - KV_SLACK - 1, &err), SLUICE_ERR_STATE);
    assert_int_equal(kv->n_tokens, 100);
    assert_ok(kv_state_truncate(kv, 100 - KV_SLACK, &err));
    /* The slack counts from the highest position written, not from the present one. */
    grow(kv, 4);
    assert_int_equal(kv_state_truncate(kv, 100 - KV_SLACK - 1, &err), SLUICE_ERR_STATE);
    assert_ok(kv_state_truncate(kv, 100 - KV_SLACK, &err));
    grow(kv, KV_SLACK + 5);
    assert_int_equal(kv->high, 105);
    assert_ok(kv_state_truncate(kv, 105 - KV_SLACK, &err));
    assert_ok(kv_state_truncate(kv, 0, &err));
    assert_int_equal(kv->high, 0);
    kv_state_free(kv);
}

/* A step that fails half-way has overwritten the rings up to high. */
static void a_lost_window_is_refused(void **state)
{
    struct kv_state *kv = kv_of(600);
    grow(kv, 50);
    kv->high = 50 + KV_SLACK;
    assert_ok(kv_state_reserve(kv, 1, &err));
    kv->high = 51 + KV_SLACK;
    assert_int_equal(kv_state_reserve(kv, 1, &err), SLUICE_ERR_STATE);
    kv_state_reset(kv);
    assert_ok(kv_state_reserve(kv, 1, &err));
    kv_state_free(kv);
}

static void forks_share_pages_until_written(void **state)
{
    struct kv_state *a = kv_of(1000), *b = kv_of(600), *c = kv_of(299);
    grow(a, 300);
    memset(a->page[0]->at, 1, layout.page_bytes);
    memset(a->page[1]->at, 2, layout.page_bytes);
    memset(a->fixed, 3, layout.fixed_bytes);
    assert_ok(kv_state_fork(b, a, &err));
    assert_int_equal(b->n_tokens, 300);
    assert_ptr_equal(a->page[0], b->page[0]);
    assert_int_equal(a->page[1]->refs, 2);
    assert_memory_equal(a->fixed, b->fixed, layout.fixed_bytes);

    grow(b, 1);
    assert_ptr_equal(a->page[0], b->page[0]);
    assert_ptr_not_equal(a->page[1], b->page[1]);
    assert_ptr_equal(b->page_table[1], b->page[1]->at);
    assert_int_equal(a->page[1]->refs, 1);
    assert_memory_equal(a->page[1]->at, b->page[1]->at, layout.page_bytes);

    assert_int_equal(kv_state_fork(c, a, &err), SLUICE_ERR_LIMIT);
    assert_int_equal(c->n_page, 0);
    kv_state_free(a);
    assert_int_equal(b->page[0]->refs, 1);
    assert_int_equal(b->page[0]->at[0], 1);
    kv_state_free(b);
    kv_state_free(c);
}

static void checkpoints_restore_the_fixed_block(void **state)
{
    struct kv_state *a = kv_of(600), *b = kv_of(600);
    uint8_t *bytes = malloc(layout.fixed_bytes);
    grow(a, 20);
    for (size_t i = 0; i < layout.fixed_bytes; i++)
        a->fixed[i] = (uint8_t)(i * 7);
    kv_state_fixed_read(a, bytes);
    assert_ok(kv_state_reserve(b, 20, &err));
    kv_state_fixed_write(b, bytes, 20);
    assert_memory_equal(a->fixed, b->fixed, layout.fixed_bytes);
    assert_int_equal(b->n_tokens, 20);
    assert_int_equal(b->high, 20);
    free(bytes);
    kv_state_free(a);
    kv_state_free(b);
}

/* Every float of a row of the window, of an entry and of a tail is a number, and rows differ. */
static void a_random_past_is_finite(void **state)
{
    struct shape s = small_shape();
    for (int format = KV_EXACT; format <= KV_FP8; format++) {
        struct kv_layout l;
        struct kv_state *kv;
        float row[2][12], index[2][8];
        kv_layout_make(&s, 0, 3, (enum kv_format)format, &l);
        assert_ok(kv_state_new(&l, &ops, 700, &kv, &err));
        grow(kv, 3);
        assert_ok(kv_state_random(kv, &s, 0, 600, &err));
        assert_int_equal(kv->n_tokens, 600);
        assert_int_equal(kv->high, 600);
        assert_int_equal(kv->n_page, 3);
        for (int i = 0; i < 2 * 64; i++) {
            const uint8_t *at = kv->page[i / 64]->at;
            size_t e = (size_t)(i % 64);
            ref_main_row_decode(l.format, at + l.layer[1].page_offset + e * l.main_row_bytes, 12, 4,
                                row[i % 2]);
            at += l.layer[1].index_page_offset + e * l.index_row_bytes;
            ref_index_row_decode(l.format, at, 8, index[i % 2]);
            for (int k = 0; k < 12; k++)
                assert_true(isfinite(row[i % 2][k]) && isfinite(index[i % 2][k % 8]));
            assert_true(i == 0 || memcmp(row[0], row[1], sizeof row[0]));
            assert_true(i == 0 || memcmp(index[0], index[1], sizeof index[0]));
        }
        for (int i = 0; i < l.layer[2].tail_rows * 24; i++) {
            float v;
            memcpy(&v, kv->fixed + l.layer[2].tail_offset + (size_t)i * sizeof v, sizeof v);
            assert_true(v >= -1 && v < 1 && (i == 0 || v != 0));
        }
        assert_int_equal(kv_state_random(kv, &s, 0, 701, &err), SLUICE_ERR_LIMIT);
        kv_state_free(kv);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_has_room_for_every_part),
        cmocka_unit_test(layout_of_a_range_describes_just_it),
        cmocka_unit_test(pages_come_with_reserve),
        cmocka_unit_test(a_context_of_no_tokens_is_refused),
        cmocka_unit_test(truncation_is_bounded_by_the_slack),
        cmocka_unit_test(a_lost_window_is_refused),
        cmocka_unit_test(forks_share_pages_until_written),
        cmocka_unit_test(checkpoints_restore_the_fixed_block),
        cmocka_unit_test(a_random_past_is_finite),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
