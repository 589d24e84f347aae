/* model/kv_state.c - one sequence's memory; invariants and states are in kv_state.h. */
#include "model/kv_state.h"

#include "base/check.h"

/* --- layout --- */

/* Parts begin on cache lines. */
static size_t take(size_t *used, size_t bytes)
{
    size_t at = *used;
    *used += (bytes + 63) & ~(size_t)63;
    return at;
}

static void layout_layer(struct kv_layout *k, const struct shape *s, int32_t ratio,
                         struct kv_layer_layout *out)
{
    size_t dim = (size_t)s->head_dim, index_dim = (size_t)s->index_dim;
    *out = (struct kv_layer_layout){.ring_rows = s->window + KV_SLACK, .ratio = ratio};
    out->ring_offset = take(&k->fixed_bytes, (size_t)out->ring_rows * k->main_row_bytes);
    if (ratio == 0)
        return;
    size_t windows = ratio == 4 ? 2 : 1;
    size_t page_rows = (size_t)(KV_PAGE_TOKENS / ratio);
    out->tail_rows = (int32_t)windows * ratio + KV_SLACK;
    out->tail_row_bytes = 2 * windows * dim * sizeof(float);
    out->tail_offset = take(&k->fixed_bytes, (size_t)out->tail_rows * out->tail_row_bytes);
    out->page_offset = take(&k->page_bytes, page_rows * k->main_row_bytes);
    if (ratio != 4)
        return;
    out->index_tail_rows = out->tail_rows;
    out->index_tail_row_bytes = 2 * windows * index_dim * sizeof(float);
    out->index_tail_offset =
        take(&k->fixed_bytes, (size_t)out->index_tail_rows * out->index_tail_row_bytes);
    out->index_page_offset = take(&k->page_bytes, page_rows * k->index_row_bytes);
}

void kv_layout_make(const struct shape *s, int lo, int hi, enum kv_format format,
                    struct kv_layout *out)
{
    SLUICE_ASSERT(lo >= 0 && lo < hi && hi <= s->n_layer);
    *out = (struct kv_layout){
        .format = format,
        .n_layer = hi - lo,
        .main_row_bytes = kv_main_row_bytes(format, s->head_dim, s->rot_dim),
        .index_row_bytes = s->index_dim ? kv_index_row_bytes(format, s->index_dim) : 0,
    };
    for (int l = lo; l < hi; l++)
        layout_layer(out, s, s->ratio[l], &out->layer[l - lo]);
}

/* --- pages --- */

