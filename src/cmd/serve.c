/* `sluice serve`: a model behind the APIs that people's tools speak. */
#include <time.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/json_text.h"
#include "cmd/cmd.h"
#include "os/notify.h"
#include "server/server.h"

struct serving {
    const struct options *o;
    const char *host;
    int port;
    bool tls;
};

static void notify(const char *state)
{
    notify_send(options_notify_socket(), state);
}

/* A line of the log, plain or JSON. On any thread; one call of fprintf is one line. */
static void say(const struct options *o, enum sluice_log_level level, const char *text)
{
    static const char *const prefixes[] = {"error: ", "warning: ", "", ""};
    static const char *const names[] = {"error", "warning", "info", "debug"};
    struct timespec now;
    if (!options_flag(o, OPT_JSON_LOG)) {
        fprintf(stderr, "sluice: %s%s\n", prefixes[level], text);
        return;
    }
    struct buf line = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    buf_addf(&line, "{\"time\": %lld.%03ld, \"level\": \"%s\", \"text\": ", (long long)now.tv_sec,
             now.tv_nsec / 1000000, names[level]);
    json_text_write_str(&line, str_of(text));
    buf_add_str(&line, "}\n");
    if (line.data)
        fputs(line.data, stderr);
    buf_deinit(&line);
}

static void log_line(void *ctx, enum sluice_log_level level, const char *text)
{
    const struct options *o = ctx;
    enum sluice_log_level least = options_flag(o, OPT_VERBOSE) ? SLUICE_LOG_INFO
                                  : options_flag(o, OPT_QUIET) ? SLUICE_LOG_ERROR
                                                               : SLUICE_LOG_WARN;
    if (level <= least)
        say(o, level, text);
}

static void say_listening(void *ctx, int port)
{
    struct serving *v = ctx;
    v->port = port;
    notify("STATUS=loading the model");
}

static void say_ready(void *ctx)
{
    const struct serving *v = ctx;
    const char *open = strchr(v->host, ':') ? "[" : "", *close = *open ? "]" : "";
    printf("listening on %s://%s%s%s:%d\n", v->tls ? "https" : "http", open, v->host, close,
           v->port);
    fflush(stdout);
    notify("READY=1\nSTATUS=serving");
}

static void say_stopping(void *ctx)
{
    notify("STOPPING=1\nSTATUS=letting requests end");
}

/* The loop still turns. */
static void say_alive(void *ctx)
{
    notify("WATCHDOG=1");
}

static void serve_options(const struct options *o, struct server_options *out)
{
    bool builtin = !options_given(o, OPT_MODEL);
    struct sluice_sampling sampling;
    cmd_sampling(o, builtin ? 0.0f : 1.0f, &sampling);
    *out = (struct server_options){
        .host = options_text(o, OPT_HOST, "127.0.0.1"),
        .port = (int)options_int(o, OPT_PORT, 8000),
        .key_file = options_text(o, OPT_API_KEY_FILE, NULL),
        .open = options_flag(o, OPT_NO_API_KEY),
        .tls_cert = options_text(o, OPT_TLS_CERT, NULL),
        .tls_key = options_text(o, OPT_TLS_KEY, NULL),
        .cors = options_text(o, OPT_CORS, NULL),
        .hosts = options_text(o, OPT_ALLOW_HOST, NULL),
        .trace = options_text(o, OPT_TRACE, NULL),
        .script = options_text(o, OPT_SCRIPT, NULL),
        .version = sluice_version(),
        .model_name = options_text(o, OPT_MODEL_NAME, NULL),
        .max_queued = (int)options_int(o, OPT_MAX_QUEUED, 0),
        .drain_seconds = (int)options_int(o, OPT_DRAIN, 0),
        .sampling = sampling,
        .effort = cmd_effort(o, builtin),
        .keep_reasoning = options_flag(o, OPT_KEEP_REASONING),
        .trust_text = options_flag(o, OPT_TRUST_TEXT),
        .open_source = source_engine_open,
        .log = log_line,
        .log_ctx = (void *)o,
        .listening = say_listening,
        .ready = say_ready,
        .stopping = say_stopping,
        .beat = say_alive,
        .beat_ms = (int)(options_watchdog_us() / 2000),
    };
}

int cmd_serve(const struct options *o)
{
    struct server_model model = {
        .kv_dir = options_text(o, OPT_KV_DIR, NULL),
        .kv_dir_bytes = options_int(o, OPT_KV_SIZE, 0)};
    struct server_options server;
    struct sluice_error err;
    serve_options(o, &server);
    struct serving v = {.o = o, .host = server.host, .tls = server.tls_cert != NULL};
    if (server.script && options_given(o, OPT_MODEL))
        return cmd_usage(o, "expected one of --model and --script");
    cmd_engine_options(o, &model.engine);
    model.engine.log = log_line;
    model.engine.log_ctx = (void *)o;
    model.engine.max_requests = (int)options_int(o, OPT_PARALLEL, 0);
    /* Who asks for both wants them together. */
    model.engine.all_at_once = options_given(o, OPT_PARALLEL) && options_given(o, OPT_CTX);
    server.model = &model;
    server.ctx = &v;
    if (!options_given(o, OPT_MODEL) && !server.script && !options_flag(o, OPT_QUIET))
        say(o, SLUICE_LOG_INFO, "using the built-in model; -m FILE opens another");
    enum sluice_status st = server_run(&server, &err);
    if (st == SLUICE_OK)
        return EXIT_OK;
    if (options_flag(o, OPT_JSON_LOG))
        say(o, SLUICE_LOG_ERROR, err.message);
    else
        cmd_error(o, &err);
    /* A model that cannot be opened and an address that cannot be bound are both I/O. */
    return v.port == 0 && st == SLUICE_ERR_IO ? EXIT_FAILED : cmd_open_code(st);
}
