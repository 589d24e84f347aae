/* Many conversations at once against one alone: decoded tokens a second together, the slowest
 * against the fastest, the most memory that was in use, and what a step costs beside the model.
 * usage: many [MODEL.gguf, or - for the built-in one] [CONVERSATIONS] [TOKENS] [THREADS] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "os/clock.h"
#include "sluice.h"

enum { PROMPT = 32, MOST = 1024, ROUNDS = 5 };

struct one {
    double first, last;              /* token; os/clock.h */
    int n;                           /* tokens */
    bool done;
};

static struct sluice *engine;
static struct one all[MOST];
static int n_all, n_begun, n_ended;
static double begun, ended;          /* all have a first token; the first has its last */
static int64_t together, most_used;

/* On the scheduler's thread. */
static void on_event(void *ctx, const struct sluice_event *event)
{
    struct one *o = ctx;
    struct sluice_stats stats;
    double now = clock_seconds();
    if (event->kind == SLUICE_EVENT_TOKEN) {
        if (o->n++ == 0) {
            o->first = now;
            n_begun++;
            if (n_begun == n_all)
                begun = now;
        } else if (n_begun == n_all && n_ended == 0) {
            together++;
        }
        o->last = now;
        sluice_stats(engine, &stats);
        most_used = stats.kv_used > most_used ? stats.kv_used : most_used;
    }
    if (event->kind == SLUICE_EVENT_DONE) {
        if (n_ended++ == 0)
            ended = o->last;
        if (event->error)
            fprintf(stderr, "many: %s\n", event->error->message);
        o->done = event->finish == SLUICE_FINISH_LENGTH;
    }
}

static double slowest_of(double *fastest)
{
    double slowest = INFINITY;
    *fastest = 0;
    for (int i = 0; i < n_all; i++) {
        double rate = (all[i].n - 1) / (all[i].last - all[i].first);
        slowest = rate < slowest ? rate : slowest;
        *fastest = rate > *fastest ? rate : *fastest;
    }
    return slowest;
}

/* Tokens a second of n conversations together. */
static double measure(int n, int tokens)
{
    struct sluice_request *r[MOST];
    int32_t prompt[PROMPT];
    struct sluice_stats before, after;
    struct sluice_error err;
    memset(all, 0, sizeof all);
    n_all = n;
    n_begun = n_ended = 0;
    together = most_used = 0;
    sluice_stats(engine, &before);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < PROMPT; j++)
            prompt[j] = (int32_t)(rng_u64((uint64_t)(n * 1000 + i), (uint64_t)j) % 250);
        struct sluice_request_options o = {
            .prompt = prompt, .n_prompt = PROMPT, .max_tokens = tokens, .raw = true,
            .ignore_eos = true, .sampling.logprobs = -1, .on_event = on_event, .ctx = &all[i]};
        if (sluice_submit(engine, &o, &r[i], &err) != SLUICE_OK) {
            fprintf(stderr, "many: %s\n", err.message);
            exit(1);
        }
    }
    for (int i = 0; i < n; i++) {
        sluice_wait(r[i], -1);
        sluice_release(r[i]);
        if (!all[i].done)
            exit(1);
    }
    sluice_stats(engine, &after);
    double fastest, slowest = slowest_of(&fastest), rate = (double)together / (ended - begun);
    double steps = (double)(after.steps - before.steps);
    printf("%4d at once: %8.1f tokens/s together; fastest/slowest %.2f; memory %.1f of %.1f MB; "
           "a step: scheduling %.1f us, conversations %.1f us, model %.1f us\n",
           n, rate, fastest / slowest, (double)most_used / 1e6, (double)after.kv_budget / 1e6,
           (after.schedule_s - before.schedule_s) / steps * 1e6,
           (after.keep_s - before.keep_s) / steps * 1e6,
           (after.decode_s + after.prefill_s - before.decode_s - before.prefill_s) / steps * 1e6);
    if (most_used > after.kv_budget)
        exit(1);
    return rate;
}

int main(int argc, char **argv)
{
    bool builtin = argc < 2 || strcmp(argv[1], "-") == 0;
    int n = argc > 2 ? atoi(argv[2]) : 64, tokens = argc > 3 ? atoi(argv[3]) : 128;
    struct sluice_options o = {.model = builtin ? NULL : argv[1], .context = 2048,
                               .threads = argc > 4 ? atoi(argv[4]) : 2};
    struct sluice_error err;
    if (n < 1 || n > MOST || tokens < 2)
        return 2;
    o.max_requests = n;
    if (sluice_open(&o, &engine, &err) != SLUICE_OK) {
        fprintf(stderr, "many: %s\n", err.message);
        return 1;
    }
    measure(1, 8); /* warms up */
    /* In turns, and the fastest of each: other programs take their share of the machine. */
    double one = 0, many = 0;
    for (int i = 0; i < ROUNDS; i++) {
        one = fmax(one, measure(1, tokens));
        many = fmax(many, measure(n, tokens));
    }
    printf("together / alone: %.2f\n", many / one);
    sluice_close(engine);
    return 0;
}
