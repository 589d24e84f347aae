/* Panels: PANEL_ROWS quantised batch rows as tiles take them. Two or four values of one row lie
 * side by side, then those of the next row: 32 values as bfloat16, in the pairs of planes_amx.h,
 * 256 as bytes in two planes. All blocks of a panel come first, then what belongs to each. */
#ifndef SLUICE_OPS_AMX_PANELS_AMX_H
#define SLUICE_OPS_AMX_PANELS_AMX_H

#include "ops/amx/planes_amx.h"
#include "ops/avx512/transpose_avx512.h"

struct panel_32 {
    uint16_t q[16][PANEL_ROWS][2];
};
struct panel_256 {
    int8_t low[4][16][PANEL_ROWS][4], high[4][16][PANEL_ROWS][4];
};
struct tail_32 {
    float d[PANEL_ROWS];
};
struct tail_256 {
    int8_t sum_low[4][PANEL_ROWS][4], sum_high[4][PANEL_ROWS][4]; /* of 16 values each */
    float d[PANEL_ROWS];
};

/* Tiles of sums of 16 values are loaded as 16 rows, of which the last 12 meet zeros. */
#define PANEL_END 1024

static size_t panel_bytes(int64_t n, enum act_kind kind)
{
    size_t of_32 = (size_t)(n / 32) * (sizeof(struct panel_32) + sizeof(struct tail_32));
    size_t of_256 = (size_t)(n / 256) * (sizeof(struct panel_256) + sizeof(struct tail_256));
    size_t bytes = kind == ACT_32 ? of_32 : of_256 + PANEL_END;
    return (bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static inline struct tail_32 *tails_32(const uint8_t *panel, int64_t n)
{
    const uint8_t *end = panel + (size_t)(n / 32) * sizeof(struct panel_32);
    return (struct tail_32 *)(void *)(uintptr_t)end;
}

static inline struct tail_256 *tails_256(const uint8_t *panel, int64_t n)
{
    const uint8_t *end = panel + (size_t)(n / 256) * sizeof(struct panel_256);
    return (struct tail_256 *)(void *)(uintptr_t)end;
}

static void pack_32(const struct act *x, int n_rows, int64_t n, uint8_t *panel)
{
    struct panel_32 *to = (struct panel_32 *)(void *)panel;
    struct tail_32 *tail = tails_32(panel, n);
    for (int64_t b = 0; b < n / 32; b++) {
        __m512i v[PANEL_ROWS];
        for (int i = 0; i < PANEL_ROWS; i++) {
            v[i] = i < n_rows ? halves_of_words(_mm512_loadu_si512(x[i].q + 32 * b))
                              : _mm512_setzero_si512();
            tail[b].d[i] = i < n_rows ? x[i].d[b] : 0;
        }
        transpose16(v, (int16_t *)(void *)to[b].q);
    }
}

/* 64 values of each row as words, [2] of 32, to 16 rows of the two planes of a panel. */
static inline void put_planes(const __m512i (*v)[2], int8_t *low, int8_t *high)
{
    __m512i a[PANEL_ROWS], b[PANEL_ROWS];
    for (int i = 0; i < PANEL_ROWS; i++) {
        __m512i h0 = words_high(v[i][0]), h1 = words_high(v[i][1]);
        __m256i l0 = _mm512_cvtepi16_epi8(words_low(v[i][0], h0));
        __m256i l1 = _mm512_cvtepi16_epi8(words_low(v[i][1], h1));
        a[i] = _mm512_inserti64x4(_mm512_castsi256_si512(l0), l1, 1);
        b[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(h0)),
                                  _mm512_cvtepi16_epi8(h1), 1);
    }
    transpose16(a, (int16_t *)(void *)low);
    transpose16(b, (int16_t *)(void *)high);
}

/* 64 values, number k of the block b, as words. */
static inline void words_256(const struct act *x, int64_t b, int k, enum act_kind kind, __m512i *v)
{
    if (kind == ACT_256) {
        v[0] = _mm512_loadu_si512(x->q + b * 256 + 64 * k);
        v[1] = _mm512_loadu_si512(x->q + b * 256 + 64 * k + 32);
        return;
    }
    const struct act_bytes *a = act_bytes(x, b);
    /* of each 8 values: their qword's place is that of their 32 */
    __m512i times = _mm512_loadu_si512(a->times);
    times = _mm512_or_si512(times, _mm512_slli_epi32(times, 16));
    for (int h = 0; h < 2; h++) {
        const __m256i *q = (const __m256i *)(const void *)(a->q + 64 * k + 32 * h);
        __m512i at = _mm512_add_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3),
                                      _mm512_set1_epi64(4 * h));
        v[h] = _mm512_mullo_epi16(_mm512_cvtepi8_epi16(_mm256_loadu_si256(q)),
                                  _mm512_permutexvar_epi64(at, times));
    }
}

/* The sums of 16 values each of a block of row i, for formats with minima: those of ACT_256_BYTE,
 * which has none, may not fit. */
static void pack_sums(const int16_t *sum, int i, struct tail_256 *to)
{
    for (int k = 0; k < 16; k++) {
        int high = (sum[k] + 64) >> 7;
        to->sum_high[k / 4][i][k % 4] = (int8_t)high;
        to->sum_low[k / 4][i][k % 4] = (int8_t)(sum[k] - 128 * high);
    }
}

static void pack_256(const struct act *x, int n_rows, int64_t n, enum act_kind kind,
                     uint8_t *panel)
{
    static const int16_t none[16];
    struct tail_256 *tail = tails_256(panel, n);
    for (int64_t b = 0; b < n / 256; b++) {
        struct panel_256 *to = (struct panel_256 *)(void *)panel + b;
        for (int k = 0; k < 4; k++) {
            __m512i v[PANEL_ROWS][2];
            memset(v, 0, sizeof(v));
            for (int i = 0; i < n_rows; i++)
                words_256(&x[i], b, k, kind, v[i]);
            put_planes(v, &to->low[k][0][0][0], &to->high[k][0][0][0]);
        }
        for (int i = 0; i < PANEL_ROWS; i++) {
            pack_sums(i < n_rows ? x[i].sum16 + b * 16 : none, i, &tail[b]);
            tail[b].d[i] = i < n_rows ? x[i].d[b] : 0;
        }
    }
}

static void panel_pack(const struct act *x, int n_rows, int64_t n, enum act_kind kind,
                       uint8_t *panel)
{
    if (kind == ACT_32) {
        pack_32(x, n_rows, n, panel);
        return;
    }
    pack_256(x, n_rows, n, kind, panel);
    memset(tails_256(panel, n) + n / 256, 0, PANEL_END);
}

#endif
