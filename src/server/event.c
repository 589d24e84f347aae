/* server/event.c - what the encoders of the APIs share. */
#include "server/event.h"

#include "server/server_internal.h"

struct sluice_usage reply_usage(const struct reply *r)
{
    struct sluice_usage sum = {0};
    for (int i = 0; i < r->n; i++) {
        const struct sluice_usage *u = &r->answer[i].usage;
        sum.answer += u->answer;
        sum.reasoning += u->reasoning;
        if (i % r->ask->n == 0) {
            sum.prompt += u->prompt;
            sum.cached += u->cached;
        }
    }
    if (sum.prompt == 0)
        sum.prompt = r->n_prompt;
    if (r->n > 0) {
        const struct sluice_usage *first = &r->answer[0].usage;
        sum.queue_s = first->queue_s;
        sum.prefill_s = first->prefill_s;
        sum.decode_s = first->decode_s;
        sum.first_token_s = first->first_token_s;
    }
    return sum;
}

const char *answer_call_fault(const struct answer *a)
{
    bool broken = a->n_call > 0 && a->call[a->n_call - 1].broken;
    if (!a->malformed || broken)
        return NULL;
    return a->again ? "the model wrote a tool call that could not be read, twice; it is in the text"
                    : "the model wrote a tool call that could not be read; it is in the text";
}

const char *answer_finish_word(const struct answer *a)
{
    switch (a->finish) {
    case SLUICE_FINISH_LENGTH:
        return "length";
    case SLUICE_FINISH_TOOL_CALLS:
        return "tool_calls";
    default:
        return "stop";
    }
}

void answer_write_timings(const struct sluice_usage *u, struct buf *out)
{
    int fresh = u->prompt - u->cached;
    buf_addf(
        out,
        "{\"cache_n\": %d, \"prompt_n\": %d, \"prompt_ms\": %.3f, \"prompt_per_second\": %.3f, "
        "\"predicted_n\": %d, \"predicted_ms\": %.3f, \"predicted_per_second\": %.3f, "
        "\"queue_ms\": %.3f, \"first_token_ms\": %.3f}",
        u->cached, fresh, 1e3 * u->prefill_s, u->prefill_s > 0 ? fresh / u->prefill_s : 0,
        u->answer, 1e3 * u->decode_s, u->decode_s > 0 ? u->answer / u->decode_s : 0,
        1e3 * u->queue_s, 1e3 * u->first_token_s);
}
