/* server/generate.c - one HTTP request's answers: read, prompt, submit, events, reply.
 *
 * Invariants: (1) a gen lives until each of its choices got its end from the source, whether or not
 *                 the client is still there; x is NULL once it is not
 *             (2) a short call is sent when it is whole, and what turned out to be none is text; a
 *                 long one is sent as it comes, and the answer ends where it turned out to be none:
 *                 no client may take a part of a call for all of it
 *             (3) the source's thread only copies events into posts; all else is the loop's
 *
 *   job: READ (worker) --> generations: QUEUED --> PREFILL --> DECODE --> DONE
 *                  '--> fault               client leaves, cancel: ------^ at the next step */
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/check.h"
#include "os/clock.h"
#include "server/server_internal.h"
#include "server/turns.h"
#include "text/reasoning.h"

/* Bytes of arguments from which a call is long: most malformed calls show before that. */
#define CALL_LONG 128

enum choice_state { CHOICE_QUEUED, CHOICE_PREFILL, CHOICE_DECODE, CHOICE_DONE };
static const char *const state_names[] = {"queued", "prefill", "decode", "done"};

struct choice;

/* An event on its way from the source's thread. */
struct piece {
    struct loop_post post;
    struct choice *c;
    enum sluice_event_kind kind;
    int64_t n, total, cached;
    int32_t id;
    float logprob;
    int32_t n_top;
    struct sluice_logprob top[20];
    size_t len;
    char text[];
};

/* The last event; part of the choice, so that it cannot fail to come. */
struct ending {
    struct loop_post post;
    struct choice *c;
    enum sluice_finish finish;
    int stop; /* index among the ask's, or -1 */
    struct sluice_usage usage;
    struct sluice_error error;
};

struct choice {
    struct gen *g;
    int index;
    struct source_request *r;
    struct reasoning parser;
    struct answer *answer;
    struct buf raw; /* everything that came, thinking and forced text included */
    struct answer_call open; /* a call that has begun and was not shown */
    bool call_open, call_shown; /* shown: it is the answer's last */
    bool cut; /* nothing after this place is read */
    enum choice_state state;
    int64_t read, total, cached, place;
    int64_t n_token;
    int32_t told; /* tokens of the answer that an event has shown */
    struct ending ending;
    /* any thread */
    atomic_bool lost; /* an event could not be kept */
};

struct gen {
    struct gen *next, **slot;
    struct server *s;
    struct exchange *x;
    const struct api *api;
    struct reply reply;
    struct choice *choice; /* [reply.n] */
    int running;
    struct event *alive;
    void *state; /* of the encoder */
    struct buf out;
    bool begun, over; /* the stream; everything that is sent */
    double started, wrote;
};

/* A request that is being read. */
struct job {
    struct loop_post post;
    struct server *s;
    struct exchange *x; /* loop's thread; NULL: gone */
    const struct api *api;
    char *body, encoding[16];
    size_t len;
    struct ask *ask;
    struct sluice_tokens *prompts; /* [n_prompt] */
    int n_prompt;
    struct buf forced;
    struct fault fault;
    bool failed;
};

/* ---- sending ---- */

static void flush(struct gen *g)
{
    if (g->out.len == 0)
        return;
    if (g->x && g->begun) {
        g->wrote = clock_seconds();
        http_stream_write(g->x, (struct str){g->out.data, g->out.len});
    }
    buf_clear(&g->out);
}

static void emit(struct choice *c, struct event_out *e)
{
    struct gen *g = c->g;
    e->index = c->index;
    e->answer = c->answer;
    e->token = c->told;
    if (g->begun && !g->over && g->api->encoder->event)
        g->api->encoder->event(g->state, &g->reply, e, &g->out);
    c->told = c->answer->n_token;
    flush(g);
}

static void on_alive(evutil_socket_t fd, short what, void *arg)
{
    struct gen *g = arg;
    int64_t done = 0, total = 0;
    if (g->over || clock_seconds() - g->wrote < 0.5 * g->s->options->alive_seconds)
        return;
    for (int i = 0; i < g->reply.n; i++) {
        done += g->choice[i].read;
        total += g->choice[i].total;
    }
    g->api->encoder->alive(g->state, &g->reply, done, total, &g->out);
    flush(g);
}

