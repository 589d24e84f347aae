/* `sluice serve`: a model behind the APIs that people's tools speak. */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "cmd/cmd.h"
#include "server/server.h"

struct serving {
    const struct options *o;
    const char *host;
    int port;
    bool tls;
};

/* Tells systemd, where it asks to be told (Type=notify). */
static void notify(const char *state)
{
    const char *path = options_notify_socket();
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    if (len == 0 || len >= sizeof to.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(to.sun_path, path, len);
    if (*path == '@')
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}

static void log_line(void *ctx, enum sluice_log_level level, const char *text)
{
    static const char *const names[] = {"error: ", "warning: ", "", ""};
    const struct options *o = ctx;
    enum sluice_log_level least = options_flag(o, OPT_VERBOSE) ? SLUICE_LOG_INFO
                                  : options_flag(o, OPT_QUIET) ? SLUICE_LOG_ERROR
                                                               : SLUICE_LOG_WARN;
    if (level > least)
        return;
    if (options_flag(o, OPT_JSON_LOG))
        fprintf(stderr, "%s\n", text);
    else
        fprintf(stderr, "sluice: %s%s\n", names[level], text);
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
        .json_log = options_flag(o, OPT_JSON_LOG),
        .open_source = source_engine_open,
        .log = log_line,
        .log_ctx = (void *)o,
        .listening = say_listening,
        .ready = say_ready,
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
    model.engine.max_requests = (int)options_int(o, OPT_PARALLEL, 0);
    server.model = &model;
    server.ctx = &v;
    if (!options_given(o, OPT_MODEL) && !server.script && !options_flag(o, OPT_QUIET))
        fprintf(stderr, "sluice: using the built-in model; -m FILE opens another\n");
    enum sluice_status st = server_run(&server, &err);
    notify("STOPPING=1");
    if (st == SLUICE_OK)
        return EXIT_OK;
    cmd_error(o, &err);
    /* A model that cannot be opened and an address that cannot be bound are both I/O. */
    return v.port == 0 && st == SLUICE_ERR_IO ? EXIT_FAILED : cmd_open_code(st);
}
