/* Matrix products: quantised weights meet int16 activations, the others float32. Few rows: weights
 * are dotted where they lie. Many rows: 16 weight rows are unpacked once and meet all of them. */
#include <math.h>

#include "ops/cpu/cpu.h"

static size_t round_64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* An activation row: the arrays of struct act, each from a multiple of 64 bytes. */
struct act_layout {
    size_t sum16, d, bytes;
};

static struct act_layout act_layout(int64_t n)
{
    struct act_layout l;
    l.sum16 = round_64((size_t)n * sizeof(int16_t));
    l.d = l.sum16 + round_64((size_t)(n / 16) * sizeof(int16_t));
    l.bytes = l.d + round_64((size_t)(n / 32) * sizeof(float));
    return l;
}

size_t cpu_act_bytes(int64_t n)
{
    return act_layout(n).bytes;
}

struct act cpu_act(uint8_t *area, size_t stride, int64_t i, int64_t n, int64_t offset,
                   enum act_kind kind)
{
    struct act_layout l = act_layout(n);
    uint8_t *row = area + (size_t)i * stride;
    return (struct act){
        .q = (int16_t *)(void *)row + offset,
        .sum16 = (int16_t *)(void *)(row + l.sum16) + offset / 16,
        .d = (float *)(void *)(row + l.d) + offset / act_kind_block(kind),
    };
}

struct quantise_job {
    const struct cpu_ctx *ctx;
    const struct float_rows *rows;
    enum act_kind kind;
};

static void quantise_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct quantise_job *job = arg;
    const struct float_rows *r = job->rows;
    uint8_t *area = job->ctx->act[job->kind];
    for (int64_t i = first; i < last; i++) {
        for (int64_t at = 0; at < r->n; at += r->part) {
            struct act to = cpu_act(area, job->ctx->act_stride, i, r->n, at, job->kind);
            job->ctx->leaf->quantise(r->x + i * r->stride + at, r->part, job->kind, &to);
        }
    }
}

void cpu_quantise(struct cpu_ctx *ctx, const struct float_rows *rows, enum act_kind kind)
{
    SLUICE_ASSERT(rows->n <= ctx->max_act && rows->n_rows <= ctx->limits.max_rows);
    struct quantise_job job = {.ctx = ctx, .rows = rows, .kind = kind};
    cpu_parallel(ctx, rows->n_rows, 4, quantise_rows, &job);
}

