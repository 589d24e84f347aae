/* The server of `sluice launch`: one that runs, or one that is started and ended with the client.
 *
 * The started one is a child in a process group of its own, so that Ctrl-C in the client does not
 * reach it, and it ends when its parent does, whatever ends that. Its standard error goes to a
 * file: the terminal is the client's. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/json_text.h"
#include "cmd/cmd.h"
#include "cmd/interrupt.h"
#include "cmd/launch.h"
#include "os/file.h"

#define ANSWER_SECONDS 10 /* for a server to say what it is */
#define ANSWER_BYTES ((size_t)1 << 20)
#define LOG_SHOWN 4096 /* bytes of the log's end */

/* ---- one that runs ---- */

enum found { FOUND_NONE, FOUND_OTHER, FOUND_LOADING, FOUND_LOCKED, FOUND_SLUICE };

static enum sluice_status read_key(const struct options *o, char *key, size_t size,
                                   struct sluice_error *err)
{
    const char *path = options_text(o, OPT_API_KEY_FILE, NULL);
    char *bytes;
    size_t n;
    if (!path)
        return SLUICE_OK;
    TRY(file_read_all(path, LIMIT_CMD_INPUT, &bytes, &n, err));
    for (char *at = bytes; *at && !key[0]; at += strcspn(at, "\n"), at += *at == '\n') {
        int len = (int)strcspn(at, "\r\n");
        if (*at != '#' && len > 0 && len < (int)size)
            snprintf(key, size, "%.*s", len, at);
    }
    free(bytes);
    FAIL_IF(!key[0], err, SLUICE_ERR_FORMAT, "%s: expected an API key of at most %zu bytes", path,
            size - 1);
    return SLUICE_OK;
}

