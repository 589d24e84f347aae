/* kvstore/none.c - the store of a program that was built without it. */
#include "kvstore/kvstore.h"

static enum sluice_status absent(struct sluice_error *err)
{
    return status_fail(err, SLUICE_ERR_STATE, -1,
                       "this program was built with WITH_KVSTORE=0: it keeps no conversations on "
                       "disk");
}

enum sluice_status kvstore_open(const struct kvstore_options *options, struct kvstore **out,
                                struct sluice_error *err)
{
    *out = NULL;
    return absent(err);
}

void kvstore_close(struct kvstore *s)
{
}

const struct page_sink *kvstore_sink(struct kvstore *s)
{
    return NULL;
}

void kvstore_flush(struct kvstore *s)
{
}

void kvstore_stats(struct kvstore *s, struct kvstore_stats *out)
{
    *out = (struct kvstore_stats){0};
}

enum sluice_status kvstore_list(const char *dir, bool deep,
                                void (*fn)(void *ctx, const struct kvstore_item *item), void *ctx,
                                struct sluice_error *err)
{
    return absent(err);
}

enum sluice_status kvstore_show(const char *dir, const char *id,
                                void (*fn)(void *ctx, const struct kvstore_state *state), void *ctx,
                                struct sluice_error *err)
{
    return absent(err);
}

enum sluice_status kvstore_prune(const struct kvstore_options *options, struct kvstore_stats *out,
                                 struct sluice_error *err)
{
    return absent(err);
}
