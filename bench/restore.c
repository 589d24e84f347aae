/* What it costs to go on from a conversation that is on disk.
 *
 *   restore disk [TOKENS]           pages and state of Flash's geometry, random rows: bytes a second
 *                                   out of the store against reading a plain file of the same size,
 *                                   both not in the system's cache, in turns
 *   restore model FILE [TOKENS]     a prompt read by the model, then the same after a restart:
 *                                   seconds to the first token                (6,000 tokens) */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "kvstore/store_internal.h"
#include "model/kv_state.h"
#include "os/clock.h"
#include "os/file.h"
#include "sluice.h"

static char dir[] = "/tmp/sluice-bench-XXXXXX";

static void die(const char *what)
{
    fprintf(stderr, "restore: %s\n", what);
    exit(1);
}

/* Takes a file out of the system's cache, once it is on disk. */
static void forget(void *ctx, const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fsync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        die("cannot empty the cache");
    close(fd);
}

/* ---- the disk ---- */

static void flash_layout(struct kv_layout *out)
{
    struct shape s = {.n_layer = 43, .head_dim = 512, .rot_dim = 64, .window = 128,
                      .index_dim = 128};
    for (int l = 2; l < 43; l++)
        s.ratio[l] = l % 2 ? 128 : 4;
    kv_layout_make(&s, 0, 43, KV_FP8, out);
}

/* FP8 rows of a normal distribution pack to about nine tenths: so do bytes whose top bits lean. */
static void fill(uint8_t *bytes, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t r = rng_u64(seed, i);
        bytes[i] = (uint8_t)((r & 0x87) | ((7 + (r >> 8 & 3) + (r >> 10 & 3) + (r >> 12 & 1)) << 3));
    }
}

static struct kvstore *open_disk(const struct kv_layout *k)
{
    struct kvstore *s;
    struct kvstore_options o = {
        .dir = dir, .identity = {.page_bytes = k->page_bytes, .fixed_bytes = k->fixed_bytes}};
    if (kvstore_open(&o, &s, NULL) != SLUICE_OK)
        die("cannot open the store");
    return s;
}

struct saved {
    size_t n, pages, state_bytes, page_bytes;
    int32_t *ids;
    struct page_key *chain;
};

static void save(const struct saved *v, struct kvstore *s)
{
    const struct page_sink *sink = kvstore_sink(s);
    size_t room = v->state_bytes > v->page_bytes ? v->state_bytes : v->page_bytes;
    uint8_t *bytes = malloc(room);
    for (size_t i = 0; i < v->pages; i++) {
        struct page_link page = {v->chain[i], v->chain[i + 1], v->ids + i * PAGE_SINK_TOKENS};
        fill(bytes, v->page_bytes, i);
        if (!sink->put_page(sink->ctx, &page, bytes, v->page_bytes))
            die("a page is not kept");
    }
    const int32_t *tail = v->ids + v->pages * PAGE_SINK_TOKENS;
    struct page_checkpoint at = {
        v->chain[v->pages], page_key_next(v->chain[v->pages], tail, v->n % PAGE_SINK_TOKENS),
        (int64_t)v->n};
    fill(bytes, v->state_bytes, 1000);
    if (!sink->put_checkpoint(sink->ctx, &at, tail, bytes, v->state_bytes))
        die("the state is not kept");
    sink->done(sink->ctx);
    kvstore_flush(s);
    free(bytes);
}

/* Seconds to have all of it in memory. */
static double restore(const struct saved *v, struct kvstore *s)
{
    const struct page_sink *sink = kvstore_sink(s);
    size_t room = v->state_bytes > v->page_bytes ? v->state_bytes : v->page_bytes;
    uint8_t *bytes = malloc(room);
    struct page_checkpoint at;
    double began = clock_seconds();
    bool ok = sink->find(sink->ctx, v->chain, v->ids, v->n, &at) && at.n == (int64_t)v->n;
    for (size_t i = 0; i < v->pages && ok; i++)
        ok = sink->get_page(sink->ctx, v->chain[i + 1], bytes, v->page_bytes, NULL) == SLUICE_OK;
    ok = ok && sink->get_checkpoint(sink->ctx, at.key, bytes, v->state_bytes, NULL) == SLUICE_OK;
    double seconds = clock_seconds() - began;
    if (!ok)
        die("what was kept does not come back");
    free(bytes);
    return seconds;
}

static double read_plain(const char *path, size_t n)
{
    enum { PIECE = 1 << 20 };
    static char piece[PIECE];
    int fd = open(path, O_RDONLY);
    double began = clock_seconds();
    for (size_t at = 0; at < n; at += PIECE)
        if (fd < 0 || file_read_exact(fd, piece, n - at < PIECE ? n - at : PIECE, at, NULL))
            die("cannot read the plain file");
    double seconds = clock_seconds() - began;
    close(fd);
    return seconds;
}

