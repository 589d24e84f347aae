/* The server with a script: APIs, round trips, refusals, clients that leave. */
#include <errno.h>

#include "support/http.h"

/* What a model might write that no renderer would: spaces and line breaks of its own. */
#define ODD_CALL                                                                                   \
    "\\n\\n<｜DSML｜tool_calls>\\n<｜DSML｜invoke name=\\\"look\\\">\\n<｜DSML｜parameter "  \
    "name=\\\"n\\\" string=\\\"false\\\">{\\\"a\\\":1}</｜DSML｜parameter>\\n"                   \
    "</｜DSML｜invoke>\\n</｜DSML｜tool_calls>"

/* Long enough to be sent as it comes, with all that JSON or a tag may trip over. */
#define WORDS "two \\\"words\\\", <tags> &lt; & back\\\\slash,\\nö\\t"
#define LONG WORDS WORDS WORDS WORDS WORDS WORDS WORDS WORDS WORDS WORDS

static const char script[] =
    "# answers\n\n"
    "{\"match\": \"<tool_result>sunny\", \"reasoning\": \"so\", \"content\": \"It is sunny.\", "
    "\"repeat\": true}\n"
    "{\"match\": \"odd please\", \"text\": \"I must look</think>Wait." ODD_CALL
    "\", \"repeat\": true}\n"
    "{\"match\": \"cut please\", \"text\": \"hm</think>\\n\\n<｜DSML｜tool_calls>\\n<｜DSML｜invoke "
    "name=\\\"look\\\">\\n<｜DSML｜parameter name=\\\"q\\\" string=\\\"true\\\">abc</｜DSML｜para\", "
    "\"repeat\": true}\n"
    "{\"match\": \"cut deep\", \"text\": \"hm</think>\\n\\n<｜DSML｜tool_calls>\\n<｜DSML｜invoke "
    "name=\\\"look\\\">\\n<｜DSML｜parameter name=\\\"o\\\" string=\\\"false\\\"><｜DSML｜parameter "
    "name=\\\"q\\\" string=\\\"true\\\">abc</｜DSML｜pa\", \"repeat\": true}\n"
    "{\"match\": \"two calls\", \"calls\": [{\"name\": \"look\", \"arguments\": {\"q\": \"x\"}}, "
    "{\"name\": \"find\", \"arguments\": {}}], \"repeat\": true}\n"
    "{\"match\": \"long call\", \"content\": \"Now.\", \"calls\": [{\"name\": \"look\", "
    "\"arguments\": {\"text\": \"" LONG
    "\", \"n\": [1, 2.50]}}, {\"name\": \"find\", \"arguments\": {}}], \"repeat\": "
    "true}\n"
    "{\"match\": \"long nonsense\", \"text\": \"\\n\\n<｜DSML｜tool_calls>\\n<｜DSML｜invoke "
    "name=\\\"look\\\">\\n<｜DSML｜parameter name=\\\"text\\\" string=\\\"true\\\">" LONG
    "</｜DSML｜parameter>\\n nonsense</｜DSML｜invoke>\\n</｜DSML｜tool_calls>\", \"repeat\": true}\n"
    "{\"match\": \"slow prefill\", \"text\": \"late\", \"prefill_ms\": 600000, \"repeat\": true}\n"
    "{\"match\": \"slow answer\", \"text\": \"abcdefghijkl\", \"token_ms\": 100, "
    "\"repeat\": true}\n"
    "{\"match\": \"break\", \"text\": \"some text\", \"fail\": \"the disk is gone\", \"repeat\": "
    "true}\n"
    "{\"reasoning\": \"let me think\", \"content\": \"Hello wörld!\", \"repeat\": true}\n";

#define TOOLS                                                                                      \
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"look\", \"parameters\": "     \
    "{\"type\": \"object\"}}}, {\"type\": \"function\", \"function\": {\"name\": \"find\"}}]"

static struct test_server server;

static int setup(void **state)
{
    server = (struct test_server){
        .options = {.alive_seconds = 1, .max_queued = 8, .max_connections = 40, .read_seconds = 3}};
    test_server_start(&server, script);
    return 0;
}

static int teardown(void **state)
{
    test_server_stop(&server);
    return 0;
}

/* ---- Chat Completions ---- */

static struct json_object *chat(const char *body)
{
    return client_json(&server, "POST /v1/chat/completions", body, 200);
}

