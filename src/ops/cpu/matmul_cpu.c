/* Matrix products: quantised weights meet int16 activations, the others float32. Few rows: weights
 * are dotted where they lie. Many rows: 16 weight rows are unpacked once and meet all of them. */
#include <math.h>

#include "ops/cpu/cpu.h"

static size_t round_64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* An activation row: q, sum16, d, each from a multiple of 64 bytes. */
static size_t sum16_at(int64_t n)
{
    return round_64((size_t)n * sizeof(int16_t));
}

static size_t scale_at(int64_t n)
{
    return sum16_at(n) + round_64((size_t)(n / 16) * sizeof(int16_t));
}

size_t cpu_act_bytes(int64_t n)
{
    return scale_at(n) + round_64((size_t)(n / 32) * sizeof(float));
}

struct act cpu_act(const uint8_t *area, size_t stride, int64_t i, int64_t n, int64_t offset,
                   int block)
{
    const uint8_t *row = area + (size_t)i * stride;
    return (struct act){
        .q = (const int16_t *)(const void *)row + offset,
        .sum16 = (const int16_t *)(const void *)(row + sum16_at(n)) + offset / 16,
        .d = (const float *)(const void *)(row + scale_at(n)) + offset / block,
    };
}

struct quantise_job {
    const struct cpu_ctx *ctx;
    const float *x;
    int64_t x_stride, n;
    int block;
    uint8_t *area;
    size_t stride;
};

static void quantise_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct quantise_job *job = arg;
    for (int64_t i = first; i < last; i++) {
        uint8_t *row = job->area + (size_t)i * job->stride;
        job->ctx->leaf->quantise(job->x + i * job->x_stride, job->n, job->block,
                                 (int16_t *)(void *)row,
                                 (int16_t *)(void *)(row + sum16_at(job->n)),
                                 (float *)(void *)(row + scale_at(job->n)));
    }
}

void cpu_quantise(struct cpu_ctx *ctx, const float *x, int64_t x_stride, int64_t n_rows, int64_t n,
                  int block)
{
    SLUICE_ASSERT(n <= ctx->max_act && n_rows <= ctx->limits.max_rows);
    struct quantise_job job = {
        .ctx = ctx, .x = x, .x_stride = x_stride, .n = n, .block = block,
        .area = ctx->act[block == 256], .stride = ctx->act_stride,
    };
    cpu_parallel(ctx, n_rows, 4, quantise_rows, &job);
}

static int64_t operand_row(const struct operand *x, int64_t i)
{
    return x->pick ? x->pick[i] / x->pick_div : i;
}

/* Few batch rows against weights in F16 or BF16: these are dotted where they lie. */
static void tile_half(const struct cpu_ctx *ctx, const struct weight_rows *w, int64_t first,
                      const struct operand *x, float (*out)[TILE_ROWS])
{
    int n_rows = w->n_out - first < TILE_ROWS ? (int)(w->n_out - first) : TILE_ROWS;
    struct qrows rows = {.type = w->type, .n = w->n_in,
                         .row_bytes = quant_row_bytes(w->type, w->n_in)};
    rows.data = w->data + (uint64_t)first * rows.row_bytes;
    const float *xs[HALF_X];
    for (int64_t i = 0; i < x->n; i++)
        xs[i] = x->x + operand_row(x, i) * x->x_stride + x->offset;
    ctx->leaf->half_dots(&rows, n_rows, xs, (int)x->n, out);
}

