/* Each op alone: sizes, memory, and the clock. */
#include "base/check.h"
#include "base/rng.h"
#include "base/status.h"
#include "bench/bench_internal.h"
#include "os/clock.h"
#include "os/memory.h"

#define EXPERT_ROOM ((size_t)512 << 20)
#define MATRIX_ROOM ((size_t)128 << 20)
#define BLOCKS_BYTES ((size_t)1 << 20)
/* An op is called until all of this is over. */
#define LEAST_SECONDS 0.1
#define LEAST_CALLS 3
#define MOST_CALLS 24

/* ---- sizes ---- */

static void flash_sizes(struct shape *s)
{
    *s = (struct shape){
        .n_vocab = 129280, .dim = 4096, .n_stream = 4, .n_head = 64, .head_dim = 512,
        .rot_dim = 64, .q_rank = 1024, .n_group = 8, .o_rank = 1024, .n_expert = 256,
        .n_used = 6, .inner = 2048, .window = 128, .n_index_head = 64, .index_top_k = 512,
        .index_dim = 128, .rms_eps = 1e-6f, .hc_eps = 1e-6f, .sinkhorn_iters = 20,
    };
}

/* One layer of each ratio that the model has an indexer for. */
static enum sluice_status read_sizes(struct bench_run *r, const char *model,
                                     struct sluice_error *err)
{
    struct shape *s = &r->s;
    struct gguf *g;
    if (!model) {
        flash_sizes(s);
        snprintf(r->out->sizes, sizeof r->out->sizes, "Flash");
    } else {
        TRY(gguf_open(&model, 1, &g, err));
        enum sluice_status st = shape_read(g, s, err);
        gguf_close(g);
        TRY(st);
        snprintf(r->out->sizes, sizeof r->out->sizes, "%s", shape_name(s));
    }
    FAIL_IF(s->n_index_head == 0, err, SLUICE_ERR_MODEL,
            "%s: no layer has an indexer: its sizes are not known", model);
    s->n_layer = LAYER_KINDS;
    s->ratio[LAYER_PLAIN] = 0;
    s->ratio[LAYER_4] = 4;
    s->ratio[LAYER_128] = 128;
    return SLUICE_OK;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

int64_t bench_in_blocks(int64_t n)
{
    return (n + 255) / 256 * 256;
}

static void set_rooms(struct bench_run *r)
{
    const struct shape *s = &r->s;
    int64_t dim = bench_in_blocks(s->dim), inner = bench_in_blocks(s->inner);
    int64_t streams = s->n_stream * dim, mix = s->n_stream * (2 + s->n_stream);
    int64_t project = 4 * (s->head_dim + s->index_dim) + s->n_index_head;
    /* small models get little memory: theirs fits the caches anyway */
    size_t one = smaller(MATRIX_ROOM, (size_t)(64 * dim * dim));
    one = (size_t)larger((int64_t)one, (int64_t)sizeof(float) * dim * larger(inner, BENCH_ROWS));
    one = (size_t)larger((int64_t)one, (int64_t)sizeof(float) * larger(dim * project,
                                                                       streams * mix));
    int64_t head = (int64_t)quant_row_bytes(QUANT_Q8_0, dim) * s->n_vocab;
    r->one_room = one;
    r->weight_room = (size_t)larger((int64_t)smaller(EXPERT_ROOM, 4 * one), head);
    r->weight_room = (size_t)larger((int64_t)r->weight_room, 8 * dim * inner);
    int64_t heads = s->n_head * s->head_dim, most = larger(streams + dim + mix, project);
    most = larger(larger(most, heads), larger(inner, 2 * s->n_expert));
    most = larger(most, s->n_index_head * s->index_dim);
    r->x_room = BENCH_ROWS * most;
    r->y_room = larger(larger(r->x_room, s->n_vocab), (int64_t)one / 32);
}

/* ---- memory ---- */

static enum sluice_status take(struct bench_run *r, size_t bytes, void *out,
                               struct sluice_error *err)
{
    DEV void *at;
    TRY(r->ops.alloc(r->ops.ctx, bytes, &at, err));
    memcpy(out, &at, sizeof at);
    return SLUICE_OK;
}

static enum sluice_status take_rows(struct bench_run *r, struct sluice_error *err)
{
    static const struct span whole = {.n_rows = BENCH_ROWS};
    size_t n = BENCH_ROWS, picks = n * (size_t)r->s.n_used;
    int32_t *token, *span_of;
    int64_t *pos;
    TRY(take(r, n * sizeof *token, &token, err));
    r->rows.token = token;
    TRY(take(r, n * sizeof *span_of, &span_of, err));
    r->rows.span_of = span_of;
    TRY(take(r, n * sizeof *pos, &pos, err));
    r->rows.pos = pos;
    TRY(take(r, picks * sizeof *r->ids, &r->ids, err));
    TRY(take(r, picks * sizeof *r->id_weights, &r->id_weights, err));
    for (int32_t i = 0; i < BENCH_ROWS; i++) {
        token[i] = i % r->s.n_vocab;
        pos[i] = i;
    }
    for (size_t i = 0; i < picks; i++)
        r->id_weights[i] = 1.0f / (float)r->s.n_used;
    r->rows.spans = &whole;
    r->rows.n_spans = 1;
    return SLUICE_OK;
}

static enum sluice_status take_all(struct bench_run *r, struct sluice_error *err)
{
    TRY(take(r, r->weight_room, &r->weights, err));
    TRY(take(r, BLOCKS_BYTES, &r->blocks, err));
    TRY(take(r, (size_t)r->x_room * sizeof(float), &r->x, err));
    TRY(take(r, (size_t)r->y_room * sizeof(float), &r->y, err));
    for (int64_t i = 0; i < r->x_room; i++)
        r->x[i] = (float)(rng_double(1, (uint64_t)i) * 2 - 1);
    return take_rows(r, err);
}

static void give_all(struct bench_run *r)
{
    void *owned[] = {r->weights, r->blocks, r->x, r->y, r->ids, r->id_weights};
    const void *rows[] = {r->rows.token, r->rows.span_of, r->rows.pos};
    for (size_t i = 0; r->ops.free && i < sizeof owned / sizeof owned[0]; i++)
        r->ops.free(r->ops.ctx, owned[i]);
    for (size_t i = 0; r->ops.free && i < sizeof rows / sizeof rows[0]; i++)
        r->ops.free(r->ops.ctx, (void *)(uintptr_t)rows[i]);
}

/* ---- random blocks ---- */

/* Where a block has its f16 scales (-1: none), whose random bits could be infinite. */
static void scales_of(enum quant_type type, int *d, int *dmin)
{
    *d = *dmin = -1;
    switch (type) {
    case QUANT_Q2_K: *d = offsetof(struct block_q2_k, d); *dmin = *d + 2; return;
    case QUANT_Q3_K: *d = offsetof(struct block_q3_k, d); return;
    case QUANT_Q6_K: *d = offsetof(struct block_q6_k, d); return;
    case QUANT_Q4_K:
    case QUANT_Q5_K: *dmin = 2; *d = 0; return;
    case QUANT_MXFP4: return;
    default: *d = 0; return;
    }
}

/* A float of format type between 2^-8 and 2^-5. */
static void draw_weight(enum quant_type type, uint64_t bits, uint8_t *to)
{
    uint32_t sign = bits & 1, exponent = bits >> 1 & 3, fraction = bits >> 8 & 0x7fffff;
    uint16_t half = (uint16_t)(sign << 15 | (7 + exponent) << 10 | (fraction & 0x3ff));
    uint32_t word = sign << 31 | (119 + exponent) << 23 | fraction;
    if (type == QUANT_BF16)
        half = (uint16_t)(word >> 16);
    if (type == QUANT_F32)
        memcpy(to, &word, sizeof word);
    else
        memcpy(to, &half, sizeof half);
}

static void draw_block(enum quant_type type, uint64_t number, uint8_t *block)
{
    uint32_t bytes = quant_info(type)->block_bytes;
    uint64_t bits = rng_u64(2, number);
    if (quant_info(type)->block_elems == 1) {
        draw_weight(type, bits, block);
        return;
    }
    for (uint32_t i = 0; i < bytes; i++)
        block[i] = (uint8_t)(rng_u64(number, i / 8) >> i % 8 * 8);
    int d, dmin;
    scales_of(type, &d, &dmin);
    if (d < 0)
        block[0] = (uint8_t)(118 + bits % 4);
    else
        draw_weight(QUANT_F16, bits & ~(uint64_t)1, block + d);
    if (dmin >= 0)
        draw_weight(QUANT_F16, bits >> 8 & ~(uint64_t)1, block + dmin);
}

void bench_fill(struct bench_run *r, enum quant_type type, uint8_t *to, size_t bytes)
{
    uint32_t block = quant_info(type)->block_bytes;
    size_t period = smaller(BLOCKS_BYTES / block * block, bytes);
    for (size_t at = 0; at < period; at += block)
        draw_block(type, at / block, r->blocks + at);
    for (size_t at = 0; at < bytes; at += period)
        memcpy(to + at, r->blocks, smaller(period, bytes - at));
}

/* ---- the clock ---- */

void bench_time(struct bench_run *r, const struct bench_op *op, bench_fn *fn, const void *arg)
{
    double total = 0, least = 0;
    SLUICE_ASSERT(r->out->n < BENCH_MAX_OPS);
    fn(r, arg, 0);
    r->ops.sync(r->ops.ctx);
    for (int turn = 1; turn <= MOST_CALLS; turn++) {
        double began = clock_seconds();
        fn(r, arg, turn);
        r->ops.sync(r->ops.ctx);
        double took = clock_seconds() - began;
        total += took;
        least = turn == 1 || took < least ? took : least;
        if (turn >= LEAST_CALLS && total > LEAST_SECONDS)
            break;
    }
    struct bench_op *to = &r->out->op[r->out->n++];
    *to = *op;
    to->seconds = least;
}

/* ---- all of them ---- */

static enum sluice_status open_run(struct bench_run *r, const struct bench_ops_config *config,
                                   struct sluice_error *err)
{
    const struct shape *s = &r->s;
    TRY(read_sizes(r, config->model, err));
    set_rooms(r);
    bool pin = config->pin == SLUICE_PIN_ON ||
               (config->pin == SLUICE_PIN_AUTO && memory_nodes() > 1);
    TRY(pool_open(config->threads, pin, &r->pool, err));
    TRY(ops_open(config->backend, config->isa, r->pool, &r->ops, err));
    FAIL_IF(!r->ops.host_memory, err, SLUICE_ERR_ARG,
            "--ops: the %s backend has memory of its own", r->ops.name);
    r->out->threads = pool_threads(r->pool);
    ops_describe(&r->ops, r->out->backend, sizeof r->out->backend);
    int64_t dim = bench_in_blocks(s->dim), inner = bench_in_blocks(s->inner);
    struct ops_limits limits = {
        .max_rows = BENCH_ROWS, .max_in = larger(larger(dim, inner), s->n_head * s->head_dim),
        .max_out = r->y_room, .dim = dim,
        .inner = inner, .n_expert = s->n_expert, .n_used = s->n_used,
        .heads = s->n_head, .streams = s->n_stream, .groups = s->n_group,
        .head_dim = s->head_dim,
        .index_heads = s->n_index_head, .top_k = s->index_top_k, .index_dim = s->index_dim,
        .max_positions = 1 << 16, .window = s->window,
    };
    TRY(r->ops.plan(r->ops.ctx, &limits, err));
    return take_all(r, err);
}

enum sluice_status bench_ops(const struct bench_ops_config *config, struct bench_ops_result *out,
                             struct sluice_error *err)
{
    struct bench_run r = {.out = out};
    *out = (struct bench_ops_result){0};
    TRY(bench_read(config->threads, &out->read_bytes_s, err));
    enum sluice_status st = open_run(&r, config, err);
    if (st == SLUICE_OK)
        st = bench_products(&r, err);
    if (st == SLUICE_OK) {
        bench_rows(&r);
        st = bench_past(&r, config->kv == SLUICE_KV_EXACT ? KV_EXACT : KV_FP8, err);
    }
    give_all(&r);
    ops_close(&r.ops);
    pool_close(r.pool);
    return st;
}
