/* tests/support/oracle.h - expected logits and streams of small models. A file, little endian:
 *
 *   "V4OR", u32 version 1, u32 T, u32 vocab, u32 layers, u32 hc, u32 hidden, u32 n_pos,
 *       i32 ids[T], f32 logits[T][vocab], tail
 *   "V4OS", the same with u32 step after n_pos and the logits of tokens 0, step, 2*step, ...:
 *       f32 logits[T][ceil(vocab / step)]
 *   tail:   u32 pos[n_pos], f32 streams[n_pos][layers + 1][hc][hidden]
 *
 * streams[.][0] enters layer 0, streams[.][l] leaves layer l - 1. */
#ifndef SLUICE_TESTS_SUPPORT_ORACLE_H
#define SLUICE_TESTS_SUPPORT_ORACLE_H

#include "support/unit.h"

struct oracle {
    uint8_t *bytes;
    uint32_t n, vocab, layers, streams, dim, n_pos, step;
    const int32_t *ids;        /* [n] */
    const float *logits;       /* [n][columns] */
    uint32_t columns;
    const uint32_t *pos;       /* [n_pos] */
    const float *x;            /* [n_pos][layers + 1][streams][dim] */
};

static inline uint8_t *read_whole(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s: cannot open", path);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    uint8_t *bytes = aligned_alloc(64, (*len + 63) / 64 * 64);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *len, f), *len);
    fclose(f);
    return bytes;
}

static inline void oracle_open(struct oracle *o, const char *path)
{
    size_t len;
    o->bytes = read_whole(path, &len);
    const uint32_t *head = (const uint32_t *)o->bytes;
    int sparse = memcmp(o->bytes, "V4OS", 4) == 0;
    assert_true(sparse || memcmp(o->bytes, "V4OR", 4) == 0);
    assert_int_equal(head[1], 1);
    o->n = head[2];
    o->vocab = head[3];
    o->layers = head[4];
    o->streams = head[5];
    o->dim = head[6];
    o->n_pos = head[7];
    o->step = sparse ? head[8] : 1;
    o->columns = (o->vocab + o->step - 1) / o->step;
    o->ids = (const int32_t *)(head + 8 + sparse);
    o->logits = (const float *)(o->ids + o->n);
    o->pos = (const uint32_t *)(o->logits + (size_t)o->n * o->columns);
    o->x = (const float *)(o->pos + o->n_pos);
    size_t per_pos = (size_t)(o->layers + 1) * o->streams * o->dim;
    assert_int_equal((const uint8_t *)(o->x + o->n_pos * per_pos) - o->bytes, len);
}

static inline void oracle_close(struct oracle *o)
{
    free(o->bytes);
}

/* Largest difference of row `row` of full logits [..][vocab]. NaN counts as infinite. */
static inline double oracle_row_difference(const struct oracle *o, const float *logits,
                                           uint32_t row)
{
    double worst = 0;
    for (uint32_t c = 0; c < o->columns; c++) {
        double d = fabs((double)logits[(size_t)row * o->vocab + (size_t)c * o->step] -
                        o->logits[(size_t)row * o->columns + c]);
        if (!(d <= worst))
            worst = d == d ? d : INFINITY;
    }
    return worst;
}

#endif
