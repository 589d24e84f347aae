/* engine/schedule.c - see schedule.h. */
#include "engine/schedule.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/request.h"
#include "os/clock.h"

#define QUEUE_MAX 65536

/* What the thread spends time on beside scheduling. ANSWER: choosing tokens, making text of them,
 * and the caller's events. */
enum spent { SPENT_MODEL, SPENT_KEEP, SPENT_ANSWER, SPENT_KINDS };

struct schedule {
    /* set once */
    struct sluice *e;
    pthread_t thread;
    bool started;
    /* scheduler's thread */
    struct keep *keep;
    struct sluice_request **running; /* [n_running], by admission: the youngest last */
    int32_t n_running;
    float *logits;                   /* [V] of one row */
    double decode_s, row_s;          /* of a step without prompts; of one prompt row; measured */
    double spent[SPENT_KINDS];       /* seconds since the loop last began */
    struct batch_span *span;         /* this step's, [max_requests] */
    int32_t *token, *logit_row;      /* [max_rows], [max_requests] */
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct sluice_request **queue;   /* [n_queue] */
    size_t n_queue, queue_room;
    uint64_t next_number;
    bool stopping;
    struct sluice_stats stats;
};

/* ---- lists, under lock ---- */

static bool before(const struct sluice_request *a, const struct sluice_request *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    return a->number < b->number;
}

static enum sluice_status enqueue(struct schedule *s, struct sluice_request *r,
                                  struct sluice_error *err)
{
    FAIL_IF(s->n_queue >= QUEUE_MAX, err, SLUICE_ERR_LIMIT, "the queue is full: %d requests wait",
            QUEUE_MAX);
    if (s->n_queue == s->queue_room) {
        size_t room = s->queue_room ? 2 * s->queue_room : 64;
        void *p = realloc(s->queue, room * sizeof *s->queue);
        FAIL_IF(!p, err, SLUICE_ERR_NOMEM, "out of memory for the queue");
        s->queue = p;
        s->queue_room = room;
    }
    size_t i = s->n_queue++;
    for (; i > 0 && before(r, s->queue[i - 1]); i--)
        s->queue[i] = s->queue[i - 1];
    s->queue[i] = r;
    r->state = REQUEST_QUEUED;
    return SLUICE_OK;
}

static void unqueue(struct schedule *s, size_t i)
{
    s->n_queue--;
    memmove(s->queue + i, s->queue + i + 1, (s->n_queue - i) * sizeof *s->queue);
}

/* ---- time ---- */

static void spend(struct schedule *s, enum spent what, double since)
{
    s->spent[what] += clock_seconds() - since;
}

/* After one time round the loop, which began at `began`. */
static void account(struct schedule *s, double began)
{
    double own = clock_seconds() - began;
    for (int i = 0; i < SPENT_KINDS; i++)
        own -= s->spent[i];
    pthread_mutex_lock(&s->lock);
    s->stats.keep_s += s->spent[SPENT_KEEP];
    s->stats.schedule_s += own;
    pthread_mutex_unlock(&s->lock);
    memset(s->spent, 0, sizeof s->spent);
}

static void tell(struct schedule *s, const struct sluice_request *r,
                 const struct sluice_event *event)
{
    double began = clock_seconds();
    if (r->generate.on_event)
        r->generate.on_event(r->generate.ctx, event);
    spend(s, SPENT_ANSWER, began);
}

static void give_back(struct schedule *s, struct conversation *c)
{
    double began = clock_seconds();
    keep_return(s->keep, c);
    spend(s, SPENT_KEEP, began);
}

static bool make_room(struct schedule *s, int64_t bytes)
{
    double began = clock_seconds();
    bool fits = keep_make_room(s->keep, bytes);
    spend(s, SPENT_KEEP, began);
    return fits;
}

/* ---- the end of a request ---- */

/* Delivers DONE; afterwards the request belongs to whoever holds the handle. */
static void finish(struct schedule *s, struct sluice_request *r, enum sluice_finish how,
                   const struct sluice_error *error)
{
    double now = clock_seconds();
    double began = r->admitted ? r->admitted : now, read = r->prefilled ? r->prefilled : now;
    r->usage.prompt = (int32_t)r->n_prompt;
    r->usage.queue_s = began - r->submitted;
    r->usage.prefill_s = read - began;
    r->usage.decode_s = now - read;
    generate_done(&r->generate, how, r->usage, error);
    spend(s, SPENT_ANSWER, now);
    give_back(s, r->c);
    r->c = NULL;
    pthread_mutex_lock(&s->lock);
    r->state = REQUEST_DONE;
    pthread_cond_broadcast(&r->done);
    pthread_mutex_unlock(&s->lock);
}

