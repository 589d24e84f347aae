/* `sluice kv show`: what one kept conversation is. */
#include <inttypes.h>
#include <time.h>

#include "base/check.h"
#include "cmd/cmd.h"
#include "kvstore/kvstore.h"

enum { LINE = 40, BEGINNING = 400, ENDING = 200, SHORT = 64 /* tokens: seen whole */ };

struct show {
    const struct options *o;
    struct sluice *e;            /* the tokenizer, or NULL */
    uint64_t model;              /* of e's file */
    bool whole;                  /* one state, all of it */
    int64_t n, other_models;
};

static double days_ago(int64_t when)
{
    return difftime(time(NULL), (time_t)when) / 86400;
}

/* Bytes of the character at s, or 1 for what is none. */
static size_t character(const unsigned char *s, size_t left)
{
    size_t n = *s < 0xc0 ? 1 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4;
    for (size_t i = 1; i < n; i++)
        if (i >= left || (s[i] & 0xc0) != 0x80)
            return 1;
    return n;
}

/* At most `most` characters; what a terminal would obey, or is no character, becomes a space. */
static void print_text(const char *text, size_t len, size_t most, bool lines)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < len && most > 0; most--) {
        size_t n = character(s + i, len - i);
        bool control = s[i] < 0x20 || s[i] == 0x7f || (n == 1 && s[i] >= 0x80) ||
                       (n == 2 && s[i] == 0xc2 && s[i + 1] < 0xa0);
        if (control)
            putchar(lines && s[i] == '\n' ? '\n' : ' ');
        else
            fwrite(s + i, 1, n, stdout);
        i += n;
    }
}

/* The text of n ids; at NULL if it cannot be had. */
static struct sluice_text text_of(const struct show *w, const int32_t *ids, size_t n)
{
    struct sluice_text text = {0};
    if (sluice_detokenize(w->e, ids, n, &text, NULL) != SLUICE_OK)
        text = (struct sluice_text){0};
    return text;
}

static void print_beginning(const struct show *w, const struct kvstore_state *k, size_t most)
{
    struct sluice_text text = text_of(w, k->ids, k->n_ids < 256 ? k->n_ids : 256);
    if (text.at)
        print_text(text.at, text.len, most, w->whole);
    sluice_free(text.at);
}

/* The last tokens' text, from its last `ENDING` bytes on. */
static void print_ending(const struct show *w, const struct kvstore_state *k)
{
    size_t n = k->n_ids < 256 ? k->n_ids : 256;
    struct sluice_text text = text_of(w, k->ids + k->n_ids - n, n);
    size_t from = text.len > ENDING ? text.len - ENDING : 0;
    while (from < text.len && ((unsigned char)text.at[from] & 0xc0) == 0x80)
        from++;
    if (text.at)
        print_text(text.at + from, text.len - from, ENDING, /*lines=*/true);
    sluice_free(text.at);
}

static void print_line(struct show *w, const struct kvstore_state *k)
{
    if (w->n == 0)
        printf("id                 tokens  pages        bytes  of pages      days  text\n");
    printf("%.16s %8" PRId64 " %6d %12" PRId64 " %9.1fM %8.2f  ", k->id, k->n, (int)k->pages,
           k->bytes, (double)k->page_bytes / 1e6, days_ago(k->last_use));
    if (w->e && k->identity.model == w->model)
        print_beginning(w, k, LINE);
    else
        printf("(model %016" PRIx64 ")", k->identity.model);
    printf("\n");
}

static void print_whole(struct show *w, const struct kvstore_state *k)
{
    const struct page_identity *i = &k->identity;
    static const char *const numerics[] = {[NUMERICS_REF] = "ref",
                                           [NUMERICS_CPU_WORDS] = "cpu, earlier",
                                           [NUMERICS_CPU_BYTES] = "cpu, earlier",
                                           [NUMERICS_CPU_HALVES] = "cpu, earlier",
                                           [NUMERICS_CPU] = "cpu",
                                           [NUMERICS_AMX_CUT] = "cpu with AMX, earlier",
                                           [NUMERICS_AMX_DOTS] = "cpu with AMX, earlier",
                                           [NUMERICS_AMX_PAIRS] = "cpu with AMX, earlier",
                                           [NUMERICS_AMX] = "cpu with AMX"};
    bool same = w->e && i->model == w->model;
    printf("id          %s\n", k->id);
    printf("tokens      %" PRId64 "\n", k->n);
    printf("pages       %d, %" PRId64 " bytes on disk, %" PRIu64 " each unpacked\n", (int)k->pages,
           k->page_bytes, i->page_bytes);
    printf("state       %" PRId64 " bytes on disk\n", k->bytes);
    printf("last use    %.2f days ago\n", days_ago(k->last_use));
    printf("model       %016" PRIx64 "%s%s\n", i->model, same ? ", " : "",
           same ? sluice_info(w->e)->name : "");
    printf("rows        %s\n", i->kv_format == 0 ? "exact" : i->kv_format == 1 ? "fp8" : "unknown");
    printf("numerics    %s\n",
           i->numerics < sizeof numerics / sizeof *numerics ? numerics[i->numerics] : "unknown");
    if (!same)
        return;
    printf("\nbegins\n\n");
    print_beginning(w, k, BEGINNING);
    printf("\n");
    if (k->n_ids > SHORT) {
        printf("\nends\n\n");
        print_ending(w, k);
        printf("\n");
    }
}

static void on_state(void *ctx, const struct kvstore_state *k)
{
    struct show *w = ctx;
    if (w->whole)
        print_whole(w, k);
    else
        print_line(w, k);
    w->other_models += k->identity.model != w->model;
    w->n++;
}

/* The tokenizer of the model that is given, or of the built-in one where there is one. */
static int open_tokenizer(struct show *w)
{
    struct sluice_options engine = {
        .model = options_text(w->o, OPT_MODEL, NULL), .vocab_only = true};
    struct page_identity identity;
    if (engine.model) {
        int code = cmd_open(w->o, &engine, &w->e);
        if (code != EXIT_OK)
            return code;
    } else if (sluice_open(&engine, &w->e, NULL) != SLUICE_OK) {
        return EXIT_OK;
    }
    sluice_store_identity(w->e, &identity);
    w->model = identity.model;
    return EXIT_OK;
}

int cmd_kv_show(const struct options *o)
{
    struct show w = {.o = o, .whole = o->n_arg > 1};
    struct sluice_error err;
    if (!o->arg[0])
        return cmd_usage(o, "expected the folder");
    int code = open_tokenizer(&w);
    if (code != EXIT_OK)
        return code;
    if (kvstore_show(o->arg[0], o->arg[1], on_state, &w, &err) != SLUICE_OK) {
        cmd_error(o, &err);
        code = err.code == SLUICE_ERR_ARG ? EXIT_USAGE : EXIT_FAILED;
    } else if (options_given(o, OPT_MODEL) && w.other_models) {
        fprintf(stderr, "sluice %s: %" PRId64 " of %" PRId64 " are of another model than %s\n",
                o->command, w.other_models, w.n, options_text(o, OPT_MODEL, ""));
    }
    sluice_close(w.e);
    return code;
}
