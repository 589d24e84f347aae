/* server/server.c - see server.h: start, loading, stopping.
 *
 *   LISTENING --model open--> READY --SIGTERM, server_stop--> DRAINING --nothing left--> stopped
 *       '--model fails--> stopped                  second signal, drain_seconds: cancels the rest
 */
#include "server/server.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/check.h"
#include "os/clock.h"
#include "server/server_internal.h"

#define FLUSH_MS 100 /* for the last bytes of replies after the last request */

/* A server and what only its start and end need. */
struct run {
    struct server s;
    struct server_options options; /* with defaults */
    struct event *signals[2], *drained, *flushed, *beat;
    pthread_t loader;
    struct loop_post loaded, stop;
    bool loading, flushing, stop_posted;
    struct source source;
    enum sluice_status status;
    struct sluice_error error;
};

static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;
static struct run *running; /* under running_lock */

/* ---- what the others share ---- */

void server_random_id(char *id, size_t size)
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    unsigned char bytes[32];
    SLUICE_ASSERT(size >= 1 && size <= sizeof bytes + 1);
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        check_failed(__FILE__, __LINE__, "getrandom");
    for (size_t i = 0; i + 1 < size; i++)
        id[i] = letters[bytes[i] % 62];
    id[size - 1] = '\0';
}

const char *server_model_name(const struct server *s, const char *asked)
{
    if (asked && *asked)
        return asked;
    if (s->options->model_name)
        return s->options->model_name;
    const char *name = s->source.fn ? s->source.fn->info(s->source.ctx)->name : NULL;
    return name && *name ? name : "sluice";
}

static struct run *run_of(struct server *s)
{
    return (struct run *)s;
}

/* ---- stopping ---- */

static void on_flushed(evutil_socket_t fd, short what, void *arg)
{
    loop_stop(((struct run *)arg)->s.loop);
}

void server_settle(struct server *s)
{
    struct run *r = run_of(s);
    if (!s->draining || s->n_gen > 0 || s->n_job > 0 || r->loading || r->flushing)
        return;
    r->flushing = true;
    event_add(r->flushed, &(struct timeval){.tv_usec = FLUSH_MS * 1000});
}

static void on_drained(evutil_socket_t fd, short what, void *arg)
{
    struct run *r = arg;
    server_log(&r->s, SLUICE_LOG_WARN, "%d requests still run: they are cancelled", r->s.n_gen);
    generate_cancel_all(&r->s);
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
    struct run *r = arg;
    r->options.beat(r->options.ctx);
}

static void stop(struct run *r)
{
    struct server *s = &r->s;
    if (s->draining) {
        generate_cancel_all(s);
        return;
    }
    server_log(s, SLUICE_LOG_INFO, "stopping: %d requests run", s->n_gen);
    s->draining = true;
    if (r->options.stopping)
        r->options.stopping(r->options.ctx);
    http_stop_listening(s->http);
    event_add(r->drained, &(struct timeval){.tv_sec = r->options.drain_seconds});
    server_settle(s);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    stop(arg);
}

static void on_stop(struct loop_post *post)
{
    struct run *r = (struct run *)((char *)post - offsetof(struct run, stop));
    pthread_mutex_lock(&running_lock);
    r->stop_posted = false;
    pthread_mutex_unlock(&running_lock);
    stop(r);
}

void server_stop(void)
{
    pthread_mutex_lock(&running_lock);
    if (running && !running->stop_posted) {
        running->stop_posted = true;
        loop_post(running->s.loop, &running->stop);
    }
    pthread_mutex_unlock(&running_lock);
}

/* ---- loading ---- */

static void on_loaded(struct loop_post *post)
{
    struct run *r = (struct run *)((char *)post - offsetof(struct run, loaded));
    struct server *s = &r->s;
    r->loading = false;
    if (r->status != SLUICE_OK) {
        loop_stop(s->loop);
        return;
    }
    s->source = r->source;
    s->ready = true;
    s->opened = (int64_t)time(NULL);
    if (r->options.ready)
        r->options.ready(r->options.ctx);
    server_settle(s);
}

static void *load(void *arg)
{
    struct run *r = arg;
    if (r->options.script)
        r->status = source_script_open(r->options.script, &r->source, &r->error);
    else
        r->status = r->options.open_source(r->options.model, &r->source, &r->error);
    loop_post(r->s.loop, &r->loaded);
    return NULL;
}

/* ---- start ---- */

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "localhost") == 0 ||
           strcmp(host, "::1") == 0;
}