static void remove_running(struct schedule *s, int32_t i)
{
    s->n_running--;
    memmove(s->running + i, s->running + i + 1,
            (size_t)(s->n_running - i) * sizeof *s->running);
}

/* The next cancelled request of the queue, taken out, or NULL. */
static struct sluice_request *next_cancelled(struct schedule *s)
{
    struct sluice_request *found = NULL;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n_queue && !found; i++) {
        if (!s->queue[i]->cancelled)
            continue;
        found = s->queue[i];
        unqueue(s, i);
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

static bool is_cancelled(struct schedule *s, const struct sluice_request *r)
{
    pthread_mutex_lock(&s->lock);
    bool yes = r->cancelled;
    pthread_mutex_unlock(&s->lock);
    return yes;
}

static void drop_cancelled(struct schedule *s)
{
    for (struct sluice_request *r; (r = next_cancelled(s));)
        finish(s, r, SLUICE_FINISH_CANCELLED, NULL);
    for (int32_t i = s->n_running - 1; i >= 0; i--) {
        struct sluice_request *r = s->running[i];
        if (!is_cancelled(s, r))
            continue;
        remove_running(s, i);
        finish(s, r, SLUICE_FINISH_CANCELLED, NULL);
    }
}

/* ---- admission ---- */

static int64_t page_bytes(const struct schedule *s, int64_t tokens)
{
    const struct kv_layout *k = &s->e->layout;
    return (tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS * (int64_t)k->page_bytes;
}

/* A new conversation's fixed block, its pages for the tokens known and some more, a checkpoint. */
static int64_t admission_bytes(const struct schedule *s, const struct sluice_request *r)
{
    enum { SOME = 256 };
    return 2 * (int64_t)s->e->layout.fixed_bytes + page_bytes(s, (int64_t)r->n_ids + SOME);
}

static struct sluice_request *queue_head(struct schedule *s)
{
    pthread_mutex_lock(&s->lock);
    struct sluice_request *r = s->n_queue ? s->queue[0] : NULL;
    pthread_mutex_unlock(&s->lock);
    return r;
}

static enum sluice_status start(struct schedule *s, struct sluice_request *r,
                                struct sluice_error *err)
{
    double began = clock_seconds();
    enum sluice_status st = keep_start(s->keep, r->ids, r->n_ids, &r->c, err);
    spend(s, SPENT_KEEP, began);
    TRY(st);
    int64_t cached = r->c->kv->n_tokens;
    if (!r->admitted) {
        r->admitted = clock_seconds();
        r->usage.cached = (int32_t)cached;
        pthread_mutex_lock(&s->lock);
        s->stats.cached_tokens += cached;
        pthread_mutex_unlock(&s->lock);
    }
    return SLUICE_OK;
}

static void admit(struct schedule *s)
{
    for (struct sluice_request *r; s->n_running < s->e->info.max_requests && (r = queue_head(s));) {
        /* With nobody running it is admitted all the same: submission checked that it can fit. */
        if (!make_room(s, admission_bytes(s, r)) && s->n_running > 0)
            return;
        pthread_mutex_lock(&s->lock);
        /* One of higher priority may have come in before it meanwhile. */
        size_t at = 0;
        while (s->queue[at] != r)
            at++;
        unqueue(s, at);
        r->state = REQUEST_RUNNING;
        pthread_mutex_unlock(&s->lock);
        struct sluice_error err;
        if (start(s, r, &err) != SLUICE_OK)
            finish(s, r, SLUICE_FINISH_ERROR, &err);
        else
            s->running[s->n_running++] = r;
    }
}

/* Tells those who wait where they stand, when that has changed. */
static void report_queue(struct schedule *s)
{
    for (size_t i = 0;; i++) {
        pthread_mutex_lock(&s->lock);
        struct sluice_request *r = i < s->n_queue ? s->queue[i] : NULL;
        pthread_mutex_unlock(&s->lock);
        if (!r)
            return;
        if (r->place == (int32_t)i)
            continue;
        r->place = (int32_t)i;
        struct sluice_event event = {.kind = SLUICE_EVENT_QUEUED, .text = "", .n = (int64_t)i};
        tell(s, r, &event);
    }
}

/* Back to the queue; what it has produced so far is read again later. */
static void preempt(struct schedule *s, struct sluice_request *r)
{
    struct conversation *c = r->c;
    int32_t *ids = malloc(c->n_ids * sizeof *ids);
    struct sluice_error err;
    if (!ids) {
        status_fail(&err, SLUICE_ERR_NOMEM, -1, "out of memory for a waiting request");
        finish(s, r, SLUICE_FINISH_ERROR, &err);
        return;
    }
    memcpy(ids, c->ids, c->n_ids * sizeof *ids);
    free(r->ids);
    r->ids = ids;
    r->n_ids = c->n_ids;
    r->c = NULL;
    give_back(s, c);
    pthread_mutex_lock(&s->lock);
    enum sluice_status st = enqueue(s, r, &err);
    pthread_mutex_unlock(&s->lock);
    if (st != SLUICE_OK)
        finish(s, r, SLUICE_FINISH_ERROR, &err);
}

/* ---- a step ---- */

static int32_t pending(const struct sluice_request *r)
{
    return (int32_t)((int64_t)r->c->n_ids - r->c->kv->n_tokens);
}

/* Prompt rows end where a checkpoint is due: at every interval and before the prompt's last token,
 * where the next turn of most conversations differs for the first time. */
static int32_t until_checkpoint(const struct schedule *s, const struct sluice_request *r)
{
    int64_t at = r->c->kv->n_tokens, every = s->e->checkpoint;
    int64_t next = (at / every + 1) * every, last = (int64_t)r->n_prompt - 1;
    if (at < last && last < next)
        next = last;
    return (int32_t)(next - at);
}

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Rows that prompts may add to a step with n_decode decoding rows. */
static int32_t prompt_rows(const struct schedule *s, int32_t n_decode)
{
    enum { FEW = 8 };
    int32_t most = s->e->max_rows - n_decode;
    if (n_decode == 0 || s->row_s <= 0 || s->decode_s <= 0)
        return least(most, s->e->info.chunk);
    double rows = s->decode_s / s->row_s;
    int32_t few = least(FEW, most);
    return rows < few ? few : rows > most ? most : (int32_t)rows;
}

static int32_t share(int32_t room, int32_t n)
{
    return room / n > 0 ? room / n : 1;
}

/* Decides every running request's rows; returns their number. */
static int32_t plan_rows(struct schedule *s)
{
    int32_t n_decode = 0, n_prompt = 0, total = 0;
    for (int32_t i = 0; i < s->n_running; i++) {
        bool decode = pending(s->running[i]) == 1;
        s->running[i]->rows = decode;
        n_decode += decode;
        n_prompt += !decode;
    }
    int32_t room = n_prompt ? prompt_rows(s, n_decode) : 0;
    total = n_decode;
    for (int32_t i = 0; i < s->n_running && room > 0; i++) {
        struct sluice_request *r = s->running[i];
        if (r->rows)
            continue;
        int32_t rows = least(least(pending(r), share(room, n_prompt)), until_checkpoint(s, r));
        r->rows = rows;
        room -= rows;
        total += rows;
        n_prompt--;
    }
    return total;
}

/* Bytes of pages that the planned rows will take: missing ones and copies of shared ones. */
static int64_t growth(const struct schedule *s)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < s->n_running; i++) {
        const struct kv_state *kv = s->running[i]->c->kv;
        int64_t end = kv->n_tokens + s->running[i]->rows;
        int64_t held = (int64_t)kv->n_page * KV_PAGE_TOKENS;
        if (end > held)
            bytes += page_bytes(s, end - held);
        bool shared = kv->n_tokens % KV_PAGE_TOKENS && kv->n_page &&
                      kv->page[kv->n_tokens / KV_PAGE_TOKENS]->refs > 1;
        bytes += shared ? (int64_t)s->e->layout.page_bytes : 0;
    }
    return bytes;
}

