/* tests/support/model.h - a small model from file to run, in one call, for tests of the forward
 * pass. */
#ifndef SLUICE_TESTS_SUPPORT_MODEL_H
#define SLUICE_TESTS_SUPPORT_MODEL_H

#include "model/draft.h"
#include "model/forward.h"
#include "support/unit.h"

#define assert_ok(expr)                                                                            \
    do {                                                                                           \
        enum sluice_status status_ = (expr);                                                       \
        if (status_ != SLUICE_OK)                                                                  \
            fail_msg("%s: %s", #expr, err.message);                                                \
    } while (0)

/* Directory of the models; SLUICE_ORACLE_DIR may name one with more of them. */
static inline const char *model_path(const char *name, const char *suffix)
{
    static char path[4][256];
    static int next;
    const char *dir = getenv("SLUICE_ORACLE_DIR");
    char *out = path[next++ % 4];
    snprintf(out, 256, "%s/%s%s", dir ? dir : "tests/data/oracle", name, suffix);
    return out;
}

struct model_options {
    enum kv_format format;
    int threads;                   /* 0: 2 */
    int lo, hi;                    /* hi 0: all layers */
    bool by_expert;
    int32_t max_rows;              /* 0: 512 */
    const struct tap *tap;
    const struct ops *ops;         /* a backend of the test's own; NULL: ref */
    const char *base;              /* file with the tensors that path lacks; NULL: none */
};

struct model {
    struct gguf *file, *base;
    struct shape shape;
    struct pool *pool;
    struct ops ops;
    bool own_ops;
    struct weights *weights;
    struct expert_store *experts;
    struct kv_layout layout;
    struct model_run *run;
};

#define MODEL_CONTEXT 2048

static inline struct expert_store *store_over(const struct weights *w, bool by_expert)
{
    struct sluice_error err;
    static struct expert_bytes bytes[SHAPE_MAX_LAYERS];
    weights_expert_bytes(w, bytes);
    struct expert_store *store;
    struct expert_store_config config = {
        .layer = bytes, .n_layer = w->hi - w->lo, .n_expert = w->shape.n_expert,
        .by_expert = by_expert,
    };
    assert_ok(expert_store_open_resident(&config, &store, &err));
    return store;
}

static inline void model_open(struct model *m, const char *path, struct model_options o)
{
    struct sluice_error err;
    int32_t rows = o.max_rows ? o.max_rows : 512;
    *m = (struct model){0};
    assert_ok(gguf_open(&path, 1, &m->file, &err));
    if (o.base)
        assert_ok(gguf_open(&o.base, 1, &m->base, &err));
    assert_ok(shape_read(m->file, &m->shape, &err));
    int hi = o.hi ? o.hi : m->shape.n_layer;
    if (o.ops) {
        m->ops = *o.ops;
    } else {
        assert_ok(pool_open(o.threads ? o.threads : 2, /*pin=*/false, &m->pool, &err));
        assert_ok(ops_open("ref", NULL, m->pool, &m->ops, &err));
        m->own_ops = true;
    }
    const struct gguf *file[] = {m->file, m->base};
    struct weights_config wc = {
        .file = file,
        .n_file = o.base ? 2 : 1,
        .shape = &m->shape,
        .ops = &m->ops,
        .lo = o.lo,
        .hi = hi,
    };
    assert_ok(weights_load(&wc, &m->weights, &err));
    m->experts = store_over(m->weights, o.by_expert);
    kv_layout_make(&m->shape, o.lo, hi, o.format, &m->layout);
    struct model_run_config rc = {
        .shape = &m->shape, .weights = m->weights, .ops = &m->ops, .experts = m->experts,
        .layout = &m->layout, .lo = o.lo, .hi = hi, .max_rows = rows, .max_spans = 8,
        .max_logits = rows, .max_positions = MODEL_CONTEXT, .tap = o.tap,
    };
    assert_ok(model_run_new(&rc, &m->run, &err));
}

static inline void model_close(struct model *m)
{
    model_run_free(m->run);
    expert_store_close(m->experts);
    weights_free(m->weights);
    if (m->own_ops) {
        ops_close(&m->ops);
        pool_close(m->pool);
    }
    gguf_close(m->base);
    gguf_close(m->file);
}

static inline struct kv_state *model_kv(struct model *m)
{
    struct sluice_error err;
    struct kv_state *kv;
    assert_ok(kv_state_new(&m->layout, &m->ops, MODEL_CONTEXT, &kv, &err));
    return kv;
}

/* Rows 0, 1, 2, ... for batches that want all logits. */
static inline const int32_t *all_rows(void)
{
    static int32_t row[1024];
    for (int32_t i = 0; i < 1024; i++)
        row[i] = i;
    return row;
}

/* Appends n tokens to kv in chunks, with the logits of every row in logits [n][V], NaN before. */
static inline void model_feed(struct model *m, struct kv_state *kv, const int32_t *token,
                              int32_t n, int32_t chunk, float *logits)
{
    struct sluice_error err;
    size_t vocab = (size_t)m->shape.n_vocab;
    poison(logits, (size_t)n * vocab);
    for (int32_t at = 0; at < n; at += chunk) {
        int32_t rows = n - at < chunk ? n - at : chunk;
        struct batch_span span = {.kv = kv, .n = rows};
        struct batch b = {
            .n = rows, .n_spans = 1, .token = token + at, .span = &span,
            .logit_row = all_rows(), .n_logits = rows,
        };
        assert_ok(forward(m->run, &b, &err));
        model_run_logits(m->run, 0, rows, logits + (size_t)at * vocab);
    }
}

#endif
