/* The built-in model against the public implementation of the architecture, whose logits for 20
 * prompts of 200 and more tokens are in tests/data/builtin (tools/train writes them):
 *
 *   "SLOR", u32 prompts; each: u32 n, i32 ids[n]; u32 k, u32 position[k], f32 logits[k][V];
 *   u32 d, u32 position[d], f32 draft[d][V] (row p: streams at p, token p + 1)   little endian */
#include "sluice.h"
#include "support/unit.h"

#define TOLERANCE 2e-3

static FILE *oracle;

static uint32_t number(void)
{
    uint32_t n;
    assert_int_equal(fread(&n, sizeof n, 1, oracle), 1);
    return n;
}

static void *array(size_t n)
{
    void *p = malloc(n * 4);
    assert_int_equal(fread(p, 4, n, oracle), n);
    return p;
}

static double worst(const float *found, const float *expected, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)found[i] - expected[i]);
        if (!(d <= most)) /* NaN too */
            most = isnan(d) ? INFINITY : d;
    }
    return most;
}

/* Reads k positions with their logits and compares rows of found with them. */
static double compare(const float *found, size_t v)
{
    uint32_t k = number();
    uint32_t *position = array(k);
    float *expected = array(k * v);
    double most = 0;
    for (uint32_t i = 0; i < k; i++)
        most = fmax(most, worst(found + position[i] * v, expected + i * v, v));
    free(position);
    free(expected);
    return most;
}

/* Of the tokens after the first, by the logits of the row before each. */
static double surprise(const float *logits, const int32_t *ids, size_t n, size_t v)
{
    double total = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        const float *row = logits + i * v;
        double most = row[0], sum = 0;
        for (size_t k = 1; k < v; k++)
            most = fmax(most, row[k]);
        for (size_t k = 0; k < v; k++)
            sum += exp(row[k] - most);
        total += most + log(sum) - row[ids[i + 1]];
    }
    return total;
}

/* The surprise of the tokens, in total, by each backend. */
struct likelihood {
    struct sluice *fast;
    double ref, cpu;
};

static void add_likelihood(struct likelihood *l, const int32_t *ids, size_t n, const float *logits)
{
    size_t v = (size_t)sluice_info(l->fast)->n_vocab;
    float *fast = malloc(n * v * sizeof *fast);
    poison(fast, n * v);
    struct sluice_session *s;
    assert_int_equal(sluice_session_open(l->fast, 0, &s, NULL), SLUICE_OK);
    struct sluice_eval eval = {ids, n, 0, fast, NULL};
    assert_int_equal(sluice_session_eval(s, &eval, NULL), SLUICE_OK);
    l->ref += surprise(logits, ids, n, v);
    l->cpu += surprise(fast, ids, n, v);
    sluice_session_close(s);
    free(fast);
}

static void check_prompt(struct sluice *e, struct likelihood *l)
{
    const struct sluice_info *info = sluice_info(e);
    size_t v = (size_t)info->n_vocab, width = (size_t)(info->n_stream * info->dim), n = number();
    int32_t *ids = array(n);
    float *logits = malloc(n * v * sizeof *logits), *draft = malloc(n * v * sizeof *draft);
    float *streams = malloc(n * width * sizeof *streams);
    poison(logits, n * v);
    poison(draft, n * v);
    struct sluice_session *s;
    assert_int_equal(sluice_session_open(e, 0, &s, NULL), SLUICE_OK);
    struct sluice_eval trunk = {ids, n, 0, logits, streams};
    struct sluice_eval mtp = {ids + 1, n - 1, 0, draft, streams};
    assert_int_equal(sluice_session_eval(s, &trunk, NULL), SLUICE_OK);
    assert_int_equal(sluice_session_draft(s, &mtp, NULL), SLUICE_OK);
    assert_close(compare(logits, v), 0, TOLERANCE);
    assert_close(compare(draft, v), 0, TOLERANCE);
    add_likelihood(l, ids, n, logits);
    sluice_session_close(s);
    free(ids);
    free(logits);
    free(draft);
    free(streams);
}

