/* Every instruction set gives the bits of the portable C leaves, or of their definition for panels,
 * whatever threads and batch.
 *   test_cpu_same                       the test
 *   test_cpu_same bench [TYPE] [N]      speed of matrix products on N threads */
#include <limits.h>
#include <time.h>

#include "support/cpu_case.h"

/* ---- leaves against leaves ---- */

static void same_bits(const void *a, const void *b, size_t bytes, const char *isa, const char *what,
                      const char *type)
{
    case_check(!memcmp(a, b, bytes), "%s: %s %s differs from c", isa, what, type);
}

/* Whether a table's products with a format are those of the portable leaves. */
static bool as_portable(const struct leaves *leaf, enum quant_type type)
{
    return !leaf->panels || leaf->panels->from(type) > 1;
}

static void leaf_quantise(const struct leaves *leaf)
{
    for (enum act_kind kind = ACT_NONE + 1; kind < ACT_KINDS; kind++) {
        int block = act_kind_block(kind);
        if (block == 32 && !as_portable(leaf, QUANT_Q8_0))
            continue;
        float *x = case_floats(1024, 3.0f);
        memset(x + 256, 0, 256 * sizeof(float));
        x[600] = INFINITY;
        x[900] = NAN;
        int16_t q[2][1024], s[2][64];
        int8_t planes[2048];
        float d[2][32];
        memset(d, 0, sizeof(d));
        leaves_c.quantise(x, 1024, kind, &(struct act){q[0], s[0], d[0], planes});
        leaf->quantise(x, 1024, kind, &(struct act){q[1], s[1], d[1], planes});
        if (kind != ACT_256_BYTE) /* these may lie in an order of their own */
            same_bits(q[1], q[0], sizeof(q[0]), leaf->name, "quantise", "");
        same_bits(s[1], s[0], sizeof(s[0]), leaf->name, "quantise sums", "");
        same_bits(d[1], d[0], sizeof(d[0]), leaf->name, "quantise scales", "");
        for (int i = 0; i < 256; i++) {
            float most = 0; /* of the 32 that share a step, where these are bytes */
            for (int j = i / 32 * 32; j < i / 32 * 32 + 32; j++)
                most = fmaxf(most, fabsf(x[j]));
            float step = d[0][i / block] + (kind == ACT_256_BYTE ? most / 127 : 0);
            case_check(abs(q[0][i]) <= (kind == ACT_256_BYTE ? BYTE_TIMES * 127 : ACT_MAX) &&
                           fabsf((float)q[0][i] * d[0][i / block] - x[i]) <= 0.51f * step,
                       "quantised %d", i);
        }
        case_check(isnan(d[0][600 / block]) && isnan(d[0][900 / block]), "NaN must stay");
        free(x);
    }
}

struct tile_room {
    struct tile t;
    int16_t w[TILE_ROWS * 4096], m[TILE_ROWS * 256];
    float d[TILE_ROWS * 128], dmin[TILE_ROWS * 16];
};

static struct tile_room room[2];

static struct tile *tile_in(int k, enum quant_type type, int64_t n)
{
    memset(&room[k], 0x55, sizeof(room[k]));
    room[k].t = (struct tile){room[k].w, room[k].m, room[k].d, room[k].dmin, type, n,
                              act_block(type), type_has_min(type)};
    return &room[k].t;
}

static void tile_dots(const struct leaves *leaf, const struct tile *t, const struct act *x, int n,
                      float (*y)[TILE_ROWS])
{
    for (int i = 0; i < n; i += TILE_BATCH)
        leaf->tile_dot(t, x + i, n - i < TILE_BATCH ? n - i : TILE_BATCH, y + i);
}

static void leaf_products(const struct leaves *leaf, enum quant_type type, int64_t n, int n_rows)
{
    const char *name = quant_info(type)->name;
    struct weight w = case_weight(type, n, n_rows, 1);
    struct qrows rows = {type, w.data, n, quant_row_bytes(type, n)};
    static int16_t q[2][ROW_BATCH][4096], s[2][ROW_BATCH][256];
    static float d[2][ROW_BATCH][128];
    static int8_t planes[ROW_BATCH][8192];
    float *x = case_floats(ROW_BATCH * n, 1.0f), z[2][ROW_BATCH][TILE_ROWS];
    struct act by_c[ROW_BATCH], act[ROW_BATCH];
    for (int i = 0; i < ROW_BATCH; i++) {
        for (int64_t k = 0; k < n; k++) /* the parts of a block differ in size */
            x[i * n + k] *= (float)(1 + (k / 32 + i) % 9);
        by_c[i] = (struct act){q[0][i], s[0][i], d[0][i], NULL};
        leaves_c.quantise(x + i * n, n, act_kind(type), &by_c[i]);
        act[i] = (struct act){q[1][i], s[1][i], d[1][i], planes[i]};
        leaf->quantise(x + i * n, n, act_kind(type), &act[i]);
    }
    struct tile *t0 = tile_in(0, type, n), *t1 = tile_in(1, type, n);
    leaves_c.tile_unpack(&rows, n_rows, t0);
    leaf->tile_unpack(&rows, n_rows, t1);
    for (int m = 1; m <= ROW_BATCH; m++) {
        memset(z, 0, sizeof(z));
        tile_dots(&leaves_c, t0, by_c, m, z[0]);
        tile_dots(leaf, t1, act, m, z[1]);
        same_bits(z[1], z[0], sizeof(z[0]), leaf->name, "tile_dot", name);
        memset(z[1], 0, sizeof(z[1]));
        leaf->row_dot(&rows, n_rows, act, m, z[1]);
        for (int i = 0; i < m; i++)
            same_bits(z[1][i], z[0][i], (size_t)n_rows * 4, leaf->name, "row_dot", name);
        memset(z[1], 0, sizeof(z[1]));
        leaves_c.row_dot(&rows, n_rows, by_c, m, z[1]);
        for (int i = 0; i < m; i++)
            same_bits(z[1][i], z[0][i], (size_t)n_rows * 4, "c", "row_dot", name);
    }
    float *wide[2] = {case_poison(n), case_poison(n)};
    leaves_c.widen(type, w.data, wide[0], n);
    leaf->widen(type, w.data, wide[1], n);
    same_bits(wide[1], wide[0], (size_t)n * 4, leaf->name, "widen", name);
    free(wide[0]);
    free(wide[1]);
    free(x);
    case_free(&w);
}

