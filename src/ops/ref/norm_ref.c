/* Norms, RoPE and the small functions that several steps share (sections 3, 3.5, 3.6). */
#include <math.h>

#include "base/check.h"
#include "ops/ref/ref.h"

float ref_dot(const float *a, const float *b, int64_t n)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

float ref_inv_rms(const float *x, int64_t n, float eps)
{
    return 1.0f / sqrtf(ref_dot(x, x, n) / (float)n + eps);
}

float ref_sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

float ref_silu(float x)
{
    return x * ref_sigmoid(x);
}

void ref_rope(float *v, int64_t rot_dim, const float *table, bool inverse)
{
    for (int64_t i = 0; i < rot_dim / 2; i++) {
        float c = table[2 * i], s = inverse ? -table[2 * i + 1] : table[2 * i + 1];
        float a = v[2 * i], b = v[2 * i + 1];
        v[2 * i] = a * c - b * s;
        v[2 * i + 1] = a * s + b * c;
    }
}

void ref_rope_angles(int64_t pos, const float *freq, int64_t half, float *table)
{
    for (int64_t i = 0; i < half; i++) {
        float angle = (float)pos * freq[i];
        table[2 * i] = (float)cos((double)angle);
        table[2 * i + 1] = (float)sin((double)angle);
    }
}

static void rope_table_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct rope_table_args *a = arg;
    for (int64_t i = first; i < last; i++)
        ref_rope_angles(a->rows->pos[i], a->freq, a->half, a->table + i * a->half * 2);
}

void ref_rope_table(void *ctx, const struct rope_table_args *a)
{
    ref_parallel(ctx, a->rows->n, rope_table_rows, (void *)a);
}

static void rms_norm_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct rms_norm_args *a = arg;
    for (int64_t i = first; i < last; i++) {
        const float *x = a->x + i * a->dim;
        float *y = a->y + i * a->dim;
        float r = ref_inv_rms(x, a->dim, a->eps);
        for (int64_t k = 0; k < a->dim; k++)
            y[k] = (a->weight ? a->weight[k] : 1.0f) * (x[k] * r);
    }
}

void ref_rms_norm(void *ctx, const struct rms_norm_args *a)
{
    ref_parallel(ctx, a->n, rms_norm_rows, (void *)a);
}

static void query_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct query_args *a = arg;
    for (int64_t i = first; i < last; i++) {
        const float *table = a->rope + i * a->rot_dim;
        for (int32_t h = 0; h < a->heads; h++) {
            float *q = a->q + (i * a->heads + h) * a->head_dim;
            float r = ref_inv_rms(q, a->head_dim, a->eps);
            for (int64_t k = 0; k < a->head_dim; k++)
                q[k] *= r;
            ref_rope(q + a->head_dim - a->rot_dim, a->rot_dim, table, /*inverse=*/false);
        }
    }
}

void ref_query(void *ctx, const struct query_args *a)
{
    ref_parallel(ctx, a->n, query_rows, (void *)a);
}
