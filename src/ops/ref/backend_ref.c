/* The reference backend's memory, scratch and op table. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "ops/ref/ref.h"

#define ALIGNMENT 64

float *ref_scratch(const struct ref_ctx *ctx, int worker)
{
    SLUICE_ASSERT(ctx->scratch != NULL);
    return ctx->scratch + (size_t)worker * ctx->per_worker;
}

void ref_parallel(struct ref_ctx *ctx, int64_t n,
                  void (*fn)(void *arg, int64_t first, int64_t last, int worker), void *arg)
{
    if (n > 0)
        pool_run(ctx->pool, n, /*grain=*/1, fn, arg);
}

static void *aligned_zeros(size_t bytes)
{
    size_t room = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (room < bytes)
        return NULL;
    void *p = aligned_alloc(ALIGNMENT, room ? room : ALIGNMENT);
    if (p)
        memset(p, 0, room ? room : ALIGNMENT);
    return p;
}

static enum sluice_status ref_alloc(void *ctx, size_t bytes, DEV void **out,
                                    struct sluice_error *err)
{
    *out = aligned_zeros(bytes);
    FAIL_IF(!*out, err, SLUICE_ERR_NOMEM, "out of memory allocating %zu bytes for the model",
            bytes);
    return SLUICE_OK;
}

static void ref_free(void *ctx, DEV void *p)
{
    free(p);
}

static void ref_move(void *ctx, void *dst, const void *src, size_t bytes)
{
    if (bytes)
        memmove(dst, src, bytes);
}

static void ref_sync(void *ctx)
{
}

static void ref_close(void *ctx)
{
    struct ref_ctx *ref = ctx;
    free(ref->scratch);
    free(ref);
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The larger of two sets of bounds: plan may be called again, for a draft beside the trunk. */
static struct ops_limits larger(const struct ops_limits *a, const struct ops_limits *b)
{
#define LARGER(field) .field = a->field > b->field ? a->field : b->field
    return (struct ops_limits){
        LARGER(max_rows),  LARGER(max_in),        LARGER(max_out),     LARGER(dim),
        LARGER(inner),     LARGER(n_expert),      LARGER(n_used),      LARGER(heads),
        LARGER(streams),   LARGER(head_dim),      LARGER(index_heads), LARGER(top_k),
        LARGER(index_dim), LARGER(max_positions), LARGER(window),
        LARGER(groups),
    };
#undef LARGER
}

/* scratch = [worker 0: per_worker][worker 1] ... [hyper_fn][inner][expert_out] */
static enum sluice_status ref_plan(void *ctx, const struct ops_limits *limits,
                                   struct sluice_error *err)
{
    struct ref_ctx *ref = ctx;
    struct ops_limits bounds = larger(&ref->limits, limits), *l = &bounds;
    size_t positions = (size_t)l->max_positions, rows = (size_t)l->max_rows;
    size_t keys = (size_t)l->window + max_size((size_t)l->top_k, positions / 128 + 1);
    size_t attention = (size_t)l->head_dim + (size_t)l->heads * keys;
    size_t indexer = (size_t)l->index_dim + 2 * (positions / 4 + 1);
    size_t streams = (size_t)l->streams, slots = rows * ((size_t)l->n_used + 1);

    size_t per_worker = max_size(max_size((size_t)l->max_in, (size_t)l->max_out),
                                 max_size(attention, indexer));
    per_worker = max_size(per_worker, 4 * (size_t)l->head_dim);
    ref->per_worker = (per_worker + 15) / 16 * 16;
    size_t workers = ref->per_worker * (size_t)pool_threads(ref->pool);
    size_t hyper = (2 * streams + streams * streams) * streams * (size_t)l->dim;
    size_t inner = slots * (size_t)l->inner, out = slots * (size_t)l->dim;

    free(ref->scratch);
    ref->scratch = aligned_zeros((workers + hyper + inner + out) * sizeof(float));
    FAIL_IF(!ref->scratch, err, SLUICE_ERR_NOMEM,
            "out of memory for the reference backend's scratch (%zu bytes)",
            (workers + hyper + inner + out) * sizeof(float));
    ref->hyper_fn = ref->scratch + workers;
    ref->inner = ref->hyper_fn + hyper;
    ref->expert_out = ref->inner + inner;
    ref->limits = bounds;
    return SLUICE_OK;
}

enum sluice_status ref_open(struct pool *pool, struct ops *out, struct sluice_error *err)
{
    struct ref_ctx *ref = calloc(1, sizeof *ref);
    FAIL_IF(!ref, err, SLUICE_ERR_NOMEM, "out of memory opening the reference backend");
    ref->pool = pool;
    *out = (struct ops){
        .name = "ref",
        .ctx = ref,
        .host_memory = true,
        .close = ref_close,
        .plan = ref_plan,
        .alloc = ref_alloc,
        .free = ref_free,
        .upload = ref_move,
        .download = ref_move,
        .copy = ref_move,
        .sync = ref_sync,
        .embed = ref_embed,
        .hyper_gather = ref_hyper_gather,
        .hyper_spread = ref_hyper_spread,
        .hyper_head = ref_hyper_head,
        .matmul = ref_matmul,
        .grouped_matmul = ref_grouped_matmul,
        .rms_norm = ref_rms_norm,
        .rope_table = ref_rope_table,
        .query = ref_query,
        .kv_encode = ref_kv_encode,
        .compress = ref_compress,
        .index_query = ref_index_query,
        .index_select = ref_index_select,
        .attention = ref_attention,
        .ring_store = ref_ring_store,
        .route = ref_route,
        .experts = ref_experts,
        .add_streams = ref_add_streams,
    };
    return SLUICE_OK;
}
