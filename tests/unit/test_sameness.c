/* Same bytes out: chunks, threads, company in the batch, rewinding, forking, leases, device memory
 * and layer ranges change nothing. */
#include "support/model.h"
#include "support/ops_guard.h"
#include "support/oracle.h"

#define N 280      /* more than a page of KV_PAGE_TOKENS */

/* One text fed whole on two threads: what every other way must equal. */
struct whole {
    const char *name;
    enum kv_format format;
    struct oracle text;            /* for its ids only */
    const int32_t *token;
    size_t vocab;
    float *logits;                 /* [N][V] */
};

static void whole_make(struct whole *w, const char *name, enum kv_format format)
{
    struct model m;
    *w = (struct whole){.name = name, .format = format};
    oracle_open(&w->text, model_path(name, ".oracle"));
    assert_true(w->text.n >= N);
    w->token = w->text.ids;
    model_open(&m, model_path(name, ".gguf"), (struct model_options){.format = format});
    w->vocab = (size_t)m.shape.n_vocab;
    w->logits = malloc(N * w->vocab * sizeof(float));
    struct kv_state *kv = model_kv(&m);
    model_feed(&m, kv, w->token, N, N, w->logits);
    for (size_t i = 0; i < N * w->vocab; i++)
        assert_true(isfinite(w->logits[i]));
    kv_state_free(kv);
    model_close(&m);
}

static struct whole whole_a, whole_b;      /* mini-a with fp8 rows, mini-b exact */

static int make_wholes(void **state)
{
    whole_make(&whole_a, "mini-a", KV_FP8);
    whole_make(&whole_b, "mini-b", KV_EXACT);
    return 0;
}

static int free_wholes(void **state)
{
    free(whole_a.logits);
    free(whole_b.logits);
    oracle_close(&whole_a.text);
    oracle_close(&whole_b.text);
    return 0;
}

static void assert_same(const struct whole *w, const float *logits, int32_t first, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (memcmp(logits + (size_t)i * w->vocab, w->logits + (size_t)(first + i) * w->vocab,
                   w->vocab * sizeof(float)))
            fail_msg("%s: logits of position %d differ", w->name, first + i);
}

/* The whole text on two threads, just past the first ratio-128 window on others. */
static void chunks_and_threads(const struct whole *w)
{
    static const int chunk[] = {1, 7, 64, N}, threads[] = {1, 2, 5};
    float *logits = malloc(N * w->vocab * sizeof(float));
    for (size_t t = 0; t < 3; t++) {
        struct model m;
        model_open(&m, model_path(w->name, ".gguf"),
                   (struct model_options){.format = w->format, .threads = threads[t]});
        for (size_t c = 0; c < 4; c++) {
            int32_t n = threads[t] == 2 ? N : 140;
            struct kv_state *kv = model_kv(&m);
            model_feed(&m, kv, w->token, n, chunk[c], logits);
            assert_same(w, logits, 0, n);
            kv_state_free(kv);
        }
        model_close(&m);
    }
    free(logits);
}

static void chunks_and_threads_change_nothing(void **state)
{
    chunks_and_threads(&whole_a);
    chunks_and_threads(&whole_b);
}

/* n_seq sequences of the same text at different places share every batch, in uneven pieces; each
 * equals the text alone. */
static void interleave(const struct whole *w, int n_seq)
{
    struct sluice_error err;
    struct model m;
    model_open(&m, model_path(w->name, ".gguf"), (struct model_options){.format = w->format});
    struct kv_state *kv[4];
    float *logits = malloc(128 * w->vocab * sizeof(float));
    for (int i = 0; i < n_seq; i++)
        kv[i] = model_kv(&m);
    for (int step = 0;; step++) {
        struct batch_span span[4];
        int32_t token[128], n = 0, n_spans = 0, first[4];
        for (int i = 0; i < n_seq; i++) {
            int32_t at = (int32_t)kv[i]->n_tokens, left = N - at;
            int32_t want = 1 + (step * (i + 1) + 3 * i) % 29;
            int32_t rows = left < want ? left : want;
            if (rows == 0)
                continue;
            memcpy(token + n, w->token + at, (size_t)rows * sizeof(int32_t));
            first[n_spans] = at;
            span[n_spans++] = (struct batch_span){.kv = kv[i], .n = rows};
            n += rows;
        }
        if (n == 0)
            break;
        struct batch b = {.n = n, .n_spans = n_spans, .token = token, .span = span,
                          .logit_row = all_rows(), .n_logits = n};
        assert_ok(forward(m.run, &b, &err));
        poison(logits, (size_t)n * w->vocab);
        model_run_logits(m.run, 0, n, logits);
        for (int32_t i = 0, row = 0; i < n_spans; row += span[i++].n)
            assert_same(w, logits + (size_t)row * w->vocab, first[i], span[i].n);
    }
    for (int i = 0; i < n_seq; i++)
        kv_state_free(kv[i]);
    free(logits);
    model_close(&m);
}

