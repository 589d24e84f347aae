/* ops/cpu/leaf.h - the inner loops of the cpu backend: one table per instruction set, all of them
 * bit-identical to the portable C of leaf_c.c, but for some products by tiles (struct panels,
 * struct attend_tiles).
 *
 * What makes them identical (docs/NUMERICS.md):
 *   - dot products of quantised values are integer sums, exact in any order;
 *   - the products of the blocks of a row are added in float32 to 8 partial sums, block b to sum
 *     b % 8, each by one fused multiply-add, and the 8 sums by the tree
 *     ((0+4)+(2+6)) + ((1+5)+(3+7));
 *   - float32 dot products go to 16 partial sums, element k to sum k % 16, by fused multiply-adds,
 *     then fold in halves: i + (i+8), i + (i+4), i + (i+2), i + (i+1). Rows end with zeros up to
 *     16;
 *   - everything else is element-wise, without contraction of a multiplication and an addition.
 *
 * Activations meet quantised weights as int16 in -1016..1016 (ACT_MAX) times one float a block:
 * blocks of 32 for the formats of 32, blocks of 256 for the formats of 256 values. For some formats
 * (act_kind) each 32 of them are a byte times an integer of 1..BYTE_TIMES. A weight of any
 * such format is an int16 (scale and value of its sub-block multiplied out) times one float d a
 * block, less a minimum (an int16 for 16 values) times dmin. */
#ifndef SLUICE_OPS_CPU_LEAF_H
#define SLUICE_OPS_CPU_LEAF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/numerics.h"
#include "formats/quant.h"

#define ACT_MAX 1016
/* What bytes are multiplied by, at most. */
#define BYTE_TIMES 16
/* Weight rows that a tile holds side by side. */
#define TILE_ROWS 16
/* Batch rows that one call of row_dot or tile_dot takes. */
#define ROW_BATCH 24
#define TILE_BATCH 8
/* Weight rows and activation rows of one call of dots. */
#define DOTS_W 16
#define DOTS_X 16
/* Activation rows of one call of half_dots. */
#define HALF_X 6
/* Batch rows of a panel, panels of one call and its weight rows, and what it needs to keep sums. */
#define PANEL_ROWS 16
#define PANEL_MOST 32
#define PANEL_WEIGHTS 128
#define PANEL_SUMS (PANEL_WEIGHTS * PANEL_MOST * PANEL_ROWS)
/* Weight rows that are worth a call. */
#define PANEL_UNIT 32
/* Heads that share a decoded key row at most, and keys of one call of attention by tiles. */
#define ATTEND_MOST_HEADS 64
#define ATTEND_BLOCK 128
/* Where panels begin: at pages. */
#define PANEL_ALIGN 4096

/* How activations are quantised that meet a format: in blocks of 32 or 256 values; BYTE: each 32 of
 * the 256 are bytes times an integer. Q8: the same blocks of 32, as panels have them for Q8_0. */
enum act_kind { ACT_NONE, ACT_32, ACT_32_Q8, ACT_256, ACT_256_BYTE, ACT_KINDS };

/* One quantised activation row of n values. A table of leaves may have its own q for ACT_256_BYTE,
 * and where it has panels its own act for blocks of 32: an act is read by the table that wrote
 * it. */
struct act {
    int16_t *q;                /* [n] */
    int16_t *sum16;            /* [n / 16] sums of q */
    float *d;                  /* [n / block] */
    int8_t *planes;            /* [2 * n] of blocks of 256: the same as bytes, where a table has use
                                * for them (bytes_avx512.h, bytes_avx2.h) */
};

/* TILE_ROWS weight rows, unpacked and interleaved in pairs of values: w[pair][row][2]. Minima are
 * interleaved in the same way: m[pair of groups of 16][row][2]. The leaves that multiply bytes
 * interleave some formats in fours: a tile is read by the table that unpacked it. */
struct tile {
    int16_t *w;                /* [n / 2][TILE_ROWS][2] */
    int16_t *m;                /* [n / 32][TILE_ROWS][2]; used where has_min */
    float *d, *dmin;           /* [n / block][TILE_ROWS] */
    enum quant_type type;
    int64_t n;
    int block;                 /* 32 or 256 */
    bool has_min;
};