static struct sluice *open_builtin(const char *backend, enum sluice_kv kv)
{
    struct sluice *e;
    struct sluice_error err;
    struct sluice_options o = {
        .backend = backend, .kv = kv, .context = 4096, .threads = 2, .kv_bytes = 64 << 20};
    if (sluice_open(&o, &e, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    return e;
}

static void test_public_implementation(void **state)
{
    struct sluice *e = open_builtin("ref", SLUICE_KV_EXACT);
    struct likelihood l = {.fast = open_builtin("cpu", SLUICE_KV_EXACT)};
    oracle = fopen("tests/data/builtin/builtin.oracle", "rb");
    assert_non_null(oracle);
    char magic[4];
    assert_int_equal(fread(magic, 1, 4, oracle), 4);
    assert_memory_equal(magic, "SLOR", 4);
    uint32_t prompts = number();
    assert_int_equal(prompts, 20);
    for (uint32_t i = 0; i < prompts; i++)
        check_prompt(e, &l);
    fclose(oracle);
    assert_true(l.ref > 0);
    assert_close(l.cpu / l.ref, 1, 5e-3);
    sluice_close(l.fast);
    sluice_close(e);
}

struct answer {
    char text[4096], reasoning[4096], call[512], args[512];
    enum sluice_finish finish;
    struct sluice_usage usage;
};

static void append(char *to, size_t room, const struct sluice_event *event)
{
    size_t n = strlen(to);
    snprintf(to + n, room - n, "%s", event->text);
}

static void collect(void *ctx, const struct sluice_event *event)
{
    struct answer *a = ctx;
    if (event->kind == SLUICE_EVENT_CONTENT)
        append(a->text, sizeof a->text, event);
    if (event->kind == SLUICE_EVENT_REASONING)
        append(a->reasoning, sizeof a->reasoning, event);
    if (event->kind == SLUICE_EVENT_CALL_BEGIN)
        append(a->call, sizeof a->call, event);
    if (event->kind == SLUICE_EVENT_CALL_ARGS)
        append(a->args, sizeof a->args, event);
    if (event->kind == SLUICE_EVENT_DONE) {
        a->finish = event->finish;
        a->usage = event->usage;
    }
}

static void ask(struct sluice *e, const char *messages, const char *tools, bool thinking,
                int64_t budget, struct answer *a)
{
    struct sluice_chat chat = {
        .messages = messages, .messages_len = strlen(messages), .tools = tools,
        .tools_len = tools ? strlen(tools) : 0,
        .effort = thinking ? SLUICE_EFFORT_DEFAULT : SLUICE_EFFORT_NONE};
    struct sluice_tokens prompt;
    struct sluice_request *r;
    assert_int_equal(sluice_chat_tokens(e, &chat, &prompt, NULL), SLUICE_OK);
    *a = (struct answer){0};
    struct sluice_request_options o = {
        .prompt = prompt.ids, .n_prompt = prompt.n, .max_tokens = 500, .thinking = thinking,
        .think_budget = budget, .sampling.logprobs = -1, .on_event = collect, .ctx = a};
    assert_int_equal(sluice_submit(e, &o, &r, NULL), SLUICE_OK);
    sluice_wait(r, -1);
    sluice_release(r);
    sluice_free(prompt.ids);
}

static void test_answers(void **state)
{
    struct sluice *e = open_builtin(NULL, SLUICE_KV_FP8);
    struct answer a;
    ask(e, "[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]", NULL, false, 0,
        &a);
    assert_non_null(strstr(a.text, "Paris"));
    assert_int_equal(a.finish, SLUICE_FINISH_STOP);
    assert_int_equal(a.usage.reasoning, 0);
    const char *sum = "[{\"role\":\"user\",\"content\":\"What is 345 + 278?\"}]";
    ask(e, sum, NULL, true, 0, &a);
    assert_non_null(strstr(a.text, "623"));
    assert_true(strlen(a.reasoning) > 10);
    assert_true(a.usage.reasoning > 10 && a.usage.reasoning < a.usage.answer);
    int32_t whole = a.usage.reasoning;
    ask(e, sum, NULL, true, 6, &a); /* thinking is closed for it, and an answer still comes */
    assert_true(a.usage.reasoning <= 7 && a.usage.reasoning < whole);
    assert_true(strlen(a.text) > 0);
    assert_null(strstr(a.text, "think>"));
    sluice_close(e);
}

static void test_tool_call(void **state)
{
    struct sluice *e = open_builtin(NULL, SLUICE_KV_FP8);
    struct answer a;
    ask(e, "[{\"role\":\"user\",\"content\":\"What is the weather in Paris?\"}]",
        "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"Get "
        "the current weather of a city.\",\"parameters\":{\"type\":\"object\","
        "\"properties\":{\"city\":{"
        "\"type\":\"string\"}},\"required\":[\"city\"]}}}]",
        false, 0, &a);
    assert_int_equal(a.finish, SLUICE_FINISH_TOOL_CALLS);
    assert_string_equal(a.call, "get_weather");
    assert_string_equal(a.args, "{\"city\": \"Paris\"}");
    sluice_close(e);
}

int main(void)
{
    extern const uint8_t sluice_builtin_model[], sluice_builtin_model_end[];
    if (&sluice_builtin_model[0] == &sluice_builtin_model_end[0]) {
        puts("this build has no built-in model");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_public_implementation),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_tool_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