static void cancel_all(struct gen *g)
{
    for (int i = 0; i < g->reply.n; i++)
        if (g->choice[i].r && g->choice[i].state != CHOICE_DONE)
            g->s->source.fn->cancel(g->choice[i].r);
}

static void on_gone(void *arg)
{
    struct gen *g = arg;
    g->x = NULL;
    g->over = true;
    cancel_all(g);
}

static void fail(struct gen *g, const struct fault *f)
{
    if (g->over)
        return;
    g->over = true;
    g->s->count.failed++;
    if (g->begun) {
        g->api->encoder->failed(g->state, &g->reply, f, &g->out);
        flush(g);
        http_stream_end(g->x);
    } else {
        routes_fault(g->s, g->x, f, g->api->encoder->fault);
    }
    g->x = NULL;
    cancel_all(g);
}

static void gen_free(struct gen *g)
{
    struct server *s = g->s;
    *g->slot = g->next;
    if (g->next)
        g->next->slot = g->slot;
    s->n_gen--;
    for (int i = 0; i < g->reply.n; i++) {
        struct choice *c = &g->choice[i];
        struct answer *a = &g->reply.answer[i];
        reasoning_deinit(&c->parser);
        buf_deinit(&c->raw);
        buf_deinit(&c->open.args);
        free(c->open.name);
        for (int k = 0; k < a->n_call; k++) {
            free(a->call[k].name);
            buf_deinit(&a->call[k].args);
        }
        free(a->call);
        free(a->token);
        free(a->top);
        buf_deinit(&a->reasoning);
        buf_deinit(&a->content);
    }
    if (g->alive)
        event_free(g->alive);
    if (g->state && g->api->encoder->state_deinit)
        g->api->encoder->state_deinit(g->state);
    free(g->state);
    free(g->choice);
    free(g->reply.answer);
    ask_free((struct ask *)g->reply.ask);
    buf_deinit(&g->out);
    free(g);
    server_settle(s);
}

static void finish_all(struct gen *g)
{
    if (!g->over) {
        g->over = true;
        if (g->api == &api_responses)
            responses_keep(g->s, &g->reply);
        if (g->begun) {
            g->api->encoder->end(g->state, &g->reply, &g->out);
            flush(g);
            http_stream_end(g->x);
        } else {
            struct fault f;
            g->api->encoder->whole(&g->reply, &g->out);
            if (buf_status(&g->out, NULL) == SLUICE_OK) {
                routes_reply(g->s, g->x, 200, "application/json",
                             (struct str){g->out.data, g->out.len});
            } else {
                fault_set(&f, 503, NULL, "out of memory for the reply");
                routes_fault(g->s, g->x, &f, g->api->encoder->fault);
            }
        }
        g->x = NULL;
    }
    gen_free(g);
}

/* ---- events of one answer ---- */

static void call_drop(struct choice *c)
{
    free(c->open.name);
    buf_deinit(&c->open.args);
    c->open = (struct answer_call){0};
    c->call_open = c->call_shown = false;
}

static void call_begin(struct choice *c, struct str name)
{
    call_drop(c);
    c->open.name = strndup(name.at, name.len);
    c->call_open = c->open.name != NULL;
    c->lost = c->lost || !c->call_open;
}

/* The open call becomes the answer's last, and is sent as far as it came. */
static void call_show(struct choice *c)
{
    struct answer *a = c->answer;
    struct answer_call *call = realloc(a->call, ((size_t)a->n_call + 1) * sizeof *call);
    a->call = call ? call : a->call;
    if (!call) {
        c->lost = true;
        call_drop(c);
        return;
    }
    call += a->n_call;
    *call = c->open;
    c->open = (struct answer_call){0};
    c->call_shown = true;
    snprintf(call->id, ANSWER_ID, "%s", c->g->reply.ask->call_prefix);
    size_t prefix = strlen(call->id);
    server_random_id(call->id + prefix, 25);
    a->n_call++;
    emit(c, &(struct event_out){.kind = EVENT_CALL_BEGIN, .call = a->n_call - 1});
    emit(c, &(struct event_out){.kind = EVENT_CALL_ARGS,
                                .call = a->n_call - 1,
                                .text = {call->args.data, call->args.len}});
}