/* A weight's rows, as they lie. */
struct qrows {
    enum quant_type type;
    const uint8_t *data;
    int64_t n;                 /* values of a row */
    uint64_t row_bytes;
};

/* One block of 256 values, or 8 blocks of 32, unpacked. */
struct unit {
    _Alignas(64) int16_t w[256];
    _Alignas(32) int16_t m[16];    /* minimum of 16 values, >= 0 */
    float d[8];                /* [0] for a block of 256 */
    float dmin;                /* -dmin: added */
};

/* Decoded keys and their weights. */
struct mix_keys {
    const float *p;            /* [.][p_stride]: a row for each output */
    int64_t p_stride;
    const float *key;          /* [n_key][dim] */
    int n_key;
    int64_t dim;
};

/* A piece of the residual streams: stream s is at x + s * stride. */
struct stream_piece {
    int streams;
    int64_t n, stride;
    float *x;
};

/* How rows of n values are packed: panels of `columns` rows. */
struct panel_form {
    enum act_kind kind;
    int64_t n;
    int columns;
};

/* Packed rows: panels that lie `stride` bytes apart. */
struct panel_view {
    const uint8_t *at;
    size_t stride;
    int columns;
    int n;                         /* batch rows */
};

/* Weight rows to meet panels; room: PANEL_SUMS floats, at a multiple of 64 bytes. */
struct panel_dot {
    struct qrows w;
    int n_rows;                    /* <= PANEL_WEIGHTS */
    float *room;
};

/* Products by tiles in hardware: batch rows are packed once and meet the weights there. Panels have
 * PANEL_ROWS columns; where a batch has less rows, its only panel has as many as the power of two
 * that holds them. The layout of a panel is the table's own.
 *
 * Formats that meet panels from one row on have sums of their own, not the bits of the other tables
 * (docs/NUMERICS.md), but the same whatever the batch; so has attention by tiles. */
struct panels {
    enum numerics numerics;
    /* From this many batch rows on, faster than row_dot with weights of a type; 1: the only way. */
    int (*from)(enum quant_type type);
    /* From one panel of rows of n values to the next, a multiple of PANEL_ALIGN. */
    size_t (*bytes)(int64_t n, enum act_kind kind, int columns);
    /* Columns without a row become zeros. Rows for floats (ACT_NONE) have their values in d. */
    void (*pack)(const struct act *x, int n_rows, const struct panel_form *form, uint8_t *panel);
    /* y[i * stride + o] = row o . batch row i, for the rows of up to PANEL_MOST panels. */
    void (*dot)(const struct panel_dot *d, const struct panel_view *x, float *y, int64_t stride);
};

/* Keys of attention: [n][dim], n <= ATTEND_BLOCK, whose values [0, plain) are bfloat16, and how
 * many heads meet them, at most ATTEND_MOST_HEADS. */
struct attend_keys {
    const float *key;
    int n, n_heads;
    int64_t dim, plain;
};

/* What keys weigh: of head h and key j s[h * stride + j]. */
struct attend_scores {
    float *s;
    int64_t stride;
    float scale;                   /* of products of keys and heads */
};

/* Attention of some heads of a row by tiles in hardware, with sums of its own (docs/NUMERICS.md):
 * queries, the score of all keys in blocks, their mix in the same blocks, outputs. room has
 * bytes(dim), at a multiple of 64 bytes, and keeps what one call needs of those before. */
struct attend_tiles {
    size_t (*bytes)(int64_t dim);
    void (*queries)(const float *const *q, int n_heads, int64_t dim, uint8_t *room);
    void (*score)(const struct attend_keys *k, uint8_t *room, const struct attend_scores *to);
    /* Adds the keys as they weigh to the outputs; first: which are 0 before. */
    void (*mix)(const struct attend_keys *k, const struct attend_scores *from, bool first,
                uint8_t *room);
    void (*outputs)(uint8_t *room, int n_heads, int64_t dim, float *const *out);
};

struct leaves {
    const char *name;
    const struct panels *panels;   /* NULL: none */
    const struct attend_tiles *attend; /* NULL: by dots and mix */

