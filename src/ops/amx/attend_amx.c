/* Attention by tiles, as exact as float32 (thirds_amx.h). Keys of FP8 rows are bfloat16 but for
 * their rotated end: they have one plane.
 *
 *   scores    tiles of 16 keys and 16 heads, a step is 32 values: key[16][32] . q[32][16]
 *   outputs   tiles of 16 heads and 16 values, a step is 32 keys: p[16][32] . key[32][16]
 *
 * An element's sum (docs/NUMERICS.md): step by step, in a step the pairs of planes in the order of
 * dot_planes. Registers 0 to 3 take sums, 4 and 5 two tiles of the left side, 6 and 7 of the right.
 * What is missing of a tile is zeros. */
#include "ops/amx/amx.h"
#include "ops/amx/thirds_amx.h"
#include "ops/amx/tiles_amx.h"

#define GROUPS (ATTEND_MOST_HEADS / 16)
#define KEY_STEPS (ATTEND_BLOCK / STEP)

/* Planes of a tile. */
struct planes {
    _Alignas(64) uint16_t half[PLANES][16][STEP];
};

typedef float out_tile[16][16];

/* What lies in the room, for `steps` of 32 values. */
struct attend_room {
    int64_t steps;
    struct planes *q;              /* [GROUPS][steps] */
    struct planes *key;            /* [2][steps] 32 keys as the left side */
    struct planes *value;          /* [2 * steps][KEY_STEPS] keys as the right side */
    struct planes *p;              /* [GROUPS][KEY_STEPS] */
    out_tile *out;                 /* [GROUPS][2 * steps] */
};

static int64_t steps_of(int64_t dim)
{
    return (dim + STEP - 1) / STEP;
}

static struct attend_room room_at(uint8_t *at, int64_t dim)
{
    struct attend_room r = {.steps = steps_of(dim)};
    r.q = (struct planes *)(void *)at;
    r.key = r.q + GROUPS * r.steps;
    r.value = r.key + 2 * r.steps;
    r.p = r.value + 2 * r.steps * KEY_STEPS;
    r.out = (out_tile *)(void *)(r.p + GROUPS * KEY_STEPS);
    return r;
}

static size_t attend_bytes(int64_t dim)
{
    size_t steps = (size_t)steps_of(dim), tiles = GROUPS * 2 * steps;
    size_t planes = (GROUPS + 2 + 2 * KEY_STEPS) * steps + GROUPS * KEY_STEPS;
    return planes * sizeof(struct planes) + tiles * sizeof(out_tile);
}

/* ---- planes ---- */

/* Planes of a step of the values of keys. */
static inline int planes_of(const struct attend_keys *k, int64_t step)
{
    return (step + 1) * STEP <= k->plain ? 1 : PLANES;
}

/* Rows of n values of a left side. */
struct left {
    const float *x;
    int64_t stride, n;
    int rows;
};

/* Values from `at` on of 16 rows, of which those that are missing become zeros. */
static void put_left(const struct left *l, int64_t at, int planes, struct planes *to)
{
    for (int i = 0; i < 16; i++) {
        __m512i half[PLANES] = {_mm512_setzero_si512(), _mm512_setzero_si512(),
                                _mm512_setzero_si512()};
        const float *x = l->x + i * l->stride;
        if (i < l->rows)
            split(floats_to(x, at, l->n), floats_to(x, at + 16, l->n), planes, half);
        for (int k = 0; k < planes; k++)
            _mm512_store_si512(to->half[k][i], half[k]);
    }
}

static void attend_queries(const float *const *q, int n_heads, int64_t dim, uint8_t *room)
{
    struct attend_room r = room_at(room, dim);
    for (int g = 0; g * 16 < n_heads; g++)
        for (int64_t s = 0; s < r.steps; s++) {
            __m512i half[PLANES][16], h[PLANES];
            for (int i = 0; i < 16; i++) {
                const float *x = q[g * 16 + i < n_heads ? g * 16 + i : 0];
                int64_t n = g * 16 + i < n_heads ? dim : 0;
                split(floats_to(x, s * STEP, n), floats_to(x, s * STEP + 16, n), PLANES, h);
                for (int k = 0; k < PLANES; k++)
                    half[k][i] = h[k];
            }
            for (int k = 0; k < PLANES; k++)
                transpose16(half[k], (int16_t *)r.q[g * r.steps + s].half[k]);
        }
}

/* Keys as the right side: of two keys side by side, value after value. */
static void put_values(const struct attend_keys *k, const struct attend_room *r, int64_t t)
{
    const __m512i in_turn = _mm512_add_epi32(
        _mm512_mullo_epi32(_mm512_set1_epi32(0x00010001),
                           _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)),
        _mm512_set1_epi32(0x00100000));
    int planes = planes_of(k, t / 2);
    for (int j = 0; j < (k->n + STEP - 1) / STEP * STEP; j += 2) {
        __m512i half[PLANES];
        const float *a = k->key + (j < k->n ? j : 0) * k->dim, *b = a + k->dim;
        split(floats_to(a, t * 16, j < k->n ? k->dim : 0),
              floats_to(j + 1 < k->n ? b : a, t * 16, j + 1 < k->n ? k->dim : 0), planes, half);
        for (int l = 0; l < planes; l++)
            _mm512_store_si512(r->value[t * KEY_STEPS + j / STEP].half[l][j % STEP / 2],
                               _mm512_permutexvar_epi16(in_turn, half[l]));
    }
}

/* ---- products ---- */

