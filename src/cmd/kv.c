/* `sluice kv list | verify | prune`: a folder of stored conversations, for people. */
#include <errno.h>
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "cmd/cmd.h"
#include "kvstore/kvstore.h"

struct entry {
    char *path;
    int64_t bytes, last_use;
    bool checkpoint;
};

struct folder {
    const struct options *o;
    const char *dir;
    bool lines;                  /* print each record */
    int64_t n, n_checkpoint, n_harmed, bytes, removed;
    struct entry *entry;         /* [n_entry] owned; prune only */
    size_t n_entry, room;
    bool keep_entries, no_memory;
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

static void keep_entry(struct folder *f, const struct kvstore_item *item)
{
    if (f->n_entry == f->room) {
        size_t room = f->room ? 2 * f->room : 256;
        struct entry *p = realloc(f->entry, room * sizeof *p);
        f->no_memory |= !p;
        if (!p)
            return;
        f->entry = p;
        f->room = room;
    }
    char *path = strdup(item->path);
    f->no_memory |= !path;
    if (path)
        f->entry[f->n_entry++] =
            (struct entry){path, item->bytes, item->last_use, item->checkpoint};
}

static void remove_file(struct folder *f, const char *path)
{
    if (unlink(path) == 0)
        f->removed++;
    else
        fprintf(stderr, "sluice kv: %s: cannot remove: %s\n", path, strerror(errno));
}

static void on_item(void *ctx, const struct kvstore_item *item)
{
    struct folder *f = ctx;
    f->n++;
    if (item->status != SLUICE_OK) {
        f->n_harmed++;
        printf("harmed  %s: %s\n", item->path, item->message);
        if (f->keep_entries)
            remove_file(f, item->path);
        return;
    }
    f->bytes += item->bytes;
    f->n_checkpoint += item->checkpoint;
    if (f->lines)
        print_item(item);
    if (f->keep_entries)
        keep_entry(f, item);
}

static int walk(struct folder *f, bool deep)
{
    struct sluice_error err;
    f->dir = f->o->arg[0];
    if (!f->dir)
        return cmd_usage(f->o, "expected the folder");
    if (kvstore_list(f->dir, deep, on_item, f, &err) == SLUICE_OK)
        return EXIT_OK;
    cmd_error(f->o, &err);
    return EXIT_FAILED;
}

static void print_sum(const struct folder *f)
{
    printf("%" PRId64 " records, %" PRId64 " of them states, %.1f MB; %" PRId64 " harmed\n", f->n,
           f->n_checkpoint, (double)f->bytes / 1e6, f->n_harmed);
}

int cmd_kv_list(const struct options *o)
{
    struct folder f = {.o = o, .lines = true};
    int code = walk(&f, /*deep=*/false);
    if (code == EXIT_OK)
        print_sum(&f);
    return code;
}

int cmd_kv_verify(const struct options *o)
{
    struct folder f = {.o = o};
    int code = walk(&f, /*deep=*/true);
    if (code == EXIT_OK)
        print_sum(&f);
    return code == EXIT_OK && f.n_harmed ? EXIT_FAILED : code;
}

/* States first: a page may be needed by a state that stays. */
static int by_last_use(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->checkpoint != y->checkpoint)
        return x->checkpoint ? -1 : 1;
    return (x->last_use > y->last_use) - (x->last_use < y->last_use);
}

int cmd_kv_prune(const struct options *o)
{
    struct folder f = {.o = o, .keep_entries = true};
    int64_t most = options_int(o, OPT_KV_SIZE, (int64_t)16 << 30);
    int code = walk(&f, /*deep=*/true);
    qsort(f.entry, f.n_entry, sizeof *f.entry, by_last_use);
    for (size_t i = 0; i < f.n_entry; i++) {
        if (code == EXIT_OK && f.bytes > most) {
            remove_file(&f, f.entry[i].path);
            f.bytes -= f.entry[i].bytes;
        }
        free(f.entry[i].path);
    }
    free(f.entry);
    if (code == EXIT_OK)
        printf("%" PRId64 " records removed; %.1f MB left\n", f.removed, (double)f.bytes / 1e6);
    return f.no_memory ? EXIT_MEMORY : code;
}
