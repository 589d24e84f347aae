/* tests/support/ref_ops.h - the reference backend on two threads, with small limits, for op
 * tests. */
#ifndef SLUICE_TESTS_SUPPORT_REF_OPS_H
#define SLUICE_TESTS_SUPPORT_REF_OPS_H

#include "ops/ops.h"
#include "support/unit.h"

struct ref_fixture {
    struct pool *pool;
    struct ops ops;
};

static inline struct ops_limits small_limits(void)
{
    return (struct ops_limits){
        .max_rows = 300,
        .max_in = 1024,
        .max_out = 1024,
        .dim = 64,
        .inner = 256,
        .n_expert = 16,
        .n_used = 4,
        .heads = 8,
        .streams = 4,
        .head_dim = 64,
        .index_heads = 32,
        .top_k = 16,
        .index_dim = 64,
        .max_positions = 4096,
        .window = 32,
    };
}

static inline void ref_fixture_open(struct ref_fixture *f)
{
    struct sluice_error err;
    assert_int_equal(pool_open(2, /*pin=*/false, &f->pool, &err), SLUICE_OK);
    assert_int_equal(ops_open("ref", NULL, f->pool, &f->ops, &err), SLUICE_OK);
    struct ops_limits limits = small_limits();
    assert_int_equal(f->ops.plan(f->ops.ctx, &limits, &err), SLUICE_OK);
}

static inline void ref_fixture_close(struct ref_fixture *f)
{
    ops_close(&f->ops);
    pool_close(f->pool);
}

/* A row table over one span at pos0 whose memory the test owns. Valid until the next call. */
static inline struct row_table one_span(int32_t n, int64_t pos0, uint8_t *fixed,
                                        uint8_t *const *pages, const int32_t *token)
{
    static struct span span;
    static int64_t pos[512];
    static int32_t span_of[512];
    span = (struct span){.row0 = 0, .n_rows = n, .pos0 = pos0, .fixed = fixed, .pages = pages};
    for (int32_t i = 0; i < n; i++)
        pos[i] = pos0 + i;
    return (struct row_table){.n = n, .n_spans = 1, .token = token, .span_of = span_of, .pos = pos,
                              .spans = &span, .pos_max = pos0 + n - 1};
}

#endif
