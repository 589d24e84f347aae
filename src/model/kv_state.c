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
    *out = (struct kv_layer_layout){.ring_rows = s->window + KV_SLACK};
    out->ring_offset = take(&k->fixed_bytes, (size_t)out->ring_rows * k->main_row_bytes);
    if (ratio == 0)
        return;
    size_t windows = ratio == 4 ? 2 : 1;
    size_t page_rows = (size_t)(KV_PAGE_TOKENS / ratio);
    out->tail_rows = (int32_t)windows * ratio + KV_SLACK;
    out->tail_offset = take(&k->fixed_bytes,
                            (size_t)out->tail_rows * 2 * windows * dim * sizeof(float));
    out->page_offset = take(&k->page_bytes, page_rows * k->main_row_bytes);
    if (ratio != 4)
        return;
    out->index_tail_rows = out->tail_rows;
    out->index_tail_offset = take(&k->fixed_bytes, (size_t)out->index_tail_rows * 2 * windows *
                                                       index_dim * sizeof(float));
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
    kv->n_tokens = kv->high = 0;
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

void kv_state_fixed_read(const struct kv_state *kv, void *bytes)
{
    kv->ops->download(kv->ops->ctx, bytes, kv->fixed, kv->layout->fixed_bytes);
}

void kv_state_fixed_write(struct kv_state *kv, const void *bytes, int64_t n_tokens)
{
    SLUICE_ASSERT(n_tokens >= 0 && n_tokens <= kv->max_tokens);
    SLUICE_ASSERT(pages_for(kv, n_tokens) <= kv->n_page);
    kv->ops->upload(kv->ops->ctx, kv->fixed, bytes, kv->layout->fixed_bytes);
    drop_pages(kv, pages_for(kv, n_tokens));
    kv->n_tokens = kv->high = n_tokens;
}
