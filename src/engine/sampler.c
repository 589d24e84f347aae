/* engine/sampler.c - see sampler.h. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"

#define MAX_LOGPROBS 20

static enum sluice_status check(const struct sluice_sampling *s, int32_t n_vocab,
                                struct sluice_error *err)
{
    const struct {
        const char *name, *range;
        double found;
        bool ok;
    } rules[] = {
        {"temperature", "0 or more", s->temperature, s->temperature >= 0 && s->temperature <= 100},
        {"top_k", "0 or more", s->top_k, s->top_k >= 0},
        {"top_p", "0 to 1", s->top_p, s->top_p >= 0 && s->top_p <= 1},
        {"min_p", "0 to 1", s->min_p, s->min_p >= 0 && s->min_p <= 1},
        {"repetition_penalty", "0 to 10", s->repetition_penalty,
         s->repetition_penalty >= 0 && s->repetition_penalty <= 10},
        {"presence_penalty", "-2 to 2", s->presence_penalty, fabsf(s->presence_penalty) <= 2},
        {"frequency_penalty", "-2 to 2", s->frequency_penalty, fabsf(s->frequency_penalty) <= 2},
        {"logprobs", "-1 to 20", s->logprobs, s->logprobs >= -1 && s->logprobs <= MAX_LOGPROBS},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        FAIL_IF(!rules[i].ok, err, SLUICE_ERR_ARG, "%s: expected %s, found %g", rules[i].name,
                rules[i].range, rules[i].found);
    FAIL_IF(s->n_bias < 0 || (s->n_bias && !s->bias), err, SLUICE_ERR_ARG,
            "logit bias: expected a list, found %d entries", s->n_bias);
    for (int32_t i = 0; i < s->n_bias; i++)
        FAIL_IF(s->bias[i].id < 0 || s->bias[i].id >= n_vocab || isnan(s->bias[i].add), err,
                SLUICE_ERR_ARG, "logit bias: expected a token id below %d and a number, found %d",
                n_vocab, s->bias[i].id);
    return SLUICE_OK;
}

static bool has_penalties(const struct sluice_sampling *s)
{
    return (s->repetition_penalty != 0 && s->repetition_penalty != 1) ||
           s->presence_penalty != 0 || s->frequency_penalty != 0;
}

enum sluice_status sampler_init(struct sampler *s, const struct sluice_sampling *sampling,
                                int32_t n_vocab, struct sluice_error *err)
{
    TRY(check(sampling, n_vocab, err));
    *s = (struct sampler){.s = *sampling, .n_vocab = n_vocab};
    s->s.bias = NULL;
    size_t v = (size_t)n_vocab, n_bias = (size_t)sampling->n_bias;
    struct sluice_bias *bias = calloc(n_bias + 1, sizeof *bias);
    s->s.bias = bias;
    s->logits = malloc(v * sizeof *s->logits);
    s->pick = malloc(v * sizeof *s->pick);
    bool counts = has_penalties(sampling);
    if (counts) {
        s->n_prompt = calloc(v, sizeof *s->n_prompt);
        s->n_answer = calloc(v, sizeof *s->n_answer);
    }
    if (!bias || !s->logits || !s->pick || (counts && (!s->n_prompt || !s->n_answer))) {
        sampler_deinit(s);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a sampler");
    }
    if (n_bias)
        memcpy(bias, sampling->bias, n_bias * sizeof *bias);
    return SLUICE_OK;
}

void sampler_deinit(struct sampler *s)
{
    free((void *)s->s.bias);
    free(s->logits);
    free(s->pick);
    free(s->n_prompt);
    free(s->n_answer);
    *s = (struct sampler){0};
}

void sampler_note(struct sampler *s, const int32_t *ids, size_t n, bool answer)
{
    uint32_t *counts = answer ? s->n_answer : s->n_prompt;
    for (size_t i = 0; counts && i < n; i++)
        counts[ids[i]]++;
}

/* Bias and penalties on the copy in s->logits. */
static void adjust(struct sampler *s)
{
    for (int32_t i = 0; i < s->s.n_bias; i++)
        s->logits[s->s.bias[i].id] += s->s.bias[i].add;
    if (!s->n_answer)
        return;
    float repeat = s->s.repetition_penalty == 0 ? 1 : s->s.repetition_penalty;
    for (int32_t id = 0; id < s->n_vocab; id++) {
        uint32_t answer = s->n_answer[id];
        float *x = &s->logits[id];
        if (answer || s->n_prompt[id])
            *x = *x > 0 ? *x / repeat : *x * repeat;
        if (answer)
            *x -= s->s.presence_penalty + s->s.frequency_penalty * (float)answer;
    }
}

/* NaN is never chosen: it compares false. */
static int32_t argmax(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best] || isnan(x[best]))
            best = i;
    return best;
}

static int by_logit(const void *a, const void *b)
{
    const struct sampler_candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

/* log sum exp over the vocabulary, in order of ids. */
static double log_total(const float *x, int32_t n, float top)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)x[i] - top);
    return top + log(sum);
}

