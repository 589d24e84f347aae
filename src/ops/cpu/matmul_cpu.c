/* Matrix products: quantised weights meet int16 activations or panels, the others float32. Few
 * rows: weights are dotted where they lie. Many rows: 16 weight rows are unpacked once and meet all
 * of them. */
#include <math.h>

#include "ops/cpu/cpu.h"

static size_t round_64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* An activation row: the arrays of struct act, each from a multiple of 64 bytes. */
struct act_layout {
    size_t sum16, d, planes, bytes;
};

static struct act_layout act_layout(int64_t n)
{
    struct act_layout l;
    l.sum16 = round_64((size_t)n * sizeof(int16_t));
    l.d = l.sum16 + round_64((size_t)(n / 16) * sizeof(int16_t));
    l.planes = l.d + round_64((size_t)(n / 32) * sizeof(float));
    l.bytes = l.planes + round_64((size_t)n * 2);
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
        .planes = (int8_t *)row + l.planes + 2 * offset,
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

static int64_t row_of(const struct operand *x, int64_t i)
{
    return x->first + (x->pick ? x->pick[i] / x->pick_div : i);
}

static const float *float_row(const struct operand *x, int64_t i)
{
    return x->x + row_of(x, i) * x->x_stride + x->offset;
}

struct act cpu_operand_act(const struct operand *x, int64_t i, enum act_kind kind)
{
    if (kind == ACT_NONE)
        return (struct act){.d = (float *)(uintptr_t)float_row(x, i)};
    return cpu_act(x->act[kind], x->act_stride, row_of(x, i), x->width, x->offset, kind);
}

/* Few batch rows against weights in F16 or BF16: these are dotted where they lie. */
static void tile_half(const struct cpu_ctx *ctx, const struct qrows *w, int n_rows,
                      const struct operand *x, float (*out)[TILE_ROWS])
{
    const float *xs[HALF_X];
    for (int64_t i = 0; i < x->n; i++)
        xs[i] = float_row(x, i);
    ctx->leaf->half_dots(w, n_rows, xs, (int)x->n, out);
}

static void tile_float(const struct cpu_ctx *ctx, float *room, const struct qrows *w, int n_rows,
                       const struct operand *x, float (*out)[TILE_ROWS])
{
    bool in_place = w->type == QUANT_F32 && (uintptr_t)w->data % sizeof(float) == 0;
    /* few batch rows: fewer weight rows at a time stay in the first-level cache */
    int step = x->n > 4 ? TILE_ROWS : 4;
    for (int r = 0; r < n_rows; r += step) {
        const float *rows[DOTS_W], *xs[DOTS_X];
        int n_w = n_rows - r < step ? n_rows - r : step;
        for (int j = 0; j < n_w; j++) {
            float *wide = room + (int64_t)j * ctx->max_act;
            const uint8_t *at = w->data + (uint64_t)(r + j) * w->row_bytes;
            rows[j] = wide;
            if (in_place)
                rows[j] = (const float *)(const void *)at;
            else
                ctx->leaf->widen(w->type, at, wide, w->n);
        }
        for (int64_t i = 0; i < x->n; i += DOTS_X) {
            int n = x->n - i < DOTS_X ? (int)(x->n - i) : DOTS_X;
            float y[DOTS_X][DOTS_W];
            for (int k = 0; k < n; k++)
                xs[k] = float_row(x, i + k);
            ctx->leaf->dots(rows, n_w, xs, n, w->n, y);
            for (int k = 0; k < n; k++)
                memcpy(out[i + k] + r, y[k], (size_t)n_w * sizeof(float));
        }
    }
}

static void tile_quantised(const struct cpu_ctx *ctx, struct tile t, const struct qrows *w,
                           int n_rows, const struct operand *x, float (*out)[TILE_ROWS])
{
    enum act_kind kind = act_kind(w->type);
    bool direct = x->n <= ctx->leaf->direct;
    int step = direct ? ROW_BATCH : TILE_BATCH;
    t.type = w->type;
    t.n = w->n;
    t.block = act_kind_block(kind);
    t.has_min = type_has_min(w->type);
    if (!direct)
        ctx->leaf->tile_unpack(w, n_rows, &t);
    for (int64_t i = 0; i < x->n; i += step) {
        struct act act[ROW_BATCH];
        int n = x->n - i < step ? (int)(x->n - i) : step;
        for (int k = 0; k < n; k++)
            act[k] = cpu_operand_act(x, i + k, kind);
        if (direct)
            ctx->leaf->row_dot(w, n_rows, act, n, out + i);
        else
            ctx->leaf->tile_dot(&t, act, n, out + i);
    }
}

/* TILE_ROWS weight rows, without panels. */
static void tile_of_16(const struct cpu_ctx *ctx, const struct cpu_work *work,
                       const struct qrows *w, int n_rows, const struct operand *x,
                       float (*out)[TILE_ROWS])
{
    bool half = w->type == QUANT_F16 || w->type == QUANT_BF16;
    if (half && x->n <= HALF_X)
        tile_half(ctx, w, n_rows, x, out);
    else if (act_kind(w->type) == ACT_NONE || x->exact)
        tile_float(ctx, work->rows, w, n_rows, x, out);
    else
        tile_quantised(ctx, work->tile, w, n_rows, x, out);
}

int cpu_tile_rows(const struct cpu_ctx *ctx)
{
    return ctx->leaf->panels ? PANEL_WEIGHTS : TILE_ROWS;
}

int cpu_tile_unit(const struct cpu_ctx *ctx)
{
    return ctx->leaf->panels ? PANEL_UNIT : TILE_ROWS;
}

void cpu_tile(const struct tile_call *call, const struct operand *x, float *out, int64_t stride)
{
    const struct weight_rows *w = call->w;
    struct cpu_work work = cpu_worker(call->ctx, call->worker);
    struct qrows rows = {.type = w->type, .n = w->n_in,
                         .row_bytes = quant_row_bytes(w->type, w->n_in)};
    enum act_kind kind = act_kind(w->type);
    const struct panel_view *panels = &x->panels[kind];
    SLUICE_ASSERT(w->n_in <= call->ctx->max_act && call->n_rows <= cpu_tile_rows(call->ctx));
    rows.data = w->data + (uint64_t)call->first * rows.row_bytes;
    if (panels->at && (kind == ACT_NONE || !x->exact)) {
        struct panel_dot d = {.w = rows, .n_rows = call->n_rows, .room = work.sums};
        call->ctx->leaf->panels->dot(&d, panels, out, stride);
        return;
    }
    for (int r = 0; r < call->n_rows; r += TILE_ROWS) {
        int n_rows = call->n_rows - r < TILE_ROWS ? call->n_rows - r : TILE_ROWS;
        tile_of_16(call->ctx, &work, &rows, n_rows, x, work.tile_out);
        rows.data += TILE_ROWS * rows.row_bytes;
        for (int64_t i = 0; i < x->n; i++)
            memcpy(out + i * stride + r, work.tile_out[i], (size_t)n_rows * sizeof(float));
    }
}

/* ---- the ops ---- */

/* Items: groups of units of all weights in turn, each for one of `split` parts of the batch. */
struct matmul_job {
    const struct cpu_ctx *ctx;
    int n_w, split;
    int64_t n;
    int64_t group;                 /* weight rows of an item */
    int64_t item_end[MATMUL_MAX];  /* items of the weights up to this one */
    const struct weight *w;
    DEV float *const *y;
    int64_t mats;                  /* matrices of w[0], each with its slice of the row */
    struct operand x;
    struct panel_set panels[ACT_KINDS];
};

static int64_t items_of(const struct matmul_job *job, int j)
{
    return (job->w[j].n_out + job->group - 1) / job->group;
}

/* The call's rows of matrix mat of weight j with the batch rows x. */
static void matmul_rows(const struct tile_call *call, const struct matmul_job *job, int j,
                        int64_t mat, struct operand *x)
{
    enum act_kind kind = act_kind(job->w[j].type);
    int64_t stride = job->w[j].n_out * job->mats;
    float *y = job->y[j] + mat * job->w[j].n_out + call->first;
    int64_t row0 = x->first, end = row0 + x->n, pass = cpu_pass_rows(job->ctx);
    for (int64_t row = row0; row < end; row += pass) {
        x->first = row;
        x->n = end - row < pass ? end - row : pass;
        x->panels[kind] = cpu_panel_view(&job->panels[kind], row, x->n, mat);
        cpu_tile(call, x, y + row * stride, stride);
    }
}

static void matmul_item(const struct matmul_job *job, int64_t item, int64_t row0, int64_t n,
                        int worker)
{
    int j = 0;
    while (item >= job->item_end[j])
        j++;
    item -= j ? job->item_end[j - 1] : 0;
    const struct weight *w = &job->w[j];
    int64_t items = items_of(job, j), mat = item / items, first = item % items * job->group;
    struct weight_rows rows = {.type = w->type, .n_in = w->n_in, .n_out = w->n_out};
    rows.data = (const uint8_t *)w->data +
                (uint64_t)(mat * w->n_out) * quant_row_bytes(w->type, w->n_in);
    struct tile_call call = {.ctx = job->ctx, .worker = worker, .w = &rows, .first = first};
    call.n_rows = (int)(w->n_out - first < job->group ? w->n_out - first : job->group);
    struct operand x = job->x;
    x.offset = mat * w->n_in;
    x.first = row0;
    x.n = n;
    matmul_rows(&call, job, j, mat, &x);
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

/* Whether all weights that meet activations of the kind meet panels of them. */
static bool wants_panels(const struct matmul_job *job, enum act_kind kind)
{
    for (int j = 0; j < job->n_w; j++)
        if (act_kind(job->w[j].type) == kind &&
            !cpu_wants_panels(job->ctx, job->w[j].type, job->n))
            return false;
    return true;
}

/* The batch in the forms in which the weights meet it. */
static void prepare_batch(struct cpu_ctx *ctx, struct matmul_job *job)
{
    bool need[ACT_KINDS] = {false};
    size_t used = 0;
    for (int j = 0; j < job->n_w; j++) {
        enum act_kind kind = act_kind(job->w[j].type);
        need[kind] = kind == ACT_NONE || !job->x.exact;
    }
    struct float_rows rows = {job->x.x, job->x.x_stride, job->n, job->x.width, job->w[0].n_in};
    for (enum act_kind k = ACT_NONE; k < ACT_KINDS; k++) {
        if (!need[k])
            continue;
        if (k != ACT_NONE)
            cpu_quantise(ctx, &rows, k);
        if (wants_panels(job, k))
            job->panels[k] = cpu_pack(ctx, &job->x, job->w[0].n_in, k, &used);
    }
}

static void run_matmul(struct cpu_ctx *ctx, struct matmul_job *job)
{
    int64_t rows = 0, items = 0, wanted = 4 * pool_threads(ctx->pool), unit = cpu_tile_unit(ctx);
    prepare_batch(ctx, job);
    for (int j = 0; j < job->n_w; j++)
        rows += job->w[j].n_out * job->mats;
    job->group = job->n > PANEL_ROWS ? cpu_tile_rows(ctx) : unit;
    while (job->group > unit && rows < wanted * job->group)
        job->group /= 2;
    for (int j = 0; j < job->n_w; j++) {
        items += items_of(job, j) * job->mats;
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