static void call_args(struct choice *c, struct str text)
{
    struct answer *a = c->answer;
    if (!c->call_open)
        return;
    struct buf *args = c->call_shown ? &a->call[a->n_call - 1].args : &c->open.args;
    buf_add(args, text.at, text.len);
    c->lost = c->lost || args->status != SLUICE_OK;
    if (c->call_shown)
        emit(c, &(struct event_out){.kind = EVENT_CALL_ARGS, .call = a->n_call - 1, .text = text});
    else if (c->g->begun && args->len >= CALL_LONG)
        call_show(c);
}

/* Nothing more of the answer is wanted. */
static void cut(struct choice *c)
{
    c->cut = true;
    if (c->r)
        c->g->s->source.fn->cancel(c->r);
}

static void call_end(struct choice *c)
{
    if (!c->call_shown)
        call_show(c);
    if (!c->call_shown)
        return;
    c->call_open = c->call_shown = false;
    emit(c, &(struct event_out){.kind = EVENT_CALL_END, .call = c->answer->n_call - 1});
    if (c->g->reply.ask->one_call)
        cut(c);
}

static void call_abort(struct choice *c)
{
    struct answer *a = c->answer;
    bool ended = !c->r; /* the answer has, in the middle of the call */
    bool limit = ended && c->ending.finish == SLUICE_FINISH_LENGTH;
    a->malformed = true;
    if (!c->call_shown) {
        call_drop(c);
        return;
    }
    struct answer_call *call = &a->call[a->n_call - 1];
    call->broken = true;
    c->call_open = c->call_shown = false;
    const struct encoder *encoder = c->g->api->encoder;
    struct fault f;
    if (limit ? encoder->tells_cut : encoder->tells_malformed) {
        emit(c, &(struct event_out){.kind = EVENT_CALL_END, .call = a->n_call - 1});
    } else {
        if (limit)
            fault_set(&f, 400, "limit_in_call",
                      "the answer reached its limit inside a call of %.100s; ask for more tokens",
                      call->name);
        else
            fault_set(&f, 500, "malformed_call",
                      "the model's call of %.100s cannot be read, a server error; asking again "
                      "may help",
                      call->name);
        fail(c->g, &f);
    }
    cut(c);
}

static void on_answer(void *ctx, const struct answer_event *e)
{
    struct choice *c = ctx;
    struct answer *a = c->answer;
    if (c->cut)
        return;
    switch (e->kind) {
    case ANSWER_REASONING:
        buf_add(&a->reasoning, e->text.at, e->text.len);
        emit(c, &(struct event_out){.kind = EVENT_REASONING, .text = e->text});
        break;
    case ANSWER_CONTENT:
        buf_add(&a->content, e->text.at, e->text.len);
        emit(c, &(struct event_out){.kind = EVENT_CONTENT, .text = e->text});
        break;
    case ANSWER_CALL_BEGIN:
        call_begin(c, e->text);
        break;
    case ANSWER_CALL_ARGS:
        call_args(c, e->text);
        break;
    case ANSWER_CALL_END:
        if (c->call_open)
            call_end(c);
        break;
    case ANSWER_CALL_ABORT:
        call_abort(c);
        break;
    }
}

/* Completions has no protocol in its text. */
static enum sluice_status push_text(struct choice *c, struct str text, struct sluice_error *err)
{
    if (c->g->reply.ask->messages) {
        buf_add(&c->raw, text.at, text.len);
        return reasoning_push(&c->parser, text, err);
    }
    on_answer(c, &(struct answer_event){.kind = ANSWER_CONTENT, .text = text});
    return SLUICE_OK;
}

static void keep_token(struct choice *c, const struct piece *p)
{
    struct answer *a = c->answer;
    if (c->g->reply.ask->sampling.logprobs < 0 || (c->g->reply.ask->messages && c->parser.thinking))
        return;
    /* Rooms of powers of two. */
    if ((a->n_token & (a->n_token - 1)) == 0) {
        size_t room = a->n_token ? (size_t)a->n_token * 2 : 1;
        struct answer_token *token = realloc(a->token, room * sizeof *token);
        if (!token) {
            c->lost = true;
            return;
        }
        a->token = token;
    }
    if (p->n_top > 0) {
        size_t room = (size_t)a->n_top + (size_t)p->n_top;
        struct sluice_logprob *top = realloc(a->top, room * sizeof *top);
        if (!top) {
            c->lost = true;
            return;
        }
        a->top = top;
        memcpy(top + a->n_top, p->top, (size_t)p->n_top * sizeof *top);
    }
    a->token[a->n_token++] = (struct answer_token){p->id, p->logprob, a->n_top, p->n_top};
    a->n_top += p->n_top;
}