static void report(struct sampler *s, const float *logits, struct sampler_result *out)
{
    out->n_top = 0;
    if (s->s.logprobs < 0)
        return;
    double total = log_total(logits, s->n_vocab, logits[argmax(logits, s->n_vocab)]);
    out->own = (struct sluice_logprob){out->id, (float)(logits[out->id] - total)};
    int32_t want = s->s.logprobs < s->n_vocab ? s->s.logprobs : s->n_vocab;
    for (int32_t id = 0; id < s->n_vocab && want; id++) {
        int32_t k = out->n_top < want ? out->n_top : want - 1;
        if (out->n_top == want && !(logits[id] > logits[out->top[k].id]))
            continue;
        while (k > 0 && logits[id] > logits[out->top[k - 1].id]) {
            out->top[k] = out->top[k - 1];
            k--;
        }
        out->top[k].id = id;
        out->n_top += out->n_top < want;
    }
    for (int32_t k = 0; k < out->n_top; k++)
        out->top[k].logprob = (float)(logits[out->top[k].id] - total);
}

static double weight_of(const struct sampler *s, float logit, float top)
{
    return exp(((double)logit - top) / s->s.temperature);
}

/* Candidates with a logit of at least floor, by id. */
static int32_t collect(struct sampler *s, float floor)
{
    int32_t n = 0;
    for (int32_t id = 0; id < s->n_vocab; id++)
        if (s->logits[id] >= floor)
            s->pick[n++] = (struct sampler_candidate){s->logits[id], id};
    return n;
}

static double total_weight(const struct sampler *s, int32_t n, float top)
{
    double total = 0;
    for (int32_t k = 0; k < n; k++)
        total += weight_of(s, s->pick[k].logit, top);
    return total;
}

/* How many of the sorted picks make up share of total; n + 1 if they do not. */
static int32_t nucleus(const struct sampler *s, int32_t n, double share, float top)
{
    double kept = 0;
    for (int32_t k = 0; k < n; k++) {
        kept += weight_of(s, s->pick[k].logit, top);
        if (kept >= share)
            return k + 1;
    }
    return n + 1;
}

/* Keeps in pick, most likely first, what top_k and top_p allow. Few candidates carry nearly all of
 * the weight, so those near the top are sorted first and the others only if that is not enough. */
static int32_t narrow(struct sampler *s, float top)
{
    enum { NEAR = 12 };
    float lowest = top - 745 * s->s.temperature; /* further down a float64 weight is zero */
    bool by_share = s->s.top_p > 0 && s->s.top_p < 1;
    double total = 0;
    if (!s->s.top_k)
        total = total_weight(s, collect(s, lowest), top);
    for (int pass = 0;; pass++) {
        int32_t n = collect(s, pass ? lowest : top - NEAR * s->s.temperature);
        qsort(s->pick, (size_t)n, sizeof *s->pick, by_logit);
        bool enough = pass || !s->s.top_k || n >= s->s.top_k;
        if (s->s.top_k && n > s->s.top_k)
            n = s->s.top_k;
        if (!enough)
            continue;
        if (!by_share)
            return n;
        if (s->s.top_k)
            total = total_weight(s, n, top);
        int32_t kept = nucleus(s, n, s->s.top_p * total, top);
        if (kept <= n || pass || s->s.top_k)
            return kept <= n ? kept : n;
    }
}

static int32_t draw(struct sampler *s, uint64_t i)
{
    float top = s->logits[argmax(s->logits, s->n_vocab)], t = s->s.temperature;
    bool sorted = s->s.top_k || (s->s.top_p > 0 && s->s.top_p < 1);
    int32_t n = sorted ? narrow(s, top) : collect(s, top - 745 * t);
    if (s->s.min_p > 0) {
        int32_t kept = 0;
        for (int32_t k = 0; k < n; k++)
            if (weight_of(s, s->pick[k].logit, top) >= s->s.min_p)
                s->pick[kept++] = s->pick[k];
        n = kept;
    }
    if (n == 0) /* nothing compares: a row of NaN */
        return argmax(s->logits, s->n_vocab);
    double at = rng_double(s->s.seed, i) * total_weight(s, n, top);
    for (int32_t k = 0; k < n; k++) {
        at -= weight_of(s, s->pick[k].logit, top);
        if (at < 0)
            return s->pick[k].id;
    }
    return s->pick[n - 1].id;
}

/* True if a token is left. */
static bool apply_mask(struct sampler *s, const uint32_t *mask)
{
    bool any = false;
    for (int32_t id = 0; id < s->n_vocab; id++) {
        if (mask[id / 32] >> id % 32 & 1)
            any |= s->logits[id] > -INFINITY;
        else
            s->logits[id] = -INFINITY;
    }
    return any;
}

void sampler_pick(struct sampler *s, const float *logits, const uint32_t *mask, uint64_t i,
                  struct sampler_result *out)
{
    const float *x = logits;
    if (s->s.n_bias || s->n_answer || s->s.temperature > 0 || mask) {
        memcpy(s->logits, logits, (size_t)s->n_vocab * sizeof *logits);
        x = s->logits;
    }
    if (s->s.n_bias || s->n_answer)
        adjust(s);
    if (mask && !apply_mask(s, mask)) {
        out->id = -1;
        return;
    }
    out->id = s->s.temperature > 0 ? draw(s, i) : argmax(x, s->n_vocab);
    report(s, logits, out);
}
