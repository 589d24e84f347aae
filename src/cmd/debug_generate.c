/* `sluice debug generate`: many conversations at once through the scheduler, answers in the order
 * of the input, each as soon as those before it are written.
 *
 *   reader: free place --submit--> job of the ring --DONE--> writer: row on stdout --> free place
 *
 * Invariants: (1) jobs [first, first + n) of the ring are submitted or failed, in input order; they
 *                 belong to the writer, the place behind them to the reader (the main thread);
 *             (2) a job's texts are written by the scheduler's thread until DONE, read after it. */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/json_text.h"
#include "cmd/cmd.h"
#include "cmd/interrupt.h"
#include "cmd/jsonl.h"
#include "cmd/term.h"

struct call {
    char *name;
    struct buf args;
};

struct job {
    struct sluice_request *request;      /* NULL: it failed before */
    enum sluice_status status;
    struct sluice_error error;
    /* by the scheduler's thread until DONE */
    struct buf content, reasoning;
    struct call *call;
    int n_call;
    bool lost;
    enum sluice_finish finish;
    struct sluice_usage usage;
};

struct generate {
    const struct options *o;
    struct sluice *e;
    struct job *ring;
    int room;
    bool failed;             /* writer */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under lock */
    int first, n;
    bool over;               /* no job will follow */
};

static void call_begin(struct job *j, const struct sluice_event *event)
{
    struct call *more = realloc(j->call, (size_t)(j->n_call + 1) * sizeof *more);
    if (!more) {
        j->lost = true;
        return;
    }
    j->call = more;
    j->call[j->n_call].name = strndup(event->text, event->len);
    buf_init(&j->call[j->n_call].args, 0);
    j->lost |= !j->call[j->n_call].name;
    j->n_call++;
}

static void call_drop_last(struct job *j)
{
    if (j->n_call == 0)
        return;
    j->n_call--;
    free(j->call[j->n_call].name);
    buf_deinit(&j->call[j->n_call].args);
}

static void on_event(void *ctx, const struct sluice_event *event)
{
    struct job *j = ctx;
    switch (event->kind) {
    case SLUICE_EVENT_REASONING:
        buf_add(&j->reasoning, event->text, event->len);
        break;
    case SLUICE_EVENT_CONTENT:
        buf_add(&j->content, event->text, event->len);
        break;
    case SLUICE_EVENT_CALL_BEGIN:
        call_begin(j, event);
        break;
    case SLUICE_EVENT_CALL_ARGS:
        if (j->n_call)
            buf_add(&j->call[j->n_call - 1].args, event->text, event->len);
        break;
    case SLUICE_EVENT_CALL_ABORT:
        call_drop_last(j);
        break;
    case SLUICE_EVENT_DONE:
        j->finish = event->finish;
        j->usage = event->usage;
        if (event->error) {
            j->error = *event->error;
            j->status = j->error.code;
        }
        break;
    default:
        break;
    }
}

/* ---- a row becomes a request ---- */

/* The conversation of a row; its JSON texts are written into buffers that outlive it. */
static enum sluice_status chat_of(struct json_object *row, struct buf text[2],
                                  struct sluice_chat *chat, struct sluice_error *err)
{
    struct json_object *messages, *tools;
    bool thinking;
    const char *effort;
    size_t effort_len;
    FAIL_IF(!json_object_object_get_ex(row, "messages", &messages) ||
                !json_object_is_type(messages, json_type_array),
            err, SLUICE_ERR_ARG, "\"messages\": expected an array");
    json_text_write(&text[0], messages);
    if (json_object_object_get_ex(row, "tools", &tools) && tools)
        json_text_write(&text[1], tools);
    TRY(buf_status(&text[0], err));
    TRY(buf_status(&text[1], err));
    chat->messages = text[0].data;
    chat->messages_len = text[0].len;
    chat->tools = text[1].data;
    chat->tools_len = text[1].len;
    TRY(jsonl_bool(row, "thinking", false, &thinking, err));
    TRY(jsonl_string(row, "effort", &effort, &effort_len, err));
    chat->effort = !thinking                               ? SLUICE_EFFORT_NONE
                   : effort && strcmp(effort, "high") == 0 ? SLUICE_EFFORT_HIGH
                   : effort && strcmp(effort, "max") == 0  ? SLUICE_EFFORT_MAX
                                                           : SLUICE_EFFORT_DEFAULT;
    return SLUICE_OK;
}

