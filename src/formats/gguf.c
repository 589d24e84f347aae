/* Opens one or several files as one model, and looks things up. */
#include "formats/gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/limits.h"
#include "formats/gguf_internal.h"

/* ---- name index ---- */

static struct str name_at(const void *at, size_t stride, uint64_t i)
{
    struct str name;
    memcpy(&name, (const char *)at + i * stride, sizeof name);
    return name;
}

enum sluice_status gguf_index_build(struct gguf_index *index, uint64_t n, struct sluice_error *err)
{
    index->size = 16;
    while (index->size < 2 * n)
        index->size *= 2;
    index->slot = calloc(index->size, sizeof *index->slot);
    FAIL_IF(!index->slot, err, SLUICE_ERR_NOMEM, "out of memory indexing %" PRIu64 " names", n);
    return SLUICE_OK;
}

int64_t gguf_index_find(const struct gguf_index *index, const void *at, size_t stride,
                        struct str name)
{
    uint64_t mask = index->size - 1, i = XXH3_64bits(name.at, name.len) & mask;
    for (; index->slot[i]; i = (i + 1) & mask)
        if (str_eq(name_at(at, stride, index->slot[i] - 1), name))
            return index->slot[i] - 1;
    return -1;
}

bool gguf_index_add(struct gguf_index *index, const void *at, size_t stride, uint64_t entry)
{
    struct str name = name_at(at, stride, entry);
    if (gguf_index_find(index, at, stride, name) >= 0)
        return false;
    uint64_t mask = index->size - 1, i = XXH3_64bits(name.at, name.len) & mask;
    while (index->slot[i])
        i = (i + 1) & mask;
    index->slot[i] = (uint32_t)entry + 1;
    return true;
}

_Static_assert(offsetof(struct gguf_kv, key) == 0 && offsetof(struct gguf_tensor, name) == 0,
               "the index reads names at the start of entries");

static enum sluice_status index_keys(struct gguf *g, struct sluice_error *err)
{
    TRY(gguf_index_build(&g->kv_index, g->n_kv, err));
    for (uint64_t i = 0; i < g->n_kv; i++)
        FAIL_IF(!gguf_index_add(&g->kv_index, g->kv, sizeof *g->kv, i), err, SLUICE_ERR_FORMAT,
                "%s: key '%.*s' appears twice", g->part[0].path, STR_ARG(g->kv[i].key));
    return SLUICE_OK;
}

static enum sluice_status index_tensors(struct gguf *g, struct sluice_error *err)
{
    TRY(gguf_index_build(&g->tensor_index, g->n_tensor, err));
    for (uint64_t i = 0; i < g->n_tensor; i++)
        FAIL_IF(!gguf_index_add(&g->tensor_index, g->tensor, sizeof *g->tensor, i), err,
                SLUICE_ERR_FORMAT, "%s: tensor '%.*s' appears twice",
                g->part[g->tensor[i].file].path, STR_ARG(g->tensor[i].name));
    return SLUICE_OK;
}

/* ---- opening ---- */

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->n_part; i++) {
        if (g->part[i].mapped)
            file_map_close(&g->part[i].map);
        free(g->part[i].path);
    }
    free(g->part);
    free(g->kv);
    free(g->tensor);
    free(g->kv_index.slot);
    free(g->tensor_index.slot);
    free(g);
}

static enum sluice_status new_gguf(int n_part, struct gguf **out, struct sluice_error *err)
{
    struct gguf *g = calloc(1, sizeof *g);
    if (g)
        g->part = calloc((size_t)n_part, sizeof *g->part);
    if (!g || !g->part) {
        gguf_close(g);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory opening a model of %d files",
                           n_part);
    }
    *out = g;
    return SLUICE_OK;
}

static enum sluice_status add_path(struct gguf *g, const char *path, struct sluice_error *err)
{
    struct gguf_part *p = &g->part[g->n_part++];
    p->path = strdup(path);
    FAIL_IF(!p->path, err, SLUICE_ERR_NOMEM, "out of memory opening %s", path);
    TRY(file_map_open(path, &p->map, err));
    p->mapped = true;
    p->bytes = p->map.bytes;
    p->size = p->map.size;
    return gguf_read_part(g, g->n_part - 1, err);
}