static void test_chat(void **state)
{
    struct json_object *r = chat("{\"model\": \"any\", \"messages\": [{\"role\": \"user\", "
                                 "\"content\": \"hi\"}], \"reasoning_effort\": \"low\"}");
    assert_string_equal(text_at(r, "choices.0.message.content"), "Hello wörld!");
    assert_string_equal(text_at(r, "choices.0.message.reasoning_content"), "let me think");
    assert_string_equal(text_at(r, "choices.0.finish_reason"), "stop");
    assert_string_equal(text_at(r, "model"), "any");
    assert_true(int_at(r, "usage.prompt_tokens") > 10);
    json_object_put(r);
    r = chat("{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 1}");
    assert_string_equal(text_at(r, "choices.0.message.content"), "Hell");
    assert_string_equal(text_at(r, "choices.0.finish_reason"), "length");
    json_object_put(r);
    r = chat("{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"stop\": \" w\", \"n\": "
             "2, \"logprobs\": true, \"top_logprobs\": 2}");
    assert_string_equal(text_at(r, "choices.1.message.content"), "Hello");
    assert_string_equal(text_at(r, "choices.1.stop_reason"), " w");
    assert_string_equal(text_at(r, "choices.0.logprobs.content.0.token"), "H");
    assert_int_equal(int_at(r, "choices.0.logprobs.content.1.bytes.0"), 'o');
    assert_non_null(at_path(r, "choices.0.logprobs.content.0.top_logprobs.1"));
    json_object_put(r);
}

struct gathered {
    struct buf content, reasoning, arguments;
    int deltas; /* of the first call's arguments */
    char finish[32], call_id[64], signature[256];
    int64_t cached, last_sequence;
    int stops;
};

static void gather_chat(void *ctx, struct json_object *e)
{
    struct gathered *g = ctx;
    struct json_object *v;
    if ((v = at_path(e, "choices.0.delta.content")))
        buf_add_str(&g->content, json_object_get_string(v));
    if ((v = at_path(e, "choices.0.delta.reasoning_content")))
        buf_add_str(&g->reasoning, json_object_get_string(v));
    if ((v = at_path(e, "choices.0.delta.tool_calls.0.function.arguments"))) {
        buf_add_str(&g->arguments, json_object_get_string(v));
        g->deltas += int_at(e, "choices.0.delta.tool_calls.0.index") == 0;
    }
    if ((v = at_path(e, "choices.0.delta.tool_calls.0.id")))
        snprintf(g->call_id, sizeof g->call_id, "%s", json_object_get_string(v));
    if ((v = at_path(e, "choices.0.finish_reason")) || (v = at_path(e, "error.code")))
        snprintf(g->finish, sizeof g->finish, "%s", json_object_get_string(v));
    if ((v = at_path(e, "usage.prompt_tokens_details.cached_tokens")))
        g->cached = json_object_get_int64(v);
}

static void gathered_free(struct gathered *g)
{
    buf_deinit(&g->content);
    buf_deinit(&g->reasoning);
    buf_deinit(&g->arguments);
}

static void test_chat_stream(void **state)
{
    struct client_reply r = client_ask(
        &server, "POST /chat/completions", "",
        "{\"messages\": [{\"role\": \"developer\", \"content\": \"be brief\"}, {\"role\": "
        "\"user\", \"content\": [{\"type\": \"text\", \"text\": \"stream\"}]}], \"stream\": true, "
        "\"thinking\": {\"type\": \"enabled\"}, \"stream_options\": {\"include_usage\": true}}");
    struct gathered g = {.cached = -1};
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.head, "text/event-stream"));
    each_event(&r, gather_chat, &g);
    assert_string_equal(g.content.data, "Hello wörld!");
    assert_string_equal(g.reasoning.data, "let me think");
    assert_string_equal(g.finish, "stop");
    assert_true(g.cached >= 0);
    assert_non_null(strstr(r.body.data, "data: [DONE]\n\n"));
    gathered_free(&g);
    client_reply_free(&r);
}

/* The second turn of a tool's use begins with all that the first one read and wrote. */
static void test_chat_replay(void **state)
{
    struct json_object *first =
        chat("{\"messages\": [{\"role\": \"user\", \"content\": \"odd please 1\"}], "
             "\"reasoning_effort\": \"low\", " TOOLS "}");
    assert_string_equal(text_at(first, "choices.0.finish_reason"), "tool_calls");
    assert_string_equal(text_at(first, "choices.0.message.content"), "Wait.");
    assert_string_equal(text_at(first, "choices.0.message.tool_calls.0.function.arguments"),
                        "{\"n\": {\"a\":1}}");
    int64_t before = int_at(first, "usage.prompt_tokens");
    struct buf body = {0};
    /* The client drops the reasoning, and writes the arguments in its own way. */
    buf_addf(&body,
             "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
             "\"odd please 1\", \"cache_control\": {}}]}, {\"role\": \"assistant\", \"content\": "
             "\"Wait.\", \"tool_calls\": [{\"id\": \"%s\", \"type\": \"function\", \"function\": "
             "{\"name\": \"look\", \"arguments\": \"{\\\"n\\\":{\\\"a\\\":1}}\"}}]}, {\"role\": "
             "\"tool\", \"tool_call_id\": \"%s\", \"content\": \"sunny\"}], "
             "\"reasoning_effort\": \"low\", " TOOLS "}",
             text_at(first, "choices.0.message.tool_calls.0.id"),
             text_at(first, "choices.0.message.tool_calls.0.id"));
    struct json_object *second = chat(body.data);
    const char *odd = "I must look</think>Wait.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke "
                      "name=\"look\">\n<｜DSML｜parameter name=\"n\" string=\"false\">{\"a\":1}"
                      "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>";
    assert_string_equal(text_at(second, "choices.0.message.content"), "It is sunny.");
    assert_int_equal(int_at(second, "usage.prompt_tokens_details.cached_tokens"),
                     before + (int64_t)strlen(odd));
    buf_deinit(&body);
    json_object_put(first);
    json_object_put(second);
}