static enum sluice_status whole_number(struct json_object *row, const char *key, int64_t other,
                                       int64_t *out, struct sluice_error *err)
{
    double value;
    TRY(jsonl_number(row, key, (double)other, &value, err));
    FAIL_IF(value < 0 || value > 9007199254740992.0 || value != floor(value), err, SLUICE_ERR_ARG,
            "\"%s\": expected a whole number, found %g", key, value);
    *out = (int64_t)value;
    return SLUICE_OK;
}

static enum sluice_status sampling_of(struct json_object *row, struct sluice_sampling *s,
                                      struct sluice_error *err)
{
    double temperature, top_p, min_p;
    int64_t seed, top_k;
    TRY(jsonl_number(row, "temperature", 0, &temperature, err));
    TRY(jsonl_number(row, "top_p", 1, &top_p, err));
    TRY(jsonl_number(row, "min_p", 0, &min_p, err));
    TRY(whole_number(row, "seed", 0, &seed, err));
    TRY(whole_number(row, "top_k", 0, &top_k, err));
    *s = (struct sluice_sampling){
        .temperature = (float)temperature,
        .top_p = (float)top_p,
        .min_p = (float)min_p,
        .top_k = top_k > INT32_MAX ? INT32_MAX : (int32_t)top_k,
        .seed = (uint64_t)seed,
        .logprobs = -1,
    };
    return SLUICE_OK;
}

static enum sluice_status prompt_of(struct generate *g, struct json_object *row, bool *thinking,
                                    struct sluice_tokens *prompt, struct sluice_error *err)
{
    struct sluice_chat chat = {.effort = SLUICE_EFFORT_NONE};
    struct buf text[2];
    buf_init(&text[0], 0);
    buf_init(&text[1], 0);
    enum sluice_status st = chat_of(row, text, &chat, err);
    if (st == SLUICE_OK)
        st = sluice_chat_tokens(g->e, &chat, prompt, err);
    *thinking = chat.effort != SLUICE_EFFORT_NONE;
    buf_deinit(&text[0]);
    buf_deinit(&text[1]);
    return st;
}

static enum sluice_status submit_row(struct generate *g, struct json_object *row, struct job *j,
                                     struct sluice_error *err)
{
    struct sluice_request_options r = {.on_event = on_event, .ctx = j};
    struct sluice_tokens prompt;
    TRY(sampling_of(row, &r.sampling, err));
    TRY(whole_number(row, "max_tokens", options_int(g->o, OPT_MAX_TOKENS, 0), &r.max_tokens, err));
    TRY(prompt_of(g, row, &r.thinking, &prompt, err));
    r.prompt = prompt.ids;
    r.n_prompt = prompt.n;
    enum sluice_status st = sluice_submit(g->e, &r, &j->request, err);
    sluice_free(prompt.ids);
    return st;
}

/* ---- an answer becomes a row ---- */

static struct json_object *text_of(const struct buf *b)
{
    return json_object_new_string_len(b->data ? b->data : "", (int)b->len);
}

/* In the shape of an OpenAI message, arguments as text. */
static struct json_object *calls_of(const struct job *j)
{
    struct json_object *list = json_object_new_array();
    for (int i = 0; i < j->n_call; i++) {
        struct json_object *call = json_object_new_object(), *fn = json_object_new_object();
        json_object_object_add(fn, "name", json_object_new_string(j->call[i].name));
        json_object_object_add(fn, "arguments", text_of(&j->call[i].args));
        json_object_object_add(call, "type", json_object_new_string("function"));
        json_object_object_add(call, "function", fn);
        json_object_array_add(list, call);
    }
    return list;
}

static struct json_object *usage_of(const struct sluice_usage *u)
{
    struct json_object *usage = json_object_new_object();
    json_object_object_add(usage, "prompt_tokens", json_object_new_int(u->prompt));
    json_object_object_add(usage, "cached_tokens", json_object_new_int(u->cached));
    json_object_object_add(usage, "completion_tokens", json_object_new_int(u->answer));
    json_object_object_add(usage, "reasoning_tokens", json_object_new_int(u->reasoning));
    return usage;
}

static struct json_object *answer_of(const struct job *j)
{
    static const char *const finish[] = {
        [SLUICE_FINISH_STOP] = "stop",
        [SLUICE_FINISH_STOP_STRING] = "stop",
        [SLUICE_FINISH_LENGTH] = "length",
        [SLUICE_FINISH_TOOL_CALLS] = "tool_calls",
        [SLUICE_FINISH_CANCELLED] = "cancelled",
        [SLUICE_FINISH_ERROR] = "error",
    };
    struct json_object *row = json_object_new_object();
    json_object_object_add(row, "content", text_of(&j->content));
    json_object_object_add(row, "reasoning_content", text_of(&j->reasoning));
    json_object_object_add(row, "tool_calls", calls_of(j));
    json_object_object_add(row, "finish", json_object_new_string(finish[j->finish]));
    json_object_object_add(row, "usage", usage_of(&j->usage));
    if (j->status != SLUICE_OK)
        json_object_object_add(row, "error", json_object_new_string(j->error.message));
    return row;
}

