/* The cpu backend's forward pass: same bytes whatever the chunks, threads, company in the batch and
 * instruction set, and close to the reference. */
#include "support/model.h"
#include "support/oracle.h"

#define N 280      /* more than a page of KV_PAGE_TOKENS */

struct text {
    const char *name;
    const char *base;          /* model with the tensors that this one's file lacks */
    enum kv_format format;
    struct oracle o;
    size_t vocab;
    float *logits;             /* [N][V]: whole, on two threads */
};

struct cpu_model {
    struct pool *pool;
    struct ops ops;
    struct model m;
};

static void cpu_model_open(struct cpu_model *c, const struct text *t, const char *isa, int threads)
{
    struct sluice_error err;
    assert_ok(pool_open(threads, /*pin=*/false, &c->pool, &err));
    assert_ok(ops_open("cpu", isa, c->pool, &c->ops, &err));
    model_open(&c->m, model_path(t->name, ".gguf"),
               (struct model_options){.format = t->format, .ops = &c->ops,
                                      .base = t->base ? model_path(t->base, ".gguf") : NULL});
}

static void cpu_model_close(struct cpu_model *c)
{
    model_close(&c->m);
    ops_close(&c->ops);
    pool_close(c->pool);
}

static struct text texts[] = {
    {.name = "mini-a", .format = KV_FP8},
    {.name = "mini-b", .format = KV_EXACT},
    {.name = "fmt-q2", .format = KV_FP8},
    {.name = "fmt-mx", .base = "fmt-q2", .format = KV_EXACT},
    {.name = "fmt-q2", .format = KV_EXACT},
};
#define TEXTS (sizeof(texts) / sizeof(texts[0]))
#define TEXTS_FED 3        /* those fed in many ways; the others are compared with the oracle */

static int make_texts(void **state)
{
    for (size_t k = 0; k < TEXTS; k++) {
        struct text *t = &texts[k];
        struct cpu_model c;
        oracle_open(&t->o, model_path(t->name, ".oracle"));
        cpu_model_open(&c, t, NULL, 2);
        t->vocab = (size_t)c.m.shape.n_vocab;
        t->logits = malloc(N * t->vocab * sizeof(float));
        struct kv_state *kv = model_kv(&c.m);
        model_feed(&c.m, kv, t->o.ids, (int32_t)t->o.n < N ? (int32_t)t->o.n : N, N, t->logits);
        kv_state_free(kv);
        cpu_model_close(&c);
    }
    return 0;
}

static int free_texts(void **state)
{
    for (size_t k = 0; k < TEXTS; k++) {
        free(texts[k].logits);
        oracle_close(&texts[k].o);
    }
    return 0;
}

static int32_t length(const struct text *t)
{
    return (int32_t)t->o.n < N ? (int32_t)t->o.n : N;
}

static void assert_same(const struct text *t, const float *logits, int32_t first, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (memcmp(logits + (size_t)i * t->vocab, t->logits + (size_t)(first + i) * t->vocab,
                   t->vocab * sizeof(float)))
            fail_msg("%s: logits of position %d differ", t->name, first + i);
}

/* The caller frees. */
static float *feed(const struct text *t, const char *isa, int threads, int32_t chunk,
                   enum numerics *numerics)
{
    struct cpu_model c;
    float *logits = malloc(N * t->vocab * sizeof(float));
    cpu_model_open(&c, t, isa, threads);
    struct kv_state *kv = model_kv(&c.m);
    model_feed(&c.m, kv, t->o.ids, length(t), chunk, logits);
    *numerics = c.ops.numerics;
    kv_state_free(kv);
    cpu_model_close(&c);
    return logits;
}

static void feed_same(const struct text *t, int threads, int32_t chunk)
{
    enum numerics numerics;
    float *logits = feed(t, NULL, threads, chunk, &numerics);
    assert_same(t, logits, 0, length(t));
    free(logits);
}

static void chunks_and_threads_change_nothing(void **state)
{
    static const int chunk[] = {1, 7, 64, N}, threads[] = {1, 2, 3, 5};
    for (size_t k = 0; k < TEXTS_FED; k++)
        for (int t = 0; t < 4; t++)
            for (int c = 0; c < 4; c++)
                feed_same(&texts[k], threads[t], chunk[c]);
}

static bool cpu_has_isa(const char *isa)
{
    struct pool *pool;
    struct ops ops;
    struct sluice_error err;
    assert_ok(pool_open(1, /*pin=*/false, &pool, &err));
    bool there = ops_open("cpu", isa, pool, &ops, &err) == SLUICE_OK;
    ops_close(&ops);
    pool_close(pool);
    return there;
}

