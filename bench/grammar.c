/* grammar.c - what a grammar costs: seconds a token of answers under a schema against free ones of
 * the same number of tokens, in turn.
 *
 *   build/bench/grammar [MODEL.gguf]           the built-in model if none is named */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "os/clock.h"
#include "sluice.h"

static const char *const samples[] = {
    "{\"type\":\"object\"}",
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
    "\"integer\",\"minimum\":0,\"maximum\":150},\"tags\":{\"type\":\"array\",\"items\":{\"type\":"
    "\"string\"},\"minItems\":8,\"maxItems\":40}},\"required\":[\"name\",\"age\",\"tags\"]}",
    "{\"type\":\"string\",\"minLength\":600,\"maxLength\":900}",
};

struct run {
    double decode_s;
    int32_t tokens;
};

static void on_event(void *ctx, const struct sluice_event *e)
{
    struct run *r = ctx;
    if (e->kind == SLUICE_EVENT_DONE) {
        r->decode_s = e->usage.decode_s;
        r->tokens = e->usage.answer;
    }
}

/* An answer of at most n tokens; without a grammar it goes on to n. */
static struct run ask(struct sluice *e, struct sluice_grammar *g, uint64_t seed, int64_t n)
{
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"Tell me of the sea.\"}]";
    struct sluice_chat chat = {.messages = messages, .messages_len = sizeof messages - 1};
    struct sluice_tokens prompt;
    struct sluice_request *request;
    struct run r = {0};
    SLUICE_ASSERT(sluice_chat_tokens(e, &chat, &prompt, NULL) == SLUICE_OK);
    struct sluice_request_options o = {.prompt = prompt.ids,
                                       .n_prompt = prompt.n,
                                       .sampling = {.temperature = 1, .seed = seed, .logprobs = -1},
                                       .max_tokens = n,
                                       .ignore_eos = !g,
                                       .raw = true,
                                       .grammar = g,
                                       .on_event = on_event,
                                       .ctx = &r};
    SLUICE_ASSERT(sluice_submit(e, &o, &request, NULL) == SLUICE_OK);
    sluice_wait(request, -1);
    sluice_release(request);
    sluice_free(prompt.ids);
    return r;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Free and held answers in turn, of the same number of tokens: the median ratio of their seconds a
 * token. */
static void compare(struct sluice *e, const char *schema)
{
    enum { ROUNDS = 61 };
    double ratio[ROUNDS], first_ms = 0;
    struct sluice_grammar_options o = {.schema = schema, .schema_len = strlen(schema)};
    struct sluice_grammar *g;
    double began = clock_seconds();
    SLUICE_ASSERT(sluice_grammar_new(e, &o, &g, NULL) == SLUICE_OK);
    first_ms = 1e3 * (clock_seconds() - began);
    ask(e, g, 1000, 200); /* the masks of an answer's beginning, once for all that follow */
    int64_t tokens = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct run held = ask(e, g, (uint64_t)i, 200),
                   free = ask(e, NULL, (uint64_t)i, held.tokens);
        tokens += held.tokens;
        ratio[i] = held.decode_s / held.tokens / (free.decode_s / free.tokens);
    }
    qsort(ratio, ROUNDS, sizeof *ratio, by_value);
    printf(
        "%.60s...: compiled in %.2f ms; a token under it takes %.3f of a free one's time (median "
        "of %d answers, %lld tokens; quartiles %.3f and %.3f)\n",
        schema, first_ms, ratio[ROUNDS / 2], ROUNDS, (long long)tokens, ratio[ROUNDS / 4],
        ratio[3 * ROUNDS / 4]);
    sluice_grammar_free(g);
}

int main(int argc, char **argv)
{
    struct sluice_options o = {.threads = 1, .model = argc > 1 ? argv[1] : NULL};
    struct sluice_error err;
    struct sluice *e;
    if (sluice_open(&o, &e, &err) != SLUICE_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        compare(e, samples[i]);
    sluice_close(e);
    return 0;
}