static void job_deinit(struct job *j)
{
    sluice_release(j->request);
    while (j->n_call)
        call_drop_last(j);
    free(j->call);
    buf_deinit(&j->content);
    buf_deinit(&j->reasoning);
}

/* Waits for a job and writes its row. */
static void finish(struct generate *g, struct job *j)
{
    while (j->request && !sluice_wait(j->request, 0.1))
        if (interrupt_count() || term_get()->broken)
            sluice_cancel(j->request);
    if (j->lost && j->status == SLUICE_OK)
        j->status = status_fail(&j->error, SLUICE_ERR_NOMEM, -1, "out of memory for the answer");
    struct json_object *row = j->request ? answer_of(j) : jsonl_error(&j->error);
    if (j->status != SLUICE_OK) {
        cmd_error(g->o, &j->error);
        g->failed = true;
    }
    jsonl_write(row);
    json_object_put(row);
    job_deinit(j);
}

/* The writer: oldest job first, until the reader is at its end and the ring is empty. */
static void *writer(void *arg)
{
    struct generate *g = arg;
    pthread_mutex_lock(&g->lock);
    for (;;) {
        while (!g->n && !g->over)
            pthread_cond_wait(&g->changed, &g->lock);
        if (!g->n)
            break;
        struct job *j = &g->ring[g->first];
        pthread_mutex_unlock(&g->lock);
        finish(g, j);
        pthread_mutex_lock(&g->lock);
        g->first = (g->first + 1) % g->room;
        g->n--;
        pthread_cond_signal(&g->changed);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* ---- the reader ---- */

/* Fills a free place from one row; false at the end of the input. *used says whether the place
 * holds a job. */
static bool take_row(struct generate *g, struct jsonl_reader *reader, struct job *j, bool *used)
{
    struct json_object *row;
    *j = (struct job){.status = SLUICE_OK};
    buf_init(&j->content, 0);
    buf_init(&j->reasoning, 0);
    j->status = jsonl_next(reader, &row, &j->error);
    *used = (j->status != SLUICE_OK || row) && !interrupt_count();
    if (j->status != SLUICE_OK)
        return j->status == SLUICE_ERR_FORMAT;
    if (!row)
        return false;
    j->status = submit_row(g, row, j, &j->error);
    if (j->status != SLUICE_OK)
        status_prefix(&j->error, "line %" PRId64 ": ", reader->number);
    json_object_put(row);
    return true;
}

static void read_rows(struct generate *g)
{
    struct jsonl_reader reader;
    bool more = true, used;
    jsonl_open(&reader, stdin);
    pthread_mutex_lock(&g->lock);
    while (more) {
        while (g->n == g->room)
            pthread_cond_wait(&g->changed, &g->lock);
        struct job *j = &g->ring[(g->first + g->n) % g->room];
        pthread_mutex_unlock(&g->lock);
        more = take_row(g, &reader, j, &used) && !interrupt_count() && !term_get()->broken;
        pthread_mutex_lock(&g->lock);
        if (used)
            g->n++;
        else
            job_deinit(j);
        g->over = !more;
        pthread_cond_signal(&g->changed);
    }
    pthread_mutex_unlock(&g->lock);
    jsonl_close(&reader);
}

static int run(struct generate *g)
{
    pthread_t thread;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    interrupt_catch();
    bool started = pthread_create(&thread, NULL, writer, g) == 0;
    if (started) {
        read_rows(g);
        pthread_join(thread, NULL);
    }
    int code = !started              ? EXIT_MEMORY
               : interrupt_count()   ? EXIT_INTERRUPTED
               : g->failed           ? EXIT_FAILED
                                     : EXIT_OK;
    interrupt_release();
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    return code;
}

int cmd_debug_generate(const struct options *o)
{
    struct generate g = {.o = o, .room = (int)options_int(o, OPT_PARALLEL, 8)};
    struct sluice_options engine;
    cmd_engine_options(o, &engine);
    engine.max_requests = g.room;
    int code = cmd_open(o, &engine, &g.e);
    if (code != EXIT_OK)
        return code;
    g.ring = calloc((size_t)g.room, sizeof g.ring[0]);
    code = g.ring ? run(&g) : EXIT_MEMORY;
    free(g.ring);
    sluice_close(g.e);
    return code;
}