static void on_piece(struct loop_post *post)
{
    struct piece *p = (struct piece *)post;
    struct choice *c = p->c;
    struct sluice_error err;
    switch (p->kind) {
    case SLUICE_EVENT_QUEUED:
        c->place = p->n;
        break;
    case SLUICE_EVENT_PREFILL:
        c->state = CHOICE_PREFILL;
        c->read = p->n;
        c->total = p->total;
        c->cached = p->cached;
        break;
    case SLUICE_EVENT_TOKEN:
        c->state = CHOICE_DECODE;
        c->n_token++;
        keep_token(c, p);
        break;
    default:
        if (push_text(c, (struct str){p->text, p->len}, &err) != SLUICE_OK) {
            struct fault f;
            fault_from(&f, &err);
            fail(c->g, &f);
        }
    }
    free(p);
}

/* ---- the end of one answer ---- */

/* Closers that a call lacks when the model ended its turn inside it. */
static void repair(struct choice *c)
{
    static const char *const closers[] = {"</｜DSML｜parameter>", "</｜DSML｜invoke>",
                                          "</｜DSML｜tool_calls>"};
    static const char *const plain[] = {"</parameter>", "</invoke>", "</tool_calls>"};
    struct toolcall *t = &c->parser.calls;
    const char *const *tags = t->plain ? plain : closers;
    if (c->parser.thinking || t->state == TOOLCALL_CONTENT)
        return;
    int first = t->state == TOOLCALL_VALUE ? 0 : t->state == TOOLCALL_CALL ? 1 : 2;
    size_t said = strlen(tags[first]) - 1;
    said = said < t->held.len ? said : t->held.len;
    while (said > 0 && memcmp(t->held.data + t->held.len - said, tags[first], said) != 0)
        said--;
    struct sluice_error err;
    int inner = first == 0 ? t->depth : 0; /* parameters inside parameters */
    for (int i = first - inner; i < 3; i++) {
        const char *tag = tags[i < first ? first : i] + (i == first - inner ? said : 0);
        buf_add_str(&c->raw, tag);
        buf_add_str(&c->raw, i < 2 ? "\n" : "");
        if (reasoning_push(&c->parser, str_of(tag), &err) != SLUICE_OK ||
            reasoning_push(&c->parser, str_of(i < 2 ? "\n" : ""), &err) != SLUICE_OK)
            return;
    }
}

/* What was sampled for the calls, if it is all that follows the content. */
static struct str calls_text(const struct choice *c)
{
    const struct answer *a = c->answer;
    struct str raw = {c->raw.data, c->raw.len};
    if (c->cut || a->malformed || !raw.at)
        return (struct str){0};
    if (ask_thinks(c->g->reply.ask)) {
        const char *end = memmem(raw.at, raw.len, "</think>", 8);
        if (!end)
            return (struct str){0};
        raw.len -= (size_t)(end + 8 - raw.at);
        raw.at = end + 8;
    }
    if (a->content.len > raw.len ||
        (a->content.len && memcmp(raw.at, a->content.data, a->content.len) != 0))
        return (struct str){0};
    return (struct str){raw.at + a->content.len, raw.len - a->content.len};
}

static void remember(struct choice *c)
{
    const struct answer *a = c->answer;
    struct json_object *calls = json_object_new_array();
    for (int i = 0; i < a->n_call; i++)
        if (!a->call[i].broken)
            json_object_array_add(
                calls, turns_call(a->call[i].id, a->call[i].name,
                                  (struct str){a->call[i].args.data, a->call[i].args.len}));
    if (json_object_array_length(calls) > 0)
        turns_remember(c->g->s->calls, calls, calls_text(c),
                       (struct str){a->reasoning.data ? a->reasoning.data : "", a->reasoning.len});
    json_object_put(calls);
}