/* Number of files that the first part announces: 1 when it is not split. */
static enum sluice_status announced_parts(const struct gguf *g, int *n, int *no,
                                          struct sluice_error *err)
{
    uint32_t count = 1, number = 0;
    *n = 1;
    *no = 0;
    if (!gguf_kv_find(g, "split.count"))
        return SLUICE_OK;
    TRY(gguf_get_u32(g, "split.count", &count, err));
    if (count > 1)
        TRY(gguf_get_u32(g, "split.no", &number, err));
    FAIL_IF(count < 1 || count > LIMIT_GGUF_PARTS || number >= count, err, SLUICE_ERR_FORMAT,
            "%s: split.no %u of split.count %u: expected a count of 1 to %d and a smaller number",
            g->part[0].path, number, count, LIMIT_GGUF_PARTS);
    *n = (int)count;
    *no = (int)number;
    return SLUICE_OK;
}

/* "X-00001-of-00005.gguf" -> "X": the length of X, or 0 if the name has another form. */
static size_t split_stem(const char *path, int *number, int *count)
{
    static const char form[] = "-00001-of-00005.gguf";
    size_t len = strlen(path), tail = sizeof form - 1;
    if (len <= tail)
        return 0;
    const char *t = path + len - tail;
    for (size_t i = 0; i < tail; i++) {
        bool digit = form[i] >= '0' && form[i] <= '9';
        if (digit ? t[i] < '0' || t[i] > '9' : t[i] != form[i])
            return 0;
    }
    *number = (int)strtol(t + 1, NULL, 10);
    *count = (int)strtol(t + 10, NULL, 10);
    return len - tail;
}

/* Replaces *g, opened on any part of a split model, by the whole of it. */
static enum sluice_status open_split(const char *path, int n, struct gguf **g,
                                     struct sluice_error *err)
{
    int number = 0, count = 0;
    size_t stem = split_stem(path, &number, &count);
    FAIL_IF(stem == 0 || count != n, err, SLUICE_ERR_FORMAT,
            "%s: part of a model split in %d files: expected a name like X-00001-of-%05d.gguf",
            path, n, n);
    gguf_close(*g);
    *g = NULL;
    TRY(new_gguf(n, g, err));
    for (int i = 0; i < n; i++) {
        struct buf name;
        buf_init(&name, 65536);
        buf_addf(&name, "%.*s-%05d-of-%05d.gguf", (int)stem, path, i + 1, n);
        enum sluice_status st = buf_status(&name, err);
        (*g)->part[i].split_no = i;
        (*g)->part[i].split_count = n;
        if (st == SLUICE_OK)
            st = add_path(*g, name.data, err);
        buf_deinit(&name);
        TRY(st);
    }
    return SLUICE_OK;
}

/* Shard 0 holds the model's metadata and says how many tensors all parts have together. */
static enum sluice_status check_split(const struct gguf *g, struct sluice_error *err)
{
    int n, no;
    TRY(announced_parts(g, &n, &no, err));
    FAIL_IF(no != 0, err, SLUICE_ERR_FORMAT, "%s: expected split.no 0 in the first part, found %d",
            g->part[0].path, no);
    const struct gguf_kv *total = gguf_kv_find(g, "split.tensors.count");
    int64_t tensors;
    if (!total)
        return SLUICE_OK;
    FAIL_IF(total->count != 1, err, SLUICE_ERR_FORMAT,
            "%s: key 'split.tensors.count': expected one integer", g->part[0].path);
    TRY(gguf_kv_i64_at(total, 0, &tensors, err));
    FAIL_IF(tensors < 0 || (uint64_t)tensors != g->n_tensor, err, SLUICE_ERR_FORMAT,
            "%s: split.tensors.count says %" PRId64 " tensors, the %d parts have %" PRIu64,
            g->part[0].path, tensors, n, g->n_tensor);
    return SLUICE_OK;
}

static enum sluice_status open_files(const char *const *paths, int n_paths, struct gguf **g,
                                     struct sluice_error *err)
{
    int n = 1, no = 0;
    TRY(new_gguf(n_paths, g, err));
    TRY(add_path(*g, paths[0], err));
    TRY(index_keys(*g, err));
    TRY(announced_parts(*g, &n, &no, err));
    if (n > 1 && n_paths == 1) {
        TRY(open_split(paths[0], n, g, err));
        TRY(index_keys(*g, err));
        TRY(check_split(*g, err));
    }
    for (int i = 1; i < n_paths; i++)
        TRY(add_path(*g, paths[i], err));
    if (n > 1 && n_paths > 1)
        TRY(check_split(*g, err));
    return index_tensors(*g, err);
}