static void test_chat_repair(void **state)
{
    struct json_object *r =
        chat("{\"messages\": [{\"role\": \"user\", \"content\": \"cut please\"}], "
             "\"reasoning_effort\": \"high\", " TOOLS "}");
    assert_string_equal(text_at(r, "choices.0.finish_reason"), "tool_calls");
    assert_string_equal(text_at(r, "choices.0.message.tool_calls.0.function.arguments"),
                        "{\"q\": \"abc\"}");
    json_object_put(r);
    r = chat("{\"messages\": [{\"role\": \"user\", \"content\": \"cut deep\"}], "
             "\"reasoning_effort\": \"high\", " TOOLS "}");
    assert_string_equal(text_at(r, "choices.0.message.tool_calls.0.function.arguments"),
                        "{\"o\": {\"q\": \"abc\"}}");
    json_object_put(r);
}

static void test_chat_choice(void **state)
{
    struct json_object *r =
        chat("{\"messages\": [{\"role\": \"user\", \"content\": \"two calls\"}], "
             "\"tool_choice\": \"required\", " TOOLS "}");
    assert_string_equal(text_at(r, "choices.0.message.tool_calls.1.function.name"), "find");
    json_object_put(r);
    r = chat("{\"messages\": [{\"role\": \"user\", \"content\": \"two calls\"}], "
             "\"parallel_tool_calls\": false, " TOOLS "}");
    assert_string_equal(text_at(r, "choices.0.finish_reason"), "tool_calls");
    assert_null(at_path(r, "choices.0.message.tool_calls.1"));
    json_object_put(r);
    r = client_json(&server, "POST /v1/chat/completions",
                    "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"tool_choice\": "
                    "{\"type\": \"function\", \"function\": {\"name\": \"absent\"}}, " TOOLS "}",
                    400);
    assert_string_equal(text_at(r, "error.param"), "tool_choice");
    json_object_put(r);
}

/* ---- Messages ---- */

static void gather_messages(void *ctx, struct json_object *e)
{
    struct gathered *g = ctx;
    struct json_object *v;
    if ((v = at_path(e, "delta.text")))
        buf_add_str(&g->content, json_object_get_string(v));
    if ((v = at_path(e, "delta.thinking")))
        buf_add_str(&g->reasoning, json_object_get_string(v));
    if ((v = at_path(e, "delta.partial_json"))) {
        buf_add_str(&g->arguments, json_object_get_string(v));
        g->deltas++;
    }
    if ((v = at_path(e, "delta.signature")))
        snprintf(g->signature, sizeof g->signature, "%s", json_object_get_string(v));
    if ((v = at_path(e, "content_block.id")))
        snprintf(g->call_id, sizeof g->call_id, "%s", json_object_get_string(v));
    if ((v = at_path(e, "delta.stop_reason")))
        snprintf(g->finish, sizeof g->finish, "%s", json_object_get_string(v));
    g->stops += strcmp(text_at(e, "type"), "content_block_stop") == 0;
}

#define CLAUDE_TOOLS                                                                               \
    "\"tools\": [{\"name\": \"look\", \"input_schema\": {\"type\": \"object\"}}, {\"type\": "      \
    "\"web_search_20250305\", \"name\": \"web_search\"}, {\"name\": \"later\", "                   \
    "\"defer_loading\": true, \"input_schema\": {}}], \"thinking\": {\"type\": \"adaptive\"}, "    \
    "\"output_config\": {\"effort\": \"low\"}, \"max_tokens\": 4000"

