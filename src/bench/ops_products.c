/* Products with weights: matrices of every format, experts, and the head. */
#include "base/check.h"
#include "base/rng.h"
#include "base/status.h"
#include "bench/bench_internal.h"

static const enum quant_type types[] = {
    QUANT_F32, QUANT_F16, QUANT_BF16, QUANT_Q8_0, QUANT_Q4_0, QUANT_IQ4_NL, QUANT_MXFP4,
    QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K, QUANT_IQ4_XS, QUANT_IQ3_S,
    QUANT_IQ3_XXS, QUANT_IQ2_S, QUANT_IQ2_XS, QUANT_IQ2_XXS, QUANT_IQ1_S,
};
/* Those that published files have. */
static const enum quant_type published[] = {
    QUANT_F16, QUANT_BF16, QUANT_Q8_0, QUANT_MXFP4, QUANT_Q2_K, QUANT_Q4_K, QUANT_Q6_K,
    QUANT_IQ2_XXS,
};
#define COUNT(array) (int)(sizeof(array) / sizeof(array)[0])

/* One of `mats` matrices in turn. */
struct product {
    struct weight w;
    int32_t n;
    int64_t mats;
    bool f32_activations;
};

static void run_product(struct bench_run *r, const void *arg, int turn)
{
    const struct product *p = arg;
    struct weight w = p->w;
    w.data = (const uint8_t *)w.data + (uint64_t)(turn % p->mats) * (uint64_t)w.n_out *
                                           quant_row_bytes(w.type, w.n_in);
    struct matmul_args a = {.n = p->n, .n_w = 1, .f32_activations = p->f32_activations, .x = r->x,
                            .x_stride = w.n_in, .w = {w}, .y = {r->y}};
    r->ops.matmul(r->ops.ctx, &a);
}

static void time_product(struct bench_run *r, const char *name, const struct product *p)
{
    double values = (double)p->w.n_in * (double)p->w.n_out;
    struct bench_op op = {
        .rows = p->n, .weights = values, .macs = values * p->n,
        .bytes = (double)p->w.n_out * (double)quant_row_bytes(p->w.type, p->w.n_in)};
    snprintf(op.name, sizeof op.name, "%s", name);
    snprintf(op.what, sizeof op.what, "%s", quant_info(p->w.type)->name);
    bench_time(r, &op, run_product, p);
}

/* As many rows as fill the room. */
static void matvec(struct bench_run *r, enum quant_type type)
{
    int64_t n_in = bench_in_blocks(r->s.dim);
    uint64_t row = quant_row_bytes(type, n_in);
    int64_t n_out = (int64_t)(r->one_room / row);
    n_out = n_out < r->y_room ? n_out : r->y_room;
    struct product p = {.w = {type, n_in, n_out, 1, r->weights}, .n = 1, .mats = 1};
    time_product(r, "matvec", &p);
}

static void product(struct bench_run *r, enum quant_type type, int32_t n)
{
    int64_t n_in = bench_in_blocks(r->s.dim), n_out = r->s.inner;
    uint64_t bytes = quant_row_bytes(type, n_in) * (uint64_t)n_out;
    struct product p = {.w = {type, n_in, n_out, 1, r->weights}, .n = n,
                        .mats = (int64_t)(r->one_room / bytes)};
    time_product(r, "product", &p);
}

static bool is_published(enum quant_type type)
{
    for (int k = 0; k < COUNT(published); k++)
        if (published[k] == type)
            return true;
    return false;
}

static void products(struct bench_run *r)
{
    static const int32_t rows[] = {1, 8, 64, 512};
    for (int t = 0; t < COUNT(types); t++) {
        bench_fill(r, types[t], r->weights, r->one_room);
        matvec(r, types[t]);
        for (int k = 0; is_published(types[t]) && k < COUNT(rows); k++)
            product(r, types[t], rows[k]);
    }
}

static void head(struct bench_run *r)
{
    int64_t n_in = bench_in_blocks(r->s.dim);
    struct product p = {.w = {QUANT_Q8_0, n_in, r->s.n_vocab, 1, r->weights}, .n = 1, .mats = 1};
    bench_fill(r, QUANT_Q8_0, r->weights,
               quant_row_bytes(QUANT_Q8_0, n_in) * (uint64_t)r->s.n_vocab);
    time_product(r, "head", &p);
}

/* ---- experts ---- */

struct mix {
    enum quant_type gate, up, down;
};

struct experts_case {
    struct experts_args a;
    struct expert_slot *slot;      /* [E] */
};

/* Every row picks neighbours, beginning somewhere else at every turn. */
static void run_experts(struct bench_run *r, const void *arg, int turn)
{
    const struct experts_case *c = arg;
    int64_t picks = (int64_t)c->a.n * c->a.n_used;
    for (int64_t k = 0; k < picks; k++) {
        uint64_t first = rng_u64((uint64_t)turn, (uint64_t)(k / c->a.n_used));
        uint64_t pick = first % (uint64_t)c->a.n_expert + (uint64_t)(k % c->a.n_used);
        r->ids[k] = (int32_t)(pick % (uint64_t)c->a.n_expert);
    }
    r->ops.experts(r->ops.ctx, &c->a);
}

