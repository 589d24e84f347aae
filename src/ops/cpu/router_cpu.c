/* Router (section 3.11), as the reference does it, with each score computed once. */
#include <math.h>

#include "ops/cpu/cpu.h"

static float router_score(float logit)
{
    return sqrtf(fmaxf(logit, 0) + log1pf(expf(-fabsf(logit))));
}

/* The K experts with the largest score + bias, best first; the lower id wins ties. value[E] is
 * scratch. */
static void choose(const struct route_args *a, const float *logits, float *value, int32_t *ids)
{
    for (int32_t e = 0; e < a->n_expert; e++)
        value[e] = router_score(logits[e]) + a->bias[e];
    for (int32_t k = 0; k < a->n_used; k++) {
        int32_t best = -1;
        for (int32_t e = 0; e < a->n_expert; e++) {
            bool taken = false;
            if (best >= 0 && !(value[e] > value[best]))
                continue;
            for (int32_t j = 0; j < k; j++)
                taken |= ids[j] == e;
            if (!taken)
                best = e;
        }
        ids[k] = best;
    }
}

struct route_job {
    const struct cpu_ctx *ctx;
    const struct route_args *a;
};

static void route_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct route_job *job = arg;
    const struct route_args *a = job->a;
    float *value = cpu_worker(job->ctx, worker).free;
    for (int64_t i = first; i < last; i++) {
        const float *logits = a->logits + i * a->n_expert;
        int32_t *ids = a->ids + i * a->n_used;
        float *weights = a->weights + i * a->n_used, sum = 0;
        if (a->token_to_expert)
            memcpy(ids, a->token_to_expert + (int64_t)a->rows->token[i] * a->n_used,
                   (size_t)a->n_used * sizeof(*ids));
        else
            choose(a, logits, value, ids);
        for (int32_t k = 0; k < a->n_used; k++)
            sum += weights[k] = router_score(logits[ids[k]]);
        for (int32_t k = 0; k < a->n_used; k++)
            weights[k] = weights[k] / sum * a->scale;
    }
}

void cpu_route(void *ctx, const struct route_args *a)
{
    SLUICE_ASSERT((a->bias != NULL) != (a->token_to_expert != NULL));
    struct route_job job = {ctx, a};
    cpu_parallel(ctx, a->rows->n, 4, route_rows, &job);
}