/* ---- panels ---- */

/* Value number `at` of a step of panels with sums of their own (docs/NUMERICS.md). */
static int64_t step_value(enum quant_type type, int64_t step, int at)
{
    if (type == QUANT_Q8_0)
        return step * 32 + at;
    return step * 32 + at / 8 % 2 * 16 + at % 8 * 2 + at / 16;
}

static float half_of(float x)
{
    return bf16_to_f32(f32_to_bf16(x));
}

/* A weight in Q8_0, rounded to 11 bits like a binary16 256 times as large, then to 8; scales from 2
 * on are made smaller before. */
static float own_q8_0(int q, uint16_t scale)
{
    int lift = scale & 0x4000 ? 15 : 0;
    float v = 256.0f * (float)q * f16_to_f32(scale);
    if ((scale & 0x7c00) == 0x7c00)
        return NAN;
    int half = (f32_to_f16(ldexpf(fabsf(v), -lift)) + 4) >> 3;
    float w = half < 128 ? 0 : ldexpf((float)(128 + half % 128), half / 128 - 30 + lift);
    return v < 0 ? -w : w;
}

/* A float32 as three bfloat16. */
static void planes_of(float x, float *plane)
{
    for (int i = 0; i < 3; i++) {
        plane[i] = half_of(x);
        x -= plane[i];
    }
}

/* A sum by tiles that is as exact as float32 (docs/NUMERICS.md) over n products a[k * a_step] *
 * b[k * b_step] in steps of 32, of which the first `few` steps have less planes. */
struct tiled_sum {
    const float *a, *b;
    int64_t n, a_step, b_step;
    int a_planes, b_planes, few;
};

static float tiled_sum(const struct tiled_sum *t)
{
    float to = 0;
    for (int64_t at = 0; at < t->n; at += 32) {
        bool all = at / 32 >= t->few;
        int planes_a = all ? 3 : t->a_planes, planes_b = all ? 3 : t->b_planes;
        for (int i = 0; i < planes_a; i++)
            for (int j = 0; j < planes_b && i + j < 3; j++) {
                float sum[2] = {0, 0}, a[3], b[3];
                for (int64_t k = at; k < at + 32 && k < t->n; k++) {
                    planes_of(t->a[k * t->a_step], a);
                    planes_of(t->b[k * t->b_step], b);
                    sum[k % 2] = fmaf(a[i], b[j], sum[k % 2]);
                }
                to += sum[0] + sum[1];
            }
    }
    return to;
}

/* Weights as they meet panels with sums of their own. */
static void own_weights(enum quant_type type, const uint8_t *src, float *w, int64_t n)
{
    if (type != QUANT_Q8_0) {
        leaves_c.widen(type, src, w, n);
        for (int64_t k = 0; k < n && act_block(type); k++)
            w[k] = half_of(w[k]);
        return;
    }
    for (int64_t b = 0; b < n / 32; b++) {
        uint16_t scale;
        memcpy(&scale, src + 34 * b, 2);
        for (int j = 0; j < 32; j++)
            w[32 * b + j] = own_q8_0((int8_t)src[34 * b + 2 + j], scale);
    }
}

static float own_sum(enum quant_type type, const float *w, const float *x, int64_t n)
{
    float to = 0;
    if (!act_block(type)) {
        int planes = type == QUANT_F32 ? 3 : type == QUANT_F16 ? 2 : 1;
        struct tiled_sum t = {w, x, n, 1, 1, planes, 3, INT_MAX};
        return tiled_sum(&t);
    }
    for (int64_t step = 0; step < n / 32; step++) {
        float sum[2] = {0, 0};
        for (int at = 0; at < 32; at++) {
            int64_t k = step_value(type, step, at);
            if (k < n)
                sum[at % 2] = fmaf(w[k], half_of(x[k]), sum[at % 2]);
        }
        to += sum[0] + sum[1];
    }
    return to;
}

struct panel_case {
    const struct leaves *leaf;
    struct qrows rows;
    int n_rows, most;              /* weight rows, batch rows */
    float *x, *expected;           /* [most][n], [most][n_rows] */
    struct act *act;               /* [most] of the leaf */
};