static int64_t operand_row(const struct operand *x, int64_t i)
{
    return x->first + (x->pick ? x->pick[i] / x->pick_div : i);
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

struct act cpu_operand_act(const struct operand *x, int64_t i, enum act_kind kind)
{
    return cpu_act(x->act[kind], x->act_stride, operand_row(x, i), x->width, x->offset,
                   kind);
}

void cpu_tile(const struct cpu_ctx *ctx, int worker, const struct weight_rows *w, int64_t first,
              const struct operand *x, float (*out)[TILE_ROWS])
{
    struct cpu_work work = cpu_worker(ctx, worker);
    enum act_kind kind = act_kind(w->type);
    SLUICE_ASSERT(w->n_in <= ctx->max_act);
    bool half = w->type == QUANT_F16 || w->type == QUANT_BF16;
    if (half && x->n <= HALF_X) {
        tile_half(ctx, w, first, x, out);
        return;
    }
    if (kind == ACT_NONE || x->exact) {
        tile_float(ctx, &work, w, first, x, out);
        return;
    }
    int n_rows = w->n_out - first < TILE_ROWS ? (int)(w->n_out - first) : TILE_ROWS;
    struct qrows rows = {.type = w->type, .n = w->n_in,
                         .row_bytes = quant_row_bytes(w->type, w->n_in)};
    rows.data = w->data + (uint64_t)first * rows.row_bytes;
    if (x->panels[kind]) {
        ctx->leaf->panels->dot(&rows, n_rows, x->panels[kind], (int)x->n, out);
        return;
    }
    struct tile t = work.tile;
    t.type = w->type;
    t.n = w->n_in;
    t.block = act_kind_block(kind);
    t.has_min = type_has_min(w->type);
    bool direct = x->n <= ctx->leaf->direct;
    int step = direct ? ROW_BATCH : TILE_BATCH;
    if (!direct)
        ctx->leaf->tile_unpack(&rows, n_rows, &t);
    for (int64_t i = 0; i < x->n; i += step) {
        struct act act[ROW_BATCH];
        int n = x->n - i < step ? (int)(x->n - i) : step;
        for (int k = 0; k < n; k++)
            act[k] = cpu_operand_act(x, i + k, kind);
        if (direct)
            ctx->leaf->row_dot(&rows, n_rows, act, n, out + i);
        else
            ctx->leaf->tile_dot(&t, act, n, out + i);
    }
}

/* ---- the ops ---- */

/* Tiles of an item where panels of the batch meet them in turn, so that both stay in the cache. */
#define ITEM_TILES 8

/* Items: groups of tiles of all weights in turn, each for one of `split` parts of the batch. */
struct matmul_job {
    const struct cpu_ctx *ctx;
    int n_w, split;
    int64_t n;
    int64_t group;                 /* tiles of an item */
    int64_t item_end[MATMUL_MAX];  /* items of the weights up to this one */
    const struct weight *w;
    DEV float *const *y;
    int64_t mats;                  /* matrices of w[0], each with its slice of the row */
    struct operand x;
    struct panel_set panels[ACT_KINDS];
};

static int64_t tiles_of(const struct weight *w)
{
    return (w->n_out + TILE_ROWS - 1) / TILE_ROWS;
}

/* Rows of weight j of matrix mat from `first` on with the batch rows x. */
static void matmul_tile(const struct matmul_job *job, int j, int64_t mat, int64_t first,
                        const struct operand *x, int worker)
{
    const struct weight *w = &job->w[j];
    struct weight_rows rows = {.type = w->type, .n_in = w->n_in, .n_out = w->n_out};
    rows.data = (const uint8_t *)w->data +
                (uint64_t)(mat * w->n_out) * quant_row_bytes(w->type, w->n_in);
    float (*out)[TILE_ROWS] = cpu_worker(job->ctx, worker).out[0];
    cpu_tile(job->ctx, worker, &rows, first, x, out);
    int64_t width = w->n_out - first < TILE_ROWS ? w->n_out - first : TILE_ROWS;
    int64_t stride = w->n_out * job->mats;
    for (int64_t i = 0; i < x->n; i++)
        memcpy(job->y[j] + (x->first + i) * stride + mat * w->n_out + first, out[i],
               (size_t)width * sizeof(float));
}

static void matmul_item(const struct matmul_job *job, int64_t item, int64_t row0, int64_t n,
                        int worker)
{
    int j = 0;
    while (item >= job->item_end[j])
        j++;
    item -= j ? job->item_end[j - 1] : 0;
    int64_t tiles = tiles_of(&job->w[j]), items = (tiles + job->group - 1) / job->group;
    int64_t mat = item / items, first = item % items * job->group;
    int64_t last = first + job->group < tiles ? first + job->group : tiles;
    const struct panel_set *set = &job->panels[act_kind(job->w[j].type)];
    int64_t pass = set->at ? PANEL_BATCH * PANEL_ROWS : n;
    struct operand x = job->x;
    x.offset = mat * job->w[j].n_in;
    if (set->at)
        job->ctx->leaf->panels->begin();
    for (int64_t row = row0; row < row0 + n; row += pass) {
        x.first = row;
        x.n = row0 + n - row < pass ? row0 + n - row : pass;
        x.panels[act_kind(job->w[j].type)] = cpu_panel_at(set, row, mat);
        for (int64_t t = first; t < last; t++)
            matmul_tile(job, j, mat, t * TILE_ROWS, &x, worker);
    }
    if (set->at)
        job->ctx->leaf->panels->end();
}

static void matmul_items(void *arg, int64_t first, int64_t last, int worker)
{
    const struct matmul_job *job = arg;
    int64_t part = (job->n + job->split - 1) / job->split;
    part = (part + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
    for (int64_t at = first; at < last; at++) {
        int64_t row0 = at % job->split * part;
        int64_t n = job->n - row0 < part ? job->n - row0 : part;
        if (n > 0)
            matmul_item(job, at / job->split, row0, n, worker);
    }
}

/* Whether all weights that meet activations of the kind want panels of them. */
static bool wants_panels(const struct matmul_job *job, enum act_kind kind)
{
    for (int j = 0; j < job->n_w; j++)
        if (act_kind(job->w[j].type) == kind &&
            !cpu_wants_panels(job->ctx, job->w[j].type, job->n))
            return false;
    return true;
}

/* The batch in the form in which the weights meet it; whether any meets panels. */
static bool prepare_batch(struct cpu_ctx *ctx, struct matmul_job *job)
{
    bool need[ACT_KINDS] = {false}, any = false;
    size_t used = 0;
    for (int j = 0; j < job->n_w; j++)
        need[act_kind(job->w[j].type)] = !job->x.exact;
    struct float_rows rows = {job->x.x, job->x.x_stride, job->n, job->x.width, job->w[0].n_in};
    for (enum act_kind k = ACT_NONE + 1; k < ACT_KINDS; k++) {
        if (!need[k])
            continue;
        cpu_quantise(ctx, &rows, k);
        if (wants_panels(job, k))
            job->panels[k] = cpu_pack(ctx, &job->x, job->w[0].n_in, k, &used);
        any = any || job->panels[k].at;
    }
    return any;
}

static void run_matmul(struct cpu_ctx *ctx, struct matmul_job *job)
{
    int64_t tiles = 0, items = 0, wanted = 4 * pool_threads(ctx->pool);
    job->group = prepare_batch(ctx, job) ? ITEM_TILES : 1;
    for (int j = 0; j < job->n_w; j++)
        tiles += tiles_of(&job->w[j]) * job->mats;
    while (job->group > 1 && tiles < wanted * job->group)
        job->group /= 2;
    for (int j = 0; j < job->n_w; j++) {
        items += (tiles_of(&job->w[j]) + job->group - 1) / job->group * job->mats;
        job->item_end[j] = items;
    }
    /* Weights with few rows: the batch is divided too, so that all threads have work. */
    int64_t most = (job->n + 31) / 32, split = items < wanted ? (wanted + items - 1) / items : 1;
    job->split = (int)(split < most ? split : most > 0 ? most : 1);
    cpu_parallel(ctx, items * job->split, 1, matmul_items, job);
}

void cpu_matmul(void *ctx, const struct matmul_args *a)
{
    struct cpu_ctx *cpu = ctx;
    SLUICE_ASSERT(a->n_w >= 1 && a->n_w <= MATMUL_MAX);
    struct matmul_job job = {
        .ctx = cpu, .n_w = a->n_w, .n = a->n, .w = a->w, .y = a->y, .mats = 1,
        .x = {.n = a->n, .x = a->x, .x_stride = a->x_stride, .act = cpu->act,
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
        .x = {.n = a->n, .x = a->x, .x_stride = width, .act = cpu->act,
              .act_stride = cpu->act_stride, .width = width},
    };
    run_matmul(cpu, &job);
}
