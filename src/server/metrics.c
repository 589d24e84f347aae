/* server/metrics.c - counters in Prometheus' text format, and the log. */
#include <stdarg.h>
#include <time.h>

#include "base/check.h"
#include "base/json_text.h"
#include "os/clock.h"
#include "server/server_internal.h"

void metrics_count(struct server *s, const struct answer *a, bool first)
{
    struct counters *n = &s->count;
    const struct sluice_usage *u = &a->usage;
    if (first) {
        n->prompt_tokens += u->prompt;
        n->cached_tokens += u->cached;
    }
    n->answer_tokens += u->answer;
    n->queue_s += u->queue_s;
    n->prefill_s += u->prefill_s;
    n->decode_s += u->decode_s;
    if (u->answer > 0) {
        n->first_token_s += u->first_token_s;
        n->first_tokens++;
    }
}

static void counter(struct buf *out, const char *name, const char *help, double value)
{
    buf_addf(out, "# HELP sluice_%s %s\n# TYPE sluice_%s counter\nsluice_%s %.15g\n", name, help,
             name, name, value);
}

static void gauge(struct buf *out, const char *name, const char *help, double value)
{
    buf_addf(out, "# HELP sluice_%s %s\n# TYPE sluice_%s gauge\nsluice_%s %.15g\n", name, help,
             name, name, value);
}

void metrics_write(const struct server *s, struct buf *out)
{
    const struct counters *n = &s->count;
    struct sluice_stats e = {0};
    if (s->ready)
        s->source.fn->stats(s->source.ctx, &e);
    gauge(out, "up_seconds", "Time since the start.", clock_seconds() - s->started);
    gauge(out, "model_ready", "1 when the model is loaded.", s->ready);
    gauge(out, "connections", "Open connections.", http_connections(s->http));
    counter(out, "http_requests_total", "HTTP requests.", (double)n->requests);
    counter(out, "http_refused_total", "HTTP replies with a status from 400 to 499.",
            (double)n->refused);
    counter(out, "http_faults_total", "HTTP replies with a status from 500 on.", (double)n->faults);
    counter(out, "generations_total", "Answers that were begun.", (double)n->generations);
    counter(out, "generations_cancelled_total", "Answers that a client or a call ended.",
            (double)n->cancelled);
    counter(out, "generations_failed_total", "Requests that failed.", (double)n->failed);
    counter(out, "prompt_tokens_total", "Tokens of prompts.", (double)n->prompt_tokens);
    counter(out, "cached_tokens_total", "Tokens of prompts that needed no work.",
            (double)n->cached_tokens);
    counter(out, "answer_tokens_total", "Tokens of answers.", (double)n->answer_tokens);
    counter(out, "queue_seconds_total", "Time that requests waited.", n->queue_s);
    counter(out, "prefill_seconds_total", "Time that prompts took.", n->prefill_s);
    counter(out, "decode_seconds_total", "Time that answers took.", n->decode_s);
    counter(out, "first_token_seconds_sum", "Time to the first token, summed.", n->first_token_s);
    counter(out, "first_token_seconds_count", "Answers with a first token.",
            (double)n->first_tokens);
    gauge(out, "requests_running", "Requests in the engine's steps.", e.running);
    gauge(out, "requests_queued", "Requests that wait for the engine.", e.queued);
    gauge(out, "conversations_kept", "Conversations kept in memory.", e.conversations);
    gauge(out, "kv_bytes_used", "Memory of conversations in use.", (double)e.kv_used);
    gauge(out, "kv_bytes_budget", "Memory of conversations.", (double)e.kv_budget);
    counter(out, "steps_total", "Steps of the engine.", (double)e.steps);
}

void server_log(const struct server *s, enum sluice_log_level level, const char *fmt, ...)
{
    char text[1024];
    const struct server_options *o = s->options;
    if (!o->log)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    o->log(o->log_ctx, level, text);
}
