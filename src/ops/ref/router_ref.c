/* Router (section 3.11): sqrt(softplus) scores; the bias chooses but does not weigh; hash layers
 * choose by token id. */
#include <math.h>

#include "base/check.h"
#include "ops/ref/ref.h"

static float router_score(float logit)
{
    return sqrtf(fmaxf(logit, 0) + log1pf(expf(-fabsf(logit))));
}

/* The K experts with the largest score + bias, best first; the lower id wins ties. */
static void choose(const struct route_args *a, const float *logits, int32_t *ids)
{
    for (int32_t k = 0; k < a->n_used; k++) {
        int32_t best = -1;
        float best_value = 0;
        for (int32_t e = 0; e < a->n_expert; e++) {
            bool taken = false;
            for (int32_t j = 0; j < k; j++)
                taken |= ids[j] == e;
            float value = router_score(logits[e]) + a->bias[e];
            if (!taken && (best < 0 || value > best_value)) {
                best = e;
                best_value = value;
            }
        }
        ids[k] = best;
    }
}

static void route_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct route_args *a = arg;
    for (int64_t i = first; i < last; i++) {
        const float *logits = a->logits + i * a->n_expert;
        int32_t *ids = a->ids + i * a->n_used;
        float *weights = a->weights + i * a->n_used, sum = 0;
        if (a->token_to_expert) {
            const int32_t *chosen = a->token_to_expert + (int64_t)a->rows->token[i] * a->n_used;
            for (int32_t k = 0; k < a->n_used; k++)
                ids[k] = chosen[k];
        } else {
            choose(a, logits, ids);
        }
        for (int32_t k = 0; k < a->n_used; k++)
            sum += weights[k] = router_score(logits[ids[k]]);
        for (int32_t k = 0; k < a->n_used; k++)
            weights[k] = weights[k] / sum * a->scale;
    }
}

void ref_route(void *ctx, const struct route_args *a)
{
    SLUICE_ASSERT((a->bias != NULL) != (a->token_to_expert != NULL));
    ref_parallel(ctx, a->rows->n, route_rows, (void *)a);
}