/* Plans a step that fits the budget. */
static int32_t plan_step(struct schedule *s)
{
    int32_t n = plan_rows(s);
    while (s->n_running > 1 && !make_room(s, growth(s))) {
        struct sluice_request *youngest = s->running[s->n_running - 1];
        remove_running(s, s->n_running - 1);
        preempt(s, youngest);
        n = plan_rows(s);
    }
    if (s->n_running == 1 && !make_room(s, growth(s)))
        conversation_trim(s->keep, s->running[0]->c);
    return n;
}

static void fill_batch(struct schedule *s, struct batch *b)
{
    *b = (struct batch){.token = s->token, .span = s->span, .logit_row = s->logit_row};
    for (int32_t i = 0; i < s->n_running; i++) {
        struct sluice_request *r = s->running[i];
        r->logit = -1;
        if (r->rows == 0)
            continue;
        memcpy(s->token + b->n, r->c->ids + r->c->kv->n_tokens, (size_t)r->rows * sizeof *b->token);
        s->span[b->n_spans++] = (struct batch_span){r->c->kv, r->rows};
        b->n += r->rows;
        if (r->rows == pending(r)) {
            r->logit = b->n_logits;
            s->logit_row[b->n_logits++] = b->n - 1;
        }
    }
}

/* Keeps the two measures that prompt_rows needs. */
static void measure(struct schedule *s, const struct batch *b, double seconds)
{
    int32_t n_prompt = b->n - b->n_logits;
    bool decode_only = b->n == b->n_logits;
    double *what = decode_only ? &s->decode_s : &s->row_s;
    double one = decode_only ? seconds : seconds / b->n;
    if (decode_only || n_prompt >= 8)
        *what = *what > 0 ? 0.8 * *what + 0.2 * one : one;
    pthread_mutex_lock(&s->lock);
    s->stats.steps++;
    s->stats.decode_tokens += b->n_logits;
    s->stats.prefill_tokens += n_prompt;
    *(decode_only ? &s->stats.decode_s : &s->stats.prefill_s) += seconds;
    pthread_mutex_unlock(&s->lock);
}

