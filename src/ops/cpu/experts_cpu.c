/* Routed and shared experts (section 3.11). Rows that picked the same expert are computed together,
 * so that its weights are read once a batch; the shared expert is expert number E with all rows.
 *
 *   sort rows by expert > quantise x > gate, up, gated product > quantise > down > sum of slots */
#include "ops/cpu/cpu.h"

/* Chosen experts of a row, with the shared one. */
#define MAX_SLOTS 64

struct experts_job {
    struct cpu_ctx *ctx;
    const struct experts_args *a;
    int32_t n_used_experts, slots;
    int64_t tiles;                 /* of one expert in the loop at hand */
    uint8_t *inner_act[ACT_KINDS]; /* the same area for all: a row has one kind */
    struct panel_set panels[ACT_KINDS]; /* of the input, for the shared expert */
};

struct expert {
    struct weight_rows gate, up, down;
    float limit;
};

static struct expert expert_of(const struct experts_args *a, int32_t e)
{
    const struct expert_table *t = &a->table;
    struct expert x = {
        .gate = {.type = t->gate_type, .n_in = t->n_in, .n_out = t->n_inner},
        .up = {.type = t->up_type, .n_in = t->n_in, .n_out = t->n_inner},
        .down = {.type = t->down_type, .n_in = t->n_inner, .n_out = t->n_in},
        .limit = e == a->n_expert ? a->shared_limit : a->limit,
    };
    if (e == a->n_expert) {
        x.gate.type = a->shared_gate.type;
        x.up.type = a->shared_up.type;
        x.down.type = a->shared_down.type;
        x.gate.data = a->shared_gate.data;
        x.up.data = a->shared_up.data;
        x.down.data = a->shared_down.data;
    } else if (t->gate_stride) {
        x.gate.data = t->gate + (size_t)e * t->gate_stride;
        x.up.data = t->up + (size_t)e * t->up_stride;
        x.down.data = t->down + (size_t)e * t->down_stride;
    } else {
        x.gate.data = t->slot[e].gate;
        x.up.data = t->slot[e].up;
        x.down.data = t->slot[e].down;
    }
    return x;
}

/* Counting sort of (row, slot) by expert; rows stay in order. */
static void sort_slots(struct experts_job *job)
{
    struct cpu_ctx *ctx = job->ctx;
    const struct experts_args *a = job->a;
    int32_t *first = ctx->expert_first;
    int64_t n = (int64_t)a->n * a->n_used;
    memset(first, 0, (size_t)(a->n_expert + 2) * sizeof(*first));
    for (int64_t k = 0; k < n; k++) {
        SLUICE_ASSERT(a->ids[k] >= 0 && a->ids[k] < a->n_expert);
        first[a->ids[k] + 1]++;
    }
    first[a->n_expert + 1] = a->n;
    job->n_used_experts = 0;
    for (int32_t e = 0; e <= a->n_expert; e++) {
        if (first[e + 1] > 0)
            ctx->expert_used[job->n_used_experts++] = e;
        first[e + 1] += first[e];
    }
    for (int64_t k = 0; k < n; k++)
        ctx->expert_slot[first[a->ids[k]]++] =
            (int32_t)(k / a->n_used * job->slots + k % a->n_used);
    for (int32_t i = 0; i < a->n; i++)
        ctx->expert_slot[n + i] = i * job->slots + a->n_used;
    /* first[e] is now the end of e, which is where e + 1 begins */
    memmove(first + 1, first, (size_t)a->n_expert * sizeof(*first));
    first[0] = 0;
}

static struct operand rows_of(const struct experts_job *job, int32_t e)
{
    struct cpu_ctx *ctx = job->ctx;
    int32_t first = ctx->expert_first[e];
    return (struct operand){
        .n = ctx->expert_first[e + 1] - first, .pick = ctx->expert_slot + first,
        .pick_div = job->slots, .x = job->a->x, .x_stride = job->a->table.n_in,
        .act = ctx->act, .act_stride = ctx->act_stride,
        .width = job->a->table.n_in,
    };
}

static float slot_scale(const struct experts_job *job, int32_t slot)
{
    int32_t k = slot % job->slots;
    return k == job->a->n_used ? 1.0f : job->a->weights[slot / job->slots * job->a->n_used + k];
}

/* Tiles [first, last) of one expert with the batch rows x. */
struct tile_run {
    const struct experts_job *job;
    struct expert e;
    int32_t id;
    int64_t first, last;
    int worker;
    const struct panel_set *packed; /* [ACT_KINDS] all rows, or NULL */
};

