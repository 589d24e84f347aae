/* Grammars in the engine, on the built-in model: what it says under a schema follows it, hot as the
 * sampling may be, and depends on nothing but the request. */
#include "support/schema.h"
#include "support/unit.h"

#include "sluice.h"

static struct sluice *engine;

struct answer {
    struct buf content, reasoning, tokens;
    enum sluice_finish finish;
    int n_calls;
    char error[512];
};

static void collect(void *ctx, const struct sluice_event *e)
{
    struct answer *a = ctx;
    if (e->kind == SLUICE_EVENT_TOKEN)
        buf_addf(&a->tokens, "%d %a,", e->id, (double)e->own.logprob);
    if (e->kind == SLUICE_EVENT_CONTENT)
        buf_add(&a->content, e->text, e->len);
    if (e->kind == SLUICE_EVENT_REASONING)
        buf_add(&a->reasoning, e->text, e->len);
    a->n_calls += e->kind == SLUICE_EVENT_CALL_END;
    if (e->kind == SLUICE_EVENT_DONE)
        a->finish = e->finish;
    if (e->kind == SLUICE_EVENT_DONE && e->error)
        snprintf(a->error, sizeof a->error, "%s", e->error->message);
}

static void answer_deinit(struct answer *a)
{
    buf_deinit(&a->content);
    buf_deinit(&a->reasoning);
    buf_deinit(&a->tokens);
}