static void report_prefill(struct schedule *s, const struct sluice_request *r)
{
    int64_t n = r->c->kv->n_tokens, total = (int64_t)r->n_prompt;
    struct sluice_event event = {
        .kind = SLUICE_EVENT_PREFILL, .text = "", .n = n < total ? n : total, .total = total,
        .cached = r->usage.cached};
    tell(s, r, &event);
}

static enum sluice_status after_rows(struct schedule *s, struct sluice_request *r,
                                     struct sluice_error *err)
{
    if (r->rows == 0)
        return SLUICE_OK;
    if (!r->first)
        report_prefill(s, r);
    int64_t n = r->c->kv->n_tokens;
    bool due = n % s->e->checkpoint == 0 || n == (int64_t)r->n_prompt - 1;
    if (n == 0 || (!due && !r->first))
        return SLUICE_OK;
    double began = clock_seconds();
    enum sluice_status st = r->first ? keep_pass(s->keep, r->c, err)
                                     : keep_checkpoint(s->keep, r->c, err);
    spend(s, SPENT_KEEP, began);
    return st;
}

/* The next token, by the model and what the request allows. */
static enum sluice_status pick(struct schedule *s, struct sluice_request *r,
                               struct sampler_result *out, struct sluice_error *err)
{
    const uint32_t *mask;
    int32_t forced = generate_forced(&r->generate);
    bool thinking = r->generate.thinking;
    TRY(constraint_mask(&r->constraint, &r->generate, &mask, err));
    sampler_pick(&r->sampler, s->logits, mask, (uint64_t)r->generate.n_answer, out);
    if (forced >= 0)
        out->id = forced;
    FAIL_IF(out->id < 0, err, SLUICE_ERR_ARG,
            "no token can follow after %d: the grammar%s leaves none", r->generate.n_answer,
            r->sampler.s.n_bias ? " with the logit bias" : "");
    return constraint_token(&r->constraint, out->id, thinking, err);
}

/* Samples and takes the next token. *ended: the request is complete. */
static enum sluice_status next_token(struct schedule *s, struct sluice_request *r, bool *ended,
                                     enum sluice_finish *how, struct sluice_error *err)
{
    struct sampler_result result = {0};
    *ended = false;
    if (r->logit < 0)
        return SLUICE_OK;
    model_run_logits(s->e->run, r->logit, 1, s->logits);
    TRY(pick(s, r, &result, err));
    if (!r->first) {
        r->first = true;
        r->prefilled = clock_seconds();
        r->usage.first_token_s = r->prefilled - r->submitted;
    }
    sampler_note(&r->sampler, &result.id, 1, /*answer=*/true);
    TRY(generate_token(&r->generate, &result, ended, how, err));
    return conversation_add(r->c, result.id, err);
}

