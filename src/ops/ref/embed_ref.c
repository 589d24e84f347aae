/* Section 3.0: four identical copies of the token's embedding. */
#include <string.h>

#include "ops/ref/dequant_ref.h"
#include "ops/ref/ref.h"

static void embed_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct embed_args *a = arg;
    int64_t dim = a->table.n_in;
    uint64_t row_bytes = quant_row_bytes(a->table.type, dim);
    for (int64_t i = first; i < last; i++) {
        float *x = a->x + i * a->streams * dim;
        const uint8_t *row =
            (const uint8_t *)a->table.data + (uint64_t)a->rows->token[i] * row_bytes;
        dequant_row(a->table.type, row, x, dim);
        for (int32_t s = 1; s < a->streams; s++)
            memcpy(x + s * dim, x, (size_t)dim * sizeof(float));
    }
}

void ref_embed(void *ctx, const struct embed_args *a)
{
    ref_parallel(ctx, a->rows->n, embed_rows, (void *)a);
}

static void add_stream_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct add_streams_args *a = arg;
    for (int64_t i = first; i < last; i++) {
        const float *from = a->a + i * a->dim;
        for (int64_t k = 0; k < a->streams * a->dim; k++) {
            int64_t at = i * a->streams * a->dim + k;
            a->x[at] = from[k % a->dim] + a->b[at];
        }
    }
}

void ref_add_streams(void *ctx, const struct add_streams_args *a)
{
    ref_parallel(ctx, a->n, add_stream_rows, (void *)a);
}
