/* The sampler on vocabularies small enough to do by hand. */
#include "engine/sampler.h"
#include "support/unit.h"

#define V 5
static const float logits[V] = {1, 3, 2, 3, 0};

static struct sampler_result pick(struct sluice_sampling sampling, const float *x, uint64_t i)
{
    struct sampler s;
    struct sampler_result r = {0};
    assert_int_equal(sampler_init(&s, &sampling, V, NULL), SLUICE_OK);
    sampler_pick(&s, x, NULL, i, &r);
    sampler_deinit(&s);
    return r;
}

static void test_greedy(void **state)
{
    assert_int_equal(pick((struct sluice_sampling){0}, logits, 0).id, 1);
    struct sluice_bias bias[] = {{4, 10}, {1, -INFINITY}};
    struct sluice_sampling s = {.bias = bias, .n_bias = 1};
    assert_int_equal(pick(s, logits, 0).id, 4);
    s = (struct sluice_sampling){.bias = bias + 1, .n_bias = 1};
    assert_int_equal(pick(s, logits, 0).id, 3);
    float nan_first[V] = {NAN, 1, 2, NAN, 0};
    assert_int_equal(pick((struct sluice_sampling){0}, nan_first, 0).id, 2);
}

/* Only tokens of the mask are picked; the likelihoods told are those without it. */
static void test_mask(void **state)
{
    struct sluice_bias ban = {2, -INFINITY};
    for (int hot = 0; hot < 2; hot++) {
        struct sluice_sampling sampling = {.temperature = 2.0f * (float)hot, .logprobs = 1};
        struct sampler s;
        struct sampler_result r;
        uint32_t mask = 1 << 2 | 1 << 4, seen = 0, none = 0;
        assert_int_equal(sampler_init(&s, &sampling, V, NULL), SLUICE_OK);
        for (uint64_t i = 0; i < 200; i++) {
            sampler_pick(&s, logits, &mask, i, &r);
            assert_true(r.id >= 0 && mask >> r.id & 1);
            seen |= 1u << r.id;
            assert_int_equal(r.top[0].id, 1);
        }
        assert_int_equal(seen, hot ? mask : 1u << 2);
        sampler_pick(&s, logits, &none, 0, &r);
        assert_int_equal(r.id, -1);
        sampler_deinit(&s);
        sampling.bias = &ban;
        sampling.n_bias = 1;
        mask = 1 << 2;
        assert_int_equal(sampler_init(&s, &sampling, V, NULL), SLUICE_OK);
        sampler_pick(&s, logits, &mask, 0, &r);
        assert_int_equal(r.id, -1);
        sampler_deinit(&s);
    }
}

static void test_penalties(void **state)
{
    struct sluice_sampling sampling = {.repetition_penalty = 2};
    struct sampler s;
    struct sampler_result r;
    assert_int_equal(sampler_init(&s, &sampling, V, NULL), SLUICE_OK);
    sampler_note(&s, (int32_t[]){1}, 1, /*answer=*/false);
    sampler_pick(&s, logits, NULL, 0, &r);
    assert_int_equal(r.id, 3);
    sampler_note(&s, (int32_t[]){3}, 1, /*answer=*/true);
    sampler_pick(&s, logits, NULL, 0, &r);
    assert_int_equal(r.id, 2);
    sampler_deinit(&s);

    sampling = (struct sluice_sampling){.presence_penalty = 0.5f, .frequency_penalty = 0.3f};
    assert_int_equal(sampler_init(&s, &sampling, V, NULL), SLUICE_OK);
    sampler_note(&s, (int32_t[]){1, 3}, 2, /*answer=*/false); /* prompts cost nothing here */
    sampler_pick(&s, logits, NULL, 0, &r);
    assert_int_equal(r.id, 1);
    sampler_note(&s, (int32_t[]){1, 3, 3}, 3, /*answer=*/true); /* 3-0.8, 3-1.1 against 2 */
    sampler_pick(&s, logits, NULL, 0, &r);
    assert_int_equal(r.id, 1);
    sampler_note(&s, (int32_t[]){1, 1}, 2, /*answer=*/true); /* 3-1.4 = 1.6, 1.9 against 2 */
    sampler_pick(&s, logits, NULL, 0, &r);
    assert_int_equal(r.id, 2);
    sampler_deinit(&s);
}

/* Shares of 20,000 draws. */
static void shares(struct sluice_sampling sampling, double *out)
{
    enum { N = 20000 };
    int n[V] = {0};
    sampling.seed = 7;
    struct sampler s;
    struct sampler_result r;
    assert_int_equal(sampler_init(&s, &sampling, V, NULL), SLUICE_OK);
    for (uint64_t i = 0; i < N; i++) {
        sampler_pick(&s, logits, NULL, i, &r);
        n[r.id]++;
    }
    sampler_deinit(&s);
    for (int k = 0; k < V; k++)
        out[k] = (double)n[k] / N;
}