/* Rows for floats are in d as they are. */
static struct act *quantised(const struct leaves *leaf, const struct panel_case *c)
{
    struct act *act = malloc((size_t)c->most * sizeof(*act));
    enum act_kind kind = act_kind(c->rows.type);
    int64_t n = c->rows.n;
    for (int i = 0; i < c->most; i++) {
        act[i] = (struct act){malloc((size_t)n * 2), malloc((size_t)n / 8 + 2),
                              malloc((size_t)n * 4), malloc((size_t)n * 2)};
        if (kind == ACT_NONE)
            memcpy(act[i].d, c->x + i * n, (size_t)n * 4);
        else
            leaf->quantise(c->x + i * n, n, kind, &act[i]);
    }
    return act;
}

static void free_acts(struct act *act, int n)
{
    for (int i = 0; i < n; i++) {
        free(act[i].q);
        free(act[i].sum16);
        free(act[i].d);
        free(act[i].planes);
    }
    free(act);
}

static void expect_own(struct panel_case *c)
{
    float *wide = case_poison(c->rows.n);
    for (int o = 0; o < c->n_rows; o++) {
        own_weights(c->rows.type, c->rows.data + (size_t)o * c->rows.row_bytes, wide, c->rows.n);
        for (int i = 0; i < c->most; i++)
            c->expected[i * c->n_rows + o] =
                own_sum(c->rows.type, wide, c->x + i * c->rows.n, c->rows.n);
    }
    free(wide);
}

static void expect_portable(struct panel_case *c)
{
    struct act *act = quantised(&leaves_c, c);
    float y[ROW_BATCH][TILE_ROWS];
    for (int o = 0; o < c->n_rows; o += TILE_ROWS) {
        int width = c->n_rows - o < TILE_ROWS ? c->n_rows - o : TILE_ROWS;
        struct qrows rows = c->rows;
        rows.data += (size_t)o * rows.row_bytes;
        for (int i = 0; i < c->most; i++) {
            leaves_c.row_dot(&rows, width, &act[i], 1, y);
            memcpy(c->expected + i * c->n_rows + o, y[0], (size_t)width * sizeof(float));
        }
    }
    free_acts(act, c->most);
}

/* m batch rows from row `first` on. */
static void panel_batch(const struct panel_case *c, int first, int m)
{
    const struct panels *p = c->leaf->panels;
    struct panel_form form = {.kind = act_kind(c->rows.type), .n = c->rows.n,
                              .columns = m > 8 ? 16 : m > 4 ? 8 : m > 2 ? 4 : m};
    size_t stride = p->bytes(form.n, form.kind, form.columns);
    uint8_t *panel = aligned_alloc(PANEL_ALIGN, (size_t)(m + 15) / 16 * stride);
    int width = c->n_rows + 3;
    float *sums = case_poison(PANEL_SUMS), *y = case_poison((int64_t)(m + 1) * width);
    memset(panel, 0xff, (size_t)(m + 15) / 16 * stride);
    for (int i = 0; i < m; i += PANEL_ROWS)
        p->pack(c->act + first + i, m - i < PANEL_ROWS ? m - i : PANEL_ROWS, &form,
                panel + (size_t)(i / PANEL_ROWS) * stride);
    struct panel_view view = {panel, stride, form.columns, m};
    p->dot(&(struct panel_dot){c->rows, c->n_rows, sums}, &view, y, width);
    for (int i = 0; i < m; i++) {
        for (int o = 0; o < c->n_rows; o++)
            case_check(!memcmp(&y[i * width + o], &c->expected[(first + i) * c->n_rows + o], 4),
                       "%s: %s, row %d of %d with %d of %d batch rows: %.9g, expected %.9g",
                       c->leaf->name, quant_info(c->rows.type)->name, o, c->n_rows, i, m,
                       y[i * width + o], c->expected[(first + i) * c->n_rows + o]);
        case_check(isnan(y[i * width + c->n_rows]), "%s: a row of %d is too long", c->leaf->name,
                   c->n_rows);
    }
    case_check(isnan(y[m * width]), "%s: more than %d rows", c->leaf->name, m);
    free(panel);
    free(sums);
    free(y);
}

static void panel_products(const struct leaves *leaf, enum quant_type type, int64_t n, int n_rows)
{
    static const int batch[] = {1, 2, 3, 5, 8, 9, 16, 17, 31, 32, 33, 70, 97, 113};
    enum { MOST = 113 };
    struct weight w = case_weight(type, n, n_rows, 1);
    struct panel_case c = {.leaf = leaf, .n_rows = n_rows, .most = MOST,
                           .x = case_floats(MOST * n, 1.0f),
                           .expected = case_poison(MOST * n_rows),
                           .rows = {type, w.data, n, quant_row_bytes(type, n)}};
    for (int64_t k = 0; k < MOST * n; k++) /* the parts of a block differ in size */
        c.x[k] *= (float)(1 + k / 32 % 9);
    if (as_portable(leaf, type))
        expect_portable(&c);
    else
        expect_own(&c);
    c.act = quantised(leaf, &c);
    for (size_t k = 0; k < sizeof(batch) / sizeof(batch[0]); k++)
        panel_batch(&c, (int)(case_random() % (uint64_t)(MOST - batch[k] + 1)), batch[k]);
    free_acts(c.act, MOST);
    free(c.expected);
    free(c.x);
    case_free(&w);
}

