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

static void list_file(void *ctx, const char *path)
{
    const struct listing *l = ctx;
    struct stat st;
    struct record_header h = {0};
    struct sluice_error err = {0};
    int32_t ids[PAGE_SINK_TOKENS];
    if (strcmp(strrchr(path, '.'), ".tmp") == 0 || stat(path, &st) != 0)
        return;
    struct kvstore_item item = {
        .path = path, .bytes = st.st_size, .last_use = (int64_t)st.st_mtime};
    item.status = l->deep ? store_check_deep(path, &h, &err)
                          : store_read_head(path, &h, ids, &err);
    item.identity = h.identity;
    item.checkpoint = h.kind == RECORD_CHECKPOINT;
    item.n = h.n;
    item.message = err.message;
    l->fn(l->ctx, &item);
}

enum sluice_status kvstore_list(const char *dir, bool deep,
                                void (*fn)(void *ctx, const struct kvstore_item *item), void *ctx,
                                struct sluice_error *err)
{
    struct listing l = {deep, fn, ctx};
    return store_walk(dir, list_file, &l, err);
}