static void after_step(struct schedule *s)
{
    for (int32_t i = 0; i < s->n_running;) {
        struct sluice_request *r = s->running[i];
        struct sluice_error err;
        enum sluice_finish how = SLUICE_FINISH_STOP;
        bool ended = false;
        enum sluice_status st = after_rows(s, r, &err);
        double began = clock_seconds();
        if (st == SLUICE_OK)
            st = next_token(s, r, &ended, &how, &err);
        spend(s, SPENT_ANSWER, began);
        if (st == SLUICE_OK && !ended) {
            i++;
            continue;
        }
        remove_running(s, i);
        finish(s, r, st == SLUICE_OK ? how : SLUICE_FINISH_ERROR, &err);
    }
}

/* The step failed as a whole, and no sequence has moved. Memory is given back by one request going
 * back to the queue; anything else ends them all. */
static void after_failure(struct schedule *s, const struct sluice_error *err)
{
    engine_log(s->e, SLUICE_LOG_ERROR, "a step failed: %s", err->message);
    bool memory = err->code == SLUICE_ERR_NOMEM && s->n_running > 1;
    int32_t keep = memory ? s->n_running - 1 : 0;
    while (s->n_running > keep) {
        struct sluice_request *r = s->running[--s->n_running];
        if (memory) {
            preempt(s, r);
        } else {
            conversation_free(s->keep, r->c); /* its window may be lost */
            r->c = NULL;
            finish(s, r, SLUICE_FINISH_ERROR, err);
        }
    }
}

static void step(struct schedule *s)
{
    struct batch b;
    struct sluice_error err;
    plan_step(s);
    fill_batch(s, &b);
    double asked = clock_seconds();
    turn_take(&s->e->turn);
    double began = clock_seconds();
    enum sluice_status st = forward(s->e->run, &b, &err);
    if (st == SLUICE_OK && b.n_logits > 0)
        model_run_logits(s->e->run, 0, 1, s->logits); /* waits, so that the time is the step's */
    double seconds = clock_seconds() - began;
    spend(s, SPENT_MODEL, asked);
    if (st == SLUICE_OK) {
        measure(s, &b, seconds);
        after_step(s);
    }
    turn_give(&s->e->turn);
    if (st != SLUICE_OK)
        after_failure(s, &err);
}

/* ---- the thread ---- */

static bool wait_for_work(struct schedule *s)
{
    pthread_mutex_lock(&s->lock);
    s->stats.running = s->n_running;
    s->stats.conversations = keep_count(s->keep);
    while (!s->stopping && s->n_queue == 0 && s->n_running == 0)
        pthread_cond_wait(&s->wake, &s->lock);
    bool stop = s->stopping;
    for (size_t i = 0; i < s->n_queue && stop; i++)
        s->queue[i]->cancelled = true;
    for (int32_t i = 0; i < s->n_running && stop; i++)
        s->running[i]->cancelled = true;
    pthread_mutex_unlock(&s->lock);
    return !stop;
}

static void *loop(void *arg)
{
    struct schedule *s = arg;
    while (wait_for_work(s)) {
        double began = clock_seconds();
        drop_cancelled(s);
        admit(s);
        report_queue(s);
        if (s->n_running > 0)
            step(s);
        account(s, began);
    }
    drop_cancelled(s);
    return NULL;
}

static enum sluice_status alloc_step(struct schedule *s, struct sluice_error *err)
{
    size_t requests = (size_t)s->e->info.max_requests, rows = (size_t)s->e->max_rows;
    s->running = calloc(requests, sizeof *s->running);
    s->span = calloc(requests, sizeof *s->span);
    s->logit_row = calloc(requests, sizeof *s->logit_row);
    s->token = calloc(rows, sizeof *s->token);
    s->logits = calloc((size_t)s->e->shape.n_vocab, sizeof *s->logits);
    bool ok = s->running && s->span && s->logit_row && s->token && s->logits;
    FAIL_IF(!ok, err, SLUICE_ERR_NOMEM, "out of memory for the scheduler");
    struct keep_config config = {
        .layout = &s->e->layout, .ops = &s->e->ops, .max_tokens = s->e->info.context,
        .budget = s->e->info.kv_budget, .every = s->e->checkpoint, .used = &s->e->kv_used};
    return keep_open(&config, &s->keep, err);
}

