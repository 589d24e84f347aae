/* formats/quant.h - the number formats of tensors: ids, block sizes, byte layouts. No code beyond
 * lookups.
 *
 * A row of ne0 values is ne0 / block_elems blocks of block_bytes each; rows and higher dimensions
 * follow without gaps. Layouts and value formulas: section 2.5 of the model specification. The
 * structs are byte-exact images of the file. */
#ifndef SLUICE_FORMATS_QUANT_H
#define SLUICE_FORMATS_QUANT_H

#include <stdbool.h>
#include <stdint.h>

/* Values are the type ids of GGUF files. */
enum quant_type {
    QUANT_F32 = 0, QUANT_F16 = 1, QUANT_Q4_0 = 2, QUANT_Q8_0 = 8, QUANT_Q2_K = 10, QUANT_Q3_K = 11,
    QUANT_Q4_K = 12, QUANT_Q5_K = 13, QUANT_Q6_K = 14, QUANT_IQ2_XXS = 16, QUANT_IQ2_XS = 17,
    QUANT_IQ3_XXS = 18, QUANT_IQ1_S = 19, QUANT_IQ4_NL = 20, QUANT_IQ3_S = 21, QUANT_IQ2_S = 22,
    QUANT_IQ4_XS = 23, QUANT_I8 = 24, QUANT_I16 = 25, QUANT_I32 = 26, QUANT_I64 = 27,
    QUANT_F64 = 28, QUANT_BF16 = 30, QUANT_MXFP4 = 39,
};
#define QUANT_TYPE_LIMIT 40    /* every id is below this; tables are indexed by id */

struct quant_info {
    const char *name;          /* as model files call it: "Q4_K"; NULL in unused table slots */
    uint32_t block_elems;      /* values per block */
    uint32_t block_bytes;
    /* may hold a weight matrix (F32, F16, BF16 and every quantised type) */
    bool is_matrix;
};

/* NULL for ids that are not supported. */
const struct quant_info *quant_info(uint32_t type_id);
/* Bytes of a row of ne0 values; ne0 must be a multiple of block_elems (checked where files are
 * read). */
uint64_t quant_row_bytes(enum quant_type type, int64_t ne0);

/* Byte offsets are written over the fields; d and dmin are f16, every u16 little endian.
 *
 *   Q8_0     |0 d |2 q[32]                       |34
 *   Q4_0     |0 d |2 qs[16]                      |18      low nibbles: values 0-15, high: 16-31
 *   IQ4_NL   |0 d |2 qs[16]                      |18      as Q4_0
 *   MXFP4    |0 e |1 qs[16]                      |17      as Q4_0; e is an exponent (e8m0)
 *
 * y = d * q */
struct block_q8_0 { uint16_t d; int8_t q[32]; };
/* y[j] = d * ((qs[j] & 15) - 8), y[j + 16] = d * ((qs[j] >> 4) - 8) */
struct block_q4_0 { uint16_t d; uint8_t qs[16]; };
/* y = T[nibble] * d, T = quant_iq4_values, nibbles as Q4_0 */
struct block_iq4_nl { uint16_t d; uint8_t qs[16]; };
/* y = e2m1(nibble) * 2^(e - 127), nibbles as Q4_0 */
struct block_mxfp4 { uint8_t e; uint8_t qs[16]; };

/* K blocks: 256 values each.
 *
 *   Q2_K     |0 sc[16]                |16 qs[64]                  |80 d |82 dmin     |84
 *            a scale in the low nibble of sc, a minimum in the high one, for 16 values
 *   Q3_K     |0 hm[32]     |32 qs[64]               |96 sc[12]        |108 d         |110
 *            hm: third bit of each value; sc: 16 six-bit scales, packed
 *   Q4_K     |0 d |2 dmin |4 sc[12] |16 qs[128]                                      |144
 *   Q5_K     |0 d |2 dmin |4 sc[12] |16 qh[32] |48 qs[128]                           |176
 *            sc: 8 six-bit scales and 8 six-bit minima, packed; qh: fifth bits
 *   Q6_K     |0 ql[128]            |128 qh[64]      |192 sc[16]       |208 d         |210
 *
 * Lattice blocks: 256 values in 8 groups of 32, each group 4 rows of 8 values.
 *
 *   IQ2_XXS  |0 d |2 qs[32]                                                          |66
 *            a group is 8 bytes: |0 row numbers, 4 x 8 bits |4 signs, 4 x 7 bits; scale, 4 bits|
 *   IQ2_XS   |0 d |2 qs[32]                               |66 sc[8]                  |74
 *            each u16 of qs: row number, 9 bits; signs, 7 bits
 *   IQ2_S    |0 d |2 qs[32] |34 signs[32]       |66 qh[8] |74 sc[8]                  |82
 *   IQ3_XXS  |0 d |2 qs[64]                     |66 ss[32], a u32 a group            |98
 *            ss: signs, 4 x 7 bits; scale, 4 bits.  Rows of 4 values, one byte of qs each
 *   IQ3_S    |0 d |2 qs[64] |66 qh[8] |74 signs[32]                 |106 sc[4]       |110
 *   IQ1_S    |0 d |2 qs[32] |34 qh[8]                                                |50
 *            each u16 of qh: row number's high bits, 4 x 3; scale, 3 bits; sign of the shift
 *   IQ4_XS   |0 d |2 sh |4 sl[4] |8 qs[128]                                          |136
 *            six-bit scales: low 4 bits in sl, high 2 bits in sh; values as IQ4_NL */