/* Each value of a block, by batch rows that are 1 at one place and 0 elsewhere. */
static void values_of(const struct leaves *leaf, enum quant_type type, const uint8_t *block,
                      float *y)
{
    static int16_t q[32][32], sum16[32][2];
    static float d[32][1];
    struct act act[32];
    struct panel_form form = {.kind = act_kind(type), .n = 32, .columns = PANEL_ROWS};
    size_t bytes = leaf->panels->bytes(32, form.kind, PANEL_ROWS);
    uint8_t *panel = aligned_alloc(PANEL_ALIGN, 2 * bytes);
    float *sums = case_poison(PANEL_SUMS);
    struct panel_view view = {panel, bytes, PANEL_ROWS, 32};
    struct panel_dot dot = {{type, block, 32, quant_row_bytes(type, 32)}, 1, sums};
    for (int k = 0; k < 32; k++) {
        float x[32] = {0};
        x[k] = 1;
        act[k] = (struct act){q[k], sum16[k], d[k], NULL};
        leaf->quantise(x, 32, form.kind, &act[k]);
    }
    leaf->panels->pack(act, PANEL_ROWS, &form, panel);
    leaf->panels->pack(act + PANEL_ROWS, PANEL_ROWS, &form, panel + bytes);
    leaf->panels->dot(&dot, &view, y, 1);
    free(panel);
    free(sums);
}

static void mxfp4_scales(const struct leaves *leaf)
{
    uint8_t block[17];
    float w[32], y[32];
    for (int j = 0; j < 16; j++)
        block[1 + j] = (uint8_t)(j | (15 - j) << 4);
    for (int e = 0; e < 255; e++) {
        block[0] = (uint8_t)e;
        leaves_c.widen(QUANT_MXFP4, block, w, 32);
        values_of(leaf, QUANT_MXFP4, block, y);
        for (int k = 0; k < 32; k++) {
            float expected = fabsf(w[k]) < 0x1p-126f ? 0 : w[k];
            /* an infinite weight of another place meets 0 */
            case_check(e > 251 ? isnan(y[k]) || y[k] == expected : y[k] == expected,
                       "%s: MXFP4 with scale %d, value %d: %g, expected %g", leaf->name, e, k, y[k],
                       expected);
        }
    }
}

/* From subnormal scales to NaN, of both signs. */
static void q8_0_scales(const struct leaves *leaf)
{
    static const int8_t numbers[8] = {0, 1, -1, 3, 77, -101, 127, -128};
    for (uint32_t scale = 0; scale < 0x10000; scale += scale % 3 ? 1 : 40) {
        uint8_t block[34] = {(uint8_t)scale, (uint8_t)(scale >> 8)};
        float w[32], y[32];
        for (int j = 0; j < 32; j++)
            block[2 + j] = (uint8_t)(numbers[j % 8] + j / 8);
        own_weights(QUANT_Q8_0, block, w, 32);
        values_of(leaf, QUANT_Q8_0, block, y);
        for (int k = 0; k < 32; k++)
            case_check(isnan(w[k]) ? isnan(y[k]) : y[k] == w[k],
                       "%s: Q8_0 with scale 0x%04x, number %d: %g, expected %g", leaf->name, scale,
                       (int8_t)block[2 + k], y[k], w[k]);
    }
}

/* ---- lattices ---- */

/* The numbers first, first + 1 and so on of a block's rows, 32 or 64. */
static void name_rows(enum quant_type type, uint8_t *block, int first)
{
    int rows = type == QUANT_IQ3_XXS || type == QUANT_IQ3_S ? 64 : 32;
    for (int g = 0; g < rows; g++) {
        unsigned n = (unsigned)(first + g), high = n >> 8;
        if (type == QUANT_IQ2_XS) {
            uint16_t v = (uint16_t)(n | (unsigned)(g * 37 % 128) << 9);
            memcpy(block + 2 + 2 * g, &v, sizeof(v));
            continue;
        }
        block[2 + g] = (uint8_t)n;
        if (type == QUANT_IQ2_S)
            block[66 + g / 4] |= (uint8_t)(high << g % 4 * 2);
        else if (type == QUANT_IQ3_S)
            block[66 + g / 8] |= (uint8_t)(high << g % 8);
        else if (type == QUANT_IQ1_S)
            block[35 + g / 4 * 2] |= (uint8_t)(high << g % 4 * 3 >> 8);
        if (type == QUANT_IQ1_S)
            block[34 + g / 4 * 2] |= (uint8_t)(high << g % 4 * 3);
    }
}

/* Every row of every lattice. */
static void leaf_lattices(const struct leaves *leaf)
{
    static const struct {
        enum quant_type type;
        int rows;
    } lattices[] = {{QUANT_IQ2_XS, 512}, {QUANT_IQ2_S, 1024}, {QUANT_IQ3_XXS, 256},
                    {QUANT_IQ3_S, 512}, {QUANT_IQ1_S, 2048}};
    float *x = case_floats(256, 1.0f);
    for (size_t k = 0; k < sizeof(lattices) / sizeof(lattices[0]); k++) {
        enum quant_type type = lattices[k].type;
        int16_t q[2][256], sum16[2][16];
        float d[2], y[2][1][TILE_ROWS];
        int8_t planes[512];
        struct act act[2] = {{q[0], sum16[0], &d[0], NULL}, {q[1], sum16[1], &d[1], planes}};
        leaves_c.quantise(x, 256, act_kind(type), &act[0]);
        leaf->quantise(x, 256, act_kind(type), &act[1]);
        int step = type == QUANT_IQ3_XXS || type == QUANT_IQ3_S ? 64 : 32;
        for (int first = 0; first < lattices[k].rows; first += step) {
            uint8_t block[128] = {0x00, 0x3c}; /* 1.0 */
            struct qrows row = {type, block, 256, quant_row_bytes(type, 256)};
            name_rows(type, block, first);
            leaves_c.row_dot(&row, 1, &act[0], 1, y[0]);
            leaf->row_dot(&row, 1, &act[1], 1, y[1]);
            case_check(y[0][0][0] == y[1][0][0], "%s: %s, rows from %d on: %a, expected %a",
                       leaf->name, quant_info(type)->name, first, y[1][0][0], y[0][0][0]);
        }
    }
    free(x);
}

