/* model/kv_random.c - a past that nobody computed, for measurements: rows of random bits that are
 * valid in their format. What a step costs depends on the number of rows, not on their values. */
#include "base/check.h"
#include "base/rng.h"
#include "model/kv_state.h"

/* Draws numbers one after the other. */
struct draw {
    uint64_t seed, next;
};

static uint64_t draw_bits(struct draw *d)
{
    return rng_u64(d->seed, d->next++);
}

/* In [-1, 1) */
static void draw_floats(struct draw *d, uint8_t *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float v = (float)(int64_t)(draw_bits(d) >> 40) * 0x1p-23f - 1;
        memcpy(to + (size_t)i * sizeof v, &v, sizeof v);
    }
}

static void draw_bytes(struct draw *d, uint8_t *to, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) {
        uint64_t bits = draw_bits(d);
        memcpy(to + i, &bits, n - i < 8 ? (size_t)(n - i) : 8);
    }
}

/* Exponent bytes of 2^-9 to 2^-6. */
static void draw_scales(struct draw *d, uint8_t *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (uint8_t)(118 + draw_bits(d) % 4);
}

static void draw_main_row(struct draw *d, const struct shape *s, const struct kv_layout *layout,
                          uint8_t *row)
{
    if (layout->format == KV_EXACT) {
        draw_floats(d, row, s->head_dim);
        return;
    }
    int64_t plain = s->head_dim - s->rot_dim;
    draw_bytes(d, row, plain);
    for (int64_t i = 0; i < plain; i++)
        row[i] ^= (row[i] & 0x7f) == 0x7f;      /* no NaN */
    draw_scales(d, row + plain, (plain + 63) / 64);
    draw_floats(d, row + layout->main_row_bytes - (size_t)s->rot_dim * sizeof(float), s->rot_dim);
}

static void draw_index_row(struct draw *d, const struct shape *s, const struct kv_layout *layout,
                           uint8_t *row)
{
    if (layout->format == KV_EXACT) {
        draw_floats(d, row, s->index_dim);
        return;
    }
    draw_bytes(d, row, s->index_dim / 2);
    draw_scales(d, row + s->index_dim / 2, (s->index_dim + 31) / 32);
}

static void draw_page(struct draw *d, const struct kv_layout *layout, const struct shape *s, int lo,
                      uint8_t *page)
{
    memset(page, 0, layout->page_bytes);
    for (int i = 0; i < layout->n_layer; i++) {
        const struct kv_layer_layout *k = &layout->layer[i];
        int32_t ratio = s->ratio[lo + i];
        for (int e = 0; ratio && e < KV_PAGE_TOKENS / ratio; e++) {
            size_t at = (size_t)e;
            draw_main_row(d, s, layout, page + k->page_offset + at * layout->main_row_bytes);
            if (ratio == 4)
                draw_index_row(d, s, layout,
                               page + k->index_page_offset + at * layout->index_row_bytes);
        }
    }
}

static void draw_fixed(struct draw *d, const struct kv_layout *layout, const struct shape *s,
                       int lo, uint8_t *fixed)
{
    memset(fixed, 0, layout->fixed_bytes);
    for (int i = 0; i < layout->n_layer; i++) {
        const struct kv_layer_layout *k = &layout->layer[i];
        int64_t windows = s->ratio[lo + i] == 4 ? 2 : 1;
        for (int32_t slot = 0; slot < k->ring_rows; slot++)
            draw_main_row(d, s, layout,
                          fixed + k->ring_offset + (size_t)slot * layout->main_row_bytes);
        draw_floats(d, fixed + k->tail_offset, k->tail_rows * 2 * windows * s->head_dim);
        draw_floats(d, fixed + k->index_tail_offset,
                    k->index_tail_rows * 2 * windows * s->index_dim);
    }
}

enum sluice_status kv_state_random(struct kv_state *kv, const struct shape *s, int lo, int64_t n,
                                   struct sluice_error *err)
{
    const struct kv_layout *layout = kv->layout;
    SLUICE_ASSERT(lo >= 0 && lo + layout->n_layer <= s->n_layer);
    size_t room = layout->fixed_bytes > layout->page_bytes ? layout->fixed_bytes
                                                           : layout->page_bytes;
    uint8_t *bytes = malloc(room);
    FAIL_IF(!bytes, err, SLUICE_ERR_NOMEM, "out of memory for a random past");
    kv_state_reset(kv);
    enum sluice_status st = kv_state_reserve(kv, n, err);
    for (int32_t j = 0; st == SLUICE_OK && j < kv->n_page; j++) {
        struct draw d = {.seed = (uint64_t)j + 1};
        draw_page(&d, layout, s, lo, bytes);
        kv_state_page_write(kv, j, bytes);
    }
    if (st == SLUICE_OK) {
        struct draw d = {0};
        draw_fixed(&d, layout, s, lo, bytes);
        kv_state_fixed_write(kv, bytes, n);
    }
    free(bytes);
    return st;
}
