/* cmd/answer.c - events come on the scheduler's thread, which must not wait for a slow terminal;
 * they are put into a list, and the main thread prints.
 *
 *   scheduler: on_event --lock--> pieces --wake--> main: print, look for Ctrl-C --> sluice_cancel
 *
 * Invariants: (1) the list holds at most the text of one answer, which the context bounds;
 *             (2) the request is released only after DONE was taken from the list. */
#include "cmd/answer.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "cmd/interrupt.h"

/* A prompt shorter than this is read before a bar could be seen. */
#define BAR_TOKENS 256
/* So many times Ctrl-C during one answer means that cancelling does not help. */
#define LEAVE_AT 3

struct piece {
    struct piece *next;
    enum sluice_event_kind kind;
    int64_t n, total;
    size_t len;
    char text[];
};

struct inbox {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* under lock */
    struct piece *first, **last;
    bool done, lost;
    enum sluice_finish finish;
    struct sluice_usage usage;
    struct sluice_error error;
};

/* What the main thread keeps while it prints. */
struct printer {
    struct term *term;
    const struct answer_style *style;
    struct answer *out;
    bool any_call, at_line_start, thought;
};

static void on_event(void *ctx, const struct sluice_event *event)
{
    struct inbox *in = ctx;
    if (event->kind == SLUICE_EVENT_TOKEN || event->kind == SLUICE_EVENT_QUEUED)
        return;
    struct piece *p = NULL;
    if (event->kind != SLUICE_EVENT_DONE)
        p = malloc(sizeof *p + event->len);
    pthread_mutex_lock(&in->lock);
    if (event->kind == SLUICE_EVENT_DONE) {
        in->done = true;
        in->finish = event->finish;
        in->usage = event->usage;
        if (event->error)
            in->error = *event->error;
    } else if (!p) {
        in->lost = true;
    } else {
        p->next = NULL;
        p->kind = event->kind;
        p->n = event->n;
        p->total = event->total;
        p->len = event->len;
        if (event->len)
            memcpy(p->text, event->text, event->len);
        *in->last = p;
        in->last = &p->next;
    }
    pthread_cond_signal(&in->wake);
    pthread_mutex_unlock(&in->lock);
}

static void inbox_init(struct inbox *in)
{
    pthread_condattr_t attr;
    *in = (struct inbox){.done = false};
    in->last = &in->first;
    pthread_mutex_init(&in->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&in->wake, &attr);
    pthread_condattr_destroy(&attr);
}

static void inbox_deinit(struct inbox *in)
{
    pthread_cond_destroy(&in->wake);
    pthread_mutex_destroy(&in->lock);
}

/* Takes all pieces; waits a tenth of a second for one. *done only when nothing can follow. */
static struct piece *inbox_take(struct inbox *in, bool *done)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 100000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&in->lock);
    if (!in->first && !in->done)
        pthread_cond_timedwait(&in->wake, &in->lock, &until);
    struct piece *first = in->first;
    in->first = NULL;
    in->last = &in->first;
    *done = in->done;
    pthread_mutex_unlock(&in->lock);
    return first;
}

static void print_reasoning(struct printer *p, const struct piece *piece)
{
    buf_add(&p->out->reasoning, piece->text, piece->len);
    if (!p->style->show_thinking)
        return;
    term_dim(p->term, piece->text, piece->len);
    p->thought = true;
}

/* The thinking's last line ends before the answer begins. */
static void leave_thinking(struct printer *p)
{
    if (p->thought) {
        term_dim_end(p->term);
        fputc('\n', stderr);
    }
    p->thought = false;
}

static void print_content(struct printer *p, const struct piece *piece)
{
    leave_thinking(p);
    buf_add(&p->out->content, piece->text, piece->len);
    term_out(p->term, piece->text, piece->len);
    if (piece->len)
        p->at_line_start = piece->text[piece->len - 1] == '\n';
}