static int32_t pages_for(const struct kv_state *kv, int64_t n_tokens)
{
    if (kv->layout->page_bytes == 0)
        return 0;
    return (int32_t)((n_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS);
}

static void count(const struct kv_state *kv, int64_t bytes)
{
    if (kv->layout->used)
        *kv->layout->used += bytes;
}

static enum sluice_status page_new(struct kv_state *kv, struct kv_page **out,
                                   struct sluice_error *err)
{
    DEV void *at;
    struct kv_page *page = calloc(1, sizeof(*page));
    FAIL_IF(!page, err, SLUICE_ERR_NOMEM, "out of memory for a KV page");
    enum sluice_status st = kv->ops->alloc(kv->ops->ctx, kv->layout->page_bytes, &at, err);
    if (st != SLUICE_OK) {
        free(page);
        return st;
    }
    page->at = at;
    page->refs = 1;
    count(kv, (int64_t)kv->layout->page_bytes);
    *out = page;
    return SLUICE_OK;
}

static void page_unref(struct kv_state *kv, struct kv_page *page)
{
    SLUICE_ASSERT(page->refs > 0);
    if (--page->refs > 0)
        return;
    kv->ops->free(kv->ops->ctx, page->at);
    free(page);
    count(kv, -(int64_t)kv->layout->page_bytes);
}

/* Makes page the j-th of the sequence, on the host and in the table that the ops read. */
static void page_set(struct kv_state *kv, int32_t j, struct kv_page *page)
{
    SLUICE_ASSERT(j <= kv->n_page && j < kv->page_room);
    kv->page[j] = page;
    if (j == kv->n_page)
        kv->n_page++;
    kv->ops->upload(kv->ops->ctx, kv->page_table + j, &page->at, sizeof(page->at));
}

static void drop_pages(struct kv_state *kv, int32_t keep)
{
    while (kv->n_page > keep)
        page_unref(kv, kv->page[--kv->n_page]);
}

/* --- life --- */

static enum sluice_status alloc_parts(struct kv_state *kv, struct sluice_error *err)
{
    DEV void *at;
    TRY(kv->ops->alloc(kv->ops->ctx, kv->layout->fixed_bytes, &at, err));
    kv->fixed = at;
    count(kv, (int64_t)kv->layout->fixed_bytes);
    kv->page_room = pages_for(kv, kv->max_tokens);
    if (kv->page_room == 0)
        return SLUICE_OK;
    kv->page = calloc((size_t)kv->page_room, sizeof(struct kv_page *));
    FAIL_IF(!kv->page, err, SLUICE_ERR_NOMEM, "out of memory for a table of KV pages");
    TRY(kv->ops->alloc(kv->ops->ctx, (size_t)kv->page_room * sizeof(uint8_t *), &at, err));
    kv->page_table = at;
    return SLUICE_OK;
}

enum sluice_status kv_state_new(const struct kv_layout *layout, struct ops *ops,
                                int64_t max_tokens, struct kv_state **out,
                                struct sluice_error *err)
{
    *out = NULL;
    FAIL_IF(max_tokens < 1 || max_tokens > INT32_MAX, err, SLUICE_ERR_ARG,
            "context: expected 1 to %d tokens, found %lld", INT32_MAX, (long long)max_tokens);
    struct kv_state *kv = calloc(1, sizeof(*kv));
    FAIL_IF(!kv, err, SLUICE_ERR_NOMEM, "out of memory for a sequence");
    kv->layout = layout;
    kv->ops = ops;
    kv->max_tokens = max_tokens;
    enum sluice_status st = alloc_parts(kv, err);
    if (st != SLUICE_OK) {
        kv_state_free(kv);
        return st;
    }
    *out = kv;
    return SLUICE_OK;
}

void kv_state_free(struct kv_state *kv)
{
    if (!kv)
        return;
    drop_pages(kv, 0);
    if (kv->fixed)
        count(kv, -(int64_t)kv->layout->fixed_bytes);
    kv->ops->free(kv->ops->ctx, kv->fixed);
    kv->ops->free(kv->ops->ctx, kv->page_table);
    free(kv->page);
    free(kv);
}

void kv_state_reset(struct kv_state *kv)
{
    drop_pages(kv, 0);
    kv->n_tokens = kv->high = kv->least = 0;
}

/* --- use --- */

enum sluice_status kv_state_reserve(struct kv_state *kv, int64_t n, struct sluice_error *err)
{
    SLUICE_ASSERT(n >= 0);
    FAIL_IF(n > kv->max_tokens - kv->n_tokens, err, SLUICE_ERR_LIMIT,
            "context of %lld tokens is full: %lld used, %lld more asked for",
            (long long)kv->max_tokens, (long long)kv->n_tokens, (long long)n);
    FAIL_IF(kv->high - kv->n_tokens > KV_SLACK, err, SLUICE_ERR_STATE,
            "a failed step overwrote the sequence's window: reset it");
    int32_t end = pages_for(kv, kv->n_tokens + n);
    for (int32_t j = (int32_t)(kv->n_tokens / KV_PAGE_TOKENS); j < end; j++) {
        struct kv_page *old = j < kv->n_page ? kv->page[j] : NULL;
        if (old && old->refs == 1)
            continue;
        struct kv_page *page = NULL;
        TRY(page_new(kv, &page, err));
        if (old) {
            kv->ops->copy(kv->ops->ctx, page->at, old->at, kv->layout->page_bytes);
            page_unref(kv, old);
        }
        page_set(kv, j, page);
    }
    return SLUICE_OK;
}

enum sluice_status kv_state_truncate(struct kv_state *kv, int64_t n, struct sluice_error *err)
{
    FAIL_IF(n < 0 || n > kv->n_tokens, err, SLUICE_ERR_ARG,
            "truncate: expected 0 to %lld tokens, found %lld", (long long)kv->n_tokens,
            (long long)n);
    if (n == 0) {
        kv_state_reset(kv);
        return SLUICE_OK;
    }
    FAIL_IF(n < kv->least, err, SLUICE_ERR_STATE,
            "truncate: expected at least the %lld tokens of a checkpoint, found %lld",
            (long long)kv->least, (long long)n);
    FAIL_IF(kv->high - n > KV_SLACK, err, SLUICE_ERR_STATE,
            "truncate: expected at most %d tokens to drop, found %lld", KV_SLACK,
            (long long)(kv->high - n));
    kv->n_tokens = n;
    return SLUICE_OK;
}

enum sluice_status kv_state_fork(struct kv_state *dst, const struct kv_state *src,
                                 struct sluice_error *err)
{
    SLUICE_ASSERT(dst != src && dst->layout == src->layout && dst->ops == src->ops);
    FAIL_IF(src->n_tokens > dst->max_tokens, err, SLUICE_ERR_LIMIT,
            "fork: a context of %lld tokens cannot hold %lld", (long long)dst->max_tokens,
            (long long)src->n_tokens);
    drop_pages(dst, 0);
    int32_t n_page = pages_for(src, src->n_tokens);
    SLUICE_ASSERT(n_page <= src->n_page);
    for (int32_t j = 0; j < n_page; j++) {
        src->page[j]->refs++;
        page_set(dst, j, src->page[j]);
    }
    dst->ops->copy(dst->ops->ctx, dst->fixed, src->fixed, dst->layout->fixed_bytes);
    dst->n_tokens = src->n_tokens;
    dst->high = src->high;
    dst->least = src->least;
    return SLUICE_OK;
}

void kv_state_page_read(const struct kv_state *kv, int32_t j, void *bytes)
{
    SLUICE_ASSERT(j >= 0 && j < kv->n_page);
    kv->ops->download(kv->ops->ctx, bytes, kv->page[j]->at, kv->layout->page_bytes);
}

void kv_state_page_write(struct kv_state *kv, int32_t j, const void *bytes)
{
    SLUICE_ASSERT(j >= 0 && j < kv->n_page && kv->page[j]->refs == 1);
    kv->ops->upload(kv->ops->ctx, kv->page[j]->at, bytes, kv->layout->page_bytes);
}

/* --- some rows only --- */

/* Calls fn with a run of bytes of a page or of the fixed block. */
typedef void run_fn(void *ctx, size_t offset, size_t bytes);

/* A ring of rows in the fixed block. */
struct ring {
    size_t offset, row_bytes;
    int32_t rows;
};

static void page_runs(const struct kv_layout *k, int64_t tokens, run_fn *fn, void *ctx)
{
    for (int i = 0; i < k->n_layer; i++) {
        const struct kv_layer_layout *l = &k->layer[i];
        size_t rows = l->ratio ? (size_t)(tokens / l->ratio) : 0;
        if (rows == 0)
            continue;
        fn(ctx, l->page_offset, rows * k->main_row_bytes);
        if (l->ratio == 4)
            fn(ctx, l->index_page_offset, rows * k->index_row_bytes);
    }
}

/* Positions [first, n) of a ring, which may wrap. */
static void ring_runs(const struct ring *r, int64_t first, int64_t n, run_fn *fn, void *ctx)
{
    for (int64_t p = first; p < n;) {
        int64_t slot = p % r->rows, run = r->rows - slot < n - p ? r->rows - slot : n - p;
        fn(ctx, r->offset + (size_t)slot * r->row_bytes, (size_t)run * r->row_bytes);
        p += run;
    }
}

/* The rows that positions from n on look back at: the window, and what has not been pooled for the
 * last time. With ratio 4 an entry pools the window before its own too. */
static void checkpoint_runs(const struct kv_layout *k, int64_t n, run_fn *fn, void *ctx)
{
    for (int i = 0; i < k->n_layer; i++) {
        const struct kv_layer_layout *l = &k->layer[i];
        int64_t window = l->ring_rows - KV_SLACK, first = n > window ? n - window : 0;
        struct ring ring = {l->ring_offset, k->main_row_bytes, l->ring_rows};
        ring_runs(&ring, first, n, fn, ctx);
        if (l->ratio == 0)
            continue;
        int64_t open = n - n % l->ratio;
        first = l->ratio == 4 && open > 0 ? open - l->ratio : open;
        struct ring tail = {l->tail_offset, l->tail_row_bytes, l->tail_rows};
        ring_runs(&tail, first, n, fn, ctx);
        struct ring index = {l->index_tail_offset, l->index_tail_row_bytes, l->index_tail_rows};
        if (l->ratio == 4)
            ring_runs(&index, first, n, fn, ctx);
    }
}

static void add_run(void *ctx, size_t offset, size_t bytes)
{
    *(size_t *)ctx += bytes;
}

size_t kv_state_rows_bytes(const struct kv_layout *layout, int64_t tokens)
{
    size_t bytes = 0;
    page_runs(layout, tokens, add_run, &bytes);
    return bytes;
}

size_t kv_state_checkpoint_bytes(const struct kv_layout *layout, int64_t n)
{
    size_t bytes = 0;
    checkpoint_runs(layout, n, add_run, &bytes);
    return bytes;
}

/* Between the backend's memory at `from` and packed bytes. */
struct packing {
    struct ops *ops;
    DEV uint8_t *from;
    uint8_t *out;                  /* or in */
    const uint8_t *in;
};

static void read_run(void *ctx, size_t offset, size_t bytes)
{
    struct packing *p = ctx;
    p->ops->download(p->ops->ctx, p->out, p->from + offset, bytes);
    p->out += bytes;
}

static void write_run(void *ctx, size_t offset, size_t bytes)
{
    struct packing *p = ctx;
    p->ops->upload(p->ops->ctx, p->from + offset, p->in, bytes);
    p->in += bytes;
}

void kv_state_rows_read(const struct kv_state *kv, int32_t j, int64_t tokens, void *bytes)
{
    SLUICE_ASSERT(j >= 0 && j < kv->n_page && tokens <= KV_PAGE_TOKENS);
    struct packing p = {.ops = kv->ops, .from = kv->page[j]->at, .out = bytes};
    page_runs(kv->layout, tokens, read_run, &p);
}

void kv_state_rows_write(struct kv_state *kv, int32_t j, int64_t tokens, const void *bytes)
{
    SLUICE_ASSERT(j >= 0 && j < kv->n_page && tokens <= KV_PAGE_TOKENS);
    SLUICE_ASSERT(kv->page[j]->refs == 1);
    struct packing p = {.ops = kv->ops, .from = kv->page[j]->at, .in = bytes};
    page_runs(kv->layout, tokens, write_run, &p);
}

void kv_state_checkpoint_read(const struct kv_state *kv, void *bytes)
{
    struct packing p = {.ops = kv->ops, .from = kv->fixed, .out = bytes};
    checkpoint_runs(kv->layout, kv->n_tokens, read_run, &p);
}

/* The fixed block is that of n tokens, and pages follow. */
static void put_back(struct kv_state *kv, int64_t n)
{
    SLUICE_ASSERT(n >= 0 && n <= kv->max_tokens && pages_for(kv, n) <= kv->n_page);
    drop_pages(kv, pages_for(kv, n));
    kv->n_tokens = kv->high = n;
}

void kv_state_checkpoint_write(struct kv_state *kv, const void *bytes, int64_t n)
{
    struct packing p = {.ops = kv->ops, .from = kv->fixed, .in = bytes};
    checkpoint_runs(kv->layout, n, write_run, &p);
    put_back(kv, n);
    kv->least = n;
}

void kv_state_fixed_write(struct kv_state *kv, const void *bytes, int64_t n_tokens)
{
    kv->ops->upload(kv->ops->ctx, kv->fixed, bytes, kv->layout->fixed_bytes);
    put_back(kv, n_tokens);
    kv->least = 0;
}
