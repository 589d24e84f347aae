/* server/answer_events.c - what the parser reads out of an answer, kept and sent on.
 *
 * A call that ends before CALL_LONG bytes of arguments is sent whole; a longer one as it comes. */
#include <stdlib.h>
#include <string.h>

#include "server/generate.h"

/* Bytes of arguments from which a call is long: most malformed calls show before that. */
#define CALL_LONG 128

void choice_drop_call(struct choice *c)
{
    free(c->open.name);
    buf_deinit(&c->open.args);
    c->open = (struct answer_call){0};
    c->call_open = c->call_shown = false;
}

static void call_begin(struct choice *c, struct str name)
{
    choice_drop_call(c);
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
        choice_drop_call(c);
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
    choice_emit(c, &(struct event_out){.kind = EVENT_CALL_BEGIN, .call = a->n_call - 1});
    choice_emit(c, &(struct event_out){.kind = EVENT_CALL_ARGS,
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
        choice_emit(c, &(struct event_out){
                           .kind = EVENT_CALL_ARGS, .call = a->n_call - 1, .text = text});
    else if (c->g->begun && args->len >= CALL_LONG)
        call_show(c);
}

void choice_cut(struct choice *c)
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
    choice_emit(c, &(struct event_out){.kind = EVENT_CALL_END, .call = c->answer->n_call - 1});
    if (c->g->reply.ask->one_call)
        choice_cut(c);
}

static void call_abort(struct choice *c)
{
    struct answer *a = c->answer;
    bool ended = !c->r; /* the answer has, in the middle of the call */
    bool limit = ended && c->ending.finish == SLUICE_FINISH_LENGTH;
    a->malformed = true;
    if (!c->call_shown) {
        choice_drop_call(c);
        return;
    }
    struct answer_call *call = &a->call[a->n_call - 1];
    call->broken = true;
    c->call_open = c->call_shown = false;
    const struct encoder *encoder = c->g->api->encoder;
    struct fault f;
    if (limit ? encoder->tells_cut : encoder->tells_malformed) {
        choice_emit(c, &(struct event_out){.kind = EVENT_CALL_END, .call = a->n_call - 1});
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
        gen_fail(c->g, &f);
    }
    choice_cut(c);
}

void choice_on_answer(void *ctx, const struct answer_event *e)
{
    struct choice *c = ctx;
    struct answer *a = c->answer;
    if (c->cut || (c->parser.calls.giving_up && again_put_aside(c)))
        return;
    a->malformed |= c->parser.calls.giving_up;
    switch (e->kind) {
    case ANSWER_REASONING:
        buf_add(&a->reasoning, e->text.at, e->text.len);
        choice_emit(c, &(struct event_out){.kind = EVENT_REASONING, .text = e->text});
        break;
    case ANSWER_CONTENT:
        buf_add(&a->content, e->text.at, e->text.len);
        choice_emit(c, &(struct event_out){.kind = EVENT_CONTENT, .text = e->text});
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