/* ---- attention by tiles ---- */

struct attend_case {
    const struct attend_tiles *tiles;
    int heads, keys;
    int64_t dim, plain;
    float *q, *key, *p;            /* [heads][dim], [keys][dim], [heads][keys] */
};

static void check_attend(const struct attend_case *c, int h, int64_t at, float y, float expected)
{
    case_check(y == expected, "attention of %d heads, %d keys of %d: head %d, %d: %.9g, "
               "expected %.9g", c->heads, c->keys, (int)c->dim, h, (int)at, y, expected);
}

static void attend_scores(const struct attend_case *c, uint8_t *area)
{
    float *s = case_poison((int64_t)c->heads * c->keys);
    for (int j = 0; j < c->keys; j += ATTEND_BLOCK) {
        int n = c->keys - j < ATTEND_BLOCK ? c->keys - j : ATTEND_BLOCK;
        struct attend_keys k = {c->key + j * c->dim, n, c->heads, c->dim, c->plain};
        struct attend_scores to = {s + j, c->keys, 0.125f};
        c->tiles->score(&k, area, &to);
    }
    for (int h = 0; h < c->heads; h++)
        for (int j = 0; j < c->keys; j++) {
            struct tiled_sum t = {c->key + j * c->dim, c->q + h * c->dim, c->dim, 1, 1, 1, 3,
                                  (int)(c->plain / 32)};
            check_attend(c, h, j, s[h * c->keys + j], tiled_sum(&t) * 0.125f);
        }
    free(s);
}

static void attend_outputs(const struct attend_case *c, uint8_t *area)
{
    float *o = case_poison(c->heads * c->dim), *out[ATTEND_MOST_HEADS];
    for (int h = 0; h < c->heads; h++)
        out[h] = o + h * c->dim;
    for (int j = 0; j < c->keys; j += ATTEND_BLOCK) {
        int n = c->keys - j < ATTEND_BLOCK ? c->keys - j : ATTEND_BLOCK;
        struct attend_keys k = {c->key + j * c->dim, n, c->heads, c->dim, c->plain};
        struct attend_scores from = {.s = c->p + j, .stride = c->keys};
        c->tiles->mix(&k, &from, j == 0, area);
    }
    c->tiles->outputs(area, c->heads, c->dim, out);
    for (int h = 0; h < c->heads; h++)
        for (int64_t d = 0; d < c->dim; d++) {
            int steps = d < c->plain / 32 * 32 ? (c->keys + 31) / 32 : 0;
            struct tiled_sum t = {c->p + h * c->keys, c->key + d, c->keys, 1, c->dim, 3, 1, steps};
            check_attend(c, h, d, out[h][d], tiled_sum(&t));
        }
    free(o);
}

static void leaf_attend(const struct leaves *leaf)
{
    static const struct {
        int heads, keys, dim, plain;
    } sizes[] = {{1, 1, 33, 0}, {16, 31, 96, 80}, {17, 33, 24, 16}, {3, 128, 64, 64},
                 {64, 129, 40, 32}, {33, 300, 70, 40}};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        struct attend_case c = {leaf->attend, sizes[k].heads, sizes[k].keys, sizes[k].dim,
                                sizes[k].plain, NULL, NULL, NULL};
        const float *q[ATTEND_MOST_HEADS];
        size_t bytes = leaf->attend->bytes(c.dim);
        uint8_t *area = aligned_alloc(64, bytes);
        memset(area, 0xff, bytes);
        c.q = case_floats(c.heads * c.dim, 1.0f);
        c.key = case_floats(c.keys * c.dim, 1.0f);
        c.p = case_floats((int64_t)c.heads * c.keys, 1.0f);
        for (int64_t i = 0; i < c.keys * c.dim; i++)
            if (i % c.dim < c.plain)
                c.key[i] = half_of(c.key[i]);
        for (int h = 0; h < c.heads; h++)
            q[h] = c.q + h * c.dim;
        leaf->attend->queries(q, c.heads, c.dim, area);
        attend_scores(&c, area);
        attend_outputs(&c, area);
        free(c.q);
        free(c.key);
        free(c.p);
        free(area);
    }
}

static void leaf_panels(const struct leaves *leaf)
{
    if (!as_portable(leaf, QUANT_MXFP4)) {
        mxfp4_scales(leaf);
        q8_0_scales(leaf);
    }
    static const struct {
        int blocks, n_rows;
    } sizes[] = {{1, 1}, {2, 16}, {3, 37}, {7, 17}, {9, 32}, {16, 100}};
    for (int k = 0; k < CASE_TYPES; k++)
        for (size_t b = 0; b < sizeof(sizes) / sizeof(sizes[0]); b++) {
            int block = act_block(case_types[k]);
            panel_products(leaf, case_types[k], block ? block * sizes[b].blocks
                                                      : 33 * sizes[b].blocks,
                           sizes[b].n_rows);
        }
}