static void finish_answer(struct choice *c)
{
    struct gen *g = c->g;
    struct answer *a = c->answer;
    struct ending *end = &c->ending;
    struct sluice_error err = end->error;
    struct fault f;
    a->finish = end->finish;
    a->usage = end->usage;
    a->stop = end->stop >= 0 ? g->reply.ask->stop[end->stop] : NULL;
    enum sluice_status st = SLUICE_OK;
    bool was_cut = c->cut;
    if (g->reply.ask->messages && !c->cut) {
        if (a->finish == SLUICE_FINISH_STOP)
            repair(c);
        st = reasoning_finish(&c->parser, &err);
    }
    if (c->lost || buf_status(&a->content, NULL) != SLUICE_OK ||
        buf_status(&a->reasoning, NULL) != SLUICE_OK)
        st = status_fail(&err, SLUICE_ERR_NOMEM, -1, "out of memory for the answer");
    bool broken = a->n_call > 0 && a->call[a->n_call - 1].broken;
    if (broken && (was_cut || a->finish != SLUICE_FINISH_CANCELLED))
        a->finish = SLUICE_FINISH_LENGTH; /* what clients know of an answer that ends in a call */
    else if (a->n_call > 0 && !broken && (was_cut || a->finish == SLUICE_FINISH_STOP))
        a->finish = SLUICE_FINISH_TOOL_CALLS;
    a->done = true;
    if (st != SLUICE_OK || a->finish == SLUICE_FINISH_ERROR) {
        fault_from(&f, &err);
        fail(g, &f);
        return;
    }
    g->s->count.cancelled += a->finish == SLUICE_FINISH_CANCELLED;
    remember(c);
    emit(c, &(struct event_out){.kind = EVENT_END});
}

static void on_ending(struct loop_post *post)
{
    struct ending *end = (struct ending *)post;
    struct choice *c = end->c;
    struct gen *g = c->g;
    g->s->source.fn->release(c->r);
    c->r = NULL;
    finish_answer(c);
    c->state = CHOICE_DONE;
    metrics_count(g->s, c->answer, c->index % g->reply.ask->n == 0);
    trace_answer(g->s->trace, g->reply.id, c->answer);
    if (--g->running == 0)
        finish_all(g);
}

/* ---- the source's thread ---- */

static void post_ending(struct choice *c, const struct sluice_event *e)
{
    struct ending *end = &c->ending;
    const struct ask *ask = c->g->reply.ask;
    end->finish = e->finish;
    end->usage = e->usage;
    end->stop = -1;
    for (int i = 0; e->stop && i < ask->n_stop; i++)
        if (strcmp(e->stop, ask->stop[i]) == 0)
            end->stop = i;
    if (e->error)
        end->error = *e->error;
    loop_post(c->g->s->loop, &end->post);
}

static void on_event(void *ctx, const struct sluice_event *e)
{
    struct choice *c = ctx;
    if (e->kind == SLUICE_EVENT_DONE) {
        post_ending(c, e);
        return;
    }
    if (c->lost)
        return;
    struct piece *p = malloc(sizeof *p + e->len + 1);
    if (!p) {
        c->lost = true;
        return;
    }
    *p = (struct piece){.post.run = on_piece,
                        .c = c,
                        .kind = e->kind,
                        .n = e->n,
                        .total = e->total,
                        .cached = e->cached,
                        .id = e->id,
                        .logprob = e->own.logprob,
                        .n_top = e->n_top < 20 ? e->n_top : 20,
                        .len = e->len};
    if (p->n_top > 0)
        memcpy(p->top, e->top, (size_t)p->n_top * sizeof *p->top);
    if (e->len)
        memcpy(p->text, e->text, e->len);
    loop_post(c->g->s->loop, &p->post);
}

/* ---- starting ---- */

static struct gen *gen_new(struct job *j)
{
    struct gen *g = calloc(1, sizeof *g);
    int n = ask_prompts(j->ask) * j->ask->n;
    if (!g)
        return NULL;
    g->choice = calloc((size_t)n, sizeof *g->choice);
    g->reply.answer = calloc((size_t)n, sizeof *g->reply.answer);
    size_t state = j->api->encoder->state_size;
    g->state = calloc(1, state ? state : 1);
    if (!g->choice || !g->reply.answer || !g->state) {
        free(g->choice);
        free(g->reply.answer);
        free(g->state);
        free(g);
        return NULL;
    }
    struct server *s = j->s;
    g->s = s;
    g->x = j->x;
    g->api = j->api;
    g->started = g->wrote = clock_seconds();
    g->reply.ask = j->ask;
    g->reply.source = &s->source;
    g->reply.model = server_model_name(s, j->ask->model);
    g->reply.created = (int64_t)time(NULL);
    g->reply.n = n;
    server_random_id(g->reply.id, 25);
    for (int i = 0; i < ask_prompts(j->ask); i++)
        g->reply.n_prompt += (int)j->prompts[i].n;
    for (int i = 0; i < n; i++) {
        struct choice *c = &g->choice[i];
        *c = (struct choice){.g = g, .index = i, .answer = &g->reply.answer[i]};
        c->ending.post.run = on_ending;
        c->ending.c = c;
        reasoning_init(&c->parser, ask_thinks(j->ask), (struct answer_sink){c, on_answer});
    }
    g->next = s->gens;
    g->slot = &s->gens;
    if (s->gens)
        s->gens->slot = &g->next;
    s->gens = g;
    s->n_gen++;
    return g;
}

