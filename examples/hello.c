/* hello.c - one question to a model through libsluice: hello [MODEL.gguf] [QUESTION] */
#include <stdio.h>
#include <string.h>

#include "sluice.h"

/* On the scheduler's thread, in order; the last event is SLUICE_EVENT_DONE. */
static void on_event(void *ctx, const struct sluice_event *event)
{
    if (event->kind == SLUICE_EVENT_CONTENT)
        fwrite(event->text, 1, event->len, stdout);
    if (event->kind == SLUICE_EVENT_DONE)
        printf("\n(%d + %d tokens)\n", event->usage.prompt, event->usage.answer);
}

static int failed(const struct sluice_error *err)
{
    fprintf(stderr, "hello: %s\n", err->message);
    return 1;
}

int main(int argc, char **argv)
{
    struct sluice_options options = {.model = argc > 1 && argv[1][0] ? argv[1] : NULL};
    const char *question = argc > 2 ? argv[2] : "What is the capital of France?";
    struct sluice_error err;
    struct sluice *engine;
    if (sluice_open(&options, &engine, &err) != SLUICE_OK)
        return failed(&err);

    char messages[1024]; /* a question with quotes in it would have to be escaped */
    snprintf(messages, sizeof messages, "[{\"role\": \"user\", \"content\": \"%s\"}]", question);
    struct sluice_chat chat = {.messages = messages, .messages_len = strlen(messages)};
    struct sluice_tokens prompt;
    if (sluice_chat_tokens(engine, &chat, &prompt, &err) != SLUICE_OK)
        return failed(&err);

    struct sluice_request_options request = {
        .prompt = prompt.ids, .n_prompt = prompt.n, .sampling.logprobs = -1, .on_event = on_event};
    struct sluice_request *handle;
    if (sluice_submit(engine, &request, &handle, &err) != SLUICE_OK)
        return failed(&err);
    sluice_wait(handle, -1);
    sluice_release(handle);
    sluice_free(prompt.ids);
    sluice_close(engine);
    return 0;
}
