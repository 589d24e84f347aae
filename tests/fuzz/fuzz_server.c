/* Bodies of requests, packed or not, from any client: to each API's reader, on to the prompt and
 * the grammar. */
#include <json-c/json.h>

#include "base/check.h"
#include "server/seal.h"
#include "server/server_internal.h"

static struct server server;

/* A source needs a script; none of its answers is asked for. */
static void open_source(void)
{
    struct sluice_error err;
    if (server.source.fn)
        return;
    SLUICE_ASSERT(source_script_open("/dev/null", &server.source, &err) == SLUICE_OK);
    server.calls = shelf_new(1 << 20);
    server.items = shelf_new(1 << 20);
    server.grammars = grammars_new();
    server.defaults = (struct ask_defaults){.temperature = 1, .effort = SLUICE_EFFORT_DEFAULT};
}

static void read_body(const struct api *api, struct json_object *body)
{
    struct ask *a = ask_new(&server.defaults);
    struct sluice_tokens *prompts;
    struct sluice_error err = {0};
    enum sluice_status st = api->parse(&server, body, a, &err);
    if (st == SLUICE_OK) {
        ask_settle(a);
        if (ask_prompts(a) <= LIMIT_ASK_ANSWERS)
            st = prompts_make(&server, a, &prompts, &err);
        if (ask_prompts(a) <= LIMIT_ASK_ANSWERS && st == SLUICE_OK)
            prompts_free(prompts, ask_prompts(a));
    }
    struct sluice_grammar *grammar = NULL;
    if (st == SLUICE_OK)
        st = grammars_of(server.grammars, &server.source, a, &grammar, &err);
    sluice_grammar_free(grammar);
    if (st != SLUICE_OK) {
        struct fault f;
        struct buf text = {0};
        struct json_object *reply = NULL;
        fault_from(&f, &err);
        fault_write_openai(&f, &text);
        SLUICE_ASSERT(body_parse(text.data, text.len, NULL, &reply, NULL) == SLUICE_OK);
        json_object_put(reply);
        buf_deinit(&text);
    }
    /* What only the server may say does not come from a client. */
    for (size_t i = 0; a->messages && i < json_object_array_length(a->messages); i++)
        SLUICE_ASSERT(!field(json_object_array_get_idx(a->messages, i), "tool_calls_text"));
    ask_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct api *const apis[] = {&api_chat, &api_completions, &api_messages,
                                             &api_responses, &api_ollama_chat};
    static const char *const encodings[] = {NULL, NULL, "gzip", "zstd"};
    struct json_object *body;
    struct buf sealed = {0};
    if (len < 1)
        return 0;
    open_source();
    seal_read((struct str){(const char *)data, len}, &sealed);
    buf_deinit(&sealed);
    if (body_parse((const char *)data + 1, len - 1, encodings[data[0] >> 3 & 3], &body, NULL) !=
        SLUICE_OK)
        return 0;
    read_body(apis[(data[0] & 7) % 5], body);
    json_object_put(body);
    return 0;
}