static void gate_up_tiles(const struct tile_run *run, const struct operand *x)
{
    const struct experts_job *job = run->job;
    struct cpu_ctx *ctx = job->ctx;
    struct cpu_work work = cpu_worker(ctx, run->worker);
    int64_t inner = job->a->table.n_inner;
    for (int64_t t = run->first; t < run->last; t++) {
        int64_t row = t * TILE_ROWS, width = inner - row < TILE_ROWS ? inner - row : TILE_ROWS;
        cpu_tile(ctx, run->worker, &run->e.gate, row, x, work.out[0]);
        cpu_tile(ctx, run->worker, &run->e.up, row, x, work.out[1]);
        for (int64_t i = 0; i < x->n; i++)
            ctx->leaf->gated(work.out[0][i], work.out[1][i], width, run->e.limit,
                             slot_scale(job, x->pick[i]),
                             ctx->inner + x->pick[i] * inner + row);
    }
}

static void down_tiles(const struct tile_run *run, const struct operand *x)
{
    const struct experts_job *job = run->job;
    struct cpu_ctx *ctx = job->ctx;
    float (*out)[TILE_ROWS] = cpu_worker(ctx, run->worker).out[0];
    int64_t dim = job->a->table.n_in;
    for (int64_t t = run->first; t < run->last; t++) {
        int64_t row = t * TILE_ROWS, width = dim - row < TILE_ROWS ? dim - row : TILE_ROWS;
        cpu_tile(ctx, run->worker, &run->e.down, row, x, out);
        for (int64_t i = 0; i < x->n; i++)
            memcpy(ctx->expert_out + x->pick[i] * dim + row, out[i], (size_t)width * sizeof(float));
    }
}

/* The rows of x, which begin with the expert's row `row`, as panels for weights of two types. */
static void expert_panels(const struct tile_run *run, struct operand *x, int64_t row,
                          const enum quant_type type[2])
{
    const struct cpu_ctx *ctx = run->job->ctx;
    struct cpu_work work = cpu_worker(ctx, run->worker);
    for (int k = 0; k < 2; k++) {
        enum act_kind kind = act_kind(type[k]);
        if (kind == ACT_NONE || x->panels[kind])
            continue;
        if (run->packed)
            x->panels[kind] = cpu_panel_at(&run->packed[kind], row, 0);
        if (!x->panels[kind])
            cpu_gather(ctx, x, kind, work.gather[k]);
    }
}

/* The tiles with all rows of the expert, a few panels of them at a time where there are panels. */
static void run_tiles(const struct tile_run *run, struct operand *all,
                      const enum quant_type type[2],
                      void (*tiles)(const struct tile_run *, const struct operand *))
{
    const struct cpu_ctx *ctx = run->job->ctx;
    if (!cpu_wants_panels(ctx, type[0], all->n) || !cpu_wants_panels(ctx, type[1], all->n)) {
        tiles(run, all);
        return;
    }
    ctx->leaf->panels->begin();
    for (int64_t row = 0; row < all->n; row += PANEL_BATCH * PANEL_ROWS) {
        struct operand x = *all;
        int64_t left = all->n - row;
        x.pick += row;
        x.n = left < PANEL_BATCH * PANEL_ROWS ? left : PANEL_BATCH * PANEL_ROWS;
        expert_panels(run, &x, row, type);
        tiles(run, &x);
    }
    ctx->leaf->panels->end();
}

/* The tiles of the expert to which item `at` belongs, up to item `last`. */
static struct tile_run run_of(const struct experts_job *job, int64_t at, int64_t last, int worker)
{
    int64_t first = at % job->tiles, left = last - at, tiles = job->tiles - first;
    int32_t e = job->ctx->expert_used[at / job->tiles];
    return (struct tile_run){.job = job, .e = expert_of(job->a, e), .id = e, .first = first,
                             .last = first + (left < tiles ? left : tiles), .worker = worker};
}

static void gate_up_items(void *arg, int64_t first, int64_t last, int worker)
{
    const struct experts_job *job = arg;
    for (int64_t at = first; at < last;) {
        struct tile_run run = run_of(job, at, last, worker);
        struct operand x = rows_of(job, run.id);
        if (run.id == job->a->n_expert)
            run.packed = job->panels;
        enum quant_type type[2] = {run.e.gate.type, run.e.up.type};
        run_tiles(&run, &x, type, gate_up_tiles);
        at += run.last - run.first;
    }
}