/* Two tiles by two, or by one where b[1] or a[1] is NULL. */
static inline __attribute__((always_inline)) void
dot_planes(const struct planes *const a[2], int planes_a, const struct planes *const b[2],
           int planes_b)
{
    for (int i = 0; i < planes_a; i++) {
        tile_load(4, a[0]->half[i], 64);
        if (a[1])
            tile_load(5, a[1]->half[i], 64);
        for (int j = 0; j < planes_b && i + j < PLANES; j++) {
            tile_load(6, b[0]->half[j], 64);
            tile_dot_half(0, 4, 6);
            if (a[1])
                tile_dot_half(1, 5, 6);
            if (!b[1])
                continue;
            tile_load(7, b[1]->half[j], 64);
            tile_dot_half(2, 4, 7);
            if (a[1])
                tile_dot_half(3, 5, 7);
        }
    }
}

/* Scores of the keys [j, j + 32) that lie in r->key. */
static void score_32(const struct attend_keys *k, const struct attend_room *r, int j,
                     const struct attend_scores *to)
{
    for (int g = 0; g * 16 < k->n_heads; g += 2) {
        _Alignas(64) out_tile sums[4];
        bool two = (g + 1) * 16 < k->n_heads;
        tile_zero_sums();
        for (int64_t s = 0; s < r->steps; s++) {
            const struct planes *a[2] = {r->key + s, r->key + r->steps + s};
            const struct planes *b[2] = {r->q + g * r->steps + s,
                                         two ? r->q + (g + 1) * r->steps + s : NULL};
            dot_planes(a, planes_of(k, s), b, PLANES);
        }
        tile_store_sums(sums);
        for (int t = 0; t < 4; t++) {
            int head = (g + t / 2) * 16, key = j + t % 2 * 16;
            int heads = k->n_heads - head < 16 ? k->n_heads - head : 16;
            int keys = k->n - key < 16 ? k->n - key : 16;
            if (heads > 0 && keys > 0)
                put_tile(sums[t], heads, keys, to->scale, to->s + head * to->stride + key,
                         to->stride);
        }
    }
}

static void attend_score(const struct attend_keys *k, uint8_t *room, const struct attend_scores *to)
{
    struct attend_room r = room_at(room, k->dim);
    tile_full_shapes();
    for (int j = 0; j < k->n; j += 32) {
        for (int t = 0; t < 2; t++) {
            int first = j + t * 16;
            struct left keys = {k->key + first * k->dim, k->dim, k->dim, k->n - first};
            for (int64_t s = 0; s < r.steps; s++)
                put_left(&keys, s * STEP, planes_of(k, s), &r.key[t * r.steps + s]);
        }
        score_32(k, &r, j, to);
    }
    tile_release();
}

/* Adds the keys to two groups of heads, of 32 values. */
static void mix_32(const struct attend_keys *k, const struct attend_room *r, int g, int64_t s,
                   bool first)
{
    bool two = (g + 1) * 16 < k->n_heads;
    out_tile *out[2] = {r->out + g * 2 * r->steps + 2 * s, r->out + (g + 1) * 2 * r->steps + 2 * s};
    tile_zero_sums();
    if (!first) {
        tile_load(0, out[0][0], 64);
        tile_load(2, out[0][1], 64);
    }
    if (!first && two) {
        tile_load(1, out[1][0], 64);
        tile_load(3, out[1][1], 64);
    }
    for (int j = 0; j * STEP < k->n; j++) {
        const struct planes *a[2] = {r->p + g * KEY_STEPS + j,
                                     two ? r->p + (g + 1) * KEY_STEPS + j : NULL};
        const struct planes *b[2] = {r->value + 2 * s * KEY_STEPS + j,
                                     r->value + (2 * s + 1) * KEY_STEPS + j};
        dot_planes(a, PLANES, b, planes_of(k, s));
    }
    tile_store(0, out[0][0], 64);
    tile_store(2, out[0][1], 64);
    if (two) {
        tile_store(1, out[1][0], 64);
        tile_store(3, out[1][1], 64);
    }
}

static void attend_mix(const struct attend_keys *k, const struct attend_scores *from, bool first,
                       uint8_t *room)
{
    struct attend_room r = room_at(room, k->dim);
    for (int g = 0; g * 16 < k->n_heads; g++) {
        struct left p = {from->s + g * 16 * from->stride, from->stride, k->n, k->n_heads - g * 16};
        for (int j = 0; j * STEP < k->n; j++)
            put_left(&p, j * STEP, PLANES, &r.p[g * KEY_STEPS + j]);
    }
    for (int64_t t = 0; t < 2 * r.steps; t++)
        put_values(k, &r, t);
    tile_full_shapes();
    for (int g = 0; g * 16 < k->n_heads; g += 2)
        for (int64_t s = 0; s < r.steps; s++)
            mix_32(k, &r, g, s, first);
    tile_release();
}

static void attend_outputs(uint8_t *room, int n_heads, int64_t dim, float *const *out)
{
    struct attend_room r = room_at(room, dim);
    for (int h = 0; h < n_heads; h++) {
        const out_tile *tile = r.out + h / 16 * 2 * r.steps;
        for (int64_t t = 0; t * 16 < dim; t++)
            _mm512_mask_storeu_ps(out[h] + t * 16, mask_to(t * 16, dim),
                                  _mm512_load_ps(tile[t][h % 16]));
    }
}

const struct attend_tiles amx_attend_tiles = {
    .bytes = attend_bytes,
    .queries = attend_queries,
    .score = attend_score,
    .mix = attend_mix,
    .outputs = attend_outputs,
};