static void test_messages(void **state)
{
    struct client_reply r = client_ask(
        &server, "POST /v1/messages?beta=true", "",
        "{\"model\": \"claude\", \"stream\": true, \"system\": [{\"type\": \"text\", \"text\": "
        "\"x-anthropic-billing-header: cc_version=1.abc\"}, {\"type\": \"text\", \"text\": \"Be "
        "kind.\"}], \"messages\": [{\"role\": \"user\", \"content\": \"odd please 2\"}, {\"role\": "
        "\"system\", \"content\": [{\"type\": \"text\", \"text\": \"env\"}]}], " CLAUDE_TOOLS "}");
    struct gathered g = {0};
    assert_int_equal(r.status, 200);
    each_event(&r, gather_messages, &g);
    assert_string_equal(g.content.data, "Wait.");
    assert_string_equal(g.reasoning.data, "I must look");
    assert_string_equal(g.arguments.data, "{\"n\": {\"a\":1}}");
    assert_string_equal(g.finish, "tool_use");
    assert_int_equal(g.stops, 3);
    assert_true(strncmp(g.call_id, "toolu_", 6) == 0);
    /* Turn two, with another billing line, the text moved about and the thinking only sealed. */
    struct buf body = {0};
    buf_addf(&body,
             "{\"system\": \"x-anthropic-billing-header: cc_version=1.def\\nBe kind.\", "
             "\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
             "\"odd please 2\"}]}, {\"role\": \"system\", \"content\": \"env\"}, {\"role\": "
             "\"assistant\", \"content\": [{\"type\": \"thinking\", \"thinking\": \"\", "
             "\"signature\": \"%s\"}, {\"type\": \"text\", \"text\": \"Wait.\"}, {\"type\": "
             "\"tool_use\", \"id\": \"%s\", \"name\": \"look\", \"input\": {\"n\": {\"a\": 1}}}]}, "
             "{\"role\": \"user\", \"content\": [{\"type\": \"tool_result\", \"tool_use_id\": "
             "\"%s\", \"content\": [{\"type\": \"text\", \"text\": \"sunny\"}, {\"type\": "
             "\"tool_reference\", \"tool_name\": \"later\"}]}]}], " CLAUDE_TOOLS "}",
             g.signature, g.call_id, g.call_id);
    struct json_object *second = client_json(&server, "POST /v1/messages", body.data, 200);
    assert_string_equal(text_at(second, "content.1.text"), "It is sunny.");
    assert_string_equal(text_at(second, "stop_reason"), "end_turn");
    /* All but the new result, its marks and the next answer's opening came from memory. */
    assert_true(int_at(second, "usage.input_tokens") < 260);
    assert_true(int_at(second, "usage.cache_read_input_tokens") > 1000);
    json_object_put(second);
    second = client_json(&server, "POST /v1/messages/count_tokens", body.data, 200);
    assert_true(int_at(second, "input_tokens") > 1000);
    json_object_put(second);
    buf_deinit(&body);
    gathered_free(&g);
    client_reply_free(&r);
}

static void test_messages_errors(void **state)
{
    struct json_object *r =
        client_json(&server, "POST /v1/messages", "{\"max_tokens\": 5, \"messages\": []}", 400);
    assert_string_equal(text_at(r, "type"), "error");
    assert_string_equal(text_at(r, "error.type"), "invalid_request_error");
    json_object_put(r);
    r = client_json(&server, "POST /v1/messages",
                    "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", 400);
    json_object_put(r);
    /* A failure in the middle of a stream. */
    struct client_reply s = client_ask(&server, "POST /v1/messages", "",
                                       "{\"max_tokens\": 50, \"stream\": true, \"messages\": "
                                       "[{\"role\": \"user\", \"content\": \"break\"}]}");
    assert_non_null(strstr(s.body.data, "event: error\n"));
    assert_non_null(strstr(s.body.data, "the disk is gone"));
    client_reply_free(&s);
}

/* ---- Responses ---- */

static void gather_responses(void *ctx, struct json_object *e)
{
    struct gathered *g = ctx;
    const char *type = text_at(e, "type");
    assert_int_equal(int_at(e, "sequence_number"), g->last_sequence);
    g->last_sequence++;
    if (strcmp(type, "response.output_text.delta") == 0)
        buf_add_str(&g->content, text_at(e, "delta"));
    if (strcmp(type, "response.reasoning_text.delta") == 0)
        buf_add_str(&g->reasoning, text_at(e, "delta"));
    if (strcmp(type, "response.function_call_arguments.delta") == 0) {
        buf_add_str(&g->arguments, text_at(e, "delta"));
        g->deltas++;
    }
    if (strcmp(type, "response.completed") == 0 || strcmp(type, "response.incomplete") == 0 ||
        strcmp(type, "response.failed") == 0)
        snprintf(g->finish, sizeof g->finish, "%s", text_at(e, "response.status"));
    if (strcmp(type, "response.output_item.done") == 0) {
        g->stops++;
        if (strcmp(text_at(e, "item.type"), "function_call") == 0) {
            buf_add_str(&g->content, text_at(e, "item.arguments"));
            snprintf(g->call_id, sizeof g->call_id, "%s", text_at(e, "item.call_id"));
        }
        if (strcmp(text_at(e, "item.type"), "reasoning") == 0)
            snprintf(g->signature, sizeof g->signature, "%s", text_at(e, "item.encrypted_content"));
    }
}

#define CODEX_TOOLS                                                                                \
    "\"tools\": [{\"type\": \"namespace\", \"name\": \"eyes\", \"tools\": [{\"type\": "            \
    "\"function\", \"name\": \"look\", \"parameters\": {}}]}, {\"type\": \"web_search\"}], "       \
    "\"reasoning\": {\"effort\": \"low\"}, \"store\": false"

