#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "text/pretok.h"

#define NO_RANK UINT32_MAX
/* Up to this many bytes scanning for the lowest rank beats keeping a heap. */
#define SHORT_PIECE 48

/* A symbol of a long piece; place i is the byte at which it starts. Dead places have NO_RANK. */
struct symbol {
    int32_t id;
    struct vocab_merge pair; /* the merge with the next symbol; rank NO_RANK if none */
    uint32_t prev, next;     /* places; the piece's length past the last one */
};

void token_list_deinit(struct token_list *list)
{
    free(list->at);
    *list = (struct token_list){0};
}

static enum sluice_status reserve(struct token_list *list, size_t more, struct sluice_error *err)
{
    size_t room = list->room ? list->room : 64;
    if (list->room - list->n >= more)
        return SLUICE_OK;
    while (room - list->n < more)
        room *= 2;
    int32_t *at = realloc(list->at, room * sizeof at[0]);
    FAIL_IF(!at, err, SLUICE_ERR_NOMEM, "out of memory for %zu token ids", room);
    list->at = at;
    list->room = room;
    return SLUICE_OK;
}

enum sluice_status token_list_add(struct token_list *list, int32_t id, struct sluice_error *err)
{
    TRY(reserve(list, 1, err));
    list->at[list->n++] = id;
    return SLUICE_OK;
}

static struct vocab_merge find_pair(const struct vocab *v, int32_t left, int32_t right)
{
    struct vocab_merge m = {NO_RANK, -1};
    vocab_find_merge(v, left, right, &m);
    return m;
}

/* Merges in place in out; returns the ids left. */
static size_t merge_short(const struct vocab *v, struct str piece, int32_t *out)
{
    struct vocab_merge pair[SHORT_PIECE];
    size_t n = piece.len;
    for (size_t i = 0; i < n; i++)
        out[i] = vocab_byte_id(v, (uint8_t)piece.at[i]);
    for (size_t i = 0; i + 1 < n; i++)
        pair[i] = find_pair(v, out[i], out[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            best = pair[i].rank < pair[best].rank ? i : best;
        if (pair[best].rank == NO_RANK)
            break;
        out[best] = pair[best].id;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            out[i] = out[i + 1];
            pair[i - 1] = pair[i];
        }
        if (best > 0)
            pair[best - 1] = find_pair(v, out[best - 1], out[best]);
        if (best + 1 < n)
            pair[best] = find_pair(v, out[best], out[best + 1]);
    }
    return n;
}

/* A binary min-heap of rank << 32 | place: lowest rank first, then leftmost. */
struct heap {
    uint64_t *at;
    size_t n;
};

