/* tests/support/kv_talks.h - conversations without a model, for tests of the disk store: every byte
 * follows from the tokens, so that whatever comes back can be checked. */
#ifndef SLUICE_TESTS_SUPPORT_KV_TALKS_H
#define SLUICE_TESTS_SUPPORT_KV_TALKS_H

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "kvstore/store_internal.h"
#include "support/unit.h"

enum { PAGE = 3000, FIXED = 5000, N_IDS = 1000 };
static const struct page_identity identity = {.model = 7, .page_bytes = PAGE, .fixed_bytes = FIXED};
static char dir[64];
static int warnings;
static char last_warning[512];

static inline void on_log(void *ctx, enum sluice_log_level level, const char *text)
{
    warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", text);
}

static inline struct kvstore *open_store(int64_t bytes, uint64_t model)
{
    struct kvstore *s;
    struct sluice_error err;
    struct kvstore_options o = {
        .dir = dir, .bytes = bytes, .identity = identity, .log = on_log};
    o.identity.model = model;
    if (kvstore_open(&o, &s, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    return s;
}

/* Bytes that belong to a key and to no other. */
static inline void fill(struct page_key key, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)rng_u64(key.low ^ key.high, i);
}

/* Conversation number k: its ids, keys and what a checkpoint at n is. */
struct talk {
    int32_t ids[N_IDS];
    struct page_key chain[N_IDS / PAGE_SINK_TOKENS + 1];
};

static inline void make_talk_of(struct talk *t, int k, uint64_t model)
{
    struct page_identity own = identity;
    own.model = model;
    for (int i = 0; i < N_IDS; i++)
        t->ids[i] = i < 300 ? i : i * k; /* the first page is everybody's */
    t->chain[0] = page_key_root(&own);
    for (int i = 0; i < N_IDS / PAGE_SINK_TOKENS; i++)
        t->chain[i + 1] =
            page_key_next(t->chain[i], t->ids + i * PAGE_SINK_TOKENS, PAGE_SINK_TOKENS);
}

static inline void make_talk(struct talk *t, int k)
{
    make_talk_of(t, k, identity.model);
}

static inline struct page_checkpoint at(const struct talk *t, int64_t n)
{
    struct page_key parent = t->chain[n / PAGE_SINK_TOKENS];
    const int32_t *tail = t->ids + n / PAGE_SINK_TOKENS * PAGE_SINK_TOKENS;
    return (struct page_checkpoint){
        parent, page_key_next(parent, tail, (size_t)n % PAGE_SINK_TOKENS), n};
}

static inline size_t checkpoint_bytes(int64_t n)
{
    return FIXED + (n % PAGE_SINK_TOKENS ? PAGE : 0);
}

static inline void put_pages(struct kvstore *s, const struct talk *t, int64_t n)
{
    struct page_sink sink = *kvstore_sink(s);
    uint8_t bytes[PAGE];
    for (int64_t i = 0; i < n / PAGE_SINK_TOKENS; i++) {
        struct page_link page = {t->chain[i], t->chain[i + 1], t->ids + i * PAGE_SINK_TOKENS};
        fill(page.key, bytes, PAGE);
        sink.put_page(sink.ctx, &page, bytes, PAGE);
    }
}

static inline void put_done(struct kvstore *s)
{
    kvstore_sink(s)->done(kvstore_sink(s)->ctx);
}

static inline void put_checkpoint(struct kvstore *s, const struct talk *t, int64_t n)
{
    struct page_sink sink = *kvstore_sink(s);
    uint8_t bytes[FIXED + PAGE];
    struct page_checkpoint c = at(t, n);
    fill(c.key, bytes, checkpoint_bytes(n));
    sink.put_checkpoint(sink.ctx, &c, t->ids + n / PAGE_SINK_TOKENS * PAGE_SINK_TOKENS, bytes,
                        checkpoint_bytes(n));
}

static inline void put(struct kvstore *s, const struct talk *t, int64_t n)
{
    put_pages(s, t, n);
    put_checkpoint(s, t, n);
    put_done(s);
}

/* Length of the longest stored prefix of t's first n ids, every byte of it checked; 0 if none, -1
 * if the store said so but could not give it. */
static inline int64_t restore(struct kvstore *s, const struct talk *t, size_t n)
{
    struct page_sink sink = *kvstore_sink(s);
    struct page_checkpoint c;
    uint8_t found[FIXED + PAGE], expected[FIXED + PAGE];
    if (!sink.find(sink.ctx, t->chain, t->ids, n, &c))
        return 0;
    assert_true(c.n <= (int64_t)n && page_key_same(c.key, at(t, c.n).key));
    for (int64_t i = 0; i < c.n / PAGE_SINK_TOKENS; i++) {
        if (sink.get_page(sink.ctx, t->chain[i + 1], found, PAGE, NULL) != SLUICE_OK)
            return -1;
        fill(t->chain[i + 1], expected, PAGE);
        assert_memory_equal(found, expected, PAGE);
    }
    size_t size = checkpoint_bytes(c.n);
    if (sink.get_checkpoint(sink.ctx, c.key, found, size, NULL) != SLUICE_OK)
        return -1;
    fill(c.key, expected, size);
    assert_memory_equal(found, expected, size);
    return c.n;
}

static inline void remove_dir(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static inline int setup(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/sluice-kv-XXXXXX");
    assert_non_null(mkdtemp(dir));
    warnings = 0;
    return 0;
}

static inline int teardown(void **state)
{
    remove_dir();
    return 0;
}

/* Calls fn on every record's path. */
static inline void each_file(const char *suffix, void (*fn)(const char *path))
{
    for (int i = 0; i < 256; i++) {
        char folder[128];
        snprintf(folder, sizeof folder, "%s/%02x", dir, i);
        DIR *d = opendir(folder);
        for (struct dirent *e; d && (e = readdir(d));) {
            char path[512];
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            if (strstr(e->d_name, suffix))
                fn(path);
        }
        if (d)
            closedir(d);
    }
}

static inline void flip_last_byte(const char *path)
{
    FILE *f = fopen(path, "r+");
    fseek(f, -1, SEEK_END);
    int c = fgetc(f);
    fseek(f, -1, SEEK_END);
    fputc(c ^ 1, f);
    fclose(f);
}

static inline void truncate_half(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
}

static inline void empty(const char *path)
{
    assert_int_equal(truncate(path, 0), 0);
}

#endif