static void leaf_quantised(const struct leaves *leaf)
{
    for (int k = 0; k < CASE_TYPES; k++) {
        int block = act_block(case_types[k]);
        static const int64_t blocks[] = {1, 2, 7, 8, 9, 13, 16};
        bool same = block && as_portable(leaf, case_types[k]);
        for (size_t b = 0; same && b < sizeof(blocks) / sizeof(blocks[0]); b++)
            leaf_products(leaf, case_types[k], block * blocks[b], b % 2 ? 16 : 11);
    }
}

static void leaf_dots(const struct leaves *leaf)
{
    static const int64_t sizes[] = {1, 5, 8, 15, 16, 17, 64, 100, 515};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        int64_t n = sizes[k];
        float *w = case_floats(16 * n, 1), *x = case_floats(16 * n, 1), y[2][DOTS_X][DOTS_W];
        const float *wr[DOTS_W], *xr[DOTS_X];
        for (int i = 0; i < 16; i++) {
            wr[i] = w + i * n;
            xr[i] = x + i * n;
        }
        for (int m = 1; m <= 16; m++) {
            memset(y, 0, sizeof(y));
            leaves_c.dots(wr, 17 - m, xr, m, n, y[0]);
            leaf->dots(wr, 17 - m, xr, m, n, y[1]);
            same_bits(y[1], y[0], sizeof(y[0]), leaf->name, "dots", "");
        }
        for (int m = 1; m <= 16; m++) {
            float *o[2] = {case_floats(16 * n, 1), malloc((size_t)(16 * n) * 4)}, *rows[2][16];
            memcpy(o[1], o[0], (size_t)(16 * n) * 4);
            for (int i = 0; i < 16; i++)
                for (int l = 0; l < 2; l++)
                    rows[l][i] = o[l] + i * n;
            struct mix_keys keys = {&y[0][0][0], 16, x, 17 - m, n};
            leaves_c.mix(rows[0], m, &keys);
            leaf->mix(rows[1], m, &keys);
            same_bits(o[1], o[0], (size_t)(16 * n) * 4, leaf->name, "mix", "");
            free(o[0]);
            free(o[1]);
        }
        free(w);
        free(x);
    }
}

/* Halves that are widened and then dotted, and dotted where they lie. */
static void leaf_half_dots(const struct leaves *leaf)
{
    static const int64_t sizes[] = {1, 7, 16, 17, 100, 515};
    for (size_t k = 0; k < 2 * sizeof(sizes) / sizeof(sizes[0]); k++) {
        enum quant_type type = k % 2 ? QUANT_BF16 : QUANT_F16;
        int64_t n = sizes[k / 2];
        struct weight w = case_weight(type, n, 16, 1);
        struct qrows rows = {type, w.data, n, quant_row_bytes(type, n)};
        float *wide = case_poison(16 * n), *x = case_floats(HALF_X * n, 1);
        float y[3][HALF_X][DOTS_W];
        const float *wr[DOTS_W], *xr[HALF_X];
        for (int i = 0; i < 16; i++) {
            wr[i] = wide + i * n;
            leaves_c.widen(type, rows.data + (size_t)i * rows.row_bytes, wide + i * n, n);
        }
        for (int i = 0; i < HALF_X; i++)
            xr[i] = x + i * n;
        for (int m = 1; m <= HALF_X; m++) {
            memset(y, 0, sizeof(y));
            leaves_c.dots(wr, 17 - 2 * m, xr, m, n, y[0]);
            leaves_c.half_dots(&rows, 17 - 2 * m, xr, m, y[1]);
            leaf->half_dots(&rows, 17 - 2 * m, xr, m, y[2]);
            same_bits(y[1], y[0], sizeof(y[0]), "c", "half_dots", quant_info(type)->name);
            same_bits(y[2], y[0], sizeof(y[0]), leaf->name, "half_dots", quant_info(type)->name);
        }
        free(wide);
        free(x);
        case_free(&w);
    }
}

/* Index queries against the reference's rows, encoded and decoded. With n = 4^k the transform of a
 * transform is exact: values between two of FP4, and zeros of both signs. */
static void leaf_index_query(const struct leaves *leaf)
{
    static const int sizes[] = {2, 4, 8, 16, 32, 64, 128, 256};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++)
        for (int trial = 0; trial < 40; trial++) {
            int n = sizes[k];
            float x[256], y[256];
            uint8_t row[256];
            for (int j = 0; j < n; j++) {
                float v = (float)(case_random() % 49) * 0.25f - 6.0f;
                int power = trial == 36 ? -130 : trial % 20 * 6 - 60;
                x[j] = trial % 8 == 7 && j < 40 ? -0.0f : ldexpf(v, power);
            }
            if (trial % 2)
                ref_hadamard(x, n);
            if (trial == 38)
                x[n / 2] = INFINITY;
            memcpy(y, x, sizeof(y));
            ref_index_row_encode(KV_FP8, x, n, row);
            ref_index_row_decode(KV_FP8, row, n, x);
            leaf->index_query(y, n);
            for (int j = 0; j < n; j++)
                case_check(isnan(x[j]) ? isnan(y[j]) : !memcmp(&x[j], &y[j], 4),
                           "%s: index query %d of %d: %g, expected %g", leaf->name, j, n, y[j],
                           x[j]);
        }
}

