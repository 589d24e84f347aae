/* Tile registers: eight of up to 16 rows of 64 bytes. With AMX_EMULATED they are plain C, so that
 * the leaves are tested on machines without them.
 *
 *   tile_shapes   gives the registers their shapes; before all else, in each thread
 *   tile_release  back to none: a thread without them is cheaper to switch
 *   tile_dot      c[m][n] += sum over k of a[m][k] * b[k / 4][4 * n + k % 4]: signed bytes, int32
 *   tile_dot_half the same of a[m][k] * b[k / 2][2 * n + k % 2]: bfloat16, float32. Products of
 *                 even and of odd k are added up apart, from 0 on by fused multiply-adds, and then
 *                 even + odd goes to c. */
#ifndef SLUICE_OPS_AMX_TILES_AMX_H
#define SLUICE_OPS_AMX_TILES_AMX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The operand of the instruction that gives registers their shapes. */
struct tile_shape_table {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

#ifdef AMX_EMULATED

#include <math.h>

#define TILE_WORDS 16

static _Thread_local struct {
    int rows, row_bytes;
    int8_t v[16][64];
} tile_register[8];

static inline void tile_shapes(const struct tile_shape_table *s)
{
    for (int t = 0; t < 8; t++) {
        tile_register[t].rows = s->rows[t];
        tile_register[t].row_bytes = s->row_bytes[t];
        memset(tile_register[t].v, 0, sizeof(tile_register[t].v));
    }
}

static inline void tile_release(void)
{
    memset(tile_register, 0, sizeof(tile_register));
}

static inline void tile_zero(int t)
{
    memset(tile_register[t].v, 0, sizeof(tile_register[t].v));
}

static inline void tile_load(int t, const void *from, size_t stride)
{
    for (int r = 0; r < tile_register[t].rows; r++)
        memcpy(tile_register[t].v[r], (const int8_t *)from + (size_t)r * stride,
               (size_t)tile_register[t].row_bytes);
}

static inline void tile_store(int t, void *to, size_t stride)
{
    for (int r = 0; r < tile_register[t].rows; r++)
        memcpy((int8_t *)to + (size_t)r * stride, tile_register[t].v[r],
               (size_t)tile_register[t].row_bytes);
}

static inline void tile_dot(int c, int a, int b)
{
    int32_t sum[16][TILE_WORDS];
    memcpy(sum, tile_register[c].v, sizeof(sum));
    for (int k = 0; k < tile_register[a].row_bytes; k++) {
        int32_t column[TILE_WORDS];
        for (int n = 0; n < TILE_WORDS; n++)
            column[n] = tile_register[b].v[k / 4][4 * n + k % 4];
        for (int m = 0; m < tile_register[c].rows; m++)
            for (int n = 0; n < TILE_WORDS; n++)
                sum[m][n] += tile_register[a].v[m][k] * column[n];
    }
    for (int m = 0; m < tile_register[c].rows; m++)
        memcpy(tile_register[c].v[m], sum[m], (size_t)tile_register[c].row_bytes);
}

/* Even (odd: 0) or odd (1) halves of a row of a register. */
static inline void tile_halves(int t, int row, int odd, float *x)
{
    uint32_t pair[TILE_WORDS];
    memcpy(pair, tile_register[t].v[row], sizeof(pair));
    for (int k = 0; k < TILE_WORDS; k++)
        pair[k] = odd ? pair[k] & 0xffff0000 : pair[k] << 16;
    memcpy(x, pair, sizeof(pair));
}

static inline void tile_dot_half(int c, int a, int b)
{
    int columns = tile_register[c].row_bytes / 4, pairs = tile_register[a].row_bytes / 4;
    for (int m = 0; m < tile_register[c].rows; m++) {
        float to[TILE_WORDS], sum[2][TILE_WORDS] = {{0}};
        for (int odd = 0; odd < 2; odd++) {
            float x[TILE_WORDS], y[TILE_WORDS];
            tile_halves(a, m, odd, x);
            for (int k = 0; k < pairs; k++) {
                tile_halves(b, k, odd, y);
                for (int n = 0; n < TILE_WORDS; n++)
                    sum[odd][n] = fmaf(x[k], y[n], sum[odd][n]);
            }
        }
        memcpy(to, tile_register[c].v[m], sizeof(to));
        for (int n = 0; n < columns; n++)
            to[n] += sum[0][n] + sum[1][n];
        memcpy(tile_register[c].v[m], to, sizeof(to));
    }
}

#else

#include <immintrin.h>

/* The intrinsic names the first bytes of its operand alone: without the statement before it, the
 * others may not have been stored yet. */
static inline void tile_shapes(const struct tile_shape_table *s)
{
    __asm__ volatile("" : : "m"(*s));
    _tile_loadconfig(s);
}

/* Numbers of registers are parts of the instructions. */
#define tile_release() _tile_release()
#define tile_zero(t) _tile_zero(t)
#define tile_load(t, from, stride) _tile_loadd(t, from, stride)
#define tile_store(t, to, stride) _tile_stored(t, to, stride)
#define tile_dot(c, a, b) _tile_dpbssd(c, a, b)
#define tile_dot_half(c, a, b) _tile_dpbf16ps(c, a, b)

#endif

/* ---- registers 0 to 3, which take sums ---- */

static inline void tile_zero_sums(void)
{
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
}

static inline void tile_load_sums(const float (*from)[16][16])
{
    tile_load(0, from[0], 64);
    tile_load(1, from[1], 64);
    tile_load(2, from[2], 64);
    tile_load(3, from[3], 64);
}

static inline void tile_store_sums(float (*to)[16][16])
{
    tile_store(0, to[0], 64);
    tile_store(1, to[1], 64);
    tile_store(2, to[2], 64);
    tile_store(3, to[3], 64);
}

/* Weights, in registers 4 and 5, have 16 rows of 64 bytes, batch rows and sums as many columns of
 * four as there are. */
static inline void tile_shapes_of(int columns)
{
    struct tile_shape_table s = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        s.rows[t] = 16;
        s.row_bytes[t] = t == 4 || t == 5 ? 64 : (uint16_t)(4 * columns);
    }
    tile_shapes(&s);
}

/* All registers have 16 rows of 64 bytes. */
static inline void tile_full_shapes(void)
{
    static const struct tile_shape_table full = {
        .palette = 1, .rows = {16, 16, 16, 16, 16, 16, 16, 16},
        .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}};
    tile_shapes(&full);
}

#endif