/* A call that nobody asked for is shown, not run. */
static void print_call(struct printer *p, const struct piece *piece)
{
    leave_thinking(p);
    if (!p->style->notes)
        return;
    if (piece->kind == SLUICE_EVENT_CALL_BEGIN) {
        if (!p->at_line_start)
            term_out(p->term, "\n", 1);
        p->at_line_start = true;
        term_dim(p->term, "[calls ", 7);
    }
    term_dim(p->term, piece->text, piece->len);
    if (piece->kind == SLUICE_EVENT_CALL_BEGIN)
        term_dim(p->term, " ", 1);
    if (piece->kind == SLUICE_EVENT_CALL_ABORT)
        term_dim(p->term, " ... malformed", 14);
    if (piece->kind == SLUICE_EVENT_CALL_END || piece->kind == SLUICE_EVENT_CALL_ABORT) {
        term_dim(p->term, "]", 1);
        term_dim_end(p->term);
        fputc('\n', stderr);
    }
}

static void print_piece(struct printer *p, const struct piece *piece)
{
    if (piece->kind == SLUICE_EVENT_PREFILL) {
        if (p->style->notes && piece->total >= BAR_TOKENS)
            term_bar(p->term, "reading", piece->n, piece->total);
        return;
    }
    term_bar_clear(p->term);
    switch (piece->kind) {
    case SLUICE_EVENT_REASONING:
        print_reasoning(p, piece);
        break;
    case SLUICE_EVENT_CONTENT:
        print_content(p, piece);
        break;
    case SLUICE_EVENT_CALL_BEGIN:
    case SLUICE_EVENT_CALL_ARGS:
    case SLUICE_EVENT_CALL_END:
    case SLUICE_EVENT_CALL_ABORT:
        print_call(p, piece);
        break;
    default:
        break;
    }
}

static void print_all(struct printer *p, struct piece *first)
{
    while (first) {
        struct piece *next = first->next;
        print_piece(p, first);
        free(first);
        first = next;
    }
}

static void watch(struct inbox *in, struct sluice_request *r, struct printer *p)
{
    bool done = false, cancelled = false;
    while (!done) {
        print_all(p, inbox_take(in, &done));
        if (interrupt_count() >= LEAVE_AT)
            _exit(130);
        if (!cancelled && (interrupt_count() || p->term->broken)) {
            sluice_cancel(r);
            cancelled = true;
        }
    }
}

enum sluice_status answer_run(struct sluice *e, const struct sluice_request_options *options,
                              const struct answer_style *style, struct answer *out,
                              struct sluice_error *err)
{
    struct inbox in;
    struct sluice_request_options o = *options;
    struct sluice_request *r;
    struct printer p = {.term = term_get(), .style = style, .out = out, .at_line_start = true};
    *out = (struct answer){.finish = SLUICE_FINISH_STOP};
    buf_init(&out->content, 0);
    buf_init(&out->reasoning, 0);
    inbox_init(&in);
    o.on_event = on_event;
    o.ctx = &in;
    interrupt_catch();
    interrupt_clear();
    enum sluice_status st = sluice_submit(e, &o, &r, err);
    if (st == SLUICE_OK) {
        watch(&in, r, &p);
        sluice_release(r);
        leave_thinking(&p);
        term_bar_clear(p.term);
        if (!p.at_line_start)
            term_out(p.term, "\n", 1);
        out->finish = in.finish;
        out->usage = in.usage;
        out->error = in.error;
        if (in.lost)
            st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for the answer's text");
        if (st == SLUICE_OK)
            st = buf_status(&out->content, err);
    }
    interrupt_release();
    inbox_deinit(&in);
    if (st == SLUICE_OK && style->notes && out->usage.prompt) {
        char line[256];
        answer_summary(&out->usage, line, sizeof line);
        term_dim(p.term, line, strlen(line));
        term_dim_end(p.term);
        fputc('\n', stderr);
    }
    return st;
}

void answer_deinit(struct answer *a)
{
    buf_deinit(&a->content);
    buf_deinit(&a->reasoning);
}

static double per_second(int64_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

void answer_summary(const struct sluice_usage *u, char *line, size_t size)
{
    char cached[64] = "";
    if (u->cached)
        snprintf(cached, sizeof cached, ", %" PRId32 " from memory", u->cached);
    snprintf(line, size,
             "[first token %.2f s, prefill %.1f t/s (%" PRId32 " tokens%s), decode %.1f t/s "
             "(%" PRId32 " tokens)]",
             u->first_token_s, per_second(u->prompt - u->cached, u->prefill_s), u->prompt, cached,
             per_second(u->answer, u->decode_s), u->answer);
}
