/* server/again.c - another call for one that could not be read.
 *
 *   block cannot be read, nothing of it was sent --again_put_aside--> the source's request ends
 *     --again_ask--> worker: prompt and what was said before the block; a grammar of calls
 *     --on_again--> a request that is held to it; its text goes on where the block began
 *
 * Once for an answer; what cannot be read then is text, and the answer says why. */
#include <stdlib.h>

#include "base/check.h"
#include "server/generate.h"

bool again_put_aside(struct choice *c)
{
    const struct toolcall *t = &c->parser.calls;
    const struct ask *ask = c->g->reply.ask;
    int whole = t->block_calls - (t->state >= TOOLCALL_CALL);
    if (c->answer->again || c->call_shown || whole > 0 || !ask->tools ||
        ask->choice == ASK_NO_CALL || c->g->grammar)
        return false;
    choice_drop_call(c);
    c->aside = true;
    c->block_at = c->raw.len - t->held.len - t->raw.len;
    choice_cut(c);
    return true;
}

/* On its way to the worker and back. */
struct again {
    struct loop_post post;
    struct choice *c;
    struct server *s;
    const struct ask *ask;
    struct str raw; /* of the choice, up to the block */
    struct sluice_tokens prompt;
    struct sluice_grammar *grammar;
    enum sluice_status status;
    struct sluice_error err;
};

static enum sluice_status add_ids(struct again *w, struct str text, bool special)
{
    struct sluice_tokens more;
    const struct source *source = &w->s->source;
    TRY(source->fn->tokenize(source->ctx, text, special, &more, &w->err));
    int32_t *ids = realloc(w->prompt.ids, (w->prompt.n + more.n + 1) * sizeof *ids);
    if (ids) {
        w->prompt.ids = ids;
        memcpy(ids + w->prompt.n, more.ids, more.n * sizeof *ids);
        w->prompt.n += more.n;
    }
    source->fn->free(more.ids);
    FAIL_IF(!ids, &w->err, SLUICE_ERR_NOMEM, "out of memory for a prompt");
    return SLUICE_OK;
}

/* What was said up to the block, behind the prompt. Of its marks only the end of the thinking is
 * one. */
static enum sluice_status add_said(struct again *w)
{
    struct str mark = STR_LIT("</think>"), rest = w->raw;
    const char *end =
        ask_thinks(w->ask) && rest.len ? memmem(rest.at, rest.len, mark.at, mark.len) : NULL;
    if (end) {
        TRY(add_ids(w, (struct str){rest.at, (size_t)(end - rest.at)}, /*special=*/false));
        TRY(add_ids(w, mark, /*special=*/true));
        rest = (struct str){end + mark.len, rest.len - (size_t)(end + mark.len - rest.at)};
    }
    return rest.len ? add_ids(w, rest, /*special=*/false) : SLUICE_OK;
}

static void on_again(struct loop_post *post);

static void prepare_again(struct loop_post *post)
{
    struct again *w = (struct again *)post;
    w->status = add_said(w);
    if (w->status == SLUICE_OK)
        w->status = grammars_of_calls(w->s->grammars, &w->s->source, w->ask, &w->grammar, &w->err);
    w->post.run = on_again;
    loop_post(w->s->loop, &w->post);
}

static void again_free(struct again *w)
{
    sluice_grammar_free(w->grammar);
    free(w->prompt.ids);
    free(w);
}

void again_bring_back(struct choice *c)
{
    struct answer *a = c->answer;
    struct str text = {c->raw.data + c->block_at, c->raw.len - c->block_at};
    c->aside = c->cut = c->was_cut = false;
    a->malformed = true;
    buf_add(&a->content, text.at, text.len);
    choice_emit(c, &(struct event_out){.kind = EVENT_CONTENT, .text = text});
}

bool again_ask(struct choice *c)
{
    struct gen *g = c->g;
    const struct ask *ask = g->reply.ask;
    const struct sluice_tokens *prompt = &g->prompts[c->index / ask->n];
    if (g->over || g->cancelled || (ask->max_tokens && c->spent >= ask->max_tokens))
        return false;
    struct again *w = calloc(1, sizeof *w);
    int32_t *ids = malloc((prompt->n + 1) * sizeof *ids);
    if (!w || !ids) {
        free(w);
        free(ids);
        return false;
    }
    memcpy(ids, prompt->ids, prompt->n * sizeof *ids);
    *w = (struct again){.post.run = prepare_again,
                        .c = c,
                        .s = g->s,
                        .ask = ask,
                        .raw = {c->raw.data, c->block_at},
                        .prompt = {ids, prompt->n}};
    loop_work(g->s->loop, &w->post);
    return true;
}

/* The answer goes on from before the block. */
static enum sluice_status go_on(struct choice *c, struct again *w)
{
    c->answer->again = true;
    enum sluice_status st = choice_submit(c, &w->prompt, w->grammar, &w->err);
    if (st != SLUICE_OK)
        return st;
    /* Its events come later, on this thread. */
    c->aside = c->cut = false;
    buf_cut(&c->raw, c->block_at);
    reasoning_deinit(&c->parser);
    reasoning_init(&c->parser, /*thinking=*/false, (struct answer_sink){c, choice_on_answer});
    return SLUICE_OK;
}

static void on_again(struct loop_post *post)
{
    struct again *w = (struct again *)post;
    struct choice *c = w->c;
    if (c->g->over || c->g->cancelled)
        c->answer->finish = SLUICE_FINISH_CANCELLED;
    else if (w->status == SLUICE_OK)
        w->status = go_on(c, w);
    if (c->aside) {
        if (w->status != SLUICE_OK)
            server_log(w->s, SLUICE_LOG_WARN, "no second try for a call: %s", w->err.message);
        again_bring_back(c);
        choice_conclude(c);
    }
    again_free(w);
}
