/* The cpu backend's memory, scratch and op table, and the choice of its instruction set. */
#include "ops/cpu/cpu.h"
#include "os/cpu.h"
#include "os/memory.h"

#define ALIGNMENT 64
/* ---- memory ---- */

static enum sluice_status cpu_alloc(void *ctx, size_t bytes, DEV void **out,
                                    struct sluice_error *err)
{
    *out = memory_take(bytes, MEMORY_SPREAD);
    FAIL_IF(!*out, err, SLUICE_ERR_NOMEM, "out of memory allocating %zu bytes for the model",
            bytes);
    memset(*out, 0, bytes);
    return SLUICE_OK;
}

static void cpu_free(void *ctx, DEV void *p)
{
    free(p);
}

static void cpu_move(void *ctx, void *dst, const void *src, size_t bytes)
{
    if (bytes)
        memmove(dst, src, bytes);
}

static void cpu_sync(void *ctx)
{
}

static void cpu_close(void *ctx)
{
    struct cpu_ctx *cpu = ctx;
    free(cpu->scratch);
    free(cpu);
}

void cpu_parallel(struct cpu_ctx *ctx, int64_t n, int64_t least, pool_fn fn, void *arg)
{
    if (n > 0)
        pool_run(ctx->pool, n, least, fn, arg);
}

/* ---- plan ---- */

static size_t larger_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

static struct ops_limits larger(const struct ops_limits *a, const struct ops_limits *b)
{
#define LARGER(field) .field = a->field > b->field ? a->field : b->field
    return (struct ops_limits){
        LARGER(max_rows), LARGER(max_in), LARGER(max_out), LARGER(dim),
        LARGER(inner), LARGER(n_expert), LARGER(n_used), LARGER(heads),
        LARGER(streams), LARGER(head_dim), LARGER(index_heads), LARGER(top_k),
        LARGER(index_dim), LARGER(max_positions), LARGER(window), LARGER(groups),
    };
#undef LARGER
}

/* First pass with base NULL measures, second pass hands out addresses. */
struct carve {
    uint8_t *base;
    size_t used;
};

