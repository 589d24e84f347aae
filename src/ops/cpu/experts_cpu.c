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
    int64_t tiles;                 /* units of one expert in the loop at hand */
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

/* Units [first, last) of weight rows of one expert with the batch rows x. */
struct tile_run {
    const struct experts_job *job;
    struct expert e;
    int32_t id;
    int64_t first, last;
    int worker;
    const struct panel_set *packed; /* [ACT_KINDS] all rows, or NULL */
};

/* The part of a run of n rows that cpu_tile takes at a time, from row *row on. */
static struct tile_call next_call(const struct tile_run *run, const struct weight_rows *w,
                                  int64_t row)
{
    const struct cpu_ctx *ctx = run->job->ctx;
    int64_t end = run->last * cpu_tile_unit(ctx), most = cpu_tile_rows(ctx);
    end = end < w->n_out ? end : w->n_out;
    return (struct tile_call){.ctx = ctx, .worker = run->worker, .w = w, .first = row,
                              .n_rows = (int)(end - row < most ? end - row : most)};
}

static void gate_up_tiles(const struct tile_run *run, const struct operand *x)
{
    const struct experts_job *job = run->job;
    struct cpu_ctx *ctx = job->ctx;
    struct cpu_work work = cpu_worker(ctx, run->worker);
    int64_t inner = job->a->table.n_inner, stride = cpu_tile_rows(ctx);
    struct tile_call gate, up;
    for (int64_t row = run->first * cpu_tile_unit(ctx);; row += gate.n_rows) {
        gate = next_call(run, &run->e.gate, row);
        if (gate.n_rows <= 0)
            break;
        up = gate;
        up.w = &run->e.up;
        cpu_tile(&gate, x, work.out[0], stride);
        cpu_tile(&up, x, work.out[1], stride);
        for (int64_t i = 0; i < x->n; i++)
            ctx->leaf->gated(work.out[0] + i * stride, work.out[1] + i * stride, gate.n_rows,
                             run->e.limit, slot_scale(job, x->pick[i]),
                             ctx->inner + x->pick[i] * inner + row);
    }
}

static void down_tiles(const struct tile_run *run, const struct operand *x)
{
    const struct experts_job *job = run->job;
    struct cpu_ctx *ctx = job->ctx;
    float *out = cpu_worker(ctx, run->worker).out[0];
    int64_t dim = job->a->table.n_in, stride = cpu_tile_rows(ctx);
    struct tile_call down;
    for (int64_t row = run->first * cpu_tile_unit(ctx);; row += down.n_rows) {
        down = next_call(run, &run->e.down, row);
        if (down.n_rows <= 0)
            break;
        cpu_tile(&down, x, out, stride);
        for (int64_t i = 0; i < x->n; i++)
            memcpy(ctx->expert_out + x->pick[i] * dim + row, out + i * stride,
                   (size_t)down.n_rows * sizeof(float));
    }
}

/* Whether n rows in a form are met as panels by those of two types that meet it. */
static bool both_want(const struct cpu_ctx *ctx, const enum quant_type type[2], enum act_kind kind,
                      int64_t n)
{
    for (int k = 0; k < 2; k++)
        if (act_kind(type[k]) == kind && !cpu_wants_panels(ctx, type[k], n))
            return false;
    return kind != ACT_NONE;
}

/* The rows of x, which begin with the expert's row `row`, as panels for weights of two types. */
static void expert_panels(const struct tile_run *run, struct operand *x, int64_t row,
                          const enum quant_type type[2])
{
    const struct cpu_ctx *ctx = run->job->ctx;
    struct cpu_work work = cpu_worker(ctx, run->worker);
    for (int k = 0; k < 2; k++) {
        enum act_kind kind = act_kind(type[k]);
        if (run->packed)
            x->panels[kind] = cpu_panel_view(&run->packed[kind], row, x->n, 0);
        if (!x->panels[kind].at && both_want(ctx, type, kind, x->n))
            cpu_gather(ctx, x, kind, work.gather[k]);
    }
}

/* The units with all rows of the expert, as many of them at a time as cpu_tile takes. */
static void run_tiles(const struct tile_run *run, struct operand *all,
                      const enum quant_type type[2],
                      void (*tiles)(const struct tile_run *, const struct operand *))
{
    const struct cpu_ctx *ctx = run->job->ctx;
    int64_t pass = cpu_pass_rows(ctx);
    if (ctx->leaf->panels && !run->packed && pass > GATHER_PANELS * PANEL_ROWS)
        pass = GATHER_PANELS * PANEL_ROWS;
    for (int64_t row = 0; row < all->n; row += pass) {
        struct operand x = *all;
        x.pick += row;
        x.n = all->n - row < pass ? all->n - row : pass;
        expert_panels(run, &x, row, type);
        tiles(run, &x);
    }
}

/* The units of the expert to which item `at` belongs, up to item `last`. */
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

/* The input in the forms in which gates and ups meet it, and panels of all rows for the shared
 * expert. */
static void prepare_input(struct experts_job *job)
{
    const struct experts_args *a = job->a;
    struct cpu_ctx *ctx = job->ctx;
    enum quant_type shared[2] = {a->shared_gate.type, a->shared_up.type};
    bool need[ACT_KINDS] = {false}, by_shared[ACT_KINDS] = {false};
    need[act_kind(a->table.gate_type)] = need[act_kind(a->table.up_type)] = true;
    by_shared[act_kind(shared[0])] = by_shared[act_kind(shared[1])] = true;
    struct float_rows rows = {a->x, a->table.n_in, a->n, a->table.n_in, a->table.n_in};
    struct operand all = {.n = a->n, .act = ctx->act, .act_stride = ctx->act_stride,
                          .width = a->table.n_in};
    size_t used = 0;
    for (enum act_kind k = ACT_NONE + 1; k < ACT_KINDS; k++) {
        if (need[k] || by_shared[k])
            cpu_quantise(ctx, &rows, k);
        if (by_shared[k] && both_want(ctx, shared, k, a->n))
            job->panels[k] = cpu_pack(ctx, &all, all.width, k, &used);
    }
}

/* Units of a piece: panels of the rows are packed once for each. */
static int64_t least_units(const struct experts_job *job)
{
    return job->ctx->leaf->panels && job->a->n > PANEL_ROWS ? PANEL_WEIGHTS / PANEL_UNIT : 1;
}

static int64_t units_of(const struct experts_job *job, int64_t n_out)
{
    return (n_out + cpu_tile_unit(job->ctx) - 1) / cpu_tile_unit(job->ctx);
}

void cpu_experts(void *ctx, const struct experts_args *a)
{
    struct experts_job job = {.ctx = ctx, .a = a, .slots = a->n_used + 1};
    int64_t n_slots = (int64_t)a->n * job.slots;
    SLUICE_ASSERT(job.slots <= MAX_SLOTS && a->n <= job.ctx->limits.max_rows);
    for (int k = 0; k < ACT_KINDS; k++)
        job.inner_act[k] = job.ctx->inner_act;
    sort_slots(&job);
    prepare_input(&job);
    job.tiles = units_of(&job, a->table.n_inner);
    cpu_parallel(job.ctx, job.n_used_experts * job.tiles, least_units(&job), gate_up_items, &job);
    cpu_parallel(job.ctx, n_slots, 8, quantise_inner, &job);
    job.tiles = units_of(&job, a->table.n_in);
    cpu_parallel(job.ctx, job.n_used_experts * job.tiles, least_units(&job), down_items, &job);
    cpu_parallel(job.ctx, a->n, 1, sum_slots, &job);
}
