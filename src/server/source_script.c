/* server/source_script.c - canned answers instead of a model, so that tests with real clients are
 * deterministic. Needs no model file: a token is a byte, ids 0 to 255.
 *
 * A script is JSON lines; each is an answer:
 *   {"text": "..."}                       as the model would write it, thinking and calls included
 *   {"reasoning": "", "content": "", "calls": [{"name", "arguments"}]}     the same in parts
 *   "match": "..."        only for prompts that contain this text
 *   "repeat": true        may be used any number of times
 *   "prefill_ms", "token_ms": N           times to take
 *   "fail": "..."         the request fails with this message after the text
 * A request takes the first line that fits and was not used up. Blank lines and lines that begin
 * with # are passed over.
 *
 * Threads: one thread plays all answers in turn, a piece of each; lock guards the list of requests
 * and the lines' use. */
#include <json-c/json.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/json_text.h"
#include "base/limits.h"
#include "os/file.h"
#include "server/source.h"
#include "text/chat.h"
#include "text/grammar.h"
#include "text/toolcall.h"

#define SCRIPT_PIECE 4 /* bytes of one token's text */
#define SCRIPT_CONTEXT (1 << 22)
#define SCRIPT_KEPT 64 /* conversations whose prefix counts as cached */

struct line {
    char *text, *match, *fail; /* text: NULL if given in parts */
    struct json_object *parts;
    int prefill_ms, token_ms;
    bool repeat, used;
};

struct source_request {
    struct script *s;
    struct source_request *next;
    struct sluice_request_options options;
    char **stop;
    char *prompt; /* bytes */
    size_t n_prompt, cached;
    struct buf answer;
    struct line *line;
    size_t at; /* bytes of the answer that were sent */
    double due, began, first;
    int32_t sent;
    bool started, cancelled, done;
    pthread_cond_t ended;
};

struct kept {
    char *bytes;
    size_t len;
};

