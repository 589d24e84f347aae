/* server/generate.c - one HTTP request's answers: read, prompt, submit, events, reply.
 *
 * Invariants: (1) a gen lives until each of its choices got its end from the source, whether or not
 *                 the client is still there; x is NULL once it is not
 *             (2) a short call is sent when it is whole, and what turned out to be none is text; a
 *                 long one is sent as it comes, and the answer ends where it turned out to be none:
 *                 no client may take a part of a call for all of it
 *             (3) a block of calls that cannot be read, and of which nothing was sent, is put aside
 *                 once: the answer goes on from before it, held to be a block that can
 *             (4) the source's thread only copies events into posts; all else is the loop's
 *
 *   job: READ (worker) --> generations: QUEUED --> PREFILL --> DECODE --> DONE
 *                  '--> fault               client leaves, cancel: ------^ at the next step */
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/check.h"
#include "os/clock.h"
#include "server/generate.h"
#include "server/turns.h"

static const char *const state_names[] = {"queued", "prefill", "decode", "done"};

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
    struct sluice_grammar *grammar; /* or NULL */
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

void choice_emit(struct choice *c, struct event_out *e)
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
    g->cancelled = true;
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

void gen_fail(struct gen *g, const struct fault *f)
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
    prompts_free(g->prompts, ask_prompts(g->reply.ask));
    sluice_grammar_free(g->grammar);
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

/* ---- text of one answer ---- */

