/* What a step does with its rows alone: embedding, hyper-connections, norms, router, and the
 * compressors' projections. */
#include <stdio.h>

#include "bench/bench_internal.h"

static const int32_t row_counts[] = {1, BENCH_ROWS};

/* Arguments of every op here; x, y and the weights are shared. */
struct rows_case {
    int32_t n;
    int64_t dim;                   /* D in whole blocks */
};

static struct weight weight_at(const struct bench_run *r, enum quant_type type, int64_t n_in,
                               int64_t n_out)
{
    return (struct weight){type, n_in, n_out, 1, r->weights};
}

static void run_embed(struct bench_run *r, const void *arg, int turn)
{
    const struct rows_case *c = arg;
    struct row_table rows = r->rows;
    rows.n = c->n;
    struct embed_args a = {&rows, weight_at(r, QUANT_F16, c->dim, BENCH_ROWS), r->s.n_stream, r->y};
    r->ops.embed(r->ops.ctx, &a);
}

static void run_gather(struct bench_run *r, const void *arg, int turn)
{
    const struct rows_case *c = arg;
    int32_t s = r->s.n_stream, mix = 2 * s + s * s;
    struct hyper_gather_args a = {
        .n = c->n, .streams = s, .sinkhorn_iters = r->s.sinkhorn_iters, .dim = c->dim,
        .hc_eps = r->s.hc_eps, .rms_eps = r->s.rms_eps,
        .fn = weight_at(r, QUANT_F16, s * c->dim, mix), .base = r->x, .scale = r->x,
        .norm = r->x, .x = r->x, .y = r->y, .mix = r->y + c->n * c->dim};
    r->ops.hyper_gather(r->ops.ctx, &a);
}

static void run_spread(struct bench_run *r, const void *arg, int turn)
{
    const struct rows_case *c = arg;
    struct hyper_spread_args a = {.n = c->n, .streams = r->s.n_stream, .dim = c->dim,
                                  .f = r->x, .mix = r->x, .x = r->y};
    r->ops.hyper_spread(r->ops.ctx, &a);
}

static void run_hyper_head(struct bench_run *r, const void *arg, int turn)
{
    const struct rows_case *c = arg;
    int32_t s = r->s.n_stream;
    for (int32_t i = 0; i < c->n; i++)
        r->ids[i] = i;
    struct hyper_head_args a = {
        .n_out = c->n, .streams = s, .dim = c->dim, .hc_eps = r->s.hc_eps,
        .rms_eps = r->s.rms_eps, .fn = weight_at(r, QUANT_F16, s * c->dim, s), .base = r->x,
        .scale = r->x, .norm = r->x, .row = r->ids, .x = r->x, .y = r->y};
    r->ops.hyper_head(r->ops.ctx, &a);
}

static void run_norm(struct bench_run *r, const void *arg, int turn)
{
    const struct rows_case *c = arg;
    struct rms_norm_args a = {c->n, c->dim, r->s.rms_eps, r->x, r->x, r->y};
    r->ops.rms_norm(r->ops.ctx, &a);
}

static void run_query(struct bench_run *r, const void *arg, int turn)
{
    const struct rows_case *c = arg;
    struct query_args a = {c->n, r->s.n_head, r->s.head_dim, r->s.rot_dim, r->s.rms_eps, r->x,
                           r->y};
    r->ops.query(r->ops.ctx, &a);
}

static void run_router(struct bench_run *r, const void *arg, int turn)
{
    const struct rows_case *c = arg;
    struct row_table rows = r->rows;
    rows.n = c->n;
    struct matmul_args logits = {
        .n = c->n, .n_w = 1, .f32_activations = true, .x = r->x, .x_stride = c->dim,
        .w = {weight_at(r, QUANT_F16, c->dim, r->s.n_expert)}, .y = {r->y}};
    r->ops.matmul(r->ops.ctx, &logits);
    struct route_args route = {
        .rows = &rows, .n_expert = r->s.n_expert, .n_used = r->s.n_used, .scale = 1,
        .logits = r->y, .bias = r->x, .ids = r->ids, .weights = r->y + c->n * r->s.n_expert};
    r->ops.route(r->ops.ctx, &route);
}

/* The five products of a ratio-4 layer, or the two of a ratio-128 layer. */
static void run_project(struct bench_run *r, const struct rows_case *c, int n_w)
{
    int64_t width[] = {2 * r->s.head_dim, 2 * r->s.head_dim, 2 * r->s.index_dim,
                       2 * r->s.index_dim, r->s.n_index_head};
    struct matmul_args a = {.n = c->n, .n_w = n_w, .f32_activations = true, .x = r->x,
                            .x_stride = c->dim};
    const uint8_t *at = r->weights;
    float *y = r->y;
    for (int k = 0; k < n_w; k++) {
        int64_t n_out = n_w == 2 ? r->s.head_dim : width[k];
        a.w[k] = (struct weight){QUANT_F16, c->dim, n_out, 1, at};
        a.y[k] = y;
        at += quant_row_bytes(QUANT_F16, c->dim) * (uint64_t)n_out;
        y += c->n * n_out;
    }
    r->ops.matmul(r->ops.ctx, &a);
}

static void run_project_4(struct bench_run *r, const void *arg, int turn)
{
    run_project(r, arg, 5);
}

static void run_project_128(struct bench_run *r, const void *arg, int turn)
{
    run_project(r, arg, 2);
}

void bench_rows(struct bench_run *r)
{
    const struct shape *s = &r->s;
    struct rows_case c = {.dim = bench_in_blocks(s->dim)};
    int64_t streams = s->n_stream, mix = 2 * streams + streams * streams;
    int64_t project_4 = 4 * (s->head_dim + s->index_dim) + s->n_index_head;
    const struct {
        const char *name;
        bench_fn *fn;
        int64_t weights;           /* of F16 */
    } ops[] = {
        {"embed", run_embed, 0},
        {"hyper gather", run_gather, streams * c.dim * mix},
        {"hyper spread", run_spread, 0},
        {"hyper head", run_hyper_head, streams * c.dim * streams},
        {"norm", run_norm, 0},
        {"query norm", run_query, 0},
        {"router", run_router, c.dim * s->n_expert},
        {"projections /4", run_project_4, c.dim * project_4},
        {"projections /128", run_project_128, c.dim * 2 * s->head_dim},
    };
    bench_fill(r, QUANT_F16, r->weights, r->weight_room);
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        for (size_t k = 0; k < sizeof row_counts / sizeof row_counts[0]; k++) {
            c.n = row_counts[k];
            double weights = (double)ops[i].weights;
            struct bench_op op = {.rows = c.n, .weights = weights, .bytes = 2 * weights,
                                  .macs = weights * c.n};
            snprintf(op.name, sizeof op.name, "%s", ops[i].name);
            bench_time(r, &op, ops[i].fn, &c);
        }
    }
}