/* How many different experts a batch meets on average. */
static double experts_met(const struct shape *s, int32_t n)
{
    double missed = 1;
    for (int32_t i = 0; i < n; i++)
        missed *= 1 - (double)s->n_used / s->n_expert;
    return s->n_expert * (1 - missed);
}

/* Where the matrices of a mix lie: a shared expert in Q8_0, then all gates, ups and downs. */
static void place_experts(struct bench_run *r, const struct mix *mix, struct experts_case *c)
{
    int64_t dim = bench_in_blocks(r->s.dim), inner = bench_in_blocks(r->s.inner);
    uint64_t shared = quant_row_bytes(QUANT_Q8_0, dim) * (uint64_t)inner;
    uint64_t part[3] = {quant_row_bytes(mix->gate, dim) * (uint64_t)inner,
                        quant_row_bytes(mix->up, dim) * (uint64_t)inner,
                        quant_row_bytes(mix->down, inner) * (uint64_t)dim};
    uint64_t fit = (r->weight_room - 3 * shared) / (part[0] + part[1] + part[2]);
    SLUICE_ASSERT(r->weight_room > 3 * shared && fit > 0);
    uint8_t *at = r->weights, *first[3];
    bench_fill(r, QUANT_Q8_0, at, 3 * shared);
    c->a.shared_gate = (struct weight){QUANT_Q8_0, dim, inner, 1, at};
    c->a.shared_up = (struct weight){QUANT_Q8_0, dim, inner, 1, at + shared};
    c->a.shared_down = (struct weight){QUANT_Q8_0, inner, dim, 1, at + 2 * shared};
    at += 3 * shared;
    const enum quant_type type[3] = {mix->gate, mix->up, mix->down};
    for (int k = 0; k < 3; k++) {
        first[k] = at;
        bench_fill(r, type[k], at, part[k] * fit);
        at += part[k] * fit;
    }
    for (int32_t e = 0; e < r->s.n_expert; e++) {
        uint64_t slot = (uint64_t)e % fit;
        c->slot[e] = (struct expert_slot){first[0] + slot * part[0], first[1] + slot * part[1],
                                          first[2] + slot * part[2]};
    }
    c->a.table = (struct expert_table){
        .gate_type = mix->gate, .up_type = mix->up, .down_type = mix->down, .n_in = dim,
        .n_inner = inner, .slot = c->slot};
}

static void experts_of(struct bench_run *r, const struct mix *mix, struct experts_case *c)
{
    static const int32_t rows[] = {1, 8, 64, 512};
    const struct expert_table *t = &c->a.table;
    place_experts(r, mix, c);
    double matrix = (double)t->n_in * (double)t->n_inner;
    double one = (double)t->n_inner * (double)(quant_row_bytes(mix->gate, t->n_in) +
                                               quant_row_bytes(mix->up, t->n_in)) +
                 (double)t->n_in * (double)quant_row_bytes(mix->down, t->n_inner);
    double shared = 3 * (double)t->n_inner * (double)quant_row_bytes(QUANT_Q8_0, t->n_in);
    for (int k = 0; k < COUNT(rows); k++) {
        double met = experts_met(&r->s, rows[k]);
        struct bench_op op = {.name = "experts", .rows = rows[k], .bytes = met * one + shared,
                              .weights = 3 * matrix * (met + 1),
                              .macs = 3 * matrix * rows[k] * (r->s.n_used + 1)};
        snprintf(op.what, sizeof op.what, "%s,%s,%s", quant_info(mix->gate)->name,
                 quant_info(mix->up)->name, quant_info(mix->down)->name);
        c->a.n = rows[k];
        bench_time(r, &op, run_experts, c);
    }
}

static void experts(struct bench_run *r, struct expert_slot *slot)
{
    static const struct mix mixes[] = {
        {QUANT_IQ2_XXS, QUANT_IQ2_XXS, QUANT_Q2_K}, {QUANT_Q2_K, QUANT_Q2_K, QUANT_Q2_K},
        {QUANT_Q4_K, QUANT_Q4_K, QUANT_Q4_K}, {QUANT_Q4_K, QUANT_Q4_K, QUANT_Q6_K},
        {QUANT_MXFP4, QUANT_MXFP4, QUANT_MXFP4}, {QUANT_Q8_0, QUANT_Q8_0, QUANT_Q8_0},
    };
    struct experts_case c = {
        .slot = slot,
        .a = {.n_expert = r->s.n_expert, .n_used = r->s.n_used, .limit = 10, .shared_limit = 10,
              .ids = r->ids, .weights = r->id_weights, .x = r->x, .y = r->y}};
    for (int k = 0; k < COUNT(mixes); k++)
        experts_of(r, &mixes[k], &c);
}

enum sluice_status bench_products(struct bench_run *r, struct sluice_error *err)
{
    struct expert_slot *slot = calloc((size_t)r->s.n_expert, sizeof *slot);
    FAIL_IF(!slot, err, SLUICE_ERR_NOMEM, "out of memory for %d experts", r->s.n_expert);
    products(r);
    head(r);
    experts(r, slot);
    free(slot);
    return SLUICE_OK;
}