static void tile_float(const struct cpu_ctx *ctx, struct cpu_work *work,
                       const struct weight_rows *w, int64_t first, const struct operand *x,
                       float (*out)[TILE_ROWS])
{
    int n_rows = w->n_out - first < TILE_ROWS ? (int)(w->n_out - first) : TILE_ROWS;
    uint64_t row_bytes = quant_row_bytes(w->type, w->n_in);
    const uint8_t *at = w->data + (uint64_t)first * row_bytes;
    bool in_place = w->type == QUANT_F32 && (uintptr_t)at % sizeof(float) == 0;
    /* few batch rows: fewer weight rows at a time stay in the first-level cache */
    int step = x->n > 4 ? TILE_ROWS : 4;
    for (int r = 0; r < n_rows; r += step) {
        const float *rows[DOTS_W], *xs[DOTS_X];
        int n_w = n_rows - r < step ? n_rows - r : step;
        for (int j = 0; j < n_w; j++) {
            float *wide = work->rows + (int64_t)j * ctx->max_act;
            rows[j] = wide;
            if (in_place)
                rows[j] = (const float *)(const void *)(at + (uint64_t)(r + j) * row_bytes);
            else
                ctx->leaf->widen(w->type, at + (uint64_t)(r + j) * row_bytes, wide, w->n_in);
        }
        for (int64_t i = 0; i < x->n; i += DOTS_X) {
            int n = x->n - i < DOTS_X ? (int)(x->n - i) : DOTS_X;
            float y[DOTS_X][DOTS_W];
            for (int k = 0; k < n; k++)
                xs[k] = x->x + operand_row(x, i + k) * x->x_stride + x->offset;
            ctx->leaf->dots(rows, n_w, xs, n, w->n_in, y);
            for (int k = 0; k < n; k++)
                memcpy(out[i + k] + r, y[k], (size_t)n_w * sizeof(float));
        }
    }
}

static struct act operand_act(const struct operand *x, int64_t i, int block)
{
    return cpu_act(x->act[block == 256], x->act_stride, operand_row(x, i), x->width, x->offset,
                   block);
}

void cpu_tile(const struct cpu_ctx *ctx, int worker, const struct weight_rows *w, int64_t first,
              const struct operand *x, float (*out)[TILE_ROWS])
{
    struct cpu_work work = cpu_worker(ctx, worker);
    int block = act_block(w->type);
    SLUICE_ASSERT(w->n_in <= ctx->max_act);
    bool half = w->type == QUANT_F16 || w->type == QUANT_BF16;
    if (half && x->n <= HALF_X) {
        tile_half(ctx, w, first, x, out);
        return;
    }
    if (block == 0 || x->exact) {
        tile_float(ctx, &work, w, first, x, out);
        return;
    }
    int n_rows = w->n_out - first < TILE_ROWS ? (int)(w->n_out - first) : TILE_ROWS;
    struct qrows rows = {.type = w->type, .n = w->n_in,
                         .row_bytes = quant_row_bytes(w->type, w->n_in)};
    rows.data = w->data + (uint64_t)first * rows.row_bytes;
    struct tile t = work.tile;
    t.n = w->n_in;
    t.block = block;
    t.has_min = type_has_min(w->type);
    bool direct = x->n <= ctx->leaf->direct;
    int step = direct ? ROW_BATCH : TILE_BATCH;
    if (!direct)
        ctx->leaf->tile_unpack(&rows, n_rows, &t);
    for (int64_t i = 0; i < x->n; i += step) {
        struct act act[ROW_BATCH];
        int n = x->n - i < step ? (int)(x->n - i) : step;
        for (int k = 0; k < n; k++)
            act[k] = operand_act(x, i + k, block);
        if (direct)
            ctx->leaf->row_dot(&rows, n_rows, act, n, out + i);
        else
            ctx->leaf->tile_dot(&t, act, n, out + i);
    }
}

/* ---- the ops ---- */

/* Items: tiles of all weights in turn, each for one of `split` parts of the batch. */
struct matmul_job {
    const struct cpu_ctx *ctx;
    int n_w, split;
    int64_t n;
    int64_t tile_end[MATMUL_MAX];  /* tiles of the weights up to this one */
    const struct weight *w;
    DEV float *const *y;
    int64_t mats;                  /* matrices of w[0], each with its slice of the row */
    struct operand x;
};

