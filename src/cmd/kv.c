/* `sluice kv list | verify | prune`: a folder of stored conversations, for people. */
#include <inttypes.h>
#include <time.h>

#include "base/check.h"
#include "cmd/cmd.h"
#include "kvstore/kvstore.h"

struct folder {
    const struct options *o;
    bool lines;                  /* print each record */
    int64_t n, n_checkpoint, n_harmed, bytes;
};

static void print_item(const struct kvstore_item *item)
{
    double days = difftime(time(NULL), (time_t)item->last_use) / 86400;
    if (item->checkpoint)
        printf("state %8" PRId64 " tokens", item->n);
    else
        printf("page                ");
    printf(" %10" PRId64 " bytes %8.2f days  %s\n", item->bytes, days, item->path);
}

static void on_item(void *ctx, const struct kvstore_item *item)
{
    struct folder *f = ctx;
    f->n++;
    if (item->status != SLUICE_OK) {
        f->n_harmed++;
        printf("harmed  %s: %s\n", item->path, item->message);
        return;
    }
    f->bytes += item->bytes;
    f->n_checkpoint += item->checkpoint;
    if (f->lines)
        print_item(item);
}

static int walk(struct folder *f, bool deep)
{
    struct sluice_error err;
    const char *dir = f->o->arg[0];
    if (!dir)
        return cmd_usage(f->o, "expected the folder");
    if (kvstore_list(dir, deep, on_item, f, &err) != SLUICE_OK) {
        cmd_error(f->o, &err);
        return EXIT_FAILED;
    }
    printf("%" PRId64 " records, %" PRId64 " of them states, %.1f MB; %" PRId64 " harmed\n", f->n,
           f->n_checkpoint, (double)f->bytes / 1e6, f->n_harmed);
    return EXIT_OK;
}

int cmd_kv_list(const struct options *o)
{
    struct folder f = {.o = o, .lines = true};
    return walk(&f, /*deep=*/false);
}

int cmd_kv_verify(const struct options *o)
{
    struct folder f = {.o = o};
    int code = walk(&f, /*deep=*/true);
    return code == EXIT_OK && f.n_harmed ? EXIT_FAILED : code;
}

static void say(void *ctx, enum sluice_log_level level, const char *text)
{
    printf("%s\n", text);
}

int cmd_kv_prune(const struct options *o)
{
    struct kvstore_options options = {
        .dir = o->arg[0], .bytes = options_int(o, OPT_KV_SIZE, (int64_t)16 << 30), .log = say};
    struct kvstore_stats stats;
    struct sluice_error err;
    if (!options.dir)
        return cmd_usage(o, "expected the folder");
    if (kvstore_prune(&options, &stats, &err) != SLUICE_OK) {
        cmd_error(o, &err);
        return err.code == SLUICE_ERR_NOMEM ? EXIT_MEMORY : EXIT_FAILED;
    }
    printf("%" PRId64 " records removed; %" PRId64 " left, %.1f MB\n",
           stats.removed + stats.evicted, stats.records, (double)stats.bytes / 1e6);
    return EXIT_OK;
}