static void *carve(struct carve *c, size_t count, size_t size)
{
    void *at = c->base ? c->base + c->used : NULL;
    c->used += (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

/* Room for panels. */
static uint8_t *carve_panels(struct carve *c, size_t bytes)
{
    c->used = (c->used + PANEL_ALIGN - 1) / PANEL_ALIGN * PANEL_ALIGN;
    return carve(c, bytes, 1);
}

/* Floats of the part of a worker's scratch that attention, indexer and the reference's ops use. */
static size_t free_floats(const struct cpu_ctx *ctx)
{
    const struct ops_limits *l = &ctx->limits;
    const struct attend_tiles *tiles = ctx->leaf->attend;
    size_t positions = (size_t)l->max_positions;
    size_t keys = (size_t)l->window + larger_of((size_t)l->top_k, positions / 128 + 1);
    size_t heads = l->heads < ATTEND_MOST_HEADS ? (size_t)l->heads : ATTEND_MOST_HEADS;
    size_t attention = heads * keys;
    if (tiles)
        attention += ATTEND_BLOCK * (size_t)l->head_dim + tiles->bytes(l->head_dim) / sizeof(float);
    else
        attention += ATTEND_KEYS * (size_t)l->head_dim;
    size_t indexer = larger_of(DOTS_W * (size_t)l->index_dim, positions / 4 + 1);
    size_t scalar = larger_of(4 * (size_t)l->head_dim, (size_t)l->max_out);
    return larger_of(larger_of(attention, indexer), larger_of(scalar, (size_t)l->n_expert));
}

/* A worker's part. */
static struct cpu_work carve_worker(const struct cpu_ctx *ctx, struct carve *c)
{
    size_t n = ((size_t)ctx->max_act + 255) / 256 * 256;
    struct cpu_work w;
    w.tile.w = carve(c, n * TILE_ROWS, sizeof(int16_t));
    w.tile.m = carve(c, n / 16 * TILE_ROWS, sizeof(int16_t));
    w.tile.d = carve(c, n / 32 * TILE_ROWS, sizeof(float));
    w.tile.dmin = carve(c, n / 256 * TILE_ROWS, sizeof(float));
    w.rows = carve(c, n * DOTS_W, sizeof(float));
    w.tile_out = carve(c, (size_t)ctx->limits.max_rows, sizeof(*w.tile_out));
    size_t out = (size_t)cpu_pass_rows(ctx) * (size_t)cpu_tile_rows(ctx);
    for (int k = 0; k < 2; k++) {
        w.out[k] = carve(c, out, sizeof(float));
        w.gather[k] = carve_panels(c, ctx->gather_room);
    }
    w.sums = carve(c, ctx->leaf->panels ? PANEL_SUMS : 0, sizeof(float));
    w.free = carve(c, free_floats(ctx), sizeof(float));
    return w;
}

struct cpu_work cpu_worker(const struct cpu_ctx *ctx, int worker)
{
    SLUICE_ASSERT(ctx->scratch != NULL);
    return ctx->workers[worker];
}

static void carve_all(struct cpu_ctx *ctx, struct carve *c)
{
    const struct ops_limits *l = &ctx->limits;
    size_t rows = (size_t)l->max_rows, streams = (size_t)l->streams;
    size_t slots = rows * ((size_t)l->n_used + 1);
    carve(c, (size_t)pool_threads(ctx->pool), ctx->worker_bytes);
    ctx->workers = carve(c, (size_t)pool_threads(ctx->pool), sizeof(*ctx->workers));
    for (int k = ACT_NONE + 1; k < ACT_KINDS; k++)
        ctx->act[k] = carve(c, rows, ctx->act_stride);
    ctx->panels = carve_panels(c, ctx->panel_room);
    ctx->inner_act = carve(c, slots, ctx->inner_stride);
    ctx->inner = carve(c, slots * (size_t)l->inner, sizeof(float));
    ctx->expert_out = carve(c, slots * (size_t)l->dim, sizeof(float));
    ctx->mix = carve(c, rows * streams * (streams + 2), sizeof(float));
    ctx->score = carve(c, (size_t)ctx->score_room, sizeof(float));
    ctx->expert_first = carve(c, (size_t)l->n_expert + 2, sizeof(int32_t));
    ctx->expert_used = carve(c, (size_t)l->n_expert + 1, sizeof(int32_t));
    ctx->expert_slot = carve(c, slots, sizeof(int32_t));
}

static void plan_panels(struct cpu_ctx *ctx)
{
    const struct ops_limits *l = &ctx->limits;
    size_t groups = ((size_t)l->max_rows + PANEL_ROWS - 1) / PANEL_ROWS;
    if (!ctx->leaf->panels)
        return;
    int64_t widest = l->dim > l->inner ? l->dim : l->inner;
    ctx->panel_room = groups * cpu_panel_all(ctx, ctx->max_act, l->groups);
    ctx->gather_room = GATHER_PANELS * cpu_panel_most(ctx, widest);
}

static enum sluice_status cpu_plan(void *ctx, const struct ops_limits *limits,
                                   struct sluice_error *err)
{
    struct cpu_ctx *cpu = ctx;
    struct cpu_ctx next = *cpu;
    next.limits = larger(&cpu->limits, limits);
    const struct ops_limits *l = &next.limits;
    size_t wide = larger_of((size_t)l->max_in, (size_t)(l->streams * l->dim));
    next.max_act = (int64_t)larger_of(wide, (size_t)(l->heads * l->head_dim));
    next.act_stride = cpu_act_bytes(next.max_act);
    next.inner_stride = cpu_act_bytes(l->inner);
    plan_panels(&next);
    int64_t entries = l->max_positions / 4 + 1, all = entries * l->max_rows;
    next.score_room = all < SCORE_ROOM ? all : entries > SCORE_ROOM ? entries : SCORE_ROOM;

    struct carve worker = {0}, measure = {0};
    carve_worker(&next, &worker);
    next.worker_bytes = (worker.used + PANEL_ALIGN - 1) / PANEL_ALIGN * PANEL_ALIGN;
    carve_all(&next, &measure);
    /* every worker touches its own part first */
    next.scratch = memory_take(measure.used, MEMORY_NEAR);
    FAIL_IF(!next.scratch, err, SLUICE_ERR_NOMEM,
            "out of memory for the cpu backend's scratch (%zu bytes)", measure.used);
    struct carve place = {.base = next.scratch};
    carve_all(&next, &place);
    free(cpu->scratch);
    *cpu = next;
    for (int i = 0; i < pool_threads(cpu->pool); i++) {
        struct carve part = {.base = cpu->scratch + (size_t)i * cpu->worker_bytes};
        cpu->workers[i] = carve_worker(cpu, &part);
    }

    struct cpu_work first = cpu_worker(cpu, 0);
    cpu->scalar = (struct ref_ctx){
        .pool = cpu->pool, .limits = *l, .scratch = first.free,
        .per_worker = cpu->worker_bytes / sizeof(float),
    };
    return SLUICE_OK;
}

/* ---- ops without inner loops worth a leaf: the reference's, which are parallel over rows ---- */

#define SCALAR(op)                                                                                 \
    static void cpu_##op(void *ctx, const struct op##_args *a)                                     \
    {                                                                                              \
        struct cpu_ctx *cpu = ctx;                                                                 \
        ref_##op(&cpu->scalar, a);                                                                 \
    }
SCALAR(embed)
SCALAR(rope_table)
SCALAR(kv_encode)
SCALAR(compress)
SCALAR(ring_store)

/* ---- open ---- */

bool cpu_has(enum cpu_isa isa)
{
    const struct cpu_features *f = cpu_features();
    switch (isa) {
    case CPU_ISA_AVX2:
        return f->avx2;
    case CPU_ISA_AVX512:
        return f->avx2 && f->avx512;
    case CPU_ISA_AMX:
#ifdef AMX_EMULATED
        return f->avx512_bf16;
#else
        return f->amx;
#endif
    case CPU_ISA_NEON:
        return f->neon;
    default:
        return true;
    }
}

static void list_choices(char *text, size_t room)
{
    size_t used = 0;
    for (int k = 0; cpu_choices[k].leaf; k++)
        if (cpu_has(cpu_choices[k].isa) && used < room)
            used += (size_t)snprintf(text + used, room - used, "%s%s", used ? ", " : "",
                                     cpu_choices[k].leaf->name);
}

static const struct leaves *choose(const char *isa)
{
    for (int k = 0; cpu_choices[k].leaf; k++)
        if (cpu_has(cpu_choices[k].isa) && (!isa || !strcmp(isa, cpu_choices[k].leaf->name)))
            return cpu_choices[k].leaf;
    return NULL;
}

static void fill_table(struct ops *out)
{
    const struct panels *panels = ((const struct cpu_ctx *)out->ctx)->leaf->panels;
    *out = (struct ops){
        .name = "cpu", .numerics = panels ? panels->numerics : NUMERICS_CPU,
        .ctx = out->ctx, .host_memory = true,
        .close = cpu_close, .plan = cpu_plan, .alloc = cpu_alloc, .free = cpu_free,
        .upload = cpu_move, .download = cpu_move, .copy = cpu_move, .sync = cpu_sync,
        .embed = cpu_embed, .hyper_gather = cpu_hyper_gather, .hyper_spread = cpu_hyper_spread,
        .hyper_head = cpu_hyper_head, .matmul = cpu_matmul,
        .grouped_matmul = cpu_grouped_matmul, .rms_norm = cpu_rms_norm,
        .rope_table = cpu_rope_table, .query = cpu_query, .kv_encode = cpu_kv_encode,
        .compress = cpu_compress, .index_query = cpu_index_query,
        .index_select = cpu_index_select, .attention = cpu_attention,
        .ring_store = cpu_ring_store, .route = cpu_route, .experts = cpu_experts,
        .add_streams = cpu_add_streams,
    };
}

enum sluice_status cpu_open(const char *isa, struct pool *pool, struct ops *out,
                            struct sluice_error *err)
{
    char list[64] = "";
    const struct leaves *leaf = choose(isa);
    list_choices(list, sizeof(list));
    FAIL_IF(!leaf, err, SLUICE_ERR_ARG,
            "instruction set \"%s\": this machine and build have %s", isa, list);
    struct cpu_ctx *cpu = calloc(1, sizeof(*cpu));
    FAIL_IF(!cpu, err, SLUICE_ERR_NOMEM, "out of memory opening the cpu backend");
    cpu->pool = pool;
    cpu->leaf = leaf;
    out->ctx = cpu;
    fill_table(out);
    return SLUICE_OK;
}

void cpu_ops_describe(const void *ctx, char *text, size_t room)
{
    const struct cpu_ctx *cpu = ctx;
    int n = pool_threads(cpu->pool);
    snprintf(text, room, "cpu, %s, %d thread%s", cpu->leaf->name, n, n == 1 ? "" : "s");
}