static void test_responses(void **state)
{
    /* The script's call is of "look"; here the model knows it as a tool of a namespace. */
    struct client_reply r = client_ask(
        &server, "POST /v1/responses", "",
        "{\"stream\": true, \"input\": [{\"type\": \"message\", \"role\": \"developer\", "
        "\"content\": [{\"type\": \"input_text\", \"text\": \"Be kind.\"}]}, {\"role\": \"user\", "
        "\"content\": \"two calls\"}], " CODEX_TOOLS "}");
    assert_non_null(strstr(r.body.data, "event: response.completed\n"));
    client_reply_free(&r);
    r = client_ask(&server, "POST /v1/responses", "",
                   "{\"stream\": true, \"input\": \"hi\", \"reasoning\": {\"effort\": \"low\"}}");
    struct gathered g = {0};
    assert_true(each_event(&r, gather_responses, &g) > 8);
    assert_string_equal(g.content.data, "Hello wörld!");
    assert_string_equal(g.reasoning.data, "let me think");
    assert_int_equal(g.stops, 2);
    gathered_free(&g);
    client_reply_free(&r);
}

/* ---- calls that are sent as they come ---- */

/* One question in each API. */
struct dialect {
    const char *line, *limit, *before, *after; /* the question stands between them */
    void (*gather)(void *ctx, struct json_object *event);
    const char *called, *cut, *malformed; /* how it says why an answer ended */
};

static const struct dialect dialects[] = {
    {"POST /v1/chat/completions", "max_tokens",
     "\"reasoning_effort\": \"none\", " TOOLS ", \"messages\": [{\"role\": \"user\", "
     "\"content\": ",
     "}]", gather_chat, "tool_calls", "limit_in_call", "malformed_call"},
    {"POST /v1/messages", "max_tokens",
     "\"tools\": [{\"name\": \"look\", \"input_schema\": {}}, {\"name\": \"find\", "
     "\"input_schema\": {}}], \"messages\": [{\"role\": \"user\", \"content\": ",
     "}]", gather_messages, "tool_use", "max_tokens", "max_tokens"},
    {"POST /v1/responses", "max_output_tokens",
     "\"reasoning\": {\"effort\": \"none\"}, \"tools\": [{\"type\": \"function\", "
     "\"name\": \"look\"}, {\"type\": \"function\", \"name\": \"find\"}], \"input\": ",
     "", gather_responses, "completed", "incomplete", "failed"},
};

static struct gathered ask_dialect(const struct dialect *d, int max_tokens, const char *text)
{
    struct buf body = {0};
    struct gathered g = {0};
    buf_addf(&body, "{\"stream\": true, \"%s\": %d, %s\"%s\"%s}", d->limit, max_tokens, d->before,
             text, d->after);
    struct client_reply r = client_ask(&server, d->line, "", body.data);
    assert_int_equal(r.status, 200);
    each_event(&r, d->gather, &g);
    client_reply_free(&r);
    buf_deinit(&body);
    return g;
}

static void test_calls_stream(void **state)
{
    /* The same call, not streamed, is what the whole answer's parser makes of it. */
    struct json_object *whole =
        chat("{\"messages\": [{\"role\": \"user\", \"content\": \"long call\"}], "
             "\"reasoning_effort\": \"none\", " TOOLS "}");
    const char *args = text_at(whole, "choices.0.message.tool_calls.0.function.arguments");
    assert_true(strlen(args) > 400);
    for (size_t i = 0; i < sizeof dialects / sizeof dialects[0]; i++) {
        struct gathered g = ask_dialect(&dialects[i], 10000, "long call");
        struct buf both = {0};
        buf_addf(&both, "%s{}", args);
        assert_string_equal(g.arguments.data, both.data);
        assert_true(g.deltas > 50);
        assert_string_equal(g.finish, dialects[i].called);
        buf_deinit(&both);
        gathered_free(&g);
    }
    json_object_put(whole);
}

/* An answer that ends in a call that was being sent, and one that turns out to be none: the
 * arguments stay open, and the answer ends in a way that makes no client run them. */
static void test_calls_broken(void **state)
{
    struct json_object *whole =
        chat("{\"messages\": [{\"role\": \"user\", \"content\": \"long call\"}], "
             "\"reasoning_effort\": \"none\", " TOOLS "}");
    const char *args = text_at(whole, "choices.0.message.tool_calls.0.function.arguments");
    for (size_t i = 0; i < 2 * sizeof dialects / sizeof dialects[0]; i++) {
        const struct dialect *d = &dialects[i / 2];
        struct gathered g =
            i % 2 ? ask_dialect(d, 10000, "long nonsense") : ask_dialect(d, 100, "long call");
        assert_true(g.arguments.len > 128);
        assert_memory_equal(g.arguments.data, args, g.arguments.len);
        struct json_object *value;
        assert_int_not_equal(json_text_parse(g.arguments.data, g.arguments.len, &value, NULL),
                             SLUICE_OK);
        assert_string_equal(g.finish, i % 2 ? d->malformed : d->cut);
        assert_null(g.content.len ? strstr(g.content.data, "DSML") : NULL);
        gathered_free(&g);
    }
    json_object_put(whole);
}