static void down_items(void *arg, int64_t first, int64_t last, int worker)
{
    const struct experts_job *job = arg;
    for (int64_t at = first; at < last;) {
        struct tile_run run = run_of(job, at, last, worker);
        struct operand x = rows_of(job, run.id);
        enum quant_type type[2] = {run.e.down.type, run.e.down.type};
        x.pick_div = 1;
        x.x = job->ctx->inner;
        x.x_stride = x.width = run.e.down.n_in;
        x.act = job->inner_act;
        x.act_stride = job->ctx->inner_stride;
        run_tiles(&run, &x, type, down_tiles);
        at += run.last - run.first;
    }
}

/* The gated rows, each in blocks of the down matrix that it will meet. */
static void quantise_inner(void *arg, int64_t first, int64_t last, int worker)
{
    const struct experts_job *job = arg;
    struct cpu_ctx *ctx = job->ctx;
    int64_t inner = job->a->table.n_inner;
    for (int64_t at = first; at < last; at++) {
        bool shared = at % job->slots == job->a->n_used;
        enum act_kind kind =
            act_kind(shared ? job->a->shared_down.type : job->a->table.down_type);
        if (kind == ACT_NONE)
            continue;
        struct act to = cpu_act(ctx->inner_act, ctx->inner_stride, at, inner, 0, kind);
        ctx->leaf->quantise(ctx->inner + at * inner, inner, kind, &to);
    }
}

static void sum_slots(void *arg, int64_t first, int64_t last, int worker)
{
    const struct experts_job *job = arg;
    int64_t dim = job->a->table.n_in;
    float one[MAX_SLOTS];
    for (int k = 0; k < job->slots; k++)
        one[k] = 1;
    for (int64_t i = first; i < last; i++)
        job->ctx->leaf->combine(one, job->ctx->expert_out + i * job->slots * dim, dim, job->slots,
                                dim, job->a->y + i * dim);
}

static void quantise_input(struct experts_job *job)
{
    const struct experts_args *a = job->a;
    bool need[ACT_KINDS] = {false};
    need[act_kind(a->table.gate_type)] = need[act_kind(a->table.up_type)] = true;
    need[act_kind(a->shared_gate.type)] = need[act_kind(a->shared_up.type)] = true;
    struct float_rows rows = {a->x, a->table.n_in, a->n, a->table.n_in, a->table.n_in};
    for (enum act_kind k = ACT_NONE + 1; k < ACT_KINDS; k++)
        if (need[k])
            cpu_quantise(job->ctx, &rows, k);
    if (!cpu_wants_panels(job->ctx, a->shared_gate.type, a->n) ||
        !cpu_wants_panels(job->ctx, a->shared_up.type, a->n))
        return;
    struct operand all = {.n = a->n, .act = job->ctx->act, .act_stride = job->ctx->act_stride,
                          .width = a->table.n_in};
    enum act_kind shared[2] = {act_kind(a->shared_gate.type), act_kind(a->shared_up.type)};
    size_t used = 0;
    for (int k = 0; k < 2; k++)
        if (shared[k] != ACT_NONE && !job->panels[shared[k]].at)
            job->panels[shared[k]] = cpu_pack(job->ctx, &all, all.width, shared[k], &used);
}

/* Tiles of a piece: panels of the rows are packed once for each. */
static int64_t least_tiles(const struct experts_job *job)
{
    return cpu_wants_panels(job->ctx, job->a->table.gate_type, job->a->n) ? 16 : 1;
}

void cpu_experts(void *ctx, const struct experts_args *a)
{
    struct experts_job job = {.ctx = ctx, .a = a, .slots = a->n_used + 1};
    int64_t n_slots = (int64_t)a->n * job.slots;
    SLUICE_ASSERT(job.slots <= MAX_SLOTS && a->n <= job.ctx->limits.max_rows);
    for (int k = 0; k < ACT_KINDS; k++)
        job.inner_act[k] = job.ctx->inner_act;
    sort_slots(&job);
    quantise_input(&job);
    job.tiles = (a->table.n_inner + TILE_ROWS - 1) / TILE_ROWS;
    cpu_parallel(job.ctx, job.n_used_experts * job.tiles, least_tiles(&job), gate_up_items, &job);
    cpu_parallel(job.ctx, n_slots, 8, quantise_inner, &job);
    job.tiles = (a->table.n_in + TILE_ROWS - 1) / TILE_ROWS;
    cpu_parallel(job.ctx, job.n_used_experts * job.tiles, least_tiles(&job), down_items, &job);
    cpu_parallel(job.ctx, a->n, 1, sum_slots, &job);
}