/* Completions has no protocol in its text. */
static enum sluice_status push_text(struct choice *c, struct str text, struct sluice_error *err)
{
    if (c->g->reply.ask->messages) {
        buf_add(&c->raw, text.at, text.len);
        return reasoning_push(&c->parser, text, err);
    }
    choice_on_answer(c, &(struct answer_event){.kind = ANSWER_CONTENT, .text = text});
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
            gen_fail(c->g, &f);
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

/* Adds what the last request to the source took. */
static void add_usage(struct choice *c)
{
    struct sluice_usage *u = &c->answer->usage, more = c->ending.usage;
    if (c->answer->again) {
        more.prompt = u->prompt;
        more.cached = u->cached;
        more.answer += u->answer;
        more.reasoning += u->reasoning;
        more.queue_s += u->queue_s;
        more.prefill_s += u->prefill_s;
        more.decode_s += u->decode_s;
        more.first_token_s = u->first_token_s;
    }
    *u = more;
    c->spent = more.answer;
}

/* Reads what is left of the text. False if the answer goes on after all. */
static bool finish_text(struct choice *c)
{
    struct answer *a = c->answer;
    struct ending *end = &c->ending;
    a->finish = end->finish;
    a->stop = end->stop >= 0 ? c->g->reply.ask->stop[end->stop] : NULL;
    c->was_cut = c->cut;
    add_usage(c);
    if (c->g->reply.ask->messages && !c->cut) {
        struct sluice_error err;
        if (a->finish == SLUICE_FINISH_STOP)
            repair(c);
        if (reasoning_finish(&c->parser, &err) != SLUICE_OK) {
            a->finish = SLUICE_FINISH_ERROR;
            end->error = err;
        }
    } else if (c->aside && a->finish == SLUICE_FINISH_CANCELLED && !c->g->cancelled) {
        a->finish = SLUICE_FINISH_STOP; /* it was the block that ended it */
    }
    if (c->aside && a->finish == SLUICE_FINISH_STOP && again_ask(c))
        return false;
    if (c->aside)
        again_bring_back(c);
    return true;
}

/* What clients are told of how it ended. */
static void settle_finish(struct choice *c)
{
    struct answer *a = c->answer;
    bool broken = a->n_call > 0 && a->call[a->n_call - 1].broken;
    if (broken && (c->was_cut || a->finish != SLUICE_FINISH_CANCELLED))
        a->finish = SLUICE_FINISH_LENGTH; /* what clients know of an answer that ends in a call */
    else if (a->n_call > 0 && !broken && (c->was_cut || a->finish == SLUICE_FINISH_STOP))
        a->finish = SLUICE_FINISH_TOOL_CALLS;
}

static void tell_end(struct choice *c)
{
    struct gen *g = c->g;
    struct answer *a = c->answer;
    struct sluice_error err = c->ending.error;
    struct fault f;
    enum sluice_status st = SLUICE_OK;
    if (c->lost || buf_status(&a->content, NULL) != SLUICE_OK ||
        buf_status(&a->reasoning, NULL) != SLUICE_OK)
        st = status_fail(&err, SLUICE_ERR_NOMEM, -1, "out of memory for the answer");
    settle_finish(c);
    if (answer_call_fault(a))
        server_log(g->s, SLUICE_LOG_WARN, "%s: %s", g->reply.id, answer_call_fault(a));
    a->done = true;
    if (st != SLUICE_OK || a->finish == SLUICE_FINISH_ERROR) {
        fault_from(&f, &err);
        gen_fail(g, &f);
        return;
    }
    g->s->count.cancelled += a->finish == SLUICE_FINISH_CANCELLED;
    remember(c);
    choice_emit(c, &(struct event_out){.kind = EVENT_END});
}

void choice_conclude(struct choice *c)
{
    struct gen *g = c->g;
    tell_end(c);
    c->state = CHOICE_DONE;
    metrics_count(g->s, c->answer, c->index % g->reply.ask->n == 0);
    trace_answer(g->s->trace, g->reply.id, c->answer);
    if (--g->running == 0)
        finish_all(g);
}

static void on_ending(struct loop_post *post)
{
    struct choice *c = ((struct ending *)post)->c;
    c->g->s->source.fn->release(c->r);
    c->r = NULL;
    if (finish_text(c))
        choice_conclude(c);
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
    g->prompts = j->prompts;
    g->grammar = j->grammar;
    j->prompts = NULL;
    j->grammar = NULL;
    server_random_id(g->reply.id, 25);
    for (int i = 0; i < ask_prompts(j->ask); i++)
        g->reply.n_prompt += (int)g->prompts[i].n;
    for (int i = 0; i < n; i++) {
        struct choice *c = &g->choice[i];
        *c = (struct choice){.g = g, .index = i, .answer = &g->reply.answer[i]};
        c->ending.post.run = on_ending;
        c->ending.c = c;
        reasoning_init(&c->parser, ask_thinks(j->ask), (struct answer_sink){c, choice_on_answer});
    }
    g->next = s->gens;
    g->slot = &s->gens;
    if (s->gens)
        s->gens->slot = &g->next;
    s->gens = g;
    s->n_gen++;
    return g;
}

/* The assistant's text that the answer goes on from, or NULL. */
static const char *begun_text(const struct ask *ask)
{
    if (!ask->continue_last)
        return NULL;
    size_t n = json_object_array_length(ask->messages);
    struct str text = json_str(field(json_object_array_get_idx(ask->messages, n - 1), "content"));
    return text.len ? text.at : NULL;
}

enum sluice_status choice_submit(struct choice *c, const struct sluice_tokens *prompt,
                                 struct sluice_grammar *grammar, struct sluice_error *err)
{
    struct gen *g = c->g;
    const struct ask *ask = g->reply.ask;
    bool again = c->answer->again;
    struct sluice_request_options options = {
        .prompt = prompt->ids,
        .n_prompt = prompt->n,
        .sampling = ask->sampling,
        .max_tokens = ask->max_tokens ? ask->max_tokens - c->spent : 0,
        .think_budget = ask->think_budget,
        .stop = (const char *const *)ask->stop,
        .n_stop = ask->n_stop,
        .raw = true,
        .thinking = ask_thinks(ask) && !again,
        .grammar = grammar,
        .grammar_begun = grammar && !again ? begun_text(ask) : NULL,
        .on_event = on_event,
        .ctx = c,
    };
    if (!ask->seeded)
        getrandom(&options.sampling.seed, sizeof options.sampling.seed, 0);
    options.sampling.seed += (uint64_t)(c->index % ask->n);
    c->total = (int64_t)prompt->n;
    return g->s->source.fn->submit(g->s->source.ctx, &options, &c->r, err);
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
        st = choice_submit(&g->choice[i], &g->prompts[i / g->reply.ask->n], g->grammar, &err);
        g->running += st == SLUICE_OK;
    }
    if (st != SLUICE_OK) {
        fault_from(&f, &err);
        /* The prompts fit, so the limit is the queue's. */
        if (err.code == SLUICE_ERR_LIMIT) {
            f.status = 429;
            f.retry_after = 1;
        }
        gen_fail(g, &f);
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
    sluice_grammar_free(j->grammar);
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
    TRY_OUT(prompts_make(j->s, j->ask, &j->prompts, &err));
    st = grammars_of(j->s->grammars, &j->s->source, j->ask, &j->grammar, &err);
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
