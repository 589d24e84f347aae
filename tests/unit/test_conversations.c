/* Conversations at random: turns, edits, forks, cancellations, restarts over a store, several at
 * once and with so little memory that they push each other out. Every token must be the one that
 * reading the whole text from the start gives. SOAK=N does N operations (default 250). */
#include "support/engine_model.h"
#include "base/rng.h"
#include "sluice.h"
#include "support/shelf.h"

/* N_TOKENS: of the tokenizer; the model's table has some rows more, which are never sampled. */
enum { N_TALKS = 12, MAX_IDS = 700, MAX_ANSWER = 8, AT_ONCE = 4, N_TOKENS = 275 };

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
    struct talk talk[N_TALKS];
    uint64_t draws;
    int64_t cached, restarts, cancelled, compared;
} w;

static uint64_t draw(uint64_t below)
{
    return rng_u64(42, w.draws++) % below;
}

static void open_engine(void)
{
    struct sluice_error err;
    struct sluice_options o = {
        .model = w.path, .backend = "ref", .threads = 2, .context = MAX_IDS + MAX_ANSWER + 1,
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
    sluice_store_set(w.e, &w.sink);
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
        *talk = w.talk[draw(N_TALKS)];
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
    if (draw(20) == 0) {
        sluice_close(w.e);
        open_engine();
        w.restarts++;
    }
    for (int i = 0; i < n; i++) {
        struct talk *talk = &w.talk[draw(N_TALKS)];
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
}

static void test_random(void **state)
{
    const char *soak = getenv("SOAK");
    long operations = soak ? strtol(soak, NULL, 10) : 250;
    w.path = engine_model_file();
    w.sink = shelf_sink(&w.shelf);
    open_engine();
    for (long i = 0; i < operations; i++) {
        if (w.shelf.n_page > SHELF_MAX - 64 || w.shelf.n_checkpoint > SHELF_MAX - 64) {
            sluice_close(w.e);
            shelf_empty(&w.shelf);
            open_engine();
        }
        operate();
    }
    print_message("%lld compared, %lld cached tokens, %lld restarts, %lld cancelled\n",
                  (long long)w.compared, (long long)w.cached, (long long)w.restarts,
                  (long long)w.cancelled);
    assert_true(w.compared > operations / 2 && w.cached > operations && w.restarts > 0 &&
                w.cancelled > 0);
    sluice_session_close(w.session);
    sluice_close(w.plain);
    sluice_close(w.e);
    shelf_empty(&w.shelf);
    unlink(w.path);
    free(w.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
