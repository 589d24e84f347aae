/* tests/support/ops_guard.h - a backend whose memory cannot be touched between ops, over another
 * backend.
 *
 * Everything that alloc returns lies in one mapping that is PROT_NONE except while an op, upload,
 * download or copy runs. So a test that passes proves that the model's code never dereferences an
 * address marked DEV. host_memory is false: weights are uploaded as for a GPU. Counts of downloads
 * and syncs tell whether a step read results back. */
#ifndef SLUICE_TESTS_SUPPORT_OPS_GUARD_H
#define SLUICE_TESTS_SUPPORT_OPS_GUARD_H

#include <sys/mman.h>

#include "ops/ops.h"
#include "support/unit.h"

#define OPS_GUARD_ROOM ((size_t)256 << 20)

struct ops_guard {
    struct ops inner;          /* owned by the test */
    uint8_t *memory;
    size_t used;               /* bytes handed out, from the start; multiples of a page */
    int downloads, allocs;
};

static inline void ops_guard_lift(struct ops_guard *g)
{
    if (g->used)
        assert_int_equal(mprotect(g->memory, g->used, PROT_READ | PROT_WRITE), 0);
}

static inline void ops_guard_drop(struct ops_guard *g)
{
    if (g->used)
        assert_int_equal(mprotect(g->memory, g->used, PROT_NONE), 0);
}

static enum sluice_status ops_guard_alloc(void *ctx, size_t bytes, DEV void **out,
                                          struct sluice_error *err)
{
    struct ops_guard *g = ctx;
    size_t room = (bytes + 4095) & ~(size_t)4095;
    g->allocs++;
    FAIL_IF(room > OPS_GUARD_ROOM - g->used, err, SLUICE_ERR_NOMEM, "guarded memory is full");
    *out = g->memory + g->used;
    g->used += room;
    return SLUICE_OK;
}

static void ops_guard_free(void *ctx, DEV void *p)
{
}

static enum sluice_status ops_guard_plan(void *ctx, const struct ops_limits *l,
                                         struct sluice_error *err)
{
    struct ops_guard *g = ctx;
    return g->inner.plan(g->inner.ctx, l, err);
}

static void ops_guard_upload(void *ctx, DEV void *dst, const void *src, size_t bytes)
{
    struct ops_guard *g = ctx;
    ops_guard_lift(g);
    g->inner.upload(g->inner.ctx, dst, src, bytes);
    ops_guard_drop(g);
}

static void ops_guard_download(void *ctx, void *dst, DEV const void *src, size_t bytes)
{
    struct ops_guard *g = ctx;
    g->downloads++;
    ops_guard_lift(g);
    g->inner.download(g->inner.ctx, dst, src, bytes);
    ops_guard_drop(g);
}

static void ops_guard_copy(void *ctx, DEV void *dst, DEV const void *src, size_t bytes)
{
    struct ops_guard *g = ctx;
    ops_guard_lift(g);
    g->inner.copy(g->inner.ctx, dst, src, bytes);
    ops_guard_drop(g);
}

static void ops_guard_sync(void *ctx)
{
    struct ops_guard *g = ctx;
    g->inner.sync(g->inner.ctx);
}

#define OPS_GUARDED(X)                                                                             \
    X(embed) X(hyper_gather) X(hyper_spread) X(hyper_head) X(matmul) X(grouped_matmul) X(rms_norm) \
    X(rope_table) X(query) X(kv_encode) X(compress) X(index_query) X(index_select) X(attention)    \
    X(ring_store) X(route) X(experts) X(add_streams)

#define OPS_GUARD_DEFINE(op)                                                                       \
    static void ops_guard_##op(void *ctx, const struct op##_args *a)                               \
    {                                                                                              \
        struct ops_guard *g = ctx;                                                                 \
        ops_guard_lift(g);                                                                         \
        g->inner.op(g->inner.ctx, a);                                                              \
        ops_guard_drop(g);                                                                         \
    }
OPS_GUARDED(OPS_GUARD_DEFINE)

/* inner is borrowed: the test closes it after the guard. */
static inline void ops_guard_open(struct ops_guard *g, const struct ops *inner, struct ops *out)
{
    *g = (struct ops_guard){.inner = *inner};
    g->memory = mmap(NULL, OPS_GUARD_ROOM, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(g->memory, MAP_FAILED);
    *out = (struct ops){
        .name = "guard", .ctx = g, .host_memory = false,
        .plan = ops_guard_plan, .alloc = ops_guard_alloc, .free = ops_guard_free,
        .upload = ops_guard_upload, .download = ops_guard_download, .copy = ops_guard_copy,
        .sync = ops_guard_sync,
#define OPS_GUARD_SLOT(op) .op = ops_guard_##op,
        OPS_GUARDED(OPS_GUARD_SLOT)
#undef OPS_GUARD_SLOT
    };
}

static inline void ops_guard_close(struct ops_guard *g)
{
    munmap(g->memory, OPS_GUARD_ROOM);
}

#endif