static void test_responses_stored(void **state)
{
    struct json_object *first = client_json(
        &server, "POST /v1/responses",
        "{\"input\": \"odd please 3\", \"reasoning\": {\"effort\": \"low\"}, \"tools\": "
        "[{\"type\": \"function\", \"name\": \"look\", \"parameters\": {\"type\": \"object\"}}]}",
        200);
    assert_string_equal(text_at(first, "status"), "completed");
    assert_string_equal(text_at(first, "output.0.type"), "reasoning");
    assert_string_equal(text_at(first, "output.1.content.0.text"), "Wait.");
    assert_string_equal(text_at(first, "output.2.name"), "look");
    struct buf b = {0};
    buf_addf(&b, "GET /v1/responses/%s", text_at(first, "id"));
    struct json_object *again = client_json(&server, b.data, NULL, 200);
    assert_string_equal(text_at(again, "output.1.content.0.text"), "Wait.");
    json_object_put(again);
    /* By the response's id, and by the items' ids: the same prompt. */
    int64_t cached[2];
    for (int way = 0; way < 2; way++) {
        buf_clear(&b);
        buf_addf(&b, "{\"reasoning\": {\"effort\": \"low\"}, \"tools\": [{\"type\": \"function\", "
                     "\"name\": \"look\", \"parameters\": {\"type\": \"object\"}}], ");
        if (way == 0)
            buf_addf(&b, "\"previous_response_id\": \"%s\", \"input\": [", text_at(first, "id"));
        else
            buf_addf(&b,
                     "\"input\": [{\"role\": \"user\", \"content\": \"odd please 3\"}, {\"type\": "
                     "\"item_reference\", \"id\": \"%s\"}, {\"type\": \"item_reference\", \"id\": "
                     "\"%s\"}, {\"type\": \"item_reference\", \"id\": \"%s\"}, ",
                     text_at(first, "output.0.id"), text_at(first, "output.1.id"),
                     text_at(first, "output.2.id"));
        buf_addf(
            &b,
            "{\"type\": \"function_call_output\", \"call_id\": \"%s\", \"output\": \"sunny\"}]}",
            text_at(first, "output.2.call_id"));
        struct json_object *second = client_json(&server, "POST /v1/responses", b.data, 200);
        assert_string_equal(text_at(second, "output.1.content.0.text"), "It is sunny.");
        cached[way] = int_at(second, "usage.input_tokens_details.cached_tokens");
        assert_true(cached[way] > int_at(first, "usage.input_tokens"));
        json_object_put(second);
    }
    assert_true(cached[1] >= cached[0]);
    buf_clear(&b);
    buf_addf(&b, "DELETE /v1/responses/%s", text_at(first, "id"));
    json_object_put(client_json(&server, b.data, NULL, 200));
    json_object_put(client_json(&server, b.data, NULL, 404));
    buf_deinit(&b);
    json_object_put(first);
}

/* ---- others ---- */

static void test_completions(void **state)
{
    struct json_object *r = client_json(&server, "POST /v1/completions",
                                        "{\"prompt\": [\"one\", [116, 119, 111]], \"echo\": true, "
                                        "\"max_tokens\": 3, \"n\": 2}",
                                        200);
    assert_string_equal(text_at(r, "choices.0.text"), "oneHello wörld!");
    assert_string_equal(text_at(r, "choices.3.text"), "twoHello wörld!");
    assert_int_equal(int_at(r, "choices.3.index"), 3);
    assert_int_equal(int_at(r, "usage.prompt_tokens"), 6);
    json_object_put(r);
    r = client_json(&server, "POST /v1/completions", "{\"prompt\": \"x\", \"suffix\": \"y\"}", 400);
    assert_string_equal(text_at(r, "error.param"), "suffix");
    json_object_put(r);
}

