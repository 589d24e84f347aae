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

/* Byte of the rows of position p, whichever the ring. */
static uint8_t mark(int64_t p, size_t ring)
{
    return (uint8_t)(1 + p * 7 + (int64_t)ring * 31);
}

static void fill_ring(struct kv_state *kv, size_t offset, size_t row_bytes, int32_t rows, size_t r)
{
    int64_t first = kv->n_tokens > rows ? kv->n_tokens - rows : 0;
    for (int64_t p = first; p < kv->n_tokens; p++)
        memset(kv->fixed + offset + (size_t)(p % rows) * row_bytes, mark(p, r), row_bytes);
}

/* Positions [first, n) are there, whole; no other byte of the ring was touched. */
static void check_ring(const struct kv_state *kv, size_t offset, size_t row_bytes, int32_t rows,
                       size_t r, int64_t first)
{
    for (int64_t slot = 0; slot < rows; slot++) {
        uint8_t expected = 0xee;
        for (int64_t p = first; p < kv->n_tokens; p++)
            if (p % rows == slot)
                expected = mark(p, r);
        for (size_t i = 0; i < row_bytes; i++)
            assert_int_equal(kv->fixed[offset + (size_t)slot * row_bytes + i], expected);
    }
}

/* With windows of 8 and ratios 0, 4 and 128, by hand: at 130 tokens the window needs 122 .. 129, a
 * ratio of 4 needs 124 .. 129 (entry 32 pools 124 .. 131), a ratio of 128 needs 128 and 129. */
static void check_checkpoint(int64_t n, int64_t window, int64_t four, int64_t other)
{
    const struct kv_layer_layout *l = layout.layer;
    struct kv_state *a = kv_of(700), *b = kv_of(700);
    grow(a, n);
    for (int i = 0; i < 3; i++)
        fill_ring(a, l[i].ring_offset, layout.main_row_bytes, l[i].ring_rows, 0);
    for (int i = 1; i < 3; i++)
        fill_ring(a, l[i].tail_offset, l[i].tail_row_bytes, l[i].tail_rows, 1);
    fill_ring(a, l[1].index_tail_offset, l[1].index_tail_row_bytes, l[1].index_tail_rows, 2);
    size_t size = kv_state_checkpoint_bytes(&layout, n);
    uint8_t *bytes = malloc(size);
    kv_state_checkpoint_read(a, bytes);
    memset(b->fixed, 0xee, layout.fixed_bytes);
    assert_ok(kv_state_reserve(b, n + 300, &err));
    kv_state_checkpoint_write(b, bytes, n);
    assert_int_equal(b->n_tokens, n);
    assert_int_equal(b->high, n);
    assert_int_equal(b->n_page, (n + 255) / 256);
    for (int i = 0; i < 3; i++)
        check_ring(b, l[i].ring_offset, layout.main_row_bytes, l[i].ring_rows, 0, window);
    check_ring(b, l[1].tail_offset, l[1].tail_row_bytes, l[1].tail_rows, 1, four);
    check_ring(b, l[1].index_tail_offset, l[1].index_tail_row_bytes, l[1].index_tail_rows, 2, four);
    check_ring(b, l[2].tail_offset, l[2].tail_row_bytes, l[2].tail_rows, 1, other);
    assert_int_equal(size, 3 * (size_t)(n - window) * layout.main_row_bytes +
                               (size_t)(n - four) * (l[1].tail_row_bytes +
                                                     l[1].index_tail_row_bytes) +
                               (size_t)(n - other) * l[2].tail_row_bytes);
    free(bytes);
    kv_state_free(a);
    kv_state_free(b);
}

static void checkpoints_hold_what_goes_on(void **state)
{
    check_checkpoint(1, 0, 0, 0);
    check_checkpoint(3, 0, 0, 0);
    check_checkpoint(4, 0, 0, 0);
    check_checkpoint(7, 0, 0, 0);
    check_checkpoint(8, 0, 4, 0);
    check_checkpoint(130, 122, 124, 128);
    check_checkpoint(256, 248, 252, 256);
    check_checkpoint(383, 375, 376, 256);
}

/* Rows before the checkpoint's own are gone: below it only other checkpoints lead. */
static void a_checkpoint_bounds_truncation(void **state)
{
    struct kv_state *kv = kv_of(600), *fork = kv_of(600);
    uint8_t *bytes = malloc(kv_state_checkpoint_bytes(&layout, 100));
    grow(kv, 100);
    kv_state_checkpoint_read(kv, bytes);
    kv_state_checkpoint_write(kv, bytes, 100);
    assert_int_equal(kv_state_truncate(kv, 99, &err), SLUICE_ERR_STATE);
    grow(kv, 3);
    assert_ok(kv_state_truncate(kv, 100, &err));
    assert_ok(kv_state_fork(fork, kv, &err));
    assert_int_equal(kv_state_truncate(fork, 99, &err), SLUICE_ERR_STATE);
    grow(kv, 20);
    assert_ok(kv_state_truncate(kv, 104, &err));
    assert_ok(kv_state_truncate(kv, 0, &err));
    grow(kv, 10);
    assert_ok(kv_state_truncate(kv, 1, &err));
    free(bytes);
    kv_state_free(kv);
    kv_state_free(fork);
}

/* 10 tokens are two entries of ratio 4 and none of ratio 128. */
static void rows_of_a_page_travel_alone(void **state)
{
    const struct kv_layer_layout *l = layout.layer;
    struct kv_state *a = kv_of(600), *b = kv_of(600);
    size_t size = kv_state_rows_bytes(&layout, 10);
    assert_int_equal(size, 2 * (layout.main_row_bytes + layout.index_row_bytes));
    assert_int_equal(kv_state_rows_bytes(&layout, 3), 0);
    assert_int_equal(kv_state_rows_bytes(&layout, 128),
                     33 * layout.main_row_bytes + 32 * layout.index_row_bytes);
    uint8_t *bytes = malloc(size);
    grow(a, 300);
    grow(b, 300);
    memset(a->page[1]->at, 1, layout.page_bytes);
    memset(a->page[1]->at + l[1].index_page_offset, 2, layout.index_row_bytes * 2);
    memset(b->page[1]->at, 9, layout.page_bytes);
    kv_state_rows_read(a, 1, 10, bytes);
    kv_state_rows_write(b, 1, 10, bytes);
    for (size_t i = 0; i < layout.page_bytes; i++) {
        bool row = i - l[1].page_offset < 2 * layout.main_row_bytes;
        bool index = i - l[1].index_page_offset < 2 * layout.index_row_bytes;
        assert_int_equal(b->page[1]->at[i], index ? 2 : row ? 1 : 9);
    }
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
        cmocka_unit_test(checkpoints_hold_what_goes_on),
        cmocka_unit_test(a_checkpoint_bounds_truncation),
        cmocka_unit_test(rows_of_a_page_travel_alone),
        cmocka_unit_test(a_random_past_is_finite),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