static enum sluice_status check_options(struct server_options *o, struct sluice_error *err)
{
    o->host = o->host ? o->host : "127.0.0.1";
    o->max_queued = o->max_queued ? o->max_queued : 256;
    o->drain_seconds = o->drain_seconds ? o->drain_seconds : 30;
    o->alive_seconds = o->alive_seconds ? o->alive_seconds : 5;
    o->version = o->version ? o->version : "";
    FAIL_IF(!is_loopback(o->host) && !o->key_file && !o->open, err, SLUICE_ERR_ARG,
            "listening on %s lets other machines in: expected a file of API keys, or an explicit "
            "word that none are wanted",
            o->host);
    FAIL_IF((o->tls_cert != NULL) != (o->tls_key != NULL), err, SLUICE_ERR_ARG,
            "TLS: expected both a certificate and a key");
    FAIL_IF(!o->script && !o->open_source, err, SLUICE_ERR_ARG, "no model to serve");
    return SLUICE_OK;
}

static enum sluice_status open_parts(struct run *r, struct sluice_error *err)
{
    struct server *s = &r->s;
    const struct server_options *o = &r->options;
    if (o->key_file)
        TRY(keys_open(o->key_file, &s->keys, err));
    if (o->trace)
        TRY(trace_open(o->trace, &s->trace, err));
    s->calls = shelf_new(LIMIT_SERVER_SHELF);
    s->items = shelf_new(LIMIT_SERVER_SHELF);
    s->grammars = grammars_new();
    FAIL_IF(!s->calls || !s->items || !s->grammars, err, SLUICE_ERR_NOMEM,
            "out of memory for the server");
    TRY(loop_open(&s->loop, err));
    struct event_base *base = loop_base(s->loop);
    r->signals[0] = evsignal_new(base, SIGTERM, on_signal, r);
    r->signals[1] = evsignal_new(base, SIGINT, on_signal, r);
    r->drained = event_new(base, -1, 0, on_drained, r);
    r->flushed = event_new(base, -1, 0, on_flushed, r);
    r->beat = event_new(base, -1, EV_PERSIST, on_beat, r);
    FAIL_IF(!r->signals[0] || !r->signals[1] || !r->drained || !r->flushed || !r->beat, err,
            SLUICE_ERR_NOMEM, "out of memory for the server");
    if (o->beat && o->beat_ms > 0)
        event_add(r->beat, &(struct timeval){.tv_sec = o->beat_ms / 1000,
                                             .tv_usec = o->beat_ms % 1000 * 1000});
    struct http_options http = {
        .host = o->host,
        .port = o->port,
        .tls_cert = o->tls_cert,
        .tls_key = o->tls_key,
        .max_connections = o->max_connections,
        .read_seconds = o->read_seconds,
        .handle = routes_handle,
        .ctx = s,
    };
    TRY(http_open(s->loop, &http, &s->http, err));
    event_add(r->signals[0], NULL);
    event_add(r->signals[1], NULL);
    return SLUICE_OK;
}

static void close_parts(struct run *r)
{
    struct server *s = &r->s;
    http_close(s->http);
    for (int i = 0; i < 2; i++)
        if (r->signals[i])
            event_free(r->signals[i]);
    if (r->drained)
        event_free(r->drained);
    if (r->flushed)
        event_free(r->flushed);
    if (r->beat)
        event_free(r->beat);
    loop_close(s->loop);
    grammars_free(s->grammars);
    if (r->source.fn)
        r->source.fn->close(r->source.ctx);
    shelf_free(s->calls);
    shelf_free(s->items);
    trace_close(s->trace);
    keys_close(s->keys);
}

static void set_running(struct run *r)
{
    pthread_mutex_lock(&running_lock);
    running = r;
    pthread_mutex_unlock(&running_lock);
}

enum sluice_status server_run(const struct server_options *options, struct sluice_error *err)
{
    struct run *r = calloc(1, sizeof *r);
    FAIL_IF(!r, err, SLUICE_ERR_NOMEM, "out of memory for the server");
    struct server *s = &r->s;
    r->options = *options;
    s->options = &r->options;
    s->started = clock_seconds();
    s->defaults = (struct ask_defaults){
        .temperature = options->sampling.temperature,
        .top_p = options->sampling.top_p,
        .min_p = options->sampling.min_p,
        .top_k = options->sampling.top_k,
        .effort = options->effort,
        .preview = options->preview,
        .keep_reasoning = options->keep_reasoning,
        .trust_text = options->trust_text,
    };
    r->loaded.run = on_loaded;
    r->stop.run = on_stop;
    enum sluice_status st = check_options(&r->options, err);
    if (st == SLUICE_OK)
        st = open_parts(r, err);
    if (st == SLUICE_OK) {
        r->loading = true;
        set_running(r);
        if (r->options.listening)
            r->options.listening(r->options.ctx, http_port(s->http));
        if (pthread_create(&r->loader, NULL, load, r) == 0) {
            loop_run(s->loop);
            pthread_join(r->loader, NULL);
            st = r->status;
            if (st != SLUICE_OK && err)
                *err = r->error;
        } else {
            st = status_fail(err, SLUICE_ERR_NOMEM, -1, "cannot start the loading thread");
        }
        set_running(NULL);
    }
    close_parts(r);
    free(r);
    return st;
}