static void write_plain(const char *path, size_t n)
{
    uint8_t *bytes = malloc(n);
    fill(bytes, n, 7);
    if (file_replace(path, bytes, n, 0600, NULL) != SLUICE_OK)
        die("cannot write the plain file");
    free(bytes);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void disk(size_t n)
{
    enum { TIMES = 9 };
    struct kv_layout k;
    char plain[64];
    double packed[TIMES], raw[TIMES];
    flash_layout(&k);
    struct saved v = {.n = n, .pages = n / PAGE_SINK_TOKENS, .page_bytes = k.page_bytes};
    v.state_bytes = kv_state_checkpoint_bytes(&k, (int64_t)n) +
                    kv_state_rows_bytes(&k, (int64_t)(n % PAGE_SINK_TOKENS));
    v.ids = calloc(n, sizeof *v.ids);
    v.chain = calloc(v.pages + 1, sizeof *v.chain);
    struct kvstore *s = open_disk(&k);
    v.chain[0] = s->root;
    for (size_t i = 0; i < v.pages; i++)
        v.chain[i + 1] =
            page_key_next(v.chain[i], v.ids + i * PAGE_SINK_TOKENS, PAGE_SINK_TOKENS);
    save(&v, s);
    struct kvstore_stats stats;
    kvstore_stats(s, &stats);
    snprintf(plain, sizeof plain, "%s/plain", dir);
    write_plain(plain, (size_t)stats.bytes);
    for (int i = 0; i < TIMES; i++) {
        store_walk(dir, forget, NULL, NULL);
        packed[i] = restore(&v, s);
        forget(NULL, plain);
        raw[i] = read_plain(plain, (size_t)stats.bytes);
    }
    qsort(packed, TIMES, sizeof *packed, by_value);
    qsort(raw, TIMES, sizeof *raw, by_value);
    double a = packed[TIMES / 2], b = raw[TIMES / 2], mb = (double)stats.bytes / 1e6;
    double warm = restore(&v, s);
    printf("%zu tokens, %zu pages of %zu and a state of %zu bytes: %.1f MB on disk, %.1f unpacked\n",
           n, v.pages, v.page_bytes, v.state_bytes, mb,
           (double)(v.pages * v.page_bytes + v.state_bytes) / 1e6);
    printf("restored in %.1f ms (%.0f MB/s), %.1f ms from the system's cache; a plain file read in "
           "%.1f ms (%.0f MB/s): %.0f %% of the disk\n",
           a * 1e3, mb / a, warm * 1e3, b * 1e3, mb / b, 100 * b / a);
    kvstore_close(s);
    free(v.ids);
    free(v.chain);
}

/* ---- a model ---- */

static void on_event(void *ctx, const struct sluice_event *event)
{
    if (event->kind == SLUICE_EVENT_DONE)
        *(struct sluice_usage *)ctx = event->usage;
}

static void ask(const char *path, size_t n, struct sluice_usage *usage)
{
    struct sluice_options o = {.model = path, .context = (int64_t)n + 64};
    struct kvstore_options k = {.dir = dir};
    struct sluice *e;
    struct kvstore *s;
    struct sluice_request *r;
    struct sluice_error err;
    int32_t *ids = malloc(n * sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(rng_u64(1, i) % 100000);
    if (sluice_open(&o, &e, &err) != SLUICE_OK)
        die(err.message);
    sluice_store_identity(e, &k.identity);
    if (kvstore_open(&k, &s, &err) != SLUICE_OK)
        die(err.message);
    sluice_store_set(e, kvstore_sink(s));
    struct sluice_request_options q = {
        .prompt = ids, .n_prompt = n, .max_tokens = 1, .raw = true, .ignore_eos = true,
        .sampling.logprobs = -1, .on_event = on_event, .ctx = usage};
    if (sluice_submit(e, &q, &r, &err) != SLUICE_OK)
        die(err.message);
    sluice_wait(r, -1);
    sluice_release(r);
    sluice_close(e);
    kvstore_close(s);
    free(ids);
}

static void model(const char *path, size_t n)
{
    struct sluice_usage first, again;
    ask(path, n, &first);
    store_walk(dir, forget, NULL, NULL);
    ask(path, n, &again);
    printf("%zu tokens: read in %.2f s; after a restart, %d of them at hand, the first token in "
           "%.3f s: %.0f times faster\n",
           n, first.first_token_s, again.cached, again.first_token_s,
           first.first_token_s / again.first_token_s);
}

int main(int argc, char **argv)
{
    char command[64];
    bool on_model = argc > 2 && strcmp(argv[1], "model") == 0;
    if (argc < 2 || (!on_model && strcmp(argv[1], "disk") != 0) || !mkdtemp(dir)) {
        fprintf(stderr, "usage: restore disk [TOKENS] | restore model FILE [TOKENS]\n");
        return 2;
    }
    const char *n = argc > 2 + on_model ? argv[2 + on_model] : "6000";
    if (on_model)
        model(argv[2], strtoul(n, NULL, 10));
    else
        disk(strtoul(n, NULL, 10));
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) != 0;
}