static void company_in_the_batch_changes_nothing(void **state)
{
    interleave(&whole_a, 2);
    interleave(&whole_a, 4);
    interleave(&whole_b, 2);
    interleave(&whole_b, 4);
}

/* Wrong tokens up to the slack, dropped again, at places around window and page boundaries. */
static void rewind_and_redo(const struct whole *w)
{
    static const int32_t at[] = {1, 3, 16, 31, 64, 127, 128, 129, 180, 253, 262};
    struct sluice_error err;
    struct model m;
    model_open(&m, model_path(w->name, ".gguf"), (struct model_options){.format = w->format});
    struct kv_state *kv = model_kv(&m);
    float *logits = malloc(N * w->vocab * sizeof(float));
    int32_t wrong[KV_SLACK];
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        int32_t now = (int32_t)kv->n_tokens, drop = 1 + (int32_t)(i * 5) % KV_SLACK;
        model_feed(&m, kv, w->token + now, at[i] - now, 64, logits);
        assert_same(w, logits, now, at[i] - now);
        for (int32_t k = 0; k < drop; k++)
            wrong[k] = (w->token[at[i] + k] + 1 + k) % 256;
        model_feed(&m, kv, wrong, drop, 5, logits);
        assert_ok(kv_state_truncate(kv, at[i], &err));
        assert_int_equal(kv->n_tokens, at[i]);
    }
    int32_t now = (int32_t)kv->n_tokens;
    model_feed(&m, kv, w->token + now, N - now, 7, logits);
    assert_same(w, logits, now, N - now);
    free(logits);
    kv_state_free(kv);
    model_close(&m);
}

static void dropped_tokens_leave_no_trace(void **state)
{
    rewind_and_redo(&whole_a);
    rewind_and_redo(&whole_b);
}

/* A fork goes its own way; neither sees the other. */
static void forks_are_independent(void **state)
{
    const struct whole *w = &whole_a;
    struct sluice_error err;
    struct model m;
    model_open(&m, model_path(w->name, ".gguf"), (struct model_options){.format = w->format});
    struct kv_state *kv = model_kv(&m), *fork = model_kv(&m);
    float *logits = malloc(N * w->vocab * sizeof(float));
    int32_t other[40];
    for (int i = 0; i < 40; i++)
        other[i] = (i * 31 + 7) % 256;
    model_feed(&m, kv, w->token, 259, 259, logits);
    assert_ok(kv_state_fork(fork, kv, &err));
    model_feed(&m, fork, other, 40, 9, logits);
    model_feed(&m, kv, w->token + 259, N - 259, 11, logits);
    assert_same(w, logits, 259, N - 259);

    assert_ok(kv_state_fork(fork, kv, &err));
    kv_state_free(kv);
    assert_int_equal(fork->n_tokens, N);
    assert_ok(kv_state_truncate(fork, N - 10, &err));
    model_feed(&m, fork, w->token + N - 10, 10, 10, logits);
    assert_same(w, logits, N - 10, 10);
    kv_state_free(fork);
    free(logits);
    model_close(&m);
}