static char *strict(const char *text)
{
    char *copy = strdup(text);
    for (char *c = copy; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    return copy;
}

static struct sluice_grammar *schema(struct sluice *e, const char *text)
{
    struct sluice_grammar *g;
    struct sluice_error err;
    char *copy = strict(text);
    struct sluice_grammar_options o = {.schema = copy, .schema_len = strlen(copy)};
    if (sluice_grammar_new(e, &o, &g, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    free(copy);
    return g;
}

static struct sluice_request *ask(struct sluice *e, struct answer *a,
                                  struct sluice_request_options o)
{
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"Who are you?\"}]";
    struct sluice_tokens prompt;
    struct sluice_request *r;
    struct sluice_error err;
    struct sluice_chat chat = {.messages = messages,
                               .messages_len = sizeof messages - 1,
                               .effort = o.thinking ? SLUICE_EFFORT_DEFAULT : SLUICE_EFFORT_NONE};
    assert_int_equal(sluice_chat_tokens(e, &chat, &prompt, &err), SLUICE_OK);
    *a = (struct answer){.finish = SLUICE_FINISH_CANCELLED};
    o.prompt = prompt.ids;
    o.n_prompt = prompt.n;
    o.on_event = collect;
    o.ctx = a;
    if (sluice_submit(e, &o, &r, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    sluice_free(prompt.ids);
    return r;
}

static void settle(struct sluice_request *r)
{
    assert_true(sluice_wait(r, -1));
    sluice_release(r);
}

static struct sluice_sampling hot(uint64_t seed)
{
    return (struct sluice_sampling){.temperature = 1.5f, .seed = seed, .logprobs = 0};
}

static void check_valid(const char *text, const struct answer *a)
{
    struct json_object *root = schema_read(text), *value = NULL;
    if (a->finish != SLUICE_FINISH_STOP)
        fail_msg("ended by %d (%s) after %s", a->finish, a->error, a->content.data);
    if (json_text_parse(a->content.data, a->content.len, &value, NULL) != SLUICE_OK ||
        !schema_valid(root, root, value))
        fail_msg("%s: %s", text, a->content.data);
    json_object_put(value);
    json_object_put(root);
}

enum { SEEDS = 4, ANSWERS = SCHEMA_SAMPLES * SEEDS };

/* All samples and seeds at once on one engine; the tokens of each. */
static void run_all(struct sluice *e, char *tokens[ANSWERS])
{
    struct answer a[ANSWERS];
    struct sluice_request *r[ANSWERS];
    struct sluice_grammar *g[SCHEMA_SAMPLES];
    for (int k = 0; k < ANSWERS; k++) {
        if (k % SEEDS == 0)
            g[k / SEEDS] = schema(e, schema_samples[k / SEEDS]);
        struct sluice_request_options o = {
            .sampling = hot((uint64_t)k), .max_tokens = 1500, .grammar = g[k / SEEDS]};
        r[k] = ask(e, &a[k], o);
        if (k % SEEDS == SEEDS - 1)
            sluice_grammar_free(g[k / SEEDS]); /* the requests have it still */
    }
    for (int k = 0; k < ANSWERS; k++) {
        settle(r[k]);
        check_valid(schema_samples[k / SEEDS], &a[k]);
        tokens[k] = buf_take(&a[k].tokens, NULL);
        answer_deinit(&a[k]);
    }
}

/* One thread and all together; two threads, three at a time, the prompts in pieces. */
static void test_valid_and_same(void **state)
{
    char *together[ANSWERS], *apart[ANSWERS];
    run_all(engine, together);
    struct sluice_options o = {.threads = 2, .max_requests = 3, .chunk = 16};
    struct sluice *other;
    struct sluice_error err;
    if (sluice_open(&o, &other, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    run_all(other, apart);
    sluice_close(other);
    for (int k = 0; k < ANSWERS; k++) {
        assert_string_equal(together[k], apart[k]);
        free(together[k]);
        free(apart[k]);
    }
}

/* Thinking is free, and must end; the grammar begins behind it. */
static void test_thinking(void **state)
{
    struct sluice_grammar *g = schema(engine, schema_samples[1]);
    for (uint64_t seed = 0; seed < 3; seed++) {
        struct answer a;
        struct sluice_request_options o = {.sampling = hot(seed),
                                           .max_tokens = 1000,
                                           .grammar = g,
                                           .thinking = true,
                                           .think_budget = 20};
        settle(ask(engine, &a, o));
        check_valid(schema_samples[1], &a);
        assert_true(a.reasoning.len > 0);
        answer_deinit(&a);
    }
    sluice_grammar_free(g);
}

static void test_begun(void **state)
{
    static const char text[] = "root ::= \"{\" [a-c]{3} \"}\"";
    struct sluice_grammar_options go = {.gbnf = text, .gbnf_len = sizeof text - 1};
    struct sluice_grammar *g;
    assert_int_equal(sluice_grammar_new(engine, &go, &g, NULL), SLUICE_OK);
    struct answer a;
    struct sluice_request_options o = {.grammar = g, .grammar_begun = "{b"};
    settle(ask(engine, &a, o));
    assert_int_equal(a.finish, SLUICE_FINISH_STOP);
    assert_int_equal(a.content.len, 3);
    assert_int_equal(a.content.data[2], '}');
    answer_deinit(&a);

    struct sluice_request *r;
    struct sluice_error err;
    o.prompt = (int32_t[]){1};
    o.n_prompt = 1;
    o.grammar_begun = "{d";
    assert_int_equal(sluice_submit(engine, &o, &r, &err), SLUICE_ERR_ARG);
    assert_non_null(strstr(err.message, "outside of its grammar"));
    o = (struct sluice_request_options){
        .prompt = o.prompt, .n_prompt = 1, .grammar = g, .ignore_eos = true};
    assert_int_equal(sluice_submit(engine, &o, &r, &err), SLUICE_ERR_ARG);
    sluice_grammar_free(g);
}

/* Where the bias forbids all that the grammar allows the request fails, and says so. */
static void test_dead_end(void **state)
{
    static const char text[] = "root ::= \"a\"";
    struct sluice_grammar_options go = {.gbnf = text, .gbnf_len = sizeof text - 1};
    struct sluice_grammar *g;
    struct sluice_tokens ids;
    assert_int_equal(sluice_grammar_new(engine, &go, &g, NULL), SLUICE_OK);
    assert_int_equal(sluice_tokenize(engine, "a", 1, false, &ids, NULL), SLUICE_OK);
    assert_int_equal(ids.n, 1);
    struct sluice_bias ban = {ids.ids[0], -INFINITY};
    struct answer a;
    struct sluice_request_options o = {.grammar = g, .sampling = {.bias = &ban, .n_bias = 1}};
    settle(ask(engine, &a, o));
    assert_int_equal(a.finish, SLUICE_FINISH_ERROR);
    assert_non_null(strstr(a.error, "no token can follow"));
    answer_deinit(&a);
    sluice_free(ids.ids);
    sluice_grammar_free(g);
}

/* A call that must come, with arguments after the schema. */
static void test_calls(void **state)
{
    char *tools = strict(
        "[{'type': 'function', 'function': {'name': 'weather', 'parameters': {'type': 'object', "
        "'properties': {'city': {'type': 'string', 'maxLength': 8}, 'days': {'type': 'integer', "
        "'minimum': 1, 'maximum': 9}}, 'required': ['city', 'days']}}}]");
    struct sluice_grammar_options go = {
        .tools = tools, .tools_len = strlen(tools), .one_call = true};
    struct sluice_grammar *g;
    assert_int_equal(sluice_grammar_new(engine, &go, &g, NULL), SLUICE_OK);
    for (uint64_t seed = 0; seed < 4; seed++) {
        struct answer a;
        struct sluice_request_options o = {.sampling = hot(seed), .max_tokens = 400, .grammar = g};
        settle(ask(engine, &a, o));
        assert_int_equal(a.finish, SLUICE_FINISH_TOOL_CALLS);
        assert_int_equal(a.n_calls, 1);
        assert_int_equal(a.content.len, 0);
        answer_deinit(&a);
    }
    sluice_grammar_free(g);
    free(tools);
}

static int open_engine(void **state)
{
    struct sluice_options o = {.threads = 1};
    return sluice_open(&o, &engine, NULL) == SLUICE_OK ? 0 : 1;
}

static int close_engine(void **state)
{
    sluice_close(engine);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid_and_same), cmocka_unit_test(test_thinking),
        cmocka_unit_test(test_begun),          cmocka_unit_test(test_dead_end),
        cmocka_unit_test(test_calls),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