static void matmul_item(const struct matmul_job *job, int64_t tile, int64_t row0, int64_t n,
                        int worker)
{
    int j = 0;
    while (tile >= job->tile_end[j])
        j++;
    tile -= j ? job->tile_end[j - 1] : 0;
    const struct weight *w = &job->w[j];
    int64_t tiles = (w->n_out + TILE_ROWS - 1) / TILE_ROWS;
    int64_t mat = tile / tiles, first = tile % tiles * TILE_ROWS;
    struct weight_rows rows = {.type = w->type, .n_in = w->n_in, .n_out = w->n_out};
    rows.data = (const uint8_t *)w->data +
                (uint64_t)(mat * w->n_out) * quant_row_bytes(w->type, w->n_in);
    struct operand x = job->x;
    x.n = n;
    x.offset = mat * w->n_in;
    x.x += row0 * x.x_stride;
    x.act[0] += (size_t)row0 * x.act_stride;
    x.act[1] += (size_t)row0 * x.act_stride;
    float (*out)[TILE_ROWS] = cpu_worker(job->ctx, worker).out[0];
    cpu_tile(job->ctx, worker, &rows, first, &x, out);
    int64_t width = w->n_out - first < TILE_ROWS ? w->n_out - first : TILE_ROWS;
    int64_t stride = w->n_out * job->mats;
    for (int64_t i = 0; i < n; i++)
        memcpy(job->y[j] + (row0 + i) * stride + mat * w->n_out + first, out[i],
               (size_t)width * sizeof(float));
}

static void matmul_items(void *arg, int64_t first, int64_t last, int worker)
{
    const struct matmul_job *job = arg;
    int64_t part = (job->n + job->split - 1) / job->split;
    for (int64_t at = first; at < last; at++) {
        int64_t row0 = at % job->split * part;
        int64_t n = job->n - row0 < part ? job->n - row0 : part;
        if (n > 0)
            matmul_item(job, at / job->split, row0, n, worker);
    }
}

static void run_matmul(struct cpu_ctx *ctx, struct matmul_job *job)
{
    int64_t tiles = 0;
    bool need[2] = {false, false};
    for (int j = 0; j < job->n_w; j++) {
        int block = act_block(job->w[j].type);
        tiles += (job->w[j].n_out + TILE_ROWS - 1) / TILE_ROWS * job->mats;
        job->tile_end[j] = tiles;
        if (block && !job->x.exact)
            need[block == 256] = true;
    }
    for (int k = 0; k < 2; k++)
        if (need[k])
            cpu_quantise(ctx, job->x.x, job->x.x_stride, job->n, job->x.width, k ? 256 : 32);
    /* Weights with few rows: the batch is divided too, so that all threads have work. */
    int64_t wanted = 4 * pool_threads(ctx->pool), most = (job->n + 31) / 32;
    int64_t split = tiles < wanted ? (wanted + tiles - 1) / tiles : 1;
    job->split = (int)(split < most ? split : most > 0 ? most : 1);
    cpu_parallel(ctx, tiles * job->split, 1, matmul_items, job);
}

void cpu_matmul(void *ctx, const struct matmul_args *a)
{
    struct cpu_ctx *cpu = ctx;
    SLUICE_ASSERT(a->n_w >= 1 && a->n_w <= MATMUL_MAX);
    struct matmul_job job = {
        .ctx = cpu, .n_w = a->n_w, .n = a->n, .w = a->w, .y = a->y, .mats = 1,
        .x = {.x = a->x, .x_stride = a->x_stride, .act = {cpu->act[0], cpu->act[1]},
              .act_stride = cpu->act_stride, .width = a->w[0].n_in, .exact = a->f32_activations},
    };
    run_matmul(cpu, &job);
}

void cpu_grouped_matmul(void *ctx, const struct grouped_matmul_args *a)
{
    struct cpu_ctx *cpu = ctx;
    DEV float *y = a->y;
    int64_t width = a->w.n_in * a->w.n_mat;
    struct matmul_job job = {
        .ctx = cpu, .n_w = 1, .n = a->n, .w = &a->w, .y = &y, .mats = a->w.n_mat,
        .x = {.x = a->x, .x_stride = width, .act = {cpu->act[0], cpu->act[1]},
              .act_stride = cpu->act_stride, .width = width},
    };
    run_matmul(cpu, &job);
}
