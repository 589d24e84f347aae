/* Matrix products: every weight row is dequantised and multiplied in float32, whatever its
 * format. */
#include "base/check.h"
#include "ops/ref/dequant_ref.h"
#include "ops/ref/ref.h"

float ref_row_dot(enum quant_type type, const void *row, const float *x, int64_t n_in,
                  float *row_scratch)
{
    dequant_row(type, row, row_scratch, n_in);
    return ref_dot(row_scratch, x, n_in);
}

struct matmul_job {
    const struct ref_ctx *ctx;
    const struct weight *w;
    const float *x;
    float *y;
    int64_t n, x_stride, y_stride;
};

/* One output row o of the weight for every batch row: the weight row is dequantised once. */
static void matmul_outputs(void *arg, int64_t first, int64_t last, int worker)
{
    const struct matmul_job *job = arg;
    const struct weight *w = job->w;
    float *row = ref_scratch(job->ctx, worker);
    uint64_t row_bytes = quant_row_bytes(w->type, w->n_in);
    for (int64_t o = first; o < last; o++) {
        dequant_row(w->type, (const uint8_t *)w->data + (uint64_t)o * row_bytes, row, w->n_in);
        for (int64_t i = 0; i < job->n; i++)
            job->y[i * job->y_stride + o] = ref_dot(row, job->x + i * job->x_stride, w->n_in);
    }
}

void ref_matmul(void *ctx, const struct matmul_args *a)
{
    SLUICE_ASSERT(a->n_w >= 1 && a->n_w <= MATMUL_MAX);
    for (int32_t j = 0; j < a->n_w; j++) {
        const struct weight *w = &a->w[j];
        struct matmul_job job = {ctx, w, a->x, a->y[j], a->n, a->x_stride, w->n_out};
        ref_parallel(ctx, w->n_out, matmul_outputs, &job);
    }
}

void ref_grouped_matmul(void *ctx, const struct grouped_matmul_args *a)
{
    struct weight w = a->w;
    int64_t groups = a->w.n_mat;
    uint64_t group_bytes = quant_row_bytes(w.type, w.n_in) * (uint64_t)w.n_out;
    w.n_mat = 1;
    for (int64_t g = 0; g < groups; g++) {
        w.data = (const uint8_t *)a->w.data + (uint64_t)g * group_bytes;
        struct matmul_job job = {ctx,  &w, a->x + g * w.n_in, a->y + g * w.n_out,
                                 a->n, groups * w.n_in, groups * w.n_out};
        ref_parallel(ctx, w.n_out, matmul_outputs, &job);
    }
}