/* Those with the same numerics give the same bits, whatever the chunks. */
static void instruction_sets_change_nothing(void **state)
{
    static const char *const isa[] = {"c", "avx2", "avx512", "amx", "neon"};
    static const int chunk[] = {64, 5};
    for (size_t t = 0; t < TEXTS_FED; t++) {
        struct text first[NUMERICS_COUNT] = {{0}};
        for (int k = 0; k < 10; k++) {
            enum numerics n;
            if (!cpu_has_isa(isa[k / 2]))
                continue;
            float *logits = feed(&texts[t], isa[k / 2], 2, chunk[k % 2], &n);
            if (!first[n].logits) {
                first[n] = texts[t];
                first[n].logits = logits;
                continue;
            }
            assert_same(&first[n], logits, 0, length(&texts[t]));
            free(logits);
        }
        for (int n = 0; n < NUMERICS_COUNT; n++)
            free(first[n].logits);
    }
}

/* n_seq sequences of the same text at different places share every batch, in uneven pieces. */
static void interleave(const struct text *t, int n_seq)
{
    struct sluice_error err;
    struct cpu_model c;
    cpu_model_open(&c, t, NULL, 2);
    struct kv_state *kv[4];
    float *logits = malloc(128 * t->vocab * sizeof(float));
    for (int i = 0; i < n_seq; i++)
        kv[i] = model_kv(&c.m);
    for (int step = 0;; step++) {
        struct batch_span span[4];
        int32_t token[128], n = 0, n_spans = 0, first[4];
        for (int i = 0; i < n_seq; i++) {
            int32_t at = (int32_t)kv[i]->n_tokens, left = length(t) - at;
            int32_t want = 1 + (step * (i + 1) + 3 * i) % 29, rows = left < want ? left : want;
            if (rows == 0)
                continue;
            memcpy(token + n, t->o.ids + at, (size_t)rows * sizeof(int32_t));
            first[n_spans] = at;
            span[n_spans++] = (struct batch_span){.kv = kv[i], .n = rows};
            n += rows;
        }
        if (n == 0)
            break;
        struct batch b = {.n = n, .n_spans = n_spans, .token = token, .span = span,
                          .logit_row = all_rows(), .n_logits = n};
        assert_ok(forward(c.m.run, &b, &err));
        poison(logits, (size_t)n * t->vocab);
        model_run_logits(c.m.run, 0, n, logits);
        for (int32_t i = 0, row = 0; i < n_spans; row += span[i++].n)
            assert_same(t, logits + (size_t)row * t->vocab, first[i], span[i].n);
    }
    for (int i = 0; i < n_seq; i++)
        kv_state_free(kv[i]);
    free(logits);
    cpu_model_close(&c);
}

static void company_in_the_batch_changes_nothing(void **state)
{
    for (size_t k = 0; k < TEXTS_FED; k++)
        for (int n_seq = 2; n_seq <= 4; n_seq += 2)
            interleave(&texts[k], n_seq);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Distances of whole rows of logits. With fp8 rows a value may round the other way, which moves the
 * row: hence the median. */
static void logits_are_close_to_the_oracle(void **state)
{
    for (size_t k = 0; k < TEXTS; k++) {
        const struct text *t = &texts[k];
        struct oracle o;
        oracle_open(&o, model_path(t->name, t->format == KV_FP8 ? ".fp8.oracle" : ".oracle"));
        double *d = malloc((size_t)length(t) * sizeof(*d));
        for (int32_t p = 0; p < length(t); p++)
            d[p] = oracle_row_difference(&o, t->logits, (uint32_t)p);
        qsort(d, (size_t)length(t), sizeof(*d), by_value);
        double median = d[length(t) / 2];
        float largest = 0;
        for (size_t i = 0; i < (size_t)length(t) * t->vocab; i++)
            largest = fmaxf(largest, fabsf(t->logits[i]));
        print_message("%s: median %.2e p95 %.2e largest logit %.1f\n", t->name, median,
                      d[length(t) * 95 / 100], largest);
        assert_true(median <= 1.2e-1);
        free(d);
        oracle_close(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_and_threads_change_nothing),
        cmocka_unit_test(instruction_sets_change_nothing),
        cmocka_unit_test(company_in_the_batch_changes_nothing),
        cmocka_unit_test(logits_are_close_to_the_oracle),
    };
    return cmocka_run_group_tests(tests, make_texts, free_texts);
}