enum sluice_status gguf_open(const char *const *paths, int n_paths, struct gguf **out,
                             struct sluice_error *err)
{
    *out = NULL;
    FAIL_IF(n_paths < 1 || n_paths > LIMIT_GGUF_PARTS, err, SLUICE_ERR_ARG,
            "expected 1 to %d model files, found %d", LIMIT_GGUF_PARTS, n_paths);
    struct gguf *g = NULL;
    enum sluice_status st = open_files(paths, n_paths, &g, err);
    if (st != SLUICE_OK) {
        gguf_close(g);
        return st;
    }
    *out = g;
    return SLUICE_OK;
}

enum sluice_status gguf_open_memory(const void *bytes, size_t len, struct gguf **out,
                                    struct sluice_error *err)
{
    *out = NULL;
    struct gguf *g;
    TRY(new_gguf(1, &g, err));
    enum sluice_status st;
    g->n_part = 1;
    g->part[0] = (struct gguf_part){.path = strdup("memory"), .bytes = bytes, .size = len};
    if (!g->part[0].path) {
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory opening a model in memory");
        goto out;
    }
    TRY_OUT(gguf_read_part(g, 0, err));
    TRY_OUT(index_keys(g, err));
    TRY_OUT(index_tensors(g, err));
    *out = g;
    return SLUICE_OK;
out:
    gguf_close(g);
    return st;
}

/* ---- queries ---- */

int gguf_file_count(const struct gguf *g)
{
    return g->n_part;
}

const char *gguf_file_path(const struct gguf *g, int file)
{
    SLUICE_ASSERT(file >= 0 && file < g->n_part);
    return g->part[file].path;
}

uint64_t gguf_file_size(const struct gguf *g, int file)
{
    SLUICE_ASSERT(file >= 0 && file < g->n_part);
    return g->part[file].size;
}

void gguf_file_load(const struct gguf *g, int file, uint64_t offset, uint64_t n)
{
    const struct gguf_part *part = &g->part[file];
    if (part->mapped)
        file_map_load(&part->map, offset, n);
}

uint64_t gguf_kv_count(const struct gguf *g)
{
    return g->n_kv;
}

const struct gguf_kv *gguf_kv_at(const struct gguf *g, uint64_t i)
{
    SLUICE_ASSERT(i < g->n_kv);
    return &g->kv[i];
}

const struct gguf_kv *gguf_kv_find(const struct gguf *g, const char *key)
{
    int64_t i = gguf_index_find(&g->kv_index, g->kv, sizeof *g->kv, str_of(key));
    return i < 0 ? NULL : &g->kv[i];
}

uint64_t gguf_tensor_count(const struct gguf *g)
{
    return g->n_tensor;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint64_t i)
{
    SLUICE_ASSERT(i < g->n_tensor);
    return &g->tensor[i];
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name)
{
    int64_t i = gguf_index_find(&g->tensor_index, g->tensor, sizeof *g->tensor, str_of(name));
    return i < 0 ? NULL : &g->tensor[i];
}

/* ---- fingerprint ---- */

#define SAMPLE_BYTES 4096

uint64_t gguf_fingerprint(const struct gguf *g)
{
    XXH3_state_t *h = XXH3_createState();
    SLUICE_ASSERT(h);
    XXH3_64bits_reset(h);
    for (uint64_t i = 0; i < g->n_kv; i++) {
        XXH3_64bits_update(h, g->kv[i].key.at, g->kv[i].key.len);
        XXH3_64bits_update(h, g->kv[i].bytes, g->kv[i].size);
    }
    for (uint64_t i = 0; i < g->n_tensor; i++) {
        const struct gguf_tensor *t = &g->tensor[i];
        uint64_t n = t->bytes < SAMPLE_BYTES ? t->bytes : SAMPLE_BYTES;
        XXH3_64bits_update(h, t->name.at, t->name.len);
        XXH3_64bits_update(h, &t->type, sizeof t->type);
        XXH3_64bits_update(h, t->ne, sizeof t->ne);
        XXH3_64bits_update(h, t->data, n);
        XXH3_64bits_update(h, (const uint8_t *)t->data + (t->bytes - n), n);
    }
    uint64_t digest = XXH3_64bits_digest(h);
    XXH3_freeState(h);
    return digest;
}
