/* kvstore/list.c - a folder's records, for people. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kvstore/store_internal.h"

struct listing {
    bool deep;
    void (*fn)(void *ctx, const struct kvstore_item *item);
    void *ctx;
};

static enum sluice_status check_payload(const struct buf *file, const struct record_header *h,
                                        struct sluice_error *err)
{
    /* The header may be forged: its own sizes must not wrap, nor what is allocated from them. */
    uint64_t page = h->identity.page_bytes, fixed = h->identity.fixed_bytes;
    uint64_t most = page < RECORD_MAX_BYTES && fixed < RECORD_MAX_BYTES ? page + fixed : 0;
    FAIL_IF(h->raw_bytes > most, err, SLUICE_ERR_FORMAT, "a payload of %llu bytes: at most %llu",
            (unsigned long long)h->raw_bytes, (unsigned long long)most);
    void *out = malloc(h->raw_bytes + 1);
    FAIL_IF(!out, err, SLUICE_ERR_NOMEM, "out of memory for a payload");
    enum sluice_status st = record_unpack(file->data, file->len, NULL, out, h->raw_bytes, err);
    free(out);
    return st;
}

static void list_file(void *ctx, const char *path)
{
    const struct listing *l = ctx;
    struct buf file;
    struct stat st;
    struct record_header h = {0};
    struct sluice_error err = {0};
    if (strcmp(strrchr(path, '.'), ".tmp") == 0 || stat(path, &st) != 0)
        return;
    buf_init(&file, 0);
    struct kvstore_item item = {
        .path = path, .bytes = st.st_size, .last_use = (int64_t)st.st_mtime};
    item.status = store_read(path, &file, &err);
    if (item.status == SLUICE_OK)
        item.status = record_check(file.data, file.len, NULL, &h, &err);
    if (item.status == SLUICE_OK && l->deep)
        item.status = check_payload(&file, &h, &err);
    item.identity = h.identity;
    item.checkpoint = h.kind == RECORD_CHECKPOINT;
    item.n = h.n;
    item.message = err.message;
    l->fn(l->ctx, &item);
    buf_deinit(&file);
}

enum sluice_status kvstore_list(const char *dir, bool deep,
                                void (*fn)(void *ctx, const struct kvstore_item *item), void *ctx,
                                struct sluice_error *err)
{
    struct listing l = {deep, fn, ctx};
    return store_walk(dir, list_file, &l, err);
}
