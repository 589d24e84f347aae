/* ops/ref/numfmt.h - conversions between float32 and the small number formats (section 2.2). All
 * round to nearest, ties to even. */
#ifndef SLUICE_OPS_REF_NUMFMT_H
#define SLUICE_OPS_REF_NUMFMT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023;
    if (e == 31)
        return f32_from_bits(sign | 0x7f800000 | m << 13);
    if (e == 0)
        return f32_from_bits(sign | f32_bits((float)m * 0x1p-24f));
    return f32_from_bits(sign | (e + 112) << 23 | m << 13);
}

static inline uint16_t f32_to_f16(float x)
{
    uint32_t u = f32_bits(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000)               /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000)                /* below 2^-14: a multiple of 2^-24; the addition rounds */
        return (uint16_t)(sign | (f32_bits(f32_from_bits(a) + 0.5f) - 0x3f000000));
    a += 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}

static inline float bf16_to_f32(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t f32_to_bf16(float x)
{
    uint32_t u = f32_bits(x);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* 2^(e - 127); 255 is NaN, 0 is 2^-127. */
static inline float e8m0_to_f32(uint8_t e)
{
    if (e == 255)
        return NAN;
    return e ? f32_from_bits((uint32_t)e << 23) : 0x1p-127f;
}

static inline float e4m3_to_f32(uint8_t b)
{
    uint32_t e = b >> 3 & 15, m = b & 7;
    float x;
    if (e == 15 && m == 7)
        return NAN;
    if (e == 0)
        x = (float)m * 0x1p-9f;
    else
        x = f32_from_bits((e + 120) << 23 | m << 20);
    return b & 0x80 ? -x : x;
}

/* Saturates at 448, the largest finite value; NaN stays NaN. */
static inline uint8_t f32_to_e4m3(float x)
{
    uint32_t u = f32_bits(x), sign = u >> 24 & 0x80, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint8_t)(sign | 0x7f);
    if (a >= 0x43e00000)               /* 448 */
        return (uint8_t)(sign | 0x7e);
    if (a < 0x3c800000)                /* below 2^-6: a multiple of 2^-9; the addition rounds */
        return (uint8_t)(sign | (f32_bits(f32_from_bits(a) + 0x1p14f) - 0x46800000));
    a += 0x7ffff + (a >> 20 & 1);
    return (uint8_t)(sign | (a - 0x3c000000) >> 20);
}

static inline float e2m1_to_f32(uint8_t code)
{
    static const float magnitude[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    return code & 8 ? -magnitude[code & 7] : magnitude[code & 7];
}

/* Saturates at 6. Each bound is a midpoint; at a midpoint the even code wins. */
static inline uint8_t f32_to_e2m1(float x)
{
    float a = fabsf(x);
    uint8_t code = (uint8_t)((a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) +
                             (a >= 3.5f) + (a > 5.0f));
    return signbit(x) ? code | 8 : code;
}

#endif
