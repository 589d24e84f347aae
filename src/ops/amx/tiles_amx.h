/* Tile registers: eight of up to 16 rows of 64 bytes. With AMX_EMULATED they are plain C, so that
 * the leaves are tested on machines without them.
 *
 *   tile_shapes   gives the registers their shapes; before all else, in each thread
 *   tile_release  back to none: a thread without them is cheaper to switch
 *   tile_dot      c[m][n] += sum over k of a[m][k] * b[k / 4][4 * n + k % 4]: signed bytes, int32
 *   tile_dot_half the same of a[m][k] * b[k / 2][2 * n + k % 2]: bfloat16, float32 */
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
    for (int m = 0; m < tile_register[c].rows; m++) {
        int32_t sum[16];
        memcpy(sum, tile_register[c].v[m], sizeof(sum));
        for (int k = 0; k < tile_register[a].row_bytes; k++)
            for (int n = 0; n < tile_register[c].row_bytes / 4; n++)
                sum[n] += tile_register[a].v[m][k] * tile_register[b].v[k / 4][4 * n + k % 4];
        memcpy(tile_register[c].v[m], sum, sizeof(sum));
    }
}

static inline float tile_half(const int8_t *p)
{
    uint32_t bits = (uint32_t)((uint8_t)p[1] << 8 | (uint8_t)p[0]) << 16;
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static inline void tile_dot_half(int c, int a, int b)
{
    for (int m = 0; m < tile_register[c].rows; m++) {
        float sum[16];
        memcpy(sum, tile_register[c].v[m], sizeof(sum));
        for (int k = 0; k < tile_register[a].row_bytes / 2; k++) {
            float x = tile_half(&tile_register[a].v[m][2 * k]);
            for (int n = 0; n < tile_register[c].row_bytes / 4; n++)
                sum[n] += x * tile_half(&tile_register[b].v[k / 2][4 * n + 2 * (k % 2)]);
        }
        memcpy(tile_register[c].v[m], sum, sizeof(sum));
    }
}

#else

#include <immintrin.h>

/* Numbers of registers are parts of the instructions. */
#define tile_shapes(s) _tile_loadconfig(s)
#define tile_release() _tile_release()
#define tile_zero(t) _tile_zero(t)
#define tile_load(t, from, stride) _tile_loadd(t, from, stride)
#define tile_store(t, to, stride) _tile_stored(t, to, stride)
#define tile_dot(c, a, b) _tile_dpbssd(c, a, b)
#define tile_dot_half(c, a, b) _tile_dpbf16ps(c, a, b)

#endif

#endif