/* Layers [0, k) hand their rows' streams to [k, L), as two machines would. */
static void layer_ranges(const struct whole *w, int k)
{
    struct sluice_error err;
    struct model low, high;
    model_open(&low, model_path(w->name, ".gguf"),
               (struct model_options){.format = w->format, .hi = k});
    model_open(&high, model_path(w->name, ".gguf"),
               (struct model_options){.format = w->format, .lo = k});
    struct kv_state *kv_low = model_kv(&low), *kv_high = model_kv(&high);
    size_t width = (size_t)low.shape.n_stream * (size_t)low.shape.dim;
    float *streams = malloc(56 * width * sizeof(float));
    float *logits = malloc(56 * w->vocab * sizeof(float));
    for (int32_t at = 0; at < N; at += 56) {
        struct batch_span span = {.kv = kv_low, .n = 56};
        struct batch b = {.n = 56, .n_spans = 1, .token = w->token + at, .span = &span};
        assert_ok(forward(low.run, &b, &err));
        poison(streams, 56 * width);
        model_run_streams_read(low.run, streams, 56);
        span.kv = kv_high;
        b.logit_row = all_rows();
        b.n_logits = 56;
        model_run_streams_write(high.run, streams, 56);
        assert_ok(forward(high.run, &b, &err));
        model_run_logits(high.run, 0, 56, logits);
        assert_same(w, logits, at, 56);
    }
    free(logits);
    free(streams);
    kv_state_free(kv_low);
    kv_state_free(kv_high);
    model_close(&low);
    model_close(&high);
}

static void layer_ranges_equal_the_whole(void **state)
{
    layer_ranges(&whole_a, 1);
    layer_ranges(&whole_a, 3);
    layer_ranges(&whole_b, 4);
}

/* A store that leases single experts: the ops see just those, through the slot table. */
static void leases_equal_resident_experts(void **state)
{
    const struct whole *w = &whole_b;
    struct model m;
    model_open(&m, model_path(w->name, ".gguf"),
               (struct model_options){.format = w->format, .by_expert = true});
    struct kv_state *kv = model_kv(&m);
    float *logits = malloc(N * w->vocab * sizeof(float));
    model_feed(&m, kv, w->token, 70, 9, logits);
    assert_same(w, logits, 0, 70);
    free(logits);
    kv_state_free(kv);
    model_close(&m);
}

/* Memory that only ops may touch; and a step over resident experts reads nothing back and allocates
 * nothing but pages. */
static void model_code_never_touches_device_memory(void **state)
{
    const struct whole *w = &whole_a;
    struct sluice_error err;
    struct pool *pool;
    struct ops ref, guarded;
    struct ops_guard guard;
    assert_ok(pool_open(2, /*pin=*/false, &pool, &err));
    assert_ok(ops_open("ref", NULL, pool, &ref, &err));
    ops_guard_open(&guard, &ref, &guarded);
    struct model m;
    model_open(&m, model_path(w->name, ".gguf"),
               (struct model_options){.format = w->format, .ops = &guarded, .max_rows = 64});
    struct kv_state *kv = model_kv(&m), *fork = model_kv(&m);
    float *logits = malloc(N * w->vocab * sizeof(float));
    int allocs = guard.allocs;
    for (int32_t at = 0; at < N; at += 56) {
        struct batch_span span = {.kv = kv, .n = 56};
        struct batch b = {.n = 56, .n_spans = 1, .token = w->token + at, .span = &span,
                          .logit_row = all_rows(), .n_logits = 56};
        guard.downloads = 0;
        assert_ok(forward(m.run, &b, &err));
        assert_int_equal(guard.downloads, 0);
        model_run_logits(m.run, 0, 56, logits);
        assert_same(w, logits, at, 56);
    }
    assert_int_equal(guard.allocs, allocs + 2);
    assert_ok(kv_state_fork(fork, kv, &err));
    model_feed(&m, fork, w->token, 3, 3, logits);
    free(logits);
    kv_state_free(fork);
    kv_state_free(kv);
    model_close(&m);
    ops_guard_close(&guard);
    ops_close(&ref);
    pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_and_threads_change_nothing),
        cmocka_unit_test(company_in_the_batch_changes_nothing),
        cmocka_unit_test(dropped_tokens_leave_no_trace),
        cmocka_unit_test(forks_are_independent),
        cmocka_unit_test(layer_ranges_equal_the_whole),
        cmocka_unit_test(leases_equal_resident_experts),
        cmocka_unit_test(model_code_never_touches_device_memory),
    };
    return cmocka_run_group_tests(tests, make_wholes, free_wholes);
}
