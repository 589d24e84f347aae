/* kvstore/prune.c - a folder brought to a size by hand, by the same rules as a store's own. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "kvstore/store_internal.h"

enum sluice_status kvstore_prune(const struct kvstore_options *options, struct kvstore_stats *out,
                                 struct sluice_error *err)
{
    struct stat st;
    FAIL_IF(stat(options->dir, &st) != 0, err, SLUICE_ERR_IO, "%s: cannot open: %s", options->dir,
            strerror(errno));
    struct kvstore *s;
    enum sluice_status status = store_load(options, STORE_DEEP, &s, err);
    if (status == SLUICE_OK && s->lock_fd < 0)
        status = status_fail(err, SLUICE_ERR_STATE, -1, "%s: another process writes here",
                             options->dir);
    if (status == SLUICE_OK) {
        store_make_room(s, 0);
        kvstore_stats(s, out);
    }
    kvstore_close(s);
    return status;
}