struct block_q2_k { uint8_t sc[16]; uint8_t qs[64]; uint16_t d, dmin; };
struct block_q3_k { uint8_t hm[32]; uint8_t qs[64]; uint8_t sc[12]; uint16_t d; };
struct block_q4_k { uint16_t d, dmin; uint8_t sc[12]; uint8_t qs[128]; };
struct block_q5_k { uint16_t d, dmin; uint8_t sc[12]; uint8_t qh[32]; uint8_t qs[128]; };
struct block_q6_k { uint8_t ql[128]; uint8_t qh[64]; int8_t sc[16]; uint16_t d; };
struct block_iq2_xxs { uint16_t d; uint16_t qs[32]; };
struct block_iq2_xs { uint16_t d; uint16_t qs[32]; uint8_t sc[8]; };
struct block_iq2_s { uint16_t d; uint8_t qs[32]; uint8_t signs[32]; uint8_t qh[8]; uint8_t sc[8]; };
struct block_iq3_xxs { uint16_t d; uint8_t qs[64]; uint8_t ss[32]; };
struct block_iq3_s { uint16_t d; uint8_t qs[64]; uint8_t qh[8]; uint8_t signs[32]; uint8_t sc[4]; };
struct block_iq1_s { uint16_t d; uint8_t qs[32]; uint16_t qh[8]; };
struct block_iq4_xs { uint16_t d; uint16_t sh; uint8_t sl[4]; uint8_t qs[128]; };

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "blocks are images of little-endian files");
_Static_assert(sizeof(struct block_q8_0) == 34, "Q8_0");
_Static_assert(sizeof(struct block_q4_0) == 18, "Q4_0");
_Static_assert(sizeof(struct block_iq4_nl) == 18, "IQ4_NL");
_Static_assert(sizeof(struct block_mxfp4) == 17, "MXFP4");
_Static_assert(sizeof(struct block_q2_k) == 84, "Q2_K");
_Static_assert(sizeof(struct block_q3_k) == 110, "Q3_K");
_Static_assert(sizeof(struct block_q4_k) == 144, "Q4_K");
_Static_assert(sizeof(struct block_q5_k) == 176, "Q5_K");
_Static_assert(sizeof(struct block_q6_k) == 210, "Q6_K");
_Static_assert(sizeof(struct block_iq2_xxs) == 66, "IQ2_XXS");
_Static_assert(sizeof(struct block_iq2_xs) == 74, "IQ2_XS");
_Static_assert(sizeof(struct block_iq2_s) == 82, "IQ2_S");
_Static_assert(sizeof(struct block_iq3_xxs) == 98, "IQ3_XXS");
_Static_assert(sizeof(struct block_iq3_s) == 110, "IQ3_S");
_Static_assert(sizeof(struct block_iq1_s) == 50, "IQ1_S");
_Static_assert(sizeof(struct block_iq4_xs) == 136, "IQ4_XS");

/* Lattice tables (formats/quant_grids.c, generated from tools/iq-grids.txt by tools/gen_grids.sh):
 * each entry is one row of 8 (or 4) values, value 0 in the lowest byte. */
extern const uint64_t quant_grid_iq2_xxs[256];
extern const uint64_t quant_grid_iq2_xs[512];
extern const uint64_t quant_grid_iq2_s[1024];
extern const uint32_t quant_grid_iq3_xxs[256];
extern const uint32_t quant_grid_iq3_s[512];
extern const uint64_t quant_grid_iq1_s[2048];   /* int8 values -1, 0, 1 */
/* The same for lookups in vectors. planes[j]: value j of each row of 4. codes: which of its three
 * values each of a row's 8 is, 0 to 2 in ascending order (of IQ1_S: 0, 1, -1), value j in bit j of
 * two bytes: their low bits, their high ones. */
extern const uint8_t quant_codes_iq2_xxs[2][256];
extern const uint8_t quant_codes_iq2_xs[2][512];
extern const uint8_t quant_codes_iq2_s[2][1024];
extern const uint8_t quant_planes_iq3_xxs[4][256];
extern const uint8_t quant_planes_iq3_s[4][512];
extern const uint8_t quant_codes_iq1_s[2][2048];
extern const uint8_t quant_ksigns[128];          /* i | parity(i) << 7 */
extern const int8_t quant_iq4_values[16];

#endif
