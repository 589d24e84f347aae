/* The engine: what a request produces depends on nothing but itself; errors, cancellation, reuse
 * of prefixes. The model's weights are noise, so its text is too: it is compared, not read. */
#include <stdatomic.h>

#include "support/engine_model.h"
#include "sluice.h"

#include "engine/engine.h"
#include "support/shelf.h"

static char *path;

static struct sluice *open_engine(struct sluice_options o)
{
    struct sluice *e;
    struct sluice_error err;
    if (!o.model)
        o.model = path;
    if (!o.kv_bytes)
        o.kv_bytes = 64 << 20;
    if (sluice_open(&o, &e, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    return e;
}

/* Set by one thread, read by another. */
typedef _Atomic(struct sluice_request *) request_at;

/* Everything that a request gave, as text. */
struct answer {
    struct buf text;
    enum sluice_finish finish;
    struct sluice_usage usage;
    int done;
    request_at *cancel_at_token;               /* or NULL */
};

static void collect(void *ctx, const struct sluice_event *event)
{
    struct answer *a = ctx;
    assert_int_equal(a->done, 0);
    if (event->kind == SLUICE_EVENT_TOKEN) {
        buf_addf(&a->text, "[%d %a]", event->id, (double)event->own.logprob);
        struct sluice_request *self = a->cancel_at_token ? atomic_load(a->cancel_at_token) : NULL;
        if (self)
            sluice_cancel(self);
    }
    if (event->kind == SLUICE_EVENT_CONTENT || event->kind == SLUICE_EVENT_REASONING)
        buf_add(&a->text, event->text, event->len);
    if (event->kind == SLUICE_EVENT_DONE) {
        a->finish = event->finish;
        a->usage = event->usage;
        a->done++;
    }
}

/* Prompt number k: n tokens, of which k and k' share what their first `same` say. */
static int32_t *prompt_of(int k, size_t n, size_t same)
{
    int32_t *ids = malloc(n * sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)((i * 31 + (i >= same ? (size_t)k * 17 + 5 : 0)) % 250);
    return ids;
}

static struct sluice_request *submit(struct sluice *e, struct answer *a, const int32_t *ids,
                                     size_t n, int64_t max_tokens, float temperature)
{
    struct sluice_request_options o = {
        .prompt = ids, .n_prompt = n, .max_tokens = max_tokens, .raw = true, .ignore_eos = true,
        .sampling = {.temperature = temperature, .seed = 11, .logprobs = 0},
        .on_event = collect, .ctx = a};
    struct sluice_request *r;
    struct sluice_error err;
    request_at *cancel = a->cancel_at_token;
    *a = (struct answer){.cancel_at_token = cancel};
    buf_init(&a->text, 0);
    if (sluice_submit(e, &o, &r, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    return r;
}

static char *run_one(struct sluice *e, const int32_t *ids, size_t n, int64_t max_tokens,
                     struct sluice_usage *usage)
{
    struct answer a = {0};
    struct sluice_request *r = submit(e, &a, ids, n, max_tokens, 0.8f);
    assert_true(sluice_wait(r, -1));
    sluice_release(r);
    assert_int_equal(a.done, 1);
    if (usage)
        *usage = a.usage;
    return buf_take(&a.text, NULL);
}

enum { N_PROMPTS = 6, MAX_TOKENS = 24 };
static const size_t lengths[N_PROMPTS] = {1, 7, 40, 300, 650, 9};
static char *expected[N_PROMPTS];

static int open_all(void **state)
{
    path = engine_model_file();
    for (int k = 0; k < N_PROMPTS; k++) {
        struct sluice *e = open_engine((struct sluice_options){.threads = 1});
        int32_t *ids = prompt_of(k, lengths[k], 200);
        expected[k] = run_one(e, ids, lengths[k], MAX_TOKENS, NULL);
        assert_true(strlen(expected[k]) > MAX_TOKENS);
        free(ids);
        sluice_close(e);
    }
    return 0;
}

static int close_all(void **state)
{
    for (int k = 0; k < N_PROMPTS; k++)
        free(expected[k]);
    unlink(path);
    free(path);
    return 0;
}

/* All prompts at once, twice: alone or together, fresh or from a kept prefix, the same. */
static void check_together(struct sluice_options o, bool reuse)
{
    struct sluice *e = open_engine(o);
    int64_t cached = 0;
    for (int round = 0; round < 2; round++) {
        struct answer a[N_PROMPTS] = {0};
        struct sluice_request *r[N_PROMPTS];
        for (int k = 0; k < N_PROMPTS; k++) {
            int32_t *ids = prompt_of(k, lengths[k], 200);
            r[k] = submit(e, &a[k], ids, lengths[k], MAX_TOKENS, 0.8f);
            free(ids);
        }
        for (int k = 0; k < N_PROMPTS; k++) {
            assert_true(sluice_wait(r[k], -1));
            sluice_release(r[k]);
            assert_int_equal(a[k].finish, SLUICE_FINISH_LENGTH);
            assert_string_equal(a[k].text.data, expected[k]);
            assert_int_equal(a[k].usage.prompt, lengths[k]);
            assert_int_equal(a[k].usage.answer, MAX_TOKENS);
            cached += a[k].usage.cached;
            buf_deinit(&a[k].text);
        }
    }
    assert_true(cached > 0 || !reuse);
    sluice_close(e);
}

static void test_same_text(void **state)
{
    check_together((struct sluice_options){.threads = 1}, true);
    check_together((struct sluice_options){.threads = 5, .chunk = 7, .checkpoint = 50}, true);
    check_together((struct sluice_options){.threads = 2, .max_requests = 2, .chunk = 64}, true);
    check_together((struct sluice_options){.threads = 2, .chunk = 1, .max_requests = 3}, true);
}

/* So little memory that requests push each other out and read again. */
static void test_tight_memory(void **state)
{
    struct sluice *e = open_engine((struct sluice_options){.threads = 2, .context = 1024});
    const struct sluice_info *info = sluice_info(e);
    int64_t bytes = 3 * info->kv_bytes_fixed + info->kv_bytes_per_1k;
    sluice_close(e);
    check_together((struct sluice_options){.threads = 2, .context = 1024, .kv_bytes = bytes},
                   /*reuse=*/false);
}

/* A second turn begins with the first one's prompt and answer: nothing of it is read again. */
static void test_next_turn(void **state)
{
    struct sluice *e = open_engine((struct sluice_options){.threads = 2});
    int32_t *ids = prompt_of(4, 900, 0);
    struct sluice_usage usage;
    free(run_one(e, ids, 600, 4, &usage));
    assert_int_equal(usage.cached, 0);
    /* Differs in the last prompt token, as the next turn of a thinking model does. */
    ids[599] = 3;
    char *warm = run_one(e, ids, 900, 8, &usage);
    assert_int_equal(usage.cached, 599);
    sluice_close(e);
    e = open_engine((struct sluice_options){.threads = 2});
    char *cold = run_one(e, ids, 900, 8, &usage);
    assert_int_equal(usage.cached, 0);
    assert_string_equal(warm, cold);
    free(warm);
    free(cold);
    /* A side conversation, then the same prompt again: from the checkpoint before its last token.
     * */
    free(run_one(e, ids + 7, 30, 2, NULL));
    free(run_one(e, ids, 900, 8, &usage));
    assert_int_equal(usage.cached, 899);
    free(ids);
    sluice_close(e);
}

static void test_cancel(void **state)
{
    struct sluice *e = open_engine((struct sluice_options){.threads = 2, .max_requests = 1});
    int32_t *ids = prompt_of(1, 700, 0);
    request_at self = NULL;
    struct answer a = {.cancel_at_token = &self}, b = {0}, c = {0};
    struct sluice_request *running = submit(e, &b, ids, 700, 300, 0);
    struct sluice_request *queued = submit(e, &c, ids, 50, 300, 0);
    sluice_cancel(queued);
    assert_true(sluice_wait(queued, -1));
    assert_int_equal(c.finish, SLUICE_FINISH_CANCELLED);
    assert_int_equal(c.usage.answer, 0);
    sluice_release(queued);
    sluice_release(running); /* cancels and waits, wherever it is */
    assert_int_equal(b.done, 1);
    struct sluice_request *decoding = submit(e, &a, ids, 5, 300, 0);
    /* from the callback, at a token; set late or early, both must end */
    atomic_store(&self, decoding);
    sluice_cancel(decoding);
    assert_true(sluice_wait(decoding, -1));
    assert_true(a.finish == SLUICE_FINISH_CANCELLED);
    sluice_release(decoding);
    struct answer d = {0};
    struct sluice_request *last = submit(e, &d, ids, 60, 5, 0);
    assert_true(sluice_wait(last, -1));
    assert_int_equal(d.finish, SLUICE_FINISH_LENGTH);
    sluice_release(last);
    buf_deinit(&a.text);
    buf_deinit(&b.text);
    buf_deinit(&c.text);
    buf_deinit(&d.text);
    free(ids);
    sluice_close(e);
}

static void refused(struct sluice *e, struct sluice_request_options o, enum sluice_status code,
                    const char *part)
{
    struct sluice_request *r;
    struct sluice_error err = {0};
    assert_int_equal(sluice_submit(e, &o, &r, &err), code);
    assert_null(r);
    if (!strstr(err.message, part))
        fail_msg("found \"%s\", expected \"%s\"", err.message, part);
}

static void test_refused(void **state)
{
    struct sluice *e = open_engine((struct sluice_options){.threads = 1, .context = 100});
    int32_t ids[200] = {0}, bad[2] = {1, 100000};
    refused(e, (struct sluice_request_options){0}, SLUICE_ERR_ARG, "at least one token");
    refused(e, (struct sluice_request_options){.prompt = ids, .n_prompt = 200}, SLUICE_ERR_LIMIT,
            "prompt of 200 tokens: the context is 100");
    refused(e, (struct sluice_request_options){.prompt = bad, .n_prompt = 2}, SLUICE_ERR_ARG,
            "prompt token 1");
    refused(e,
            (struct sluice_request_options){
                .prompt = ids, .n_prompt = 2, .sampling.temperature = -1},
            SLUICE_ERR_ARG, "temperature");
    const char *empty[] = {""};
    refused(
        e,
        (struct sluice_request_options){.prompt = ids, .n_prompt = 2, .stop = empty, .n_stop = 1},
        SLUICE_ERR_ARG, "stop");
    sluice_close(e);
}

static void test_open_refused(void **state)
{
    struct sluice *e;
    struct sluice_error err;
    struct sluice_options o = {.model = "/nonexistent.gguf"};
    assert_int_equal(sluice_open(&o, &e, &err), SLUICE_ERR_IO);
    assert_null(e);
    o = (struct sluice_options){.model = path, .backend = "abacus"};
    assert_int_equal(sluice_open(&o, &e, &err), SLUICE_ERR_ARG);
    o = (struct sluice_options){.model = path, .context = INT64_MAX};
    assert_int_equal(sluice_open(&o, &e, &err), SLUICE_ERR_ARG);
    o = (struct sluice_options){.model = path, .kv_bytes = 1};
    assert_int_equal(sluice_open(&o, &e, &err), SLUICE_ERR_NOMEM);
    assert_non_null(strstr(err.message, "MiB"));
    o = (struct sluice_options){.model = path, .mtp = path};
    assert_int_equal(sluice_open(&o, &e, &err), SLUICE_ERR_MODEL);
}

/* Stop strings: the text before one, however tokens cut it. */
static void test_stop(void **state)
{
    struct sluice *e = open_engine((struct sluice_options){.threads = 1});
    int32_t *ids = prompt_of(2, 40, 0);
    struct answer whole = {0}, cut = {0};
    struct sluice_request *r = submit(e, &whole, ids, 40, 60, 0);
    sluice_wait(r, -1);
    sluice_release(r);
    /* A stop string out of the middle of what it says; find text between two tokens' marks. */
    struct buf plain;
    buf_init(&plain, 0);
    for (const char *p = whole.text.data; *p;) {
        if (*p == '[' && strchr(p, ']') && p[1] >= '0' && p[1] <= '9')
            p = strchr(p, ']') + 1;
        else
            buf_add(&plain, p++, 1);
    }
    assert_true(plain.len > 20);
    size_t at = 10;
    while ((plain.data[at] & 0x80) || (plain.data[at + 1] & 0x80))
        at++;
    char stop[3] = {plain.data[at], plain.data[at + 1], 0};
    const char *stops[] = {stop};
    struct sluice_request_options o = {
        .prompt = ids, .n_prompt = 40, .max_tokens = 60, .raw = true, .ignore_eos = true,
        .sampling.logprobs = -1, .stop = stops, .n_stop = 1, .on_event = collect, .ctx = &cut};
    buf_init(&cut.text, 0);
    assert_int_equal(sluice_submit(e, &o, &r, NULL), SLUICE_OK);
    sluice_wait(r, -1);
    sluice_release(r);
    assert_int_equal(cut.finish, SLUICE_FINISH_STOP_STRING);
    assert_null(strstr(cut.text.data, stop));
    buf_deinit(&plain);
    buf_deinit(&whole.text);
    buf_deinit(&cut.text);
    free(ids);
    sluice_close(e);
}

/* Sessions and requests take turns and do not touch each other. */
static void test_session(void **state)
{
    struct sluice *e = open_engine((struct sluice_options){.threads = 2});
    size_t v = (size_t)sluice_info(e)->n_vocab;
    int32_t *ids = prompt_of(3, 300, 0);
    float *a = malloc(300 * v * sizeof *a), *b = malloc(300 * v * sizeof *b);
    poison(a, 300 * v);
    poison(b, 300 * v);
    struct sluice_session *s;
    struct answer noise = {0};
    struct sluice_request *r = submit(e, &noise, ids, 200, 200, 0);
    assert_int_equal(sluice_session_open(e, 0, &s, NULL), SLUICE_OK);
    assert_int_equal(sluice_session_eval(s, &(struct sluice_eval){ids, 300, 0, a, NULL}, NULL),
                     SLUICE_OK);
    assert_int_equal(sluice_session_length(s), 300);
    assert_int_equal(sluice_session_rewind(s, 290, NULL), SLUICE_OK);
    assert_int_equal(sluice_session_eval(s, &(struct sluice_eval){ids + 290, 10, 3, b, NULL}, NULL),
                     SLUICE_OK);
    assert_memory_equal(a + 290 * v, b, 10 * v * sizeof *a);
    assert_int_equal(sluice_session_rewind(s, 100, NULL), SLUICE_ERR_STATE);
    assert_int_equal(sluice_session_rewind(s, 0, NULL), SLUICE_OK);
    assert_int_equal(sluice_session_eval(s, &(struct sluice_eval){ids, 300, 7, b, NULL}, NULL),
                     SLUICE_OK);
    assert_memory_equal(a, b, 300 * v * sizeof *a);
    assert_int_equal(sluice_session_draft(s, &(struct sluice_eval){ids, 3, 0, b, a}, NULL),
                     SLUICE_ERR_STATE);
    sluice_session_close(s);
    sluice_release(r);
    buf_deinit(&noise.text);
    free(a);
    free(b);
    free(ids);
    sluice_close(e);
}

/* Runs all prompts on a fresh engine over the shelf; returns how many tokens it had. */
static int64_t run_over(const struct page_sink *sink)
{
    struct sluice *e = open_engine((struct sluice_options){.threads = 2, .checkpoint = 100});
    int64_t cached = 0;
    sluice_store_set(e, sink);
    for (int k = 0; k < N_PROMPTS; k++) {
        int32_t *ids = prompt_of(k, lengths[k], 200);
        struct sluice_usage usage;
        char *found = run_one(e, ids, lengths[k], MAX_TOKENS, &usage);
        assert_string_equal(found, expected[k]);
        cached += usage.cached;
        free(found);
        free(ids);
    }
    sluice_close(e);
    return cached;
}

/* After a restart the same conversations go on from the store, with the same bytes. */
static void test_store(void **state)
{
    static struct shelf shelf;
    struct page_sink sink = shelf_sink(&shelf);
    int64_t first = run_over(&sink), pages = shelf.n_page;
    assert_true(pages >= 3);
    int64_t second = run_over(&sink);
    assert_int_equal(shelf.n_page, pages); /* nothing new to write */
    /* Prompts of 300 and 650 tokens begin at their last token but one, or a checkpoint before. */
    assert_true(second >= 199 + 549 && second > first);
    shelf.broken = true; /* then all is read again */
    assert_int_equal(run_over(&sink), first);
    shelf_empty(&shelf);
}

static void test_text(void **state)
{
    struct sluice *e = open_engine((struct sluice_options){.threads = 1});
    struct sluice_tokens t;
    struct sluice_text text;
    assert_int_equal(sluice_tokenize(e, "ab <think>", 10, true, &t, NULL), SLUICE_OK);
    assert_int_equal(sluice_detokenize(e, t.ids, t.n, &text, NULL), SLUICE_OK);
    assert_string_equal(text.at, "ab <think>");
    size_t with = t.n;
    sluice_free(t.ids);
    sluice_free(text.at);
    assert_int_equal(sluice_tokenize(e, "ab <think>", 10, false, &t, NULL), SLUICE_OK);
    assert_true(t.n > with);
    sluice_free(t.ids);
    const char *messages = "[{\"role\":\"user\",\"content\":\"<think>\"}]";
    struct sluice_chat chat = {.messages = messages, .messages_len = strlen(messages)};
    struct sluice_tokens safe, trusting;
    assert_int_equal(sluice_chat_tokens(e, &chat, &safe, NULL), SLUICE_OK);
    chat.trust_text = true;
    assert_int_equal(sluice_chat_tokens(e, &chat, &trusting, NULL), SLUICE_OK);
    assert_true(safe.n > trusting.n);
    sluice_free(safe.ids);
    sluice_free(trusting.ids);
    sluice_close(e);
}

static void test_vocab_only(void **state)
{
    struct sluice *e = open_engine((struct sluice_options){.vocab_only = true});
    struct sluice_tokens tokens;
    struct sluice_stats stats;
    struct sluice_session *s;
    struct sluice_request *r;
    struct sluice_error err;
    assert_int_equal(sluice_tokenize(e, "hi", 2, false, &tokens, &err), SLUICE_OK);
    assert_true(tokens.n > 0 && tokens.n <= 2);
    struct sluice_request_options o = {.prompt = tokens.ids, .n_prompt = tokens.n};
    assert_int_equal(sluice_submit(e, &o, &r, &err), SLUICE_ERR_STATE);
    assert_int_equal(sluice_session_open(e, 0, &s, &err), SLUICE_ERR_STATE);
    sluice_stats(e, &stats);
    assert_int_equal(stats.steps, 0);
    sluice_free(tokens.ids);
    sluice_close(e);
}

/* A file is read in the background, whether anybody waits or not; the built-in model needs none. */
static void weights_are_read_in_the_background(void **state)
{
    struct sluice *e = open_engine((struct sluice_options){.pin = SLUICE_PIN_ON});
    double seconds = sluice_load_wait(e);
    assert_true(seconds > 0);
    assert_true(sluice_load_wait(e) == seconds);
    sluice_close(e);
    for (int i = 0; i < 20; i++)
        sluice_close(open_engine((struct sluice_options){.pin = SLUICE_PIN_OFF}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_text),    cmocka_unit_test(test_tight_memory),
        cmocka_unit_test(test_next_turn),    cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_open_refused),
        cmocka_unit_test(test_stop),         cmocka_unit_test(test_session),
        cmocka_unit_test(test_text),         cmocka_unit_test(test_vocab_only),
        cmocka_unit_test(test_store),
        cmocka_unit_test(weights_are_read_in_the_background),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