static void leaf_elements(const struct leaves *leaf)
{
    uint8_t codes[512], scales[16];
    float a[2][512], *x = case_floats(4 * 300, 4.0f), *f = case_floats(300, 1.0f);
    for (int i = 0; i < 512; i++)
        codes[i] = (uint8_t)i;
    for (int i = 0; i < 16; i++)
        scales[i] = (uint8_t)(100 + 3 * i);
    for (int scale = 0; scale < 256; scale++) {
        uint8_t block[128], same[2] = {(uint8_t)scale, (uint8_t)(255 - scale)};
        for (int i = 0; i < 128; i++)
            block[i] = (uint8_t)(i < 64 && scale % 2 ? 0x40 + i / 2 : 2 * i);
        leaves_c.fp8_decode(block, same, 128, a[0]);
        leaf->fp8_decode(block, same, 128, a[1]);
        same_bits(a[1], a[0], 128 * sizeof(float), leaf->name, "fp8_decode", "at every scale");
    }
    for (int n = 448; n >= 8; n -= 55) {
        leaves_c.fp8_decode(codes, scales, n, a[0]);
        leaf->fp8_decode(codes, scales, n, a[1]);
        same_bits(a[1], a[0], (size_t)n * 4, leaf->name, "fp8_decode", "");
        for (int i = 0; i < n; i++) {
            float expected = e4m3_to_f32(codes[i]) * e8m0_to_f32(scales[i / 64]);
            case_check(isnan(expected) ? isnan(a[0][i]) : a[0][i] == expected, "fp8 code %d", i);
        }
        leaves_c.fp4_decode(codes, scales, n, a[0]);
        leaf->fp4_decode(codes, scales, n, a[1]);
        same_bits(a[1], a[0], (size_t)n * 4, leaf->name, "fp4_decode", "");
    }
    for (int n = 300; n > 0; n -= 37) {
        memcpy(a[0], x, sizeof(a[0]));
        memcpy(a[1], x, sizeof(a[1]));
        leaves_c.exp_minus(a[0], n, 3.0f);
        leaf->exp_minus(a[1], n, 3.0f);
        same_bits(a[1], a[0], (size_t)n * 4, leaf->name, "exp_minus", "");
        leaves_c.gated(x, x + 300, n, 2.5f, 1.5f, a[0]);
        leaf->gated(x, x + 300, n, 2.5f, 1.5f, a[1]);
        same_bits(a[1], a[0], (size_t)n * 4, leaf->name, "gated", "");
        leaves_c.scaled(x, f, 0.3f, n, a[0]);
        leaf->scaled(x, f, 0.3f, n, a[1]);
        same_bits(a[1], a[0], (size_t)n * 4, leaf->name, "scaled", "");
        leaves_c.divide(a[0], 0.7f, n);
        leaf->divide(a[1], 0.7f, n);
        same_bits(a[1], a[0], (size_t)n * 4, leaf->name, "divide", "");
        leaves_c.relu_add(x, 0.3f, n, a[0]);
        leaf->relu_add(x, 0.3f, n, a[1]);
        same_bits(a[1], a[0], (size_t)n * 4, leaf->name, "relu_add", "");
        leaves_c.combine(f, x, 300, 4, n, a[0]);
        leaf->combine(f, x, 300, 4, n, a[1]);
        same_bits(a[1], a[0], (size_t)n * 4, leaf->name, "combine", "");
        float s[2][1200];
        memcpy(s[0], x, sizeof(s[0]));
        memcpy(s[1], x, sizeof(s[1]));
        struct stream_piece piece[2];
        for (int l = 0; l < 2; l++)
            piece[l] = (struct stream_piece){4, n < 280 ? n : 280, 300, s[l]};
        leaves_c.spread(f, f + 4, f + 20, &piece[0]);
        leaf->spread(f, f + 4, f + 20, &piece[1]);
        same_bits(s[1], s[0], sizeof(s[0]), leaf->name, "spread", "");
    }
    free(x);
    free(f);
}

/* ---- whole products: threads and batch ---- */

static float *product(const struct backend *b, const struct weight *w, const float *x, int n)
{
    float *y = case_poison(n * w->n_out);
    struct matmul_args a = {.n = n, .n_w = 1, .x = x, .x_stride = w->n_in, .w = {*w}, .y = {y}};
    b->ops.matmul(b->ops.ctx, &a);
    return y;
}

static void batches_and_threads(const char *isa)
{
    struct backend b[4];
    static const int threads[] = {1, 2, 3, 5};
    for (int k = 0; k < 4; k++)
        backend_open(&b[k], "cpu", isa, threads[k]);
    for (int t = 0; t < CASE_TYPES; t++) {
        int64_t n_in = act_block(case_types[t]) == 256 ? 768 : 352;
        struct weight w = case_weight(case_types[t], n_in, 77, 1);
        float *x = case_floats(9 * n_in, 1.0f), *whole = product(&b[0], &w, x, 9);
        for (int k = 0; k < 4; k++) {
            for (int n = 1; n <= 9; n++) {
                float *y = product(&b[k], &w, x + (9 - n) * n_in, n);
                same_bits(y, whole + (9 - n) * 77, (size_t)n * 77 * 4, isa, "a batch of",
                          quant_info(w.type)->name);
                free(y);
            }
        }
        free(x);
        free(whole);
        case_free(&w);
    }
    for (int k = 0; k < 4; k++)
        backend_close(&b[k]);
}