/* -1 if nobody listens there, or the address is none. */
static int connect_to(const char *host, int port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    bool is_v6 = strchr(host, ':') != NULL;
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (inet_pton(is_v6 ? AF_INET6 : AF_INET, host,
                  is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr) != 1)
        return -1;
    int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = ANSWER_SECONDS};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const struct sockaddr *to = is_v6 ? (void *)&v6 : (void *)&v4;
    if (fd >= 0 && connect(fd, to, is_v6 ? sizeof v6 : sizeof v4) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Asks for /props; the reply as it came. */
static void exchange(int fd, const char *key, struct buf *reply)
{
    struct buf ask = {0};
    char piece[4096];
    buf_add_str(&ask, "GET /props HTTP/1.0\r\nHost: localhost\r\n");
    if (key[0])
        buf_addf(&ask, "Authorization: Bearer %s\r\n", key);
    buf_add_str(&ask, "\r\n");
    bool sent = buf_status(&ask, NULL) == SLUICE_OK &&
                send(fd, ask.data, ask.len, MSG_NOSIGNAL) == (ssize_t)ask.len;
    buf_deinit(&ask);
    ssize_t n;
    while (sent && reply->len < ANSWER_BYTES && (n = recv(fd, piece, sizeof piece, 0)) > 0)
        buf_add(reply, piece, (size_t)n);
}

static struct json_object *member(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    if (json_object_is_type(o, json_type_object))
        json_object_object_get_ex(o, key, &v);
    return v;
}

/* Any name is served: what could trouble a client's own syntax is left out. */
static void set_model(struct launch_server *s, const char *alias)
{
    size_t n = 0;
    for (const char *at = alias; *at && n + 1 < sizeof s->model; at++) {
        bool plain = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                     (*at >= '0' && *at <= '9') || *at == '.' || *at == '_' || *at == '-';
        s->model[n++] = plain ? *at : '-';
    }
    s->model[n] = '\0';
    if (n == 0)
        snprintf(s->model, sizeof s->model, "sluice");
}

/* What a reply to GET /props says; path gets the model's file. */
static enum found understand(const struct buf *reply, struct launch_server *s, struct buf *path)
{
    struct json_object *props = NULL;
    const char *body = reply->len ? strstr(reply->data, "\r\n\r\n") : NULL;
    if (!body || strncmp(reply->data, "HTTP/1.", 7) != 0)
        return FOUND_OTHER;
    long status = strtol(reply->data + strlen("HTTP/1.1 "), NULL, 10);
    body += 4;
    if (status == 503 && strstr(body, "model_loading"))
        return FOUND_LOADING;
    if (status == 401 && strstr(body, "invalid_api_key"))
        return FOUND_LOCKED;
    json_text_parse(body, reply->len - (size_t)(body - reply->data), &props, NULL);
    bool ours = status == 200 && member(props, "thinking_modes") && member(props, "model_alias");
    if (ours) {
        set_model(s, json_object_get_string(member(props, "model_alias")));
        s->context = json_object_get_int64(member(props, "n_ctx"));
        buf_clear(path);
        buf_add_str(path, json_object_get_string(member(props, "model_path")));
    }
    json_object_put(props);
    return ours ? FOUND_SLUICE : FOUND_OTHER;
}

static enum found probe(const char *host, int port, struct launch_server *s, struct buf *path)
{
    struct buf reply = {0};
    int fd = connect_to(host, port);
    if (fd < 0)
        return FOUND_NONE;
    exchange(fd, s->key, &reply);
    close(fd);
    enum found f = understand(&reply, s, path);
    buf_deinit(&reply);
    return f;
}

static void set_url(struct launch_server *s, const char *host, int port)
{
    bool v6 = strchr(host, ':') != NULL;
    snprintf(s->url, sizeof s->url, "http://%s%s%s:%d", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

/* A model that was asked for must be the one that is served. */
static enum sluice_status check_model(const struct options *o, const struct launch_server *s,
                                      const struct buf *path, struct sluice_error *err)
{
    const char *wanted = options_text(o, OPT_MODEL, NULL), *served = path->data ? path->data : "";
    char *a = wanted ? realpath(wanted, NULL) : NULL, *b = realpath(served, NULL);
    bool same = !wanted || strcmp(wanted, served) == 0 || (a && b && strcmp(a, b) == 0);
    free(a);
    free(b);
    FAIL_IF(!same, err, SLUICE_ERR_ARG,
            "%s serves %s already: expected it to serve %s; --port N starts a second server",
            s->url, served, wanted);
    return SLUICE_OK;
}

/* *found: a server is there and s describes it. */
static enum sluice_status look(const struct options *o, struct launch_server *s, bool *found,
                               struct sluice_error *err)
{
    const char *host = options_text(o, OPT_HOST, "127.0.0.1");
    int port = (int)options_int(o, OPT_PORT, 8000);
    struct buf path = {0};
    enum found f;
    set_url(s, host, port);
    while ((f = probe(host, port, s, &path)) == FOUND_LOADING) {
        usleep(200000);
        FAIL_IF(interrupt_count() > 0, err, SLUICE_ERR_CANCELLED, "interrupted");
    }
    enum sluice_status st = SLUICE_OK;
    if (f == FOUND_LOCKED)
        st = status_fail(err, SLUICE_ERR_ARG, -1,
                         "the server at %s wants an API key: expected --api-key-file with one of "
                         "its keys",
                         s->url);
    else if (f == FOUND_SLUICE)
        st = check_model(o, s, &path, err);
    buf_deinit(&path);
    *found = f == FOUND_SLUICE;
    return st;
}

/* ---- one that is started ---- */

/* In the child: serves until it is told to stop. */
_Noreturn static void serve(const struct options *o, int out, int log, pid_t parent)
{
    struct options serve = *o;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setpgid(0, 0);
    if (getppid() != parent || dup2(out, 1) < 0 || dup2(log, 2) < 0)
        _exit(EXIT_FAILED);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0)
        dup2(null, 0);
    serve.command = "serve";
    serve.bit = CMD_SERVE;
    if (!options_given(o, OPT_PORT))
        serve.value[OPT_PORT] = (struct option_value){.rank = 1, .text = "0"};
    /* Said already, and the log is shown in the end. */
    if (!options_given(o, OPT_MODEL))
        serve.value[OPT_QUIET] = (struct option_value){.rank = 1, .text = "1", .integer = 1};
    /* Its only client is gone when it ends. */
    serve.value[OPT_DRAIN] = (struct option_value){.rank = 1, .text = "1", .integer = 1};
    int code = cmd_serve(&serve);
    fflush(NULL);
    _exit(code);
}

static void show_log(const struct launch_server *s)
{
    char *bytes;
    size_t n;
    if (file_read_all(s->log, LIMIT_CMD_INPUT, &bytes, &n, NULL) != SLUICE_OK)
        return;
    size_t from = n > LOG_SHOWN ? n - LOG_SHOWN : 0;
    if (from > 0)
        from += strcspn(bytes + from, "\n") + 1;
    fwrite(bytes + from, 1, n - from, stderr);
    free(bytes);
}

/* Waits for "listening on URL" and its end; false if the child ended or Ctrl-C came. */
static bool wait_listening(int from, struct launch_server *s)
{
    static const char said[] = "listening on ";
    char *line = NULL;
    size_t room = 0;
    FILE *f = fdopen(from, "r");
    if (!f) {
        close(from);
        return false;
    }
    ssize_t n = getline(&line, &room, f);
    bool ok = n > (ssize_t)strlen(said) && strncmp(line, said, strlen(said)) == 0;
    if (ok)
        snprintf(s->url, sizeof s->url, "%.*s", (int)strcspn(line + strlen(said), "\n"),
                 line + strlen(said));
    free(line);
    fclose(f);
    return ok;
}

static enum sluice_status start(const struct options *o, const char *dir, struct launch_server *s,
                                struct sluice_error *err)
{
    int out[2];
    snprintf(s->log, sizeof s->log, "%s/server.log", dir);
    int log = open(s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    FAIL_IF(log < 0, err, SLUICE_ERR_IO, "%s: cannot be written", s->log);
    if (pipe2(out, O_CLOEXEC) != 0) {
        close(log);
        return status_fail(err, SLUICE_ERR_IO, -1, "cannot make a pipe for the server");
    }
    fflush(NULL);
    pid_t parent = getpid();
    s->pid = fork();
    if (s->pid == 0)
        serve(o, out[1], log, parent);
    close(out[1]);
    close(log);
    if (s->pid < 0) {
        s->pid = 0;
        close(out[0]);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "cannot start a process for the server");
    }
    bool listens = wait_listening(out[0], s);
    FAIL_IF(interrupt_count() > 0, err, SLUICE_ERR_CANCELLED, "interrupted");
    FAIL_IF(!listens, err, SLUICE_ERR_IO, "the server could not be started");
    const char *port = strrchr(s->url, ':');
    struct buf path = {0};
    enum found f =
        probe(options_text(o, OPT_HOST, "127.0.0.1"), (int)strtol(port + 1, NULL, 10), s, &path);
    buf_deinit(&path);
    FAIL_IF(f != FOUND_SLUICE, err, SLUICE_ERR_IO, "the server at %s does not answer", s->url);
    return SLUICE_OK;
}

/* ---- both ---- */

enum sluice_status launch_server_open(const struct options *o, const char *dir,
                                      struct launch_server *s, struct sluice_error *err)
{
    bool found = false;
    *s = (struct launch_server){0};
    TRY(read_key(o, s->key, sizeof s->key, err));
    TRY(look(o, s, &found, err));
    if (found)
        return SLUICE_OK;
    const char *host = options_text(o, OPT_HOST, "127.0.0.1");
    bool here =
        strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
    FAIL_IF(!here, err, SLUICE_ERR_IO, "no server of this program answers at %s", s->url);
    if (!options_flag(o, OPT_QUIET))
        fprintf(stderr, "sluice launch: starting a server with %s\n",
                options_text(o, OPT_SCRIPT, options_text(o, OPT_MODEL, "the built-in model")));
    return start(o, dir, s, err);
}

void launch_server_close(struct launch_server *s)
{
    int status;
    if (s->pid > 0) {
        kill(s->pid, SIGTERM);
        interrupt_clear();
        while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
            if (interrupt_count() > 1)
                kill(s->pid, SIGKILL);
        s->pid = 0;
    }
    if (s->log[0]) {
        show_log(s);
        unlink(s->log);
    }
}