    /* x [n] -> to; n is a multiple of the block. A block with NaN or infinity gets d = NaN. */
    void (*quantise)(const float *x, int64_t n, enum act_kind kind, const struct act *to);
    /* y[i][o] = row o . x[i] for n_rows <= TILE_ROWS rows and n <= ROW_BATCH. */
    void (*row_dot)(const struct qrows *w, int n_rows, const struct act *x, int n,
                    float (*y)[TILE_ROWS]);
    /* Up to this many batch rows row_dot is faster than a tile. */
    int direct;
    /* The first n_rows (<= TILE_ROWS) rows; the others become zeros, or get scales of zero. */
    void (*tile_unpack)(const struct qrows *w, int n_rows, const struct tile *t);
    /* y[i][r] = row r of the tile . x[i] for n <= TILE_BATCH. */
    void (*tile_dot)(const struct tile *t, const struct act *x, int n, float (*y)[TILE_ROWS]);

    /* Any weight format to float32. */
    void (*widen)(enum quant_type type, const uint8_t *src, float *dst, int64_t n);
    /* y[i][j] = w[j] . x[i]: float32 rows of n values, nw <= DOTS_W, nx <= DOTS_X. */
    void (*dots)(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
                 float (*y)[DOTS_W]);
    /* The same, bit by bit, of rows in F16 or BF16 as they lie; nx <= HALF_X. */
    void (*half_dots)(const struct qrows *w, int n_rows, const float *const *x, int nx,
                      float (*y)[DOTS_W]);
    /* o[i][k] += p[i][j] * key[j][k] for j ascending; p rows are p_stride apart. */
    void (*mix)(float *const *o, int n_o, const struct mix_keys *m);
    /* codes and scale bytes of KV_FP8 rows to float32 (n values) */
    void (*fp8_decode)(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x);
    void (*fp4_decode)(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x);
    /* Index queries of KV_FP8 in place: Hadamard of n values, a power of two, then each 32 rounded
     * to FP4 and a common power of two (sections 3.8, 3.12). */
    void (*index_query)(float *x, int64_t n);
    /* s[j] = exp(s[j] - max) */
    void (*exp_minus)(float *s, int64_t n, float max);
    /* y[k] = silu(min(g[k], limit)) * clamp(u[k], +-limit) * scale */
    void (*gated)(const float *g, const float *u, int64_t n, float limit, float scale, float *y);
    /* y[k] = weight[k] * (x[k] * r); weight NULL: 1. y may be x. */
    void (*scaled)(const float *x, const float *weight, float r, int64_t n, float *y);
    /* y[k] /= by */
    void (*divide)(float *y, float by, int64_t n);
    /* score[j] += w * max(0, dot[j]) */
    void (*relu_add)(const float *dot, float w, int64_t n, float *score);
    /* y[k] = sum_s a[s] * x[s * stride + k] for s ascending, from 0 */
    void (*combine)(const float *a, const float *x, int64_t stride, int n_s, int64_t n, float *y);
    /* x'[k][d] = post[k] * f[d] + sum_j comb[j][k] * x[j][d] in place */
    void (*spread)(const float *post, const float *comb, const float *f,
                   const struct stream_piece *x);
};

extern const struct leaves leaves_c, leaves_avx2, leaves_avx512, leaves_amx, leaves_neon;

/* Bytes for the format of experts whose own rounding is far coarser. */
static inline enum act_kind act_kind(enum quant_type type)
{
    switch (type) {
    case QUANT_F32:
    case QUANT_F16:
    case QUANT_BF16:
        return ACT_NONE;
    case QUANT_Q8_0:
        return ACT_32_Q8;
    case QUANT_Q4_0:
    case QUANT_IQ4_NL:
    case QUANT_MXFP4:
        return ACT_32;
    case QUANT_IQ2_XXS:
        return ACT_256_BYTE;
    default:
        return ACT_256;
    }
}

static inline int act_kind_block(enum act_kind kind)
{
    return kind == ACT_NONE ? 0 : kind == ACT_32 || kind == ACT_32_Q8 ? 32 : 256;
}

/* 32 or 256 for quantised types, 0 for F32, F16 and BF16. */
static inline int act_block(enum quant_type type)
{
    return act_kind_block(act_kind(type));
}

static inline bool type_has_min(enum quant_type type)
{
    return type == QUANT_Q2_K || type == QUANT_Q4_K || type == QUANT_Q5_K;
}

#endif