static void instruction_set(const char *isa)
{
    for (int k = 0; cpu_choices[k].leaf; k++) {
        const struct leaves *leaf = cpu_choices[k].leaf;
        if (strcmp(leaf->name, isa) || !cpu_has(cpu_choices[k].isa))
            continue;
        CASE(leaf_quantise, leaf);
        CASE(leaf_quantised, leaf);
        CASE(leaf_lattices, leaf);
        if (leaf->panels)
            CASE(leaf_panels, leaf);
        if (leaf->attend)
            CASE(leaf_attend, leaf);
        CASE(leaf_dots, leaf);
        CASE(leaf_half_dots, leaf);
        CASE(leaf_elements, leaf);
        CASE(leaf_index_query, leaf);
        CASE(batches_and_threads, isa);
        return;
    }
    printf("%s: skipped, this machine or build does not have it\n", isa);
}

/* ---- speed ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct read_job {
    const uint64_t *at;
    uint64_t sum[POOL_MAX_THREADS][8];
};

#define READ_PIECE (1 << 20)

static void read_pieces(void *arg, int64_t first, int64_t last, int worker)
{
    struct read_job *job = arg;
    uint64_t s[8] = {0};
    for (int64_t i = first * READ_PIECE / 8; i < last * READ_PIECE / 8; i += 8)
        for (int k = 0; k < 8; k++)
            s[k] ^= job->at[i + k];
    for (int k = 0; k < 8; k++)
        job->sum[worker][k] ^= s[k];
}

static double read_bandwidth(struct pool *pool)
{
    int64_t pieces = 512;
    struct read_job *job = calloc(1, sizeof(*job));
    job->at = aligned_alloc(4096, (size_t)pieces * READ_PIECE);
    memset((void *)(uintptr_t)job->at, 1, (size_t)pieces * READ_PIECE);
    double best = 0;
    for (int k = 0; k < 5; k++) {
        double t = now();
        pool_run(pool, pieces, 8, read_pieces, job);
        double rate = (double)pieces * READ_PIECE / (now() - t) / 1e9;
        best = rate > best ? rate : best;
    }
    free((void *)(uintptr_t)job->at);
    free(job);
    return best;
}

static void bench_type(enum quant_type type, const char *isa, int threads)
{
    struct backend b;
    struct sluice_error err;
    backend_open(&b, "cpu", isa, threads);
    struct ops_limits limits = case_limits();
    limits.max_rows = 512;
    limits.max_in = 4096;
    b.ops.plan(b.ops.ctx, &limits, &err);
    /* more weights than caches hold */
    int64_t n_out = (int64_t)((128u << 20) / quant_row_bytes(type, 4096)) / 16 * 16;
    struct weight w = case_weight(type, 4096, 512, 1);
    uint64_t bytes = quant_row_bytes(type, 4096) * (uint64_t)n_out;
    uint8_t *big = malloc(bytes);
    for (uint64_t at = 0; at < bytes; at += quant_row_bytes(type, 4096) * 512)
        memcpy(big + at, w.data, at + quant_row_bytes(type, 4096) * 512 <= bytes
                                     ? quant_row_bytes(type, 4096) * 512 : bytes - at);
    struct weight gemv = {type, 4096, n_out, 1, big};
    float *x = case_floats(512 * 4096, 1.0f);
    double best[4] = {1e9, 1e9, 1e9, 1e9};
    static const int rows[4] = {1, 4, 12, 512};
    for (int k = 0; k < 12; k++) {
        for (int m = 0; m < 4; m++) {
            double t = now();
            free(product(&b, m < 2 ? &gemv : &w, x, rows[m]));
            t = now() - t;
            best[m] = t < best[m] ? t : best[m];
        }
    }
    double bandwidth = read_bandwidth(b.pool), macs = 512.0 * 4096 * 1e-9;
    printf("%-8s %-7s %d threads: 1 row %6.2f GB/s = %3.0f %% of %.1f GB/s, 4 rows %6.2f GB/s; "
           "12 rows %6.1f, 512 rows %6.1f GMAC/s\n", quant_info(type)->name, isa, threads,
           (double)bytes / best[0] / 1e9, (double)bytes / best[0] / 1e7 / bandwidth, bandwidth,
           (double)bytes / best[1] / 1e9, macs * 12 / best[2], macs * 512 / best[3]);
    fflush(stdout);
    free(x);
    free(big);
    case_free(&w);
    backend_close(&b);
}

static int bench(const char *type, int threads)
{
    for (int t = 0; t < CASE_TYPES; t++)
        for (int k = 0; cpu_choices[k].leaf; k++)
            if (cpu_has(cpu_choices[k].isa) && cpu_choices[k].isa != CPU_ISA_C &&
                (!type || !strcmp(type, quant_info(case_types[t])->name)))
                bench_type(case_types[t], cpu_choices[k].leaf->name, threads);
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const isa[] = {"c", "avx2", "avx512", "amx", "neon"};
    if (argc > 1 && !strcmp(argv[1], "bench"))
        return bench(argc > 2 && strcmp(argv[2], "all") ? argv[2] : NULL,
                     argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0);
    for (size_t k = 0; k < sizeof(isa) / sizeof(isa[0]); k++)
        instruction_set(isa[k]);
    return case_failures ? 1 : 0;
}
