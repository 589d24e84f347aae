/* model/kv_state.h - what the model remembers of one sequence.
 *
 *   fixed block: one allocation in the backend's memory, by absolute position; per layer
 *       raw ring          W + KV_SLACK main rows; slot = position % ring_rows
 *       compressor tail   (u, z) float32: ratio 4: 8 + KV_SLACK slots of 2 x 2C,
 *                                         any other ratio r: r + KV_SLACK slots of 2 x C
 *       index tail        (u, z) float32: ratio 4 only: 8 + KV_SLACK slots of 2 x 2J
 *   pages: page j holds the compressed and index rows of positions [j*KV_PAGE_TOKENS, ...) of every
 *       layer. A layout without compressed layers has no pages (page_bytes == 0).
 *
 * Invariants: (1) rows of positions < n_tokens are all present (window, tails, entries);
 *             (2) the number of valid entries of a layer is n_tokens / ratio: a pure function of
 *                 the position;
 *             (3) high is one past the highest position written since the last reset. While
 *                 high - n_tokens <= KV_SLACK and n_tokens >= least the rings still hold all that
 *                 (1) asks for: so dropping up to KV_SLACK tokens is lowering a counter. Only a
 *                 failed step breaks this, and reserve refuses then. least is where the sequence
 *                 was last put back to a checkpoint, which holds no row that n_tokens = least does
 *                 not need;
 *             (4) a page with references > 1 is never written: kv_state_reserve makes the written
 *                 range private first.
 *
 *      new/reset -> n=0 --reserve(n)--> writable --forward--> n += rows --truncate--> n -= k
 *
 * Threads: a kv_state belongs to one thread at a time; page reference counts are atomic. */
#ifndef SLUICE_MODEL_KV_STATE_H
#define SLUICE_MODEL_KV_STATE_H

#include "model/shape.h"
#include "ops/ops.h"

#define KV_PAGE_TOKENS 256
#define KV_SLACK 16

/* Byte layout shared by all sequences of a model. Offsets of layers that lack a part are 0 with
 * rows 0. */
struct kv_layer_layout {
    size_t ring_offset, tail_offset, index_tail_offset;     /* in the fixed block */
    int32_t ring_rows, tail_rows, index_tail_rows;
    int32_t ratio;                                          /* 0: no compressed rows */
    size_t tail_row_bytes, index_tail_row_bytes;
    size_t page_offset, index_page_offset;                  /* in a page */
};
struct kv_layout {
    enum kv_format format;
    int32_t n_layer;               /* trunk layers, or 1 for a draft block */
    size_t main_row_bytes, index_row_bytes;
    size_t fixed_bytes, page_bytes;
    struct kv_layer_layout layer[SHAPE_MAX_LAYERS];
    _Atomic int64_t *used;         /* counts the bytes of every sequence of this layout, shared
                                      pages once; NULL: nobody counts. Set before the first */
};

/* Layout of layers [lo, hi) of a shape (layer[i] describes layer lo + i). */
void kv_layout_make(const struct shape *s, int lo, int hi, enum kv_format format,
                    struct kv_layout *out);

/* A page, shared between sequences by reference count. */
struct kv_page {
    DEV uint8_t *at;
    _Atomic int refs;
};

struct kv_state {
    /* set once */
    const struct kv_layout *layout;
    struct ops *ops;
    int64_t max_tokens;
    /* owner */
    DEV uint8_t *fixed;
    struct kv_page **page;         /* [page_room]; the first n_page are held */
    int32_t n_page, page_room;
    DEV uint8_t **page_table;      /* [page_room] addresses, in the backend's memory, for the ops */
    int64_t n_tokens, high, least;
};

/* Allocates the fixed block and a page table for max_tokens; pages come with reserve. layout and
 * ops are borrowed. */
enum sluice_status kv_state_new(const struct kv_layout *layout, struct ops *ops, int64_t max_tokens,
                                struct kv_state **out, struct sluice_error *err);
void kv_state_free(struct kv_state *kv);   /* accepts NULL */
void kv_state_reset(struct kv_state *kv);

/* Makes positions [n_tokens, n_tokens + n) writable: allocates missing pages, copies shared ones.
 * SLUICE_ERR_LIMIT beyond max_tokens, SLUICE_ERR_STATE after a failed step that lost the window; on
 * failure nothing changes that matters. */
enum sluice_status kv_state_reserve(struct kv_state *kv, int64_t n, struct sluice_error *err);

/* Drops the last tokens so that n remain. Allowed if n == 0, or n >= least and
 * high - n <= KV_SLACK; else SLUICE_ERR_STATE. */
enum sluice_status kv_state_truncate(struct kv_state *kv, int64_t n, struct sluice_error *err);

/* dst becomes the sequence of src: shares full pages, copies the fixed block. Both have the same
 * layout and ops. */
enum sluice_status kv_state_fork(struct kv_state *dst, const struct kv_state *src,
                                 struct sluice_error *err);

/* Page j (below n_page) as host bytes (layout->page_bytes). A page that is written must not be
 * shared. */
void kv_state_page_read(const struct kv_state *kv, int32_t j, void *bytes);
void kv_state_page_write(struct kv_state *kv, int32_t j, const void *bytes);

/* The same of the rows of a page's first `tokens` tokens only. */
size_t kv_state_rows_bytes(const struct kv_layout *layout, int64_t tokens);
void kv_state_rows_read(const struct kv_state *kv, int32_t j, int64_t tokens, void *bytes);
void kv_state_rows_write(struct kv_state *kv, int32_t j, int64_t tokens, const void *bytes);

/* A checkpoint: those rows of the fixed block that go on from n tokens, as host bytes. They are
 * fewest where n is a multiple of all ratios. read takes them at n_tokens; write sets n_tokens,
 * high and least to n and drops pages beyond it. */
size_t kv_state_checkpoint_bytes(const struct kv_layout *layout, int64_t n);
void kv_state_checkpoint_read(const struct kv_state *kv, void *bytes);
void kv_state_checkpoint_write(struct kv_state *kv, const void *bytes, int64_t n);

/* Writes the whole fixed block (layout->fixed_bytes), for n tokens; drops pages beyond. */
void kv_state_fixed_write(struct kv_state *kv, const void *bytes, int64_t n_tokens);

/* For measurements: the sequence becomes n tokens long, with rows of random valid bits in place of
 * a past. s and lo are those of its layout. Not for a sequence that anybody reads the text of. */
enum sluice_status kv_state_random(struct kv_state *kv, const struct shape *s, int lo, int64_t n,
                                   struct sluice_error *err);

#endif
