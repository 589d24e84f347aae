/* Conversations at random: turns, edits, forks, cancellations, restarts over a store, several at
 * once and with so little memory that they push each other out. Every token must be the one that
 * reading the whole text from the start gives. Once over a store in memory, and once over one on
 * disk that is too small for all of it, harmed now and then, and what a kill at any moment leaves.
 * SOAK=N does N operations with 50 conversations (default 125 with 12) each. */
#include "support/engine_model.h"
#include "base/rng.h"
#include "kvstore/kvstore.h"
#include "sluice.h"
#include "support/shelf.h"

/* N_TOKENS: of the tokenizer; the model's table has some rows more, which are never sampled. */
enum { MAX_TALKS = 50, MAX_IDS = 700, MAX_ANSWER = 8, AT_ONCE = 4, N_TOKENS = 275 };

struct talk {
    int32_t ids[MAX_IDS];
    size_t n;
};

/* A request in flight. */
struct turn {
    struct talk *talk;
    struct sluice_request *r;
    int32_t answer[MAX_ANSWER];
    int n_answer;
    int cancel_after;                /* events; -1: never */
    enum sluice_finish finish;
    int64_t cached;
    struct sluice_error err;         /* of a request that failed */
};

static struct world {
    char *path;
    struct sluice *e, *plain;        /* plain: reads everything from the start */
    struct sluice_session *session;
    struct shelf shelf;
    struct page_sink sink;
    char dir[40];                    /* of the store on disk; "": there is none */
    struct kvstore *store;
    struct talk talk[MAX_TALKS];
    int n_talks;
    uint64_t draws;
    int64_t cached, restarts, cancelled, compared, kills;
    _Atomic int64_t lost;            /* records found harmed */
} w;

static uint64_t draw(uint64_t below)
{
    return rng_u64(42, w.draws++) % below;
}