static enum sluice_status submit(struct gen *g, int i, const struct job *j,
                                 struct sluice_error *err)
{
    const struct ask *ask = g->reply.ask;
    struct choice *c = &g->choice[i];
    const struct sluice_tokens *prompt = &j->prompts[i / ask->n];
    struct sluice_request_options options = {
        .prompt = prompt->ids,
        .n_prompt = prompt->n,
        .sampling = ask->sampling,
        .max_tokens = ask->max_tokens,
        .think_budget = ask->think_budget,
        .stop = (const char *const *)ask->stop,
        .n_stop = ask->n_stop,
        .raw = true,
        .thinking = ask_thinks(ask),
        .on_event = on_event,
        .ctx = c,
    };
    if (!ask->seeded)
        getrandom(&options.sampling.seed, sizeof options.sampling.seed, 0);
    options.sampling.seed += (uint64_t)(i % ask->n);
    c->total = (int64_t)prompt->n;
    if (j->forced.len)
        TRY(push_text(c, (struct str){j->forced.data, j->forced.len}, err));
    return g->s->source.fn->submit(g->s->source.ctx, &options, j->forced.data, &c->r, err);
}

static bool check_room(const struct job *j, struct fault *f)
{
    const struct sluice_info *info = j->s->source.fn->info(j->s->source.ctx);
    for (int i = 0; i < ask_prompts(j->ask); i++) {
        if ((int64_t)j->prompts[i].n < info->context)
            continue;
        fault_set(f, 400, "context_length_exceeded",
                  "prompt is too long: %zu tokens > %lld maximum", j->prompts[i].n,
                  (long long)info->context - 1);
        return false;
    }
    struct sluice_stats stats;
    j->s->source.fn->stats(j->s->source.ctx, &stats);
    if (stats.running + stats.queued + ask_prompts(j->ask) * j->ask->n >
        j->s->options->max_queued) {
        fault_set(f, 429, "rate_limit_exceeded",
                  "%d requests run or wait: expected at most %d; try again soon",
                  stats.running + stats.queued, j->s->options->max_queued);
        f->retry_after = 1;
        return false;
    }
    return true;
}

static void begin_stream(struct gen *g)
{
    routes_add_cors(g->s, g->x);
    http_stream_begin(g->x, 200, g->api->encoder->stream_type);
    g->begun = true;
    if (g->api->encoder->begin)
        g->api->encoder->begin(g->state, &g->reply, &g->out);
    flush(g);
    g->alive = event_new(loop_base(g->s->loop), -1, EV_PERSIST, on_alive, g);
    if (g->alive)
        event_add(g->alive, &(struct timeval){.tv_sec = g->s->options->alive_seconds});
}

/* Takes the job's exchange, and its ask once there is a gen. */
static void start(struct job *j)
{
    struct fault f;
    struct sluice_error err;
    struct gen *g = NULL;
    if (check_room(j, &f)) {
        fault_set(&f, 503, NULL, "out of memory for a request");
        g = gen_new(j);
    }
    if (!g) {
        http_on_gone(j->x, NULL, NULL);
        routes_fault(j->s, j->x, &f, j->api->encoder->fault);
        return;
    }
    j->ask = NULL;
    g->s->count.generations += g->reply.n;
    http_on_gone(g->x, on_gone, g);
    enum sluice_status st = SLUICE_OK;
    for (int i = 0; i < g->reply.n && st == SLUICE_OK; i++) {
        st = submit(g, i, j, &err);
        g->running += st == SLUICE_OK;
    }
    if (st != SLUICE_OK) {
        fault_from(&f, &err);
        /* The prompts fit, so the limit is the queue's. */
        if (err.code == SLUICE_ERR_LIMIT) {
            f.status = 429;
            f.retry_after = 1;
        }
        fail(g, &f);
        if (g->running == 0)
            gen_free(g);
        return;
    }
    if (g->reply.ask->stream)
        begin_stream(g);
}