static void test_own(void **state)
{
    struct json_object *r =
        client_json(&server, "POST /tokenize", "{\"content\": \"ab\", \"with_pieces\": true}", 200);
    assert_string_equal(text_at(r, "tokens.1.piece"), "b");
    json_object_put(r);
    r = client_json(&server, "POST /detokenize", "{\"tokens\": [72, 105]}", 200);
    assert_string_equal(text_at(r, "content"), "Hi");
    json_object_put(r);
    r = client_json(&server, "POST /apply-template",
                    "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}], "
                    "\"reasoning_effort\": \"none\"}",
                    200);
    assert_string_equal(text_at(r, "prompt"),
                        "<｜begin▁of▁sentence｜>S<｜User｜><｜Assistant｜></think>");
    json_object_put(r);
    r = client_json(&server, "GET /v1/models", NULL, 200);
    assert_string_equal(text_at(r, "data.0.id"), "script");
    json_object_put(r);
    json_object_put(client_json(&server, "GET /v1/models/script", NULL, 200));
    json_object_put(client_json(&server, "GET /props", NULL, 200));
    json_object_put(client_json(&server, "GET /slots", NULL, 200));
    json_object_put(client_json(&server, "POST /v1/embeddings", "{}", 501));
    json_object_put(client_json(&server, "GET /v1/chat/completions", NULL, 405));
    struct client_reply m = client_ask(&server, "GET /metrics", "", NULL);
    assert_non_null(strstr(m.body.data, "\nsluice_answer_tokens_total "));
    client_reply_free(&m);
    m = client_ask(&server, "HEAD /api/hello", "", NULL);
    assert_int_equal(m.status, 404);
    assert_int_equal(m.body.len, 0);
    client_reply_free(&m);
    m = client_ask(&server, "GET /", "", NULL);
    assert_non_null(strstr(m.body.data, "<title>Sluice</title>"));
    client_reply_free(&m);
}

static void test_refused(void **state)
{
    static const struct {
        const char *body, *param;
    } cases[] = {
        {"", NULL},
        {"{", NULL},
        {"[]", NULL},
        {"{}", "messages"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"top_p\": 7}", "top_p"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"max_tokens\": 1.5}",
         "max_tokens"},
        {"{\"messages\": [{\"role\": \"pope\", \"content\": \"x\"}]}", "messages[0].role"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
         "messages[0].content"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"audio\": {}}", "audio"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"response_format\": "
         "{\"type\": \"xml\"}}",
         "response_format"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"logit_bias\": {\"x\": 1}}",
         "logit_bias"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"n\": 1000}", "n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json_object *r =
            client_json(&server, "POST /v1/chat/completions", cases[i].body, 400);
        if (cases[i].param)
            assert_string_equal(text_at(r, "error.param"), cases[i].param);
        json_object_put(r);
    }
}

static void test_too_long(void **state)
{
    size_t n = (1 << 22) + 10;
    char *body = malloc(n + 200);
    int head = snprintf(body, 200, "{\"messages\": [{\"role\": \"user\", \"content\": \"");
    memset(body + head, 'a', n);
    snprintf(body + head + n, 100, "\"}]}");
    struct json_object *r = client_json(&server, "POST /v1/chat/completions", body, 400);
    assert_string_equal(text_at(r, "error.code"), "context_length_exceeded");
    assert_non_null(strstr(text_at(r, "error.message"), "prompt is too long: 4194"));
    json_object_put(r);
    free(body);
}

/* ---- clients that behave badly ---- */

/* Waits until as many answers run. */
static void wait_running(size_t n)
{
    for (;;) {
        struct json_object *slots = client_json(&server, "GET /slots", NULL, 200);
        size_t running = json_object_array_length(slots);
        json_object_put(slots);
        if (running == n)
            return;
        usleep(5000);
    }
}

static void test_leaves_in_prefill(void **state)
{
    static const char *const bodies[] = {
        "{\"messages\": [{\"role\": \"user\", \"content\": \"slow prefill\"}], \"stream\": true}",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"slow prefill\"}]}",
    };
    for (int i = 0; i < 2; i++) {
        int fd = client_connect(&server);
        client_request(fd, "POST /v1/chat/completions", "", bodies[i]);
        wait_running(1);
        close(fd);
        wait_running(0);
    }
}

static void test_signs_of_life(void **state)
{
    static const struct {
        const char *line, *sign;
    } cases[] = {
        {"POST /v1/chat/completions", ": prefill "},
        {"POST /v1/messages", "event: ping\n"},
        {"POST /v1/responses", "response.in_progress\", \"sequence_number\": 2"},
    };
    for (int i = 0; i < 3; i++) {
        int fd = client_connect(&server);
        struct buf got = {0};
        char piece[4096];
        ssize_t n = 1;
        client_request(fd, cases[i].line, "",
                       i == 2 ? "{\"input\": \"slow prefill\", \"stream\": true}"
                              : "{\"max_tokens\": 9, \"messages\": [{\"role\": \"user\", "
                                "\"content\": \"slow prefill\"}], \"stream\": true}");
        while (n > 0 && !(got.data && strstr(got.data, cases[i].sign))) {
            n = recv(fd, piece, sizeof piece, 0);
            buf_add(&got, piece, n > 0 ? (size_t)n : 0);
        }
        assert_true(n > 0);
        close(fd);
        buf_deinit(&got);
        wait_running(0);
    }
}

static void test_busy(void **state)
{
    int fd[8];
    for (int i = 0; i < 8; i++) {
        fd[i] = client_connect(&server);
        client_request(fd[i], "POST /v1/chat/completions", "",
                       "{\"messages\": [{\"role\": \"user\", \"content\": \"slow prefill\"}]}");
    }
    wait_running(8);
    struct client_reply r =
        client_ask(&server, "POST /v1/chat/completions", "",
                   "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}");
    assert_int_equal(r.status, 429);
    assert_non_null(strstr(r.head, "Retry-After: 1"));
    client_reply_free(&r);
    for (int i = 0; i < 8; i++)
        close(fd[i]);
    wait_running(0);
}

static void test_garbage(void **state)
{
    static const char *const garbage[] = {
        "\x16\x03\x01\x02\x00\x01\x00",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /%zz?a=%u HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{\"half\"",
    };
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        int fd = client_connect(&server);
        client_send(fd, garbage[i], strlen(garbage[i]));
        shutdown(fd, SHUT_WR);
        struct client_reply r = client_read(fd);
        assert_true(r.status == 0 || r.status >= 400);
        client_reply_free(&r);
    }
    struct buf deep = {0};
    for (int i = 0; i < 100000; i++)
        buf_add_str(&deep, "{\"a\":[");
    json_object_put(client_json(&server, "POST /v1/chat/completions", deep.data, 400));
    buf_deinit(&deep);
    struct json_object *r = client_json(&server, "GET /health", NULL, 200);
    assert_string_equal(text_at(r, "status"), "ok");
    json_object_put(r);
}

/* Requests that come before the answer to the one before, on one connection. */
static void test_pipelined(void **state)
{
    int fd = client_connect(&server);
    const char *body = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi hi\"}]}";
    struct buf three = {0};
    buf_addf(&three,
             "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
             "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
             "%zu\r\n\r\n%s"
             "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             strlen(body), body);
    client_send(fd, three.data, three.len);
    buf_deinit(&three);
    struct client_reply r = client_read(fd);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body.data, "Hello w"));
    const char *last = strstr(r.body.data, "Hello w");
    assert_non_null(strstr(last, "{\"status\": \"ok\"}"));
    client_reply_free(&r);
}