enum sluice_status schedule_open(struct sluice *e, struct schedule **out, struct sluice_error *err)
{
    *out = NULL;
    struct schedule *s = calloc(1, sizeof *s);
    FAIL_IF(!s, err, SLUICE_ERR_NOMEM, "out of memory for the scheduler");
    s->e = e;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    enum sluice_status st = alloc_step(s, err);
    if (st == SLUICE_OK && pthread_create(&s->thread, NULL, loop, s) != 0)
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "cannot start the scheduler's thread");
    s->started = st == SLUICE_OK;
    if (st != SLUICE_OK) {
        schedule_close(s);
        return st;
    }
    *out = s;
    return SLUICE_OK;
}

void schedule_close(struct schedule *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (s->started)
        pthread_join(s->thread, NULL);
    SLUICE_ASSERT(s->n_queue == 0 && s->n_running == 0);
    keep_close(s->keep);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s->queue);
    free(s->running);
    free(s->span);
    free(s->logit_row);
    free(s->token);
    free(s->logits);
    free(s);
}

void schedule_set_store(struct schedule *s, const struct page_sink *sink, struct page_key root)
{
    keep_set_store(s->keep, sink, root);
}

/* ---- the public interface ---- */

enum sluice_status sluice_submit(struct sluice *e, const struct sluice_request_options *options,
                                 struct sluice_request **out, struct sluice_error *err)
{
    struct schedule *s = e->schedule;
    *out = NULL;
    FAIL_IF(!s, err, SLUICE_ERR_STATE, "only the tokenizer of %s is open", e->path);
    FAIL_IF(!e->vocab, err, SLUICE_ERR_MODEL, "%s holds no tokenizer", e->path);
    struct sluice_request *r;
    TRY(request_new(s, e->vocab, e->info.context, options, &r, err));
    int64_t need = admission_bytes(s, r);
    if (need > e->info.kv_budget) {
        status_fail(err, SLUICE_ERR_NOMEM, -1,
                    "prompt of %zu tokens needs %lld bytes, conversations may have %lld",
                    r->n_prompt, (long long)need, (long long)e->info.kv_budget);
        request_free(r);
        return SLUICE_ERR_NOMEM;
    }
    pthread_mutex_lock(&s->lock);
    r->number = s->next_number++;
    enum sluice_status st = enqueue(s, r, err);
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (st != SLUICE_OK) {
        request_free(r);
        return st;
    }
    *out = r;
    return SLUICE_OK;
}

void sluice_cancel(struct sluice_request *r)
{
    struct schedule *s = r->schedule;
    pthread_mutex_lock(&s->lock);
    r->cancelled = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

bool sluice_wait(struct sluice_request *r, double seconds)
{
    struct schedule *s = r->schedule;
    struct timespec until = {0};
    if (seconds >= 0) {
        clock_gettime(CLOCK_REALTIME, &until);
        double at = (double)until.tv_nsec * 1e-9 + seconds;
        until.tv_sec += (time_t)at;
        until.tv_nsec = (long)((at - (double)(time_t)at) * 1e9);
    }
    pthread_mutex_lock(&s->lock);
    int timed_out = 0;
    while (r->state != REQUEST_DONE && !timed_out)
        timed_out = seconds < 0 ? pthread_cond_wait(&r->done, &s->lock)
                                : pthread_cond_timedwait(&r->done, &s->lock, &until);
    bool done = r->state == REQUEST_DONE;
    pthread_mutex_unlock(&s->lock);
    return done;
}

void sluice_release(struct sluice_request *r)
{
    if (!r)
        return;
    sluice_cancel(r);
    sluice_wait(r, -1);
    request_free(r);
}

void sluice_stats(const struct sluice *e, struct sluice_stats *out)
{
    struct schedule *s = e->schedule;
    *out = (struct sluice_stats){0};
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    out->queued = (int32_t)s->n_queue;
    pthread_mutex_unlock(&s->lock);
    out->kv_used = e->kv_used;
    out->kv_budget = e->info.kv_budget;
}