static void job_free(struct job *j)
{
    prompts_free(j->prompts, j->n_prompt);
    ask_free(j->ask);
    buf_deinit(&j->forced);
    free(j->body);
    free(j);
}

static void on_read(struct loop_post *post)
{
    struct job *j = (struct job *)post;
    struct server *s = j->s;
    s->n_job--;
    if (j->x && j->failed) {
        http_on_gone(j->x, NULL, NULL);
        routes_fault(s, j->x, &j->fault, j->api->encoder->fault);
    } else if (j->x) {
        start(j);
    }
    job_free(j);
    server_settle(s);
}

/* On the worker thread. */
static void read_job(struct loop_post *post)
{
    struct job *j = (struct job *)post;
    struct json_object *body = NULL;
    struct sluice_error err;
    enum sluice_status st;
    j->ask = ask_new(&j->s->defaults);
    if (!j->ask) {
        st = status_fail(&err, SLUICE_ERR_NOMEM, -1, "out of memory for a request");
        goto out;
    }
    TRY_OUT(body_parse(j->body, j->len, j->encoding, &body, &err));
    TRY_OUT(j->api->parse(j->s, body, j->ask, &err));
    ask_settle(j->ask);
    if (ask_prompts(j->ask) * j->ask->n > LIMIT_ASK_ANSWERS) {
        st = status_fail(&err, SLUICE_ERR_ARG, -1, "n: expected at most %d answers in all",
                         LIMIT_ASK_ANSWERS);
        goto out;
    }
    j->n_prompt = ask_prompts(j->ask);
    st = prompts_make(j->s, j->ask, &j->prompts, &j->forced, &err);
out:
    json_object_put(body);
    j->failed = st != SLUICE_OK;
    if (j->failed)
        fault_from(&j->fault, &err);
    j->post.run = on_read;
    loop_post(j->s->loop, &j->post);
}

static void job_gone(void *arg)
{
    ((struct job *)arg)->x = NULL;
}

void generate_start(struct server *s, struct exchange *x, const struct api *api, char *body,
                    size_t len)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        struct fault f;
        free(body);
        fault_set(&f, 503, NULL, "out of memory for a request");
        routes_fault(s, x, &f, api->encoder->fault);
        return;
    }
    const char *encoding = http_header(x, "Content-Encoding");
    *j = (struct job){.post.run = read_job, .s = s, .x = x, .api = api, .body = body, .len = len};
    snprintf(j->encoding, sizeof j->encoding, "%s", encoding ? encoding : "");
    http_on_gone(x, job_gone, j);
    s->n_job++;
    loop_work(s->loop, &j->post);
}

/* ---- all of them ---- */

void generate_cancel_all(struct server *s)
{
    for (struct gen *g = s->gens; g; g = g->next)
        cancel_all(g);
}

bool generate_cancel(struct server *s, const char *id)
{
    for (struct gen *g = s->gens; g; g = g->next) {
        if (strcmp(g->reply.id, id) == 0) {
            cancel_all(g);
            return true;
        }
    }
    return false;
}

void generate_write_slots(const struct server *s, struct buf *out)
{
    int id = 0;
    buf_add_str(out, "[");
    for (const struct gen *g = s->gens; g; g = g->next) {
        for (int i = 0; i < g->reply.n; i++) {
            const struct choice *c = &g->choice[i];
            buf_addf(out,
                     "%s{\"id\": %d, \"request\": \"%s\", \"api\": \"%s\", \"state\": \"%s\", "
                     "\"is_processing\": %s, \"n_prompt\": %lld, \"n_read\": %lld, "
                     "\"n_cached\": %lld, \"n_decoded\": %lld, \"queue_place\": %lld, "
                     "\"seconds\": %.3f}",
                     id ? ", " : "", id, g->reply.id, g->api->name, state_names[c->state],
                     c->state == CHOICE_DONE ? "false" : "true", (long long)c->total,
                     (long long)c->read, (long long)c->cached, (long long)c->n_token,
                     (long long)c->place, clock_seconds() - g->started);
            id++;
        }
    }
    buf_add_str(out, "]");
}
