/* The leaves in portable C: the definition that every instruction set matches bit for bit. */
#include <math.h>

#include "ops/cpu/elem_body.h"
#include "ops/cpu/leaf.h"
#include "ops/cpu/unpack_body.h"

static int32_t int_dot(const int16_t *a, const int16_t *b, int n)
{
    int32_t sum = 0;
    for (int j = 0; j < n; j++)
        sum += (int32_t)a[j] * b[j];
    return sum;
}

static float tree8(const float *s)
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

static float one_row(const struct qrows *w, const uint8_t *row, const struct act *x)
{
    float sum[8] = {0};
    int block = act_block(w->type);
    uint32_t unit_bytes = quant_info(w->type)->block_bytes * (block == 32 ? 8 : 1);
    for (int64_t at = 0; at < w->n; at += 256) {
        struct unit u;
        int n = w->n - at < 256 ? (int)(w->n - at) : 256;
        unpack_unit(w->type, row + at / 256 * unit_bytes, n / block, &u);
        if (block == 32) {
            for (int b = 0; b < n / 32; b++) {
                int32_t dot = int_dot(u.w + 32 * b, x->q + at + 32 * b, 32);
                sum[b] = fmaf((float)dot, u.d[b] * x->d[at / 32 + b], sum[b]);
            }
            continue;
        }
        int lane = (int)(at / 256 % 8);
        float dx = x->d[at / 256];
        sum[lane] = fmaf((float)int_dot(u.w, x->q + at, 256), u.d[0] * dx, sum[lane]);
        if (type_has_min(w->type))
            sum[lane] = fmaf((float)int_dot(u.m, x->sum16 + at / 16, 16), u.dmin * dx, sum[lane]);
    }
    return tree8(sum);
}

static void c_row_dot(const struct qrows *w, int n_rows, const struct act *x, int n,
                      float (*y)[TILE_ROWS])
{
    for (int o = 0; o < n_rows; o++)
        for (int i = 0; i < n; i++)
            y[i][o] = one_row(w, w->data + (uint64_t)o * w->row_bytes, &x[i]);
}

static int32_t pair_dot(const int16_t *tile, int row, const int16_t *x, int n)
{
    int32_t sum = 0;
    for (int k = 0; k < n; k++)
        sum += tile[(k / 2 * TILE_ROWS + row) * 2 + k % 2] * x[k];
    return sum;
}

static void c_tile_dot(const struct tile *t, const struct act *x, int n, float (*y)[TILE_ROWS])
{
    int64_t blocks = t->n / t->block;
    for (int i = 0; i < n; i++) {
        for (int r = 0; r < TILE_ROWS; r++) {
            float sum[8] = {0};
            for (int64_t b = 0; b < blocks; b++) {
                float *s = &sum[b % 8], dx = x[i].d[b];
                int64_t at = b * t->block;
                int32_t dot = pair_dot(t->w + at * TILE_ROWS, r, x[i].q + at, t->block);
                *s = fmaf((float)dot, t->d[b * TILE_ROWS + r] * dx, *s);
                if (!t->has_min)
                    continue;
                dot = pair_dot(t->m + at / 16 * TILE_ROWS, r, x[i].sum16 + at / 16, 16);
                *s = fmaf((float)dot, t->dmin[b * TILE_ROWS + r] * dx, *s);
            }
            y[i][r] = tree8(sum);
        }
    }
}

static float fold16(float *s)
{
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++)
            s[j] += s[j + half];
    return s[0];
}

static float f32_dot(const float *a, const float *b, int64_t n)
{
    float s[16] = {0};
    for (int64_t k = 0; k < n; k++)
        s[k % 16] = fmaf(a[k], b[k], s[k % 16]);
    for (int64_t k = n; k % 16; k++)
        s[k % 16] = fmaf(0.0f, 0.0f, s[k % 16]);
    return fold16(s);
}

static void c_dots(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
                   float (*y)[DOTS_W])
{
    for (int i = 0; i < nx; i++)
        for (int j = 0; j < nw; j++)
            y[i][j] = f32_dot(w[j], x[i], n);
}

static float half_dot(enum quant_type type, const uint8_t *w, const float *x, int64_t n)
{
    float s[16] = {0};
    for (int64_t k = 0; k < n; k += 16) {
        int len = n - k < 16 ? (int)(n - k) : 16;
        float a[16] = {0}, b[16] = {0};
        elem_widen(type, w + 2 * k, a, len);
        memcpy(b, x + k, (size_t)len * sizeof(float));
        for (int j = 0; j < 16; j++)
            s[j] = fmaf(a[j], b[j], s[j]);
    }
    return fold16(s);
}

static void c_half_dots(const struct qrows *w, int n_rows, const float *const *x, int nx,
                        float (*y)[DOTS_W])
{
    for (int i = 0; i < nx; i++)
        for (int j = 0; j < n_rows; j++)
            y[i][j] = half_dot(w->type, w->data + (uint64_t)j * w->row_bytes, x[i], w->n);
}

static void c_mix(float *const *o, int n_o, const struct mix_keys *m)
{
    for (int i = 0; i < n_o; i++)
        for (int64_t k = 0; k < m->dim; k++)
            for (int j = 0; j < m->n_key; j++)
                o[i][k] = fmaf(m->p[i * m->p_stride + j], m->key[j * m->dim + k], o[i][k]);
}

const struct leaves leaves_c = {
    .name = "c",
    .quantise = elem_quantise,
    .row_dot = c_row_dot,
    .direct = 3,
    .tile_unpack = tile_unpack_body,
    .tile_dot = c_tile_dot,
    .widen = elem_widen,
    .dots = c_dots,
    .half_dots = c_half_dots,
    .mix = c_mix,
    .fp8_decode = elem_fp8_decode,
    .fp4_decode = elem_fp4_decode,
    .index_query = elem_index_query,
    .exp_minus = elem_exp_minus,
    .gated = elem_gated,
    .scaled = elem_scaled,
    .divide = elem_divide,
    .relu_add = elem_relu_add,
    .combine = elem_combine,
    .spread = elem_spread,
};