static void heap_push(struct heap *h, uint64_t key)
{
    size_t i = h->n++;
    while (i > 0 && h->at[(i - 1) / 2] > key) {
        h->at[i] = h->at[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->at[i] = key;
}

static uint64_t heap_pop(struct heap *h)
{
    uint64_t top = h->at[0], key = h->at[--h->n];
    size_t i = 0;
    for (size_t child = 1; child < h->n; child = 2 * i + 1) {
        if (child + 1 < h->n && h->at[child + 1] < h->at[child])
            child++;
        if (h->at[child] >= key)
            break;
        h->at[i] = h->at[child];
        i = child;
    }
    h->at[i] = key;
    return top;
}

/* Looks up the merge of the symbol at place i with its neighbour and queues it. */
static void queue_pair(const struct vocab *v, struct symbol *s, struct heap *h, uint32_t i,
                       uint32_t n)
{
    s[i].pair = (struct vocab_merge){NO_RANK, -1};
    if (s[i].next == n)
        return;
    s[i].pair = find_pair(v, s[i].id, s[s[i].next].id);
    if (s[i].pair.rank != NO_RANK)
        heap_push(h, (uint64_t)s[i].pair.rank << 32 | i);
}

static size_t merge_symbols(const struct vocab *v, struct symbol *s, struct heap *h, uint32_t n,
                            int32_t *out)
{
    for (uint32_t i = 0; i < n; i++)
        queue_pair(v, s, h, i, n);
    while (h->n > 0) {
        uint64_t key = heap_pop(h);
        uint32_t i = (uint32_t)key;
        /* A rank names a pair, so an entry is stale exactly when the place has another rank now. */
        if (s[i].pair.rank != key >> 32)
            continue;
        uint32_t gone = s[i].next;
        s[i].id = s[i].pair.id;
        s[i].next = s[gone].next;
        s[gone].pair.rank = NO_RANK;
        if (s[i].next < n)
            s[s[i].next].prev = i;
        queue_pair(v, s, h, i, n);
        if (i > 0)
            queue_pair(v, s, h, s[i].prev, n);
    }
    size_t count = 0;
    for (uint32_t i = 0; i < n; i = s[i].next)
        out[count++] = s[i].id;
    return count;
}

static enum sluice_status merge_long(const struct vocab *v, struct str piece, int32_t *out,
                                     size_t *count, struct sluice_error *err)
{
    uint32_t n = (uint32_t)piece.len;
    struct symbol *s = malloc(n * sizeof s[0]);
    /* One entry a place, and each of at most n - 1 merges queues at most two more. */
    struct heap h = {malloc((size_t)n * 3 * sizeof h.at[0]), 0};
    enum sluice_status st = SLUICE_OK;
    if (s && h.at) {
        for (uint32_t i = 0; i < n; i++) {
            s[i] = (struct symbol){.id = vocab_byte_id(v, (uint8_t)piece.at[i]),
                                   .prev = i ? i - 1 : 0,
                                   .next = i + 1};
        }
        *count = merge_symbols(v, s, &h, n, out);
    } else {
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a word of %u bytes", n);
    }
    free(s);
    free(h.at);
    return st;
}

static enum sluice_status encode_plain(const struct vocab *v, struct str text,
                                       struct token_list *out, struct sluice_error *err)
{
    struct pretok p;
    struct str piece;
    pretok_init(&p, text);
    while (pretok_next(&p, &piece)) {
        size_t count = 0;
        TRY(reserve(out, piece.len, err));
        if (piece.len <= SHORT_PIECE)
            count = merge_short(v, piece, out->at + out->n);
        else
            TRY(merge_long(v, piece, out->at + out->n, &count, err));
        out->n += count;
    }
    return SLUICE_OK;
}

/* Is [from, to) inside one of the ranges that *next begins? Skips ranges that end before it. */
static bool inside(const struct text_range **next, const struct text_range *end, size_t from,
                   size_t to)
{
    while (*next < end && (*next)->to <= from)
        ++*next;
    return *next < end && (*next)->from <= from && to <= (*next)->to;
}

static enum sluice_status encode_marked(const struct vocab *v, struct str text,
                                        const struct text_range *trusted, size_t n_trusted,
                                        struct token_list *out, struct sluice_error *err)
{
    const struct text_range *end = trusted + n_trusted;
    size_t from = 0, search = 0;
    while (from < text.len) {
        size_t at;
        int32_t id = vocab_match_added(v, (struct str){text.at + search, text.len - search}, &at);
        at += search;
        size_t len = id < 0 ? 0 : vocab_bytes(v, id).len;
        if (id >= 0 && !inside(&trusted, end, at, at + len)) {
            search = at + 1;
            continue;
        }
        TRY(encode_plain(v, (struct str){text.at + from, at - from}, out, err));
        if (id < 0)
            break;
        TRY(token_list_add(out, id, err));
        from = search = at + len;
    }
    return SLUICE_OK;
}

enum sluice_status bpe_encode_marked(const struct vocab *v, struct str text,
                                     const struct text_range *trusted, size_t n_trusted,
                                     struct token_list *out, struct sluice_error *err)
{
    size_t before = out->n;
    FAIL_IF(text.len > BPE_TEXT_MAX, err, SLUICE_ERR_LIMIT,
            "text of %zu bytes to encode, at most %zu are supported", text.len, BPE_TEXT_MAX);
    enum sluice_status st = encode_marked(v, text, trusted, n_trusted, out, err);
    if (st != SLUICE_OK)
        out->n = before;
    return st;
}

enum sluice_status bpe_encode(const struct vocab *v, struct str text, bool allow_added,
                              struct token_list *out, struct sluice_error *err)
{
    struct text_range all = {0, text.len};
    return bpe_encode_marked(v, text, &all, allow_added ? 1 : 0, out, err);
}

enum sluice_status bpe_decode(const struct vocab *v, const int32_t *ids, size_t n, struct buf *out,
                              struct sluice_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= vocab_count(v))
            return status_fail(err, SLUICE_ERR_ARG, (int64_t)i,
                               "token id %d at index %zu: expected 0 to %d", ids[i], i,
                               vocab_count(v) - 1);
        struct str bytes = vocab_bytes(v, ids[i]);
        buf_add(out, bytes.at, bytes.len);
    }
    return buf_status(out, err);
}