struct script {
    struct sluice_info info;
    struct line *line;
    size_t n_line;
    pthread_t player;
    bool has_player;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct source_request *running;
    struct kept kept[SCRIPT_KEPT];
    int next_kept;
    struct sluice_stats stats;
    bool stop;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- reading the script ---- */

static char *copy_member(struct json_object *row, const char *key)
{
    struct json_object *value;
    if (!json_object_object_get_ex(row, key, &value) ||
        !json_object_is_type(value, json_type_string))
        return NULL;
    return strdup(json_object_get_string(value));
}

static int int_member(struct json_object *row, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(row, key, &value) ? json_object_get_int(value) : 0;
}

static enum sluice_status add_line(struct script *s, struct str text, int number,
                                   struct sluice_error *err)
{
    struct json_object *row = NULL;
    enum sluice_status st = json_text_parse(text.at, text.len, &row, err);
    if (st == SLUICE_OK && !json_object_is_type(row, json_type_object))
        st = status_fail(err, SLUICE_ERR_FORMAT, -1, "expected an object");
    struct line *p = st == SLUICE_OK ? realloc(s->line, (s->n_line + 1) * sizeof *p) : NULL;
    if (st == SLUICE_OK && !p)
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory");
    if (st != SLUICE_OK) {
        status_prefix(err, "script line %d: ", number);
        json_object_put(row);
        return st;
    }
    s->line = p;
    s->line[s->n_line++] = (struct line){
        .text = copy_member(row, "text"),
        .match = copy_member(row, "match"),
        .fail = copy_member(row, "fail"),
        .parts = row,
        .prefill_ms = int_member(row, "prefill_ms"),
        .token_ms = int_member(row, "token_ms"),
        .repeat = int_member(row, "repeat") != 0,
    };
    return SLUICE_OK;
}

static enum sluice_status read_script(struct script *s, const char *path, struct sluice_error *err)
{
    char *bytes;
    size_t n;
    TRY(file_read_all(path, LIMIT_HTTP_BODY, &bytes, &n, err));
    enum sluice_status st = SLUICE_OK;
    int number = 1;
    for (char *at = bytes; st == SLUICE_OK && at < bytes + n; number++) {
        char *end = memchr(at, '\n', (size_t)(bytes + n - at));
        end = end ? end : bytes + n;
        struct str text = {at, (size_t)(end - at)};
        if (*at != '#' && strspn(at, " \t\r") < text.len)
            st = add_line(s, text, number, err);
        at = end + 1;
    }
    free(bytes);
    return st;
}

/* ---- what an answer is ---- */

static void add_part(struct buf *b, struct json_object *row, const char *key)
{
    struct json_object *value;
    if (json_object_object_get_ex(row, key, &value) && value)
        buf_add(b, json_object_get_string(value), (size_t)json_object_get_string_len(value));
}

static enum sluice_status compose(const struct line *line, bool thinking, struct buf *b,
                                  struct sluice_error *err)
{
    struct json_object *calls;
    if (line->text) {
        buf_add_str(b, line->text);
        return buf_status(b, err);
    }
    if (thinking) {
        add_part(b, line->parts, "reasoning");
        buf_add_str(b, "</think>");
    }
    add_part(b, line->parts, "content");
    if (json_object_object_get_ex(line->parts, "calls", &calls))
        TRY(toolcall_render(b, calls, err));
    return buf_status(b, err);
}

static struct line *choose(struct script *s, const struct source_request *r)
{
    for (size_t i = 0; i < s->n_line; i++) {
        struct line *l = &s->line[i];
        bool fits = !l->match || memmem(r->prompt, r->n_prompt, l->match, strlen(l->match));
        if (fits && !l->used) {
            l->used = !l->repeat;
            return l;
        }
    }
    return NULL;
}

/* ---- playing ---- */

static void send_event(struct source_request *r, struct sluice_event *e)
{
    pthread_mutex_unlock(&r->s->lock);
    r->options.on_event(r->options.ctx, e);
    pthread_mutex_lock(&r->s->lock);
}

static void keep(struct script *s, const struct source_request *r)
{
    struct kept *k = &s->kept[s->next_kept++ % SCRIPT_KEPT];
    char *bytes = malloc(r->n_prompt + r->at + 1);
    if (!bytes)
        return;
    free(k->bytes);
    memcpy(bytes, r->prompt, r->n_prompt);
    if (r->at)
        memcpy(bytes + r->n_prompt, r->answer.data, r->at);
    *k = (struct kept){bytes, r->n_prompt + r->at};
}

static void end(struct source_request *r, enum sluice_finish finish, const char *stop)
{
    struct script *s = r->s;
    double now = seconds();
    struct sluice_error err;
    if (finish == SLUICE_FINISH_ERROR)
        status_fail(&err, SLUICE_ERR_INTERNAL, -1, "%s",
                    r->line && r->line->fail ? r->line->fail : "the script has no more answers");
    keep(s, r);
    struct sluice_event e = {
        .kind = SLUICE_EVENT_DONE,
        .text = "",
        .finish = finish,
        .stop = stop,
        .error = finish == SLUICE_FINISH_ERROR ? &err : NULL,
        .usage = {.prompt = (int32_t)r->n_prompt,
                  .cached = (int32_t)r->cached,
                  .answer = r->sent,
                  .prefill_s = (r->first ? r->first : now) - r->began,
                  .decode_s = r->first ? now - r->first : 0,
                  .first_token_s = r->first ? r->first - r->began : 0},
    };
    send_event(r, &e);
}

static void start(struct source_request *r, double now)
{
    struct script *s = r->s;
    struct sluice_error err;
    r->started = true;
    for (int i = 0; i < SCRIPT_KEPT; i++) {
        size_t n = 0;
        while (n < s->kept[i].len && n < r->n_prompt && s->kept[i].bytes[n] == r->prompt[n])
            n++;
        r->cached = n > r->cached ? n : r->cached;
    }
    r->line = choose(s, r);
    if (!r->line || compose(r->line, r->options.thinking, &r->answer, &err) != SLUICE_OK) {
        r->line = NULL;
        return;
    }
    r->due = now + 1e-3 * r->line->prefill_ms;
    struct sluice_event e = {.kind = SLUICE_EVENT_PREFILL,
                             .text = "",
                             .n = (int64_t)r->n_prompt / 2,
                             .total = (int64_t)r->n_prompt,
                             .cached = (int64_t)r->cached};
    send_event(r, &e);
}

/* Where the answer ends because of a stop string. */
static size_t stop_at(const struct source_request *r, const char **which)
{
    size_t least = r->answer.len;
    *which = NULL;
    for (int i = 0; i < r->options.n_stop; i++) {
        const char *p = r->answer.len
                            ? memmem(r->answer.data, r->answer.len, r->stop[i], strlen(r->stop[i]))
                            : NULL;
        if (p && (size_t)(p - r->answer.data) < least) {
            least = (size_t)(p - r->answer.data);
            *which = r->stop[i];
        }
    }
    return least;
}

static void send_piece(struct source_request *r, size_t last)
{
    size_t n = last - r->at < SCRIPT_PIECE ? last - r->at : SCRIPT_PIECE;
    while (r->at + n < last && ((unsigned char)r->answer.data[r->at + n] & 0xc0) == 0x80)
        n++;
    char text[SCRIPT_PIECE + 8];
    n = n < sizeof text - 1 ? n : sizeof text - 1;
    memcpy(text, r->answer.data + r->at, n);
    text[n] = '\0';
    struct sluice_logprob top[2] = {{(unsigned char)text[0], -0.25f}, {'?', -2.5f}};
    struct sluice_event e = {.kind = SLUICE_EVENT_TOKEN,
                             .text = "",
                             .id = (unsigned char)text[0],
                             .own = top[0],
                             .top = top,
                             .n_top = r->options.sampling.logprobs > 2 ? 2
                                      : r->options.sampling.logprobs > 0
                                          ? r->options.sampling.logprobs
                                          : 0};
    send_event(r, &e);
    e = (struct sluice_event){.kind = SLUICE_EVENT_CONTENT, .text = text, .len = n};
    r->at += n;
    r->sent++;
    r->s->stats.decode_tokens++;
    send_event(r, &e);
}

/* One piece of a request; true if it is done. */
static bool step(struct source_request *r, double now)
{
    const char *stop;
    if (!r->started)
        start(r, now);
    if (r->cancelled) {
        end(r, SLUICE_FINISH_CANCELLED, NULL);
        return true;
    }
    if (!r->line) {
        end(r, SLUICE_FINISH_ERROR, NULL);
        return true;
    }
    if (now < r->due)
        return false;
    r->due = now + 1e-3 * r->line->token_ms;
    if (!r->first)
        r->first = now;
    size_t last = stop_at(r, &stop);
    bool full = r->options.max_tokens && r->sent >= r->options.max_tokens;
    if (r->at < last && !full) {
        send_piece(r, last);
        return false;
    }
    enum sluice_finish finish = r->at < last    ? SLUICE_FINISH_LENGTH
                                : r->line->fail ? SLUICE_FINISH_ERROR
                                : stop          ? SLUICE_FINISH_STOP_STRING
                                                : SLUICE_FINISH_STOP;
    end(r, finish, finish == SLUICE_FINISH_STOP_STRING ? stop : NULL);
    return true;
}

static void wait_until(struct script *s, double due, double now)
{
    if (!s->running) {
        pthread_cond_wait(&s->changed, &s->lock);
        return;
    }
    double wait = due - now;
    if (wait <= 0)
        return;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    wait = wait < 1 ? wait : 1;
    long nanos = t.tv_nsec + (long)(wait * 1e9);
    t.tv_sec += nanos / 1000000000;
    t.tv_nsec = nanos % 1000000000;
    pthread_cond_timedwait(&s->changed, &s->lock, &t);
}

static void *play(void *arg)
{
    struct script *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->stop || s->running) {
        double now = seconds(), due = now + 1;
        for (struct source_request **slot = &s->running; *slot;) {
            struct source_request *r = *slot;
            if (step(r, now)) {
                /* Others may have been put in front meanwhile. */
                for (slot = &s->running; *slot != r; slot = &(*slot)->next)
                    continue;
                *slot = r->next;
                s->stats.running--;
                r->done = true;
                pthread_cond_broadcast(&r->ended);
                continue;
            }
            due = r->due < due ? r->due : due;
            slot = &r->next;
        }
        s->stats.steps++;
        wait_until(s, due, now);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the calls of source.h ---- */

static const struct sluice_info *script_info(void *ctx)
{
    return &((struct script *)ctx)->info;
}

static enum sluice_status to_tokens(struct str text, struct sluice_tokens *out,
                                    struct sluice_error *err)
{
    int32_t *ids = malloc((text.len + 1) * sizeof *ids);
    FAIL_IF(!ids, err, SLUICE_ERR_NOMEM, "out of memory for %zu tokens", text.len);
    for (size_t i = 0; i < text.len; i++)
        ids[i] = (unsigned char)text.at[i];
    *out = (struct sluice_tokens){ids, text.len};
    return SLUICE_OK;
}

static enum sluice_status script_tokenize(void *ctx, struct str text, bool allow_special,
                                          struct sluice_tokens *out, struct sluice_error *err)
{
    return to_tokens(text, out, err);
}

static enum sluice_status script_chat_tokens(void *ctx, const struct sluice_chat *chat,
                                             struct sluice_tokens *out, struct sluice_error *err)
{
    struct chat_request request = {
        .effort = (enum chat_effort)chat->effort,
        .preview = chat->preview,
        .keep_reasoning = chat->keep_reasoning,
        .continue_last = chat->continue_last,
    };
    struct chat_text text = {0};
    enum sluice_status st;
    TRY_OUT(json_text_parse(chat->messages, chat->messages_len, &request.messages, err));
    if (chat->tools)
        TRY_OUT(json_text_parse(chat->tools, chat->tools_len, &request.tools, err));
    TRY_OUT(chat_render(&request, &text, err));
    st = to_tokens((struct str){text.text.data, text.text.len}, out, err);
out:
    chat_text_deinit(&text);
    json_object_put(request.messages);
    json_object_put(request.tools);
    return st;
}

static enum sluice_status script_detokenize(void *ctx, const int32_t *ids, size_t n,
                                            struct sluice_text *out, struct sluice_error *err)
{
    for (size_t i = 0; i < n; i++)
        FAIL_IF(ids[i] < 0 || ids[i] > 255, err, SLUICE_ERR_ARG,
                "token %zu: expected 0 to 255, found %d", i, ids[i]);
    char *text = malloc(n + 1);
    FAIL_IF(!text, err, SLUICE_ERR_NOMEM, "out of memory for %zu bytes", n);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)ids[i];
    text[n] = '\0';
    *out = (struct sluice_text){text, n};
    return SLUICE_OK;
}

static void request_free(struct source_request *r)
{
    for (int i = 0; r->stop && i < r->options.n_stop; i++)
        free(r->stop[i]);
    free(r->stop);
    free(r->prompt);
    buf_deinit(&r->answer);
    pthread_cond_destroy(&r->ended);
    free(r);
}

/* A script's answers are what they are; but what no model could be held to is refused all the
 * same. */
static enum sluice_status script_grammar(void *ctx, const struct sluice_grammar_options *o,
                                         struct sluice_grammar **out, struct sluice_error *err)
{
    struct json_object *schema = NULL, *tools = NULL;
    struct grammar *g = NULL;
    enum sluice_status st = SLUICE_OK;
    *out = NULL;
    if (o->schema)
        TRY_OUT(json_text_parse(o->schema, o->schema_len, &schema, err));
    if (o->tools)
        TRY_OUT(json_text_parse(o->tools, o->tools_len, &tools, err));
    struct grammar_ask ask = {.gbnf = {o->gbnf, o->gbnf_len},
                              .schema = schema,
                              .schema_name = o->schema_name,
                              .tools = tools,
                              .tool = o->tool,
                              .one_call = o->one_call,
                              .loose = o->loose};
    TRY_OUT(grammar_new(&ask, /*trie=*/NULL, &g, err));
    *out = (struct sluice_grammar *)g;
out:
    json_object_put(schema);
    json_object_put(tools);
    return st;
}

static enum sluice_status script_submit(void *ctx, const struct sluice_request_options *options,
                                        struct source_request **out, struct sluice_error *err)
{
    struct script *s = ctx;
    FAIL_IF(options->n_prompt == 0, err, SLUICE_ERR_ARG, "the prompt is empty");
    struct source_request *r = calloc(1, sizeof *r);
    FAIL_IF(!r, err, SLUICE_ERR_NOMEM, "out of memory for a request");
    pthread_cond_init(&r->ended, NULL);
    r->s = s;
    r->options = *options;
    r->began = seconds();
    r->prompt = malloc(options->n_prompt);
    r->n_prompt = options->n_prompt;
    r->stop = calloc((size_t)options->n_stop + 1, sizeof *r->stop);
    if (!r->prompt || !r->stop) {
        request_free(r);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a request");
    }
    for (size_t i = 0; i < r->n_prompt; i++)
        r->prompt[i] = (char)options->prompt[i];
    for (int i = 0; i < options->n_stop; i++)
        r->stop[i] = strdup(options->stop[i]);
    *out = r;
    pthread_mutex_lock(&s->lock);
    r->next = s->running;
    s->running = r;
    s->stats.running++;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return SLUICE_OK;
}

static void script_cancel(struct source_request *r)
{
    pthread_mutex_lock(&r->s->lock);
    r->cancelled = true;
    pthread_cond_signal(&r->s->changed);
    pthread_mutex_unlock(&r->s->lock);
}

static void script_release(struct source_request *r)
{
    struct script *s = r->s;
    pthread_mutex_lock(&s->lock);
    r->cancelled = true;
    pthread_cond_signal(&s->changed);
    while (!r->done)
        pthread_cond_wait(&r->ended, &s->lock);
    pthread_mutex_unlock(&s->lock);
    request_free(r);
}

static void script_stats(void *ctx, struct sluice_stats *out)
{
    struct script *s = ctx;
    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    pthread_mutex_unlock(&s->lock);
}

static void script_close(void *ctx)
{
    struct script *s = ctx;
    if (!s)
        return;
    if (s->has_player) {
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_signal(&s->changed);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->player, NULL);
    }
    for (size_t i = 0; i < s->n_line; i++) {
        free(s->line[i].text);
        free(s->line[i].match);
        free(s->line[i].fail);
        json_object_put(s->line[i].parts);
    }
    for (int i = 0; i < SCRIPT_KEPT; i++)
        free(s->kept[i].bytes);
    free(s->line);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static const struct source_fns script_fns = {
    .info = script_info,
    .chat_tokens = script_chat_tokens,
    .tokenize = script_tokenize,
    .detokenize = script_detokenize,
    .free = free,
    .grammar = script_grammar,
    .submit = script_submit,
    .cancel = script_cancel,
    .release = script_release,
    .stats = script_stats,
    .close = script_close,
};

enum sluice_status source_script_open(const void *config, struct source *out,
                                      struct sluice_error *err)
{
    struct script *s = calloc(1, sizeof *s);
    FAIL_IF(!s, err, SLUICE_ERR_NOMEM, "out of memory for a script");
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->lock, NULL);
    s->info = (struct sluice_info){
        .name = "script",
        .family = "custom",
        .model_path = config,
        .backend = "script",
        .n_vocab = 256,
        .bos = -1,
        .eos = -1,
        .context = SCRIPT_CONTEXT,
        .context_max = SCRIPT_CONTEXT,
        .max_requests = 64,
    };
    enum sluice_status st = read_script(s, config, err);
    if (st == SLUICE_OK) {
        s->has_player = pthread_create(&s->player, NULL, play, s) == 0;
        if (!s->has_player)
            st = status_fail(err, SLUICE_ERR_NOMEM, -1, "cannot start the script's thread");
    }
    if (st != SLUICE_OK) {
        script_close(s);
        return st;
    }
    *out = (struct source){&script_fns, s};
    return SLUICE_OK;
}
