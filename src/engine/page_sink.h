/* engine/page_sink.h - what a store of conversations implements (kvstore/). The scheduler hands it
 * opaque bytes under keys and asks for them again; it does not know what a disk is, and the store
 * does not know what a model is.
 *
 * A *page* is the compressed rows of PAGE_SINK_TOKENS tokens. A *checkpoint* at n tokens is what
 * else is needed to go on from there: rows of the fixed block, and those of the last, partial page.
 * Both depend on nothing but the tokens before their end, so their key is a hash of those: the same
 * tokens give the same bytes, whoever reads them, and are kept once.
 *
 *   tokens   | page 0 | page 1 | page 2 | tail ...          n = 3 * PAGE_SINK_TOKENS + tail
 *   keys     root -> k0 -> k1 -> k2 -> checkpoint's key      each hashes its parent and its ids
 *
 * Threads: every call is made on the scheduler's thread. put_* copy and return soon; writing is the
 * store's own business. */
#ifndef SLUICE_ENGINE_PAGE_SINK_H
#define SLUICE_ENGINE_PAGE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

#include "base/numerics.h"
#include "base/status.h"

#define PAGE_SINK_TOKENS 256

struct page_key {
    uint64_t low, high;
};

/* Everything that must agree before bytes may be used again. */
struct page_identity {
    uint64_t model;              /* of the file's contents (formats/gguf.h) */
    uint32_t kv_format;          /* 0 exact, 1 fp8 */
    uint32_t numerics;           /* of the backend: base/numerics.h */
    uint64_t page_bytes, fixed_bytes;
};

static inline struct page_key page_key_root(const struct page_identity *identity)
{
    XXH128_hash_t h = XXH3_128bits(identity, sizeof *identity);
    return (struct page_key){h.low64, h.high64};
}

/* The key after n more ids (a whole page, or a checkpoint's tail, which may be empty). */
static inline struct page_key page_key_next(struct page_key parent, const int32_t *ids, size_t n)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(ids, n * sizeof *ids, parent.low ^ n);
    return (struct page_key){h.low64 ^ parent.high, h.high64 + 0x9e3779b97f4a7c15u * parent.low};
}

static inline bool page_key_same(struct page_key a, struct page_key b)
{
    return a.low == b.low && a.high == b.high;
}

/* A page and the one before it (or the root). */
struct page_link {
    struct page_key parent, key;
    const int32_t *ids;          /* [PAGE_SINK_TOKENS] */
};

struct page_checkpoint {
    struct page_key parent;      /* of the last whole page, or the root */
    struct page_key key;         /* page_key_next(parent, tail ids, n % PAGE_SINK_TOKENS) */
    int64_t n;                   /* tokens */
};

struct page_sink {
    void *ctx;
    /* Keep bytes [n] under a key that they may have already; a page after the one before it, a
     * checkpoint after its pages. False if that cannot be done now, or not without something before
     * it that is not kept. What was put or found by has_page stays until `done`.
     * tail: the ids after the last whole page, [at->n % PAGE_SINK_TOKENS]. */
    bool (*put_page)(void *ctx, const struct page_link *page, const void *bytes, size_t n);
    bool (*put_checkpoint)(void *ctx, const struct page_checkpoint *at, const int32_t *tail,
                           const void *bytes, size_t n);
    /* A conversation has been put, with a checkpoint or without. */
    void (*done)(void *ctx);
    /* What is asked for counts as used. */
    bool (*has_page)(void *ctx, struct page_key key);
    bool (*has_checkpoint)(void *ctx, struct page_key key);
    /* The longest checkpoint that is a prefix of ids[0 .. n) and whose pages are there; chain[i]
     * is the key after i pages (chain[0] is the root), n / PAGE_SINK_TOKENS + 1 of them. */
    bool (*find)(void *ctx, const struct page_key *chain, const int32_t *ids, size_t n,
                 struct page_checkpoint *out);
    /* Fill bytes [n]; SLUICE_ERR_IO or SLUICE_ERR_FORMAT when they cannot be had unharmed, and then
     * the record is gone, with all that depends on it. */
    enum sluice_status (*get_page)(void *ctx, struct page_key key, void *bytes, size_t n,
                                   struct sluice_error *err);
    enum sluice_status (*get_checkpoint)(void *ctx, struct page_key key, void *bytes, size_t n,
                                         struct sluice_error *err);
};

#endif
