/* Routed and shared experts (section 3.11): one job per (row, slot), then the sum over slots in
 * order. */
#include <math.h>

#include "base/check.h"
#include "ops/ref/dequant_ref.h"
#include "ops/ref/ref.h"

struct experts_job {
    const struct ref_ctx *ctx;
    const struct experts_args *a;
};

static struct ref_expert expert_of(const struct experts_args *a, int64_t row, int32_t slot)
{
    const struct expert_table *t = &a->table;
    if (slot == a->n_used)
        return (struct ref_expert){a->shared_gate.data, a->shared_up.data, a->shared_down.data,
                                   a->shared_gate.type, a->shared_up.type, a->shared_down.type,
                                   t->n_in, t->n_inner, a->shared_limit, 1.0f};
    int64_t id = a->ids[row * a->n_used + slot];
    struct ref_expert e = {.gate_type = t->gate_type,
                           .up_type = t->up_type,
                           .down_type = t->down_type,
                           .n_in = t->n_in,
                           .n_inner = t->n_inner,
                           .limit = a->limit,
                           .scale = a->weights[row * a->n_used + slot]};
    SLUICE_ASSERT(id >= 0 && id < a->n_expert);
    if (t->gate_stride) {
        e.gate = t->gate + (size_t)id * t->gate_stride;
        e.up = t->up + (size_t)id * t->up_stride;
        e.down = t->down + (size_t)id * t->down_stride;
    } else {
        e.gate = t->slot[id].gate;
        e.up = t->slot[id].up;
        e.down = t->slot[id].down;
    }
    return e;
}

static void expert_slots(void *arg, int64_t first, int64_t last, int worker)
{
    const struct experts_job *job = arg;
    const struct experts_args *a = job->a;
    int32_t slots = a->n_used + 1;
    float *scratch = ref_scratch(job->ctx, worker);
    for (int64_t at = first; at < last; at++) {
        struct ref_expert e = expert_of(a, at / slots, (int32_t)(at % slots));
        const float *x = a->x + at / slots * e.n_in;
        float *inner = job->ctx->inner + at * e.n_inner;
        float *out = job->ctx->expert_out + at * e.n_in;
        uint64_t gate_bytes = quant_row_bytes(e.gate_type, e.n_in);
        uint64_t up_bytes = quant_row_bytes(e.up_type, e.n_in);
        uint64_t down_bytes = quant_row_bytes(e.down_type, e.n_inner);
        for (int64_t f = 0; f < e.n_inner; f++) {
            float g =
                ref_row_dot(e.gate_type, e.gate + (uint64_t)f * gate_bytes, x, e.n_in, scratch);
            float u = ref_row_dot(e.up_type, e.up + (uint64_t)f * up_bytes, x, e.n_in, scratch);
            g = fminf(g, e.limit);
            u = fminf(fmaxf(u, -e.limit), e.limit);
            inner[f] = ref_silu(g) * u * e.scale;
        }
        for (int64_t d = 0; d < e.n_in; d++)
            out[d] = ref_row_dot(e.down_type, e.down + (uint64_t)d * down_bytes, inner, e.n_inner,
                                 scratch);
    }
}

static void sum_slots(void *arg, int64_t first, int64_t last, int worker)
{
    const struct experts_job *job = arg;
    const struct experts_args *a = job->a;
    int32_t slots = a->n_used + 1;
    int64_t dim = a->table.n_in;
    for (int64_t i = first; i < last; i++) {
        for (int64_t d = 0; d < dim; d++) {
            float sum = 0;
            for (int32_t k = 0; k < slots; k++)
                sum += job->ctx->expert_out[(i * slots + k) * dim + d];
            a->y[i * dim + d] = sum;
        }
    }
}

void ref_experts(void *ctx, const struct experts_args *a)
{
    struct experts_job job = {ctx, a};
    ref_parallel(ctx, (int64_t)a->n * (a->n_used + 1), expert_slots, &job);
    ref_parallel(ctx, a->n, sum_slots, &job);
}