/* One byte at a time does not keep a connection; what came whole is not hurried. */
static void test_slow_loris(void **state)
{
    const char *request = "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    int fd = client_connect(&server);
    client_send(fd, request, strlen(request));
    char byte;
    ssize_t n;
    /* Ends when the server closes; the socket's own limit of a minute fails the test. */
    while ((n = recv(fd, &byte, 1, MSG_DONTWAIT)) < 0 && errno == EAGAIN) {
        send(fd, "x", 1, MSG_NOSIGNAL);
        usleep(50000);
    }
    assert_true(n <= 0);
    close(fd);
}

/* More connections than are allowed wait for their turn; none is lost. */
static void test_many_connections(void **state)
{
    int fd[100];
    for (int i = 0; i < 100; i++) {
        fd[i] = client_connect(&server);
        client_request(fd[i], "GET /health", "", NULL);
    }
    for (int i = 0; i < 100; i++) {
        struct client_reply r = client_read(fd[i]);
        assert_int_equal(r.status, 200);
        client_reply_free(&r);
    }
}

struct parallel {
    pthread_t thread;
    char *body;
};

static void *ask_slowly(void *arg)
{
    struct parallel *p = arg;
    struct client_reply r =
        client_ask(&server, "POST /v1/chat/completions", "",
                   "{\"messages\": [{\"role\": \"user\", \"content\": \"slow answer\"}], "
                   "\"stream\": true}");
    struct gathered g = {0};
    each_event(&r, gather_chat, &g);
    p->body = strdup(g.content.data ? g.content.data : "");
    gathered_free(&g);
    client_reply_free(&r);
    return NULL;
}

/* Stopping lets streams end; new requests are refused. */
static void test_drains(void **state)
{
    struct parallel p[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&p[i].thread, NULL, ask_slowly, &p[i]);
    wait_running(4);
    server_stop();
    for (int i = 0; i < 4; i++) {
        pthread_join(p[i].thread, NULL);
        assert_string_equal(p[i].body, "abcdefghijkl");
        free(p[i].body);
    }
    pthread_join(server.thread, NULL);
    assert_int_equal(server.status, SLUICE_OK);
    unlink(server.script);
    setup(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_chat_stream),
        cmocka_unit_test(test_chat_replay),
        cmocka_unit_test(test_chat_repair),
        cmocka_unit_test(test_chat_choice),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_messages_errors),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_calls_stream),
        cmocka_unit_test(test_calls_broken),
        cmocka_unit_test(test_responses_stored),
        cmocka_unit_test(test_completions),
        cmocka_unit_test(test_own),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_leaves_in_prefill),
        cmocka_unit_test(test_signs_of_life),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_slow_loris),
        cmocka_unit_test(test_many_connections),
        cmocka_unit_test(test_drains),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
