/* tests/support/http.h - a server with a script in this process, and a client of a few lines. */
#ifndef SLUICE_TESTS_SUPPORT_HTTP_H
#define SLUICE_TESTS_SUPPORT_HTTP_H

#include <arpa/inet.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json_text.h"
#include "server/server.h"
#include "support/unit.h"

struct test_server {
    struct server_options options;
    pthread_t thread;
    sem_t ready;
    int port;
    enum sluice_status status;
    struct sluice_error error;
    char script[64];
};

static inline void test_server_listens(void *ctx, int port)
{
    ((struct test_server *)ctx)->port = port;
}

static inline void test_server_ready(void *ctx)
{
    sem_post(&((struct test_server *)ctx)->ready);
}

static inline void *test_server_main(void *arg)
{
    struct test_server *t = arg;
    t->status = server_run(&t->options, &t->error);
    sem_post(&t->ready);
    return NULL;
}

/* Serves these lines; options may be set in t before. */
static inline void test_server_start(struct test_server *t, const char *script)
{
    snprintf(t->script, sizeof t->script, "/tmp/sluice-script-XXXXXX");
    int fd = mkstemp(t->script);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    fputs(script, f);
    fclose(f);
    t->options.script = t->script;
    t->options.listening = test_server_listens;
    t->options.ready = test_server_ready;
    t->options.ctx = t;
    sem_init(&t->ready, 0, 0);
    assert_int_equal(pthread_create(&t->thread, NULL, test_server_main, t), 0);
    sem_wait(&t->ready);
    if (t->port == 0)
        fail_msg("the server did not start: %s", t->error.message);
}

static inline void test_server_stop(struct test_server *t)
{
    server_stop();
    pthread_join(t->thread, NULL);
    assert_int_equal(t->status, SLUICE_OK);
    unlink(t->script);
    sem_destroy(&t->ready);
}

static inline int client_connect(const struct test_server *t)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)t->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    struct timeval limit = {.tv_sec = 60};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static inline void client_send(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        bytes += sent;
        n -= (size_t)sent;
    }
}

/* headers: lines that end in \r\n, or "". */
static inline void client_request(int fd, const char *line, const char *headers, const char *body)
{
    struct buf b = {0};
    buf_addf(&b, "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s", line, headers);
    if (body)
        buf_addf(&b, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    buf_add_str(&b, "\r\n");
    if (body)
        buf_add_str(&b, body);
    client_send(fd, b.data, b.len);
    buf_deinit(&b);
}

struct client_reply {
    int status;
    char *head; /* the status line and the headers */
    struct buf body; /* without the framing of chunks */
};

static inline void client_reply_free(struct client_reply *r)
{
    free(r->head);
    buf_deinit(&r->body);
}

/* Reads to the end of the connection. */
static inline struct client_reply client_read(int fd)
{
    struct client_reply r = {0};
    struct buf all = {0};
    char piece[4096];
    ssize_t n;
    while ((n = recv(fd, piece, sizeof piece, 0)) > 0)
        buf_add(&all, piece, (size_t)n);
    close(fd);
    char *end = all.len ? strstr(all.data, "\r\n\r\n") : NULL;
    if (!end) {
        buf_deinit(&all);
        return r;
    }
    r.head = strndup(all.data, (size_t)(end - all.data));
    r.status = (int)strtol(r.head + strlen("HTTP/1.1 "), NULL, 10);
    char *at = end + 4, *last = all.data + all.len;
    if (!strstr(r.head, "chunked")) {
        buf_add(&r.body, at, (size_t)(last - at));
    } else {
        while (at < last) {
            size_t len = strtoul(at, &at, 16);
            at += 2;
            if (len == 0 || (size_t)(last - at) < len)
                break;
            buf_add(&r.body, at, len);
            at += len + 2;
        }
    }
    buf_add_str(&r.body, "");
    buf_deinit(&all);
    return r;
}

static inline struct client_reply client_ask(const struct test_server *t, const char *line,
                                             const char *headers, const char *body)
{
    int fd = client_connect(t);
    client_request(fd, line, headers, body);
    return client_read(fd);
}

/* A reply's body as JSON; the caller puts it. */
static inline struct json_object *client_json(const struct test_server *t, const char *line,
                                              const char *body, int status)
{
    struct client_reply r = client_ask(t, line, "", body);
    struct json_object *value = NULL;
    struct sluice_error err;
    if (r.status != status)
        fail_msg("%s: status %d, expected %d: %s", line, r.status, status,
                 r.body.data ? r.body.data : "");
    if (json_text_parse(r.body.data, r.body.len, &value, &err) != SLUICE_OK)
        fail_msg("%s: %s: %s", line, err.message, r.body.data);
    client_reply_free(&r);
    return value;
}

/* "choices.0.message.content". NULL where a step is missing. */
static inline struct json_object *at_path(struct json_object *value, const char *path)
{
    char key[64];
    while (value && *path) {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        if (json_object_is_type(value, json_type_array))
            value = json_object_array_get_idx(value, strtoul(key, NULL, 10));
        else if (!json_object_object_get_ex(value, key, &value))
            value = NULL;
        path += n + (path[n] == '.');
    }
    return value;
}

static inline const char *text_at(struct json_object *value, const char *path)
{
    struct json_object *text = at_path(value, path);
    if (!json_object_is_type(text, json_type_string))
        fail_msg("%s: expected a string in %s", path, json_object_to_json_string(value));
    return json_object_get_string(text);
}

static inline int64_t int_at(struct json_object *value, const char *path)
{
    struct json_object *number = at_path(value, path);
    if (!json_object_is_type(number, json_type_int))
        fail_msg("%s: expected a number in %s", path, json_object_to_json_string(value));
    return json_object_get_int64(number);
}

/* Calls fn with the JSON of every "data:" line. */
static inline int each_event(const struct client_reply *r,
                             void (*fn)(void *ctx, struct json_object *event), void *ctx)
{
    int n = 0;
    for (char *at = r->body.data; at && (at = strstr(at, "data: "));) {
        at += 6;
        size_t len = strcspn(at, "\n");
        struct json_object *event = NULL;
        if (strncmp(at, "[DONE]", 6) != 0) {
            if (json_text_parse(at, len, &event, NULL) != SLUICE_OK)
                fail_msg("not JSON: %.*s", (int)len, at);
            fn(ctx, event);
            json_object_put(event);
            n++;
        }
        at += len;
    }
    return n;
}

#endif