static void check_shares(struct sluice_sampling sampling, const double *weights)
{
    double found[V], total = 0;
    shares(sampling, found);
    for (int k = 0; k < V; k++)
        total += weights[k];
    for (int k = 0; k < V; k++) {
        assert_close(found[k], weights[k] / total, 0.015);
        if (weights[k] == 0)
            assert_true(found[k] == 0);
    }
}

static void test_distribution(void **state)
{
    double e[V];
    for (int k = 0; k < V; k++)
        e[k] = exp(logits[k]);
    check_shares((struct sluice_sampling){.temperature = 1}, e);
    check_shares((struct sluice_sampling){.temperature = 1, .top_k = 3},
                 (double[]){0, e[1], e[2], e[3], 0});
    check_shares((struct sluice_sampling){.temperature = 1, .top_k = 1},
                 (double[]){0, 1, 0, 0, 0});
    /* e: 2.7 20.1 7.4 20.1 1, of 51.3: two reach 0.78, three 0.93 */
    check_shares((struct sluice_sampling){.temperature = 1, .top_p = 0.7f},
                 (double[]){0, e[1], 0, e[3], 0});
    check_shares((struct sluice_sampling){.temperature = 1, .top_p = 0.85f},
                 (double[]){0, e[1], e[2], e[3], 0});
    check_shares((struct sluice_sampling){.temperature = 1, .min_p = 0.3f},
                 (double[]){0, e[1], e[2], e[3], 0});
    double sharp[V];
    for (int k = 0; k < V; k++)
        sharp[k] = exp(logits[k] / 0.5);
    check_shares((struct sluice_sampling){.temperature = 0.5f}, sharp);
}

/* Sorting only the top first changes nothing. */
static void test_wide_vocabulary(void **state)
{
    enum { N = 3000 };
    static float x[N];
    for (int k = 0; k < N; k++)
        x[k] = (float)((k * 7919) % N) * 0.02f; /* 0 .. 60: most lie far below the top */
    struct sluice_sampling s = {.temperature = 1, .top_k = 2000, .top_p = 0.999f, .seed = 3};
    struct sampler a, b;
    struct sampler_result ra, rb;
    assert_int_equal(sampler_init(&a, &s, N, NULL), SLUICE_OK);
    s.top_k = 0;
    assert_int_equal(sampler_init(&b, &s, N, NULL), SLUICE_OK);
    for (uint64_t i = 0; i < 300; i++) {
        sampler_pick(&a, x, NULL, i, &ra);
        sampler_pick(&b, x, NULL, i, &rb);
        assert_int_equal(ra.id, rb.id);
        assert_true(x[ra.id] > 50);
    }
    sampler_deinit(&a);
    sampler_deinit(&b);
}

static void test_seeds(void **state)
{
    struct sluice_sampling s = {.temperature = 1, .seed = 1};
    int same = 0;
    for (uint64_t i = 0; i < 100; i++) {
        s.seed = 1;
        int32_t a = pick(s, logits, i).id;
        assert_int_equal(pick(s, logits, i).id, a);
        s.seed = 2;
        same += pick(s, logits, i).id == a;
    }
    assert_true(same > 10 && same < 70);
}

static void test_logprobs(void **state)
{
    struct sluice_sampling s = {.logprobs = 3};
    struct sampler_result r = pick(s, logits, 0);
    double total = 0;
    for (int k = 0; k < V; k++)
        total += exp(logits[k]);
    assert_close(r.own.logprob, 3 - log(total), 1e-6);
    assert_int_equal(r.n_top, 3);
    assert_int_equal(r.top[0].id, 1);
    assert_int_equal(r.top[1].id, 3);
    assert_int_equal(r.top[2].id, 2);
    assert_close(r.top[2].logprob, 2 - log(total), 1e-6);
    s.logprobs = -1;
    assert_int_equal(pick(s, logits, 0).n_top, 0);
}

static void refused(struct sluice_sampling sampling, const char *name)
{
    struct sampler s;
    struct sluice_error err = {0};
    assert_int_equal(sampler_init(&s, &sampling, V, &err), SLUICE_ERR_ARG);
    if (!strstr(err.message, name))
        fail_msg("%s", err.message);
}

static void test_refused(void **state)
{
    refused((struct sluice_sampling){.temperature = -1}, "temperature");
    refused((struct sluice_sampling){.temperature = NAN}, "temperature");
    refused((struct sluice_sampling){.top_p = 1.5f}, "top_p");
    refused((struct sluice_sampling){.min_p = -1}, "min_p");
    refused((struct sluice_sampling){.top_k = -1}, "top_k");
    refused((struct sluice_sampling){.presence_penalty = 3}, "presence_penalty");
    refused((struct sluice_sampling){.logprobs = 21}, "logprobs");
    struct sluice_bias bias = {V, 1};
    refused((struct sluice_sampling){.bias = &bias, .n_bias = 1}, "logit bias");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),       cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_distribution), cmocka_unit_test(test_wide_vocabulary),
        cmocka_unit_test(test_seeds),        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