__attribute__((format(printf, 1, 2))) static void shell(const char *fmt, ...)
{
    char command[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static void on_log(void *ctx, enum sluice_log_level level, const char *text)
{
    w.lost += strstr(text, "removed: ") != NULL;
}

static void open_store(void)
{
    struct sluice_error err;
    if (!w.dir[0]) {
        sluice_store_set(w.e, &w.sink);
        return;
    }
    struct kvstore_options o = {.dir = w.dir, .bytes = 600000, .log = on_log};
    sluice_store_identity(w.e, &o.identity);
    if (kvstore_open(&o, &w.store, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    sluice_store_set(w.e, kvstore_sink(w.store));
}

static void close_engine(void)
{
    sluice_close(w.e);
    kvstore_close(w.store);
    w.store = NULL;
}

/* What a kill at this moment would leave. */
static void copy_store(void)
{
    /* A file may go while it is copied. */
    shell("cp -r '%s' '%s.killed' 2> /dev/null || true", w.dir, w.dir);
    w.kills++;
}

/* A byte of some record is another one. */
static void harm_store(void)
{
    shell("f=$(find '%s' -name '*.page' -o -name '*.ckpt' | sort | sed -n '%dp'); [ -z \"$f\" ] || "
          "printf '\\377\\376' | dd of=\"$f\" bs=1 seek=%d conv=notrunc 2> /dev/null",
          w.dir, 1 + (int)draw(40), (int)draw(2000));
}

static void restart(bool killed)
{
    close_engine();
    if (killed)
        shell("rm -rf '%s' && mv '%s.killed' '%s'", w.dir, w.dir, w.dir);
    if (w.dir[0] && draw(2))
        harm_store();
    w.restarts++;
}

static void open_engine(void)
{
    struct sluice_error err;
    struct sluice_options o = {
        .model = w.path, .backend = "cpu", .threads = 2, .context = MAX_IDS + MAX_ANSWER + 1,
        .checkpoint = 64, .chunk = 96, .max_requests = 3, .kv_bytes = 1 << 20};
    /* About five conversations' worth. */
    struct sluice_options probe = o;
    probe.kv_bytes = 0;
    if (!w.plain) {
        if (sluice_open(&probe, &w.plain, &err) != SLUICE_OK)
            fail_msg("%s", err.message);
        assert_int_equal(sluice_session_open(w.plain, 0, &w.session, NULL), SLUICE_OK);
    }
    const struct sluice_info *info = sluice_info(w.plain);
    o.kv_bytes = 12 * info->kv_bytes_fixed + 3 * info->kv_bytes_per_1k;
    if (sluice_open(&o, &w.e, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    open_store();
}

static void on_event(void *ctx, const struct sluice_event *event)
{
    struct turn *t = ctx;
    if (event->kind == SLUICE_EVENT_TOKEN && t->n_answer < MAX_ANSWER)
        t->answer[t->n_answer++] = event->id;
    if (event->kind == SLUICE_EVENT_DONE) {
        t->finish = event->finish;
        t->cached = event->usage.cached;
        if (event->error)
            t->err = *event->error;
    } else if (t->cancel_after >= 0 && t->cancel_after-- == 0) {
        sluice_cancel(t->r);
    }
}

/* The greedy token after ids, read from the start. */
static int32_t truth(const int32_t *ids, size_t n)
{
    size_t v = (size_t)sluice_info(w.plain)->n_vocab;
    float *logits = malloc(v * sizeof *logits);
    struct sluice_error err;
    struct sluice_eval most = {.ids = ids, .n = n - 1}, last = {ids + n - 1, 1, 0, logits, NULL};
    assert_int_equal(sluice_session_rewind(w.session, 0, NULL), SLUICE_OK);
    if (sluice_session_eval(w.session, &most, &err) != SLUICE_OK ||
        sluice_session_eval(w.session, &last, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    int32_t best = 0;
    for (size_t i = 1; i < N_TOKENS; i++)
        if (logits[i] > logits[best])
            best = (int32_t)i;
    free(logits);
    return best;
}

/* Checks one token of the answer, the last more often than others, then keeps the answer. */
static void check_turn(struct turn *t)
{
    struct talk *talk = t->talk;
    size_t begin = talk->n;
    if (t->finish != SLUICE_FINISH_LENGTH && t->finish != SLUICE_FINISH_CANCELLED)
        fail_msg("finished with %d: %s", t->finish, t->err.message);
    for (int i = 0; i < t->n_answer; i++)
        talk->ids[talk->n++] = t->answer[i];
    if (t->n_answer > 0) {
        size_t at = begin + (draw(2) ? (size_t)t->n_answer - 1 : draw((uint64_t)t->n_answer));
        assert_int_equal(talk->ids[at], truth(talk->ids, at));
        w.compared++;
    }
    w.cached += t->cached;
    w.cancelled += t->finish == SLUICE_FINISH_CANCELLED;
}

/* Edits or forks a talk, adds a question. */
static void prepare(struct talk *talk)
{
    if (draw(8) == 0)
        *talk = w.talk[draw((uint64_t)w.n_talks)];
    if (draw(6) == 0 || talk->n + 100 + MAX_ANSWER > MAX_IDS)
        talk->n = draw(talk->n + 1) * (draw(4) > 0);
    size_t more = 1 + draw(draw(4) ? 20 : 100);
    for (size_t i = 0; i < more; i++)
        talk->ids[talk->n++] = (int32_t)draw(250);
}

static void submit(struct turn *t)
{
    struct sluice_request_options o = {
        .prompt = t->talk->ids, .n_prompt = t->talk->n, .max_tokens = 1 + (int64_t)draw(MAX_ANSWER),
        .raw = true, .ignore_eos = true, .sampling.logprobs = -1, .priority = (int)draw(2),
        .on_event = on_event, .ctx = t};
    struct sluice_error err;
    if (sluice_submit(w.e, &o, &t->r, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
}

static void operate(void)
{
    static struct turn turn[AT_ONCE]; /* outlives a check that fails while others run */
    int n = 1 + (int)draw(AT_ONCE);
    bool kill = w.dir[0] && draw(15) == 0;
    if (draw(20) == 0) {
        restart(/*killed=*/false);
        open_engine();
    }
    for (int i = 0; i < n; i++) {
        struct talk *talk = &w.talk[draw((uint64_t)w.n_talks)];
        for (int k = 0; k < i; k++)
            if (turn[k].talk == talk)
                talk = NULL, k = i;
        turn[i] = (struct turn){.talk = talk, .cancel_after = -1};
        if (talk)
            prepare(talk);
    }
    for (int i = 0; i < n; i++)
        if (turn[i].talk)
            submit(&turn[i]);
    if (kill)
        copy_store();
    for (int i = 0; i < n; i++) {
        if (!turn[i].talk)
            continue;
        if (draw(10) == 0)
            sluice_cancel(turn[i].r);
        assert_true(sluice_wait(turn[i].r, -1));
        sluice_release(turn[i].r);
        check_turn(&turn[i]);
    }
    struct sluice_stats stats;
    sluice_stats(w.e, &stats);
    assert_true(stats.kv_used <= stats.kv_budget);
    if (kill) {
        restart(/*killed=*/true);
        open_engine();
    }
}

static void run_random(long operations)
{
    for (long i = 0; i < operations; i++) {
        if (w.shelf.n_page > SHELF_MAX - 64 || w.shelf.n_checkpoint > SHELF_MAX - 64) {
            close_engine();
            shelf_empty(&w.shelf);
            open_engine();
        }
        operate();
    }
    print_message("%lld compared, %lld cached tokens, %lld restarts, %lld of them kills, %lld "
                  "records lost, %lld cancelled\n",
                  (long long)w.compared, (long long)w.cached, (long long)w.restarts,
                  (long long)w.kills, (long long)w.lost, (long long)w.cancelled);
    assert_true(w.compared > operations / 2 && w.cached > operations && w.restarts > 0 &&
                w.cancelled > 0);
}

static void test_random(const char *dir)
{
    const char *soak = getenv("SOAK");
    memset(&w, 0, sizeof w);
    w.n_talks = soak ? MAX_TALKS : 12;
    snprintf(w.dir, sizeof w.dir, "%s", dir);
    assert_true(!dir[0] || mkdtemp(w.dir));
    w.path = engine_model_file();
    w.sink = shelf_sink(&w.shelf);
    open_engine();
    run_random(soak ? strtol(soak, NULL, 10) : 125);
    sluice_session_close(w.session);
    sluice_close(w.plain);
    close_engine();
    shelf_empty(&w.shelf);
    unlink(w.path);
    free(w.path);
    if (dir[0])
        shell("rm -rf '%s' '%s.killed'", w.dir, w.dir);
}

static void test_in_memory(void **state)
{
    test_random("");
}

static void test_on_disk(void **state)
{
    test_random("/tmp/sluice-talks-XXXXXX");
    /* Whether a copy has a torn record depends on the moment; test_kvstore tears files. */
    assert_true(w.kills > 0);
}

/* An argument names the test to run. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_memory), cmocka_unit_test(test_on_disk)};
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
