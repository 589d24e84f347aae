/* server/routes.c - which path does what. Paths stand here without "/v1", which may be in front of
 * them or not. */
#include <json-c/json.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/api_own.h"
#include "server/sse.h"

enum route_kind { ROUTE_DIRECT, ROUTE_WORK, ROUTE_API };

typedef void (*direct_fn)(struct server *s, struct exchange *x, const char *rest);
typedef enum sluice_status (*work_fn)(struct server *s, struct json_object *body, struct buf *out,
                                      struct sluice_error *err);

struct route {
    enum http_method method;
    const char *path; /* "*" at its end: any text, which the function gets */
    enum route_kind kind;
    bool early; /* also while the model is not open yet */
    direct_fn direct; /* answers on the loop's thread */
    work_fn work; /* answers a body on the worker */
    const struct api *api;
};

/* ---- replies ---- */

void routes_add_cors(struct server *s, struct exchange *x)
{
    const char *origin = http_header(x, "Origin");
    if (!origin || !s->options->cors || !guard_origin_allowed(s, x))
        return;
    http_add_header(x, "Access-Control-Allow-Origin", origin);
    http_add_header(x, "Vary", "Origin");
    http_add_header(x, "Access-Control-Expose-Headers", "Retry-After");
}

void routes_reply(struct server *s, struct exchange *x, int status, const char *type,
                  struct str body)
{
    s->count.refused += status >= 400 && status < 500;
    s->count.faults += status >= 500;
    routes_add_cors(s, x);
    http_add_header(x, "X-Content-Type-Options", "nosniff");
    http_reply(x, status, type, body);
}

void routes_fault(struct server *s, struct exchange *x, const struct fault *f,
                  void (*envelope)(const struct fault *f, struct buf *out))
{
    struct buf body = {0};
    char seconds[16];
    envelope(f, &body);
    if (f->retry_after > 0) {
        snprintf(seconds, sizeof seconds, "%d", f->retry_after);
        http_add_header(x, "Retry-After", seconds);
    }
    if (f->status == 401)
        http_add_header(x, "WWW-Authenticate", "Bearer");
    server_log(s, f->status >= 500 ? SLUICE_LOG_WARN : SLUICE_LOG_INFO, "%s %s: %d %s",
               http_peer(x), http_path(x), f->status, f->message);
    routes_reply(s, x, f->status, "application/json", buf_text(&body));
    buf_deinit(&body);
}

static void reply_json(struct server *s, struct exchange *x, struct buf *body)
{
    struct fault f;
    if (buf_status(body, NULL) == SLUICE_OK) {
        routes_reply(s, x, 200, "application/json", buf_text(body));
    } else {
        fault_set(&f, 503, NULL, "out of memory for the reply");
        routes_fault(s, x, &f, fault_write_openai);
    }
    buf_deinit(body);
}

static void not_found(struct server *s, struct exchange *x, const char *what)
{
    struct fault f;
    fault_set(&f, 404, "not_found", "%.200s does not exist", what);
    routes_fault(s, x, &f, fault_write_openai);
}

/* ---- direct ones ---- */

static void page(struct server *s, struct exchange *x, const char *rest)
{
    http_add_header(x, "Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'");
    routes_reply(s, x, 200, "text/html; charset=utf-8", str_of(own_page));
}

static void health(struct server *s, struct exchange *x, const char *rest)
{
    routes_reply(s, x, s->ready && !s->draining ? 200 : 503, "application/json",
                 str_of(!s->ready     ? "{\"status\": \"loading model\"}"
                        : s->draining ? "{\"status\": \"stopping\"}"
                                      : "{\"status\": \"ok\"}"));
}

static void models(struct server *s, struct exchange *x, const char *rest)
{
    struct buf out = {0};
    own_write_models(s, &out);
    reply_json(s, x, &out);
}

static void model(struct server *s, struct exchange *x, const char *rest)
{
    struct buf out = {0};
    if (own_write_model(s, rest, &out))
        reply_json(s, x, &out);
    else
        not_found(s, x, rest);
}

static void props(struct server *s, struct exchange *x, const char *rest)
{
    struct buf out = {0};
    own_write_props(s, &out);
    reply_json(s, x, &out);
}

static void slots(struct server *s, struct exchange *x, const char *rest)
{
    struct buf out = {0};
    generate_write_slots(s, &out);
    reply_json(s, x, &out);
}

static void metrics(struct server *s, struct exchange *x, const char *rest)
{
    struct buf out = {0};
    metrics_write(s, &out);
    routes_reply(s, x, 200, "text/plain; version=0.0.4", buf_text(&out));
    buf_deinit(&out);
}

static void version(struct server *s, struct exchange *x, const char *rest)
{
    struct buf out = {0};
    own_write_version(&out);
    reply_json(s, x, &out);
}

static void tags(struct server *s, struct exchange *x, const char *rest)
{
    struct buf out = {0};
    own_write_tags(s, &out);
    reply_json(s, x, &out);
}

static void pull(struct server *s, struct exchange *x, const char *rest)
{
    routes_reply(s, x, 200, "application/x-ndjson", str_of("{\"status\": \"success\"}\n"));
}

/* A kept response: its "response" member. */
static bool kept_response(struct server *s, const char *id, struct buf *out)
{
    struct buf text = {0};
    struct json_object *kept = NULL;
    if (shelf_get(s->items, str_of(id), &text))
        json_text_parse(text.data, text.len, &kept, NULL);
    struct json_object *response = field(kept, "response");
    if (response)
        json_text_write(out, response);
    json_object_put(kept);
    buf_deinit(&text);
    return response != NULL;
}

static void response_get(struct server *s, struct exchange *x, const char *rest)
{
    struct buf out = {0};
    if (kept_response(s, rest, &out))
        reply_json(s, x, &out);
    else
        not_found(s, x, rest);
}

static void response_delete(struct server *s, struct exchange *x, const char *rest)
{
    struct buf out = {0};
    if (!shelf_drop(s->items, str_of(rest))) {
        not_found(s, x, rest);
        return;
    }
    buf_add_str(&out, "{\"id\": ");
    json_text_write_str(&out, str_of(rest));
    buf_add_str(&out, ", \"object\": \"response\", \"deleted\": true}");
    reply_json(s, x, &out);
}

/* POST /responses/{id}/cancel */
static void response_cancel(struct server *s, struct exchange *x, const char *rest)
{
    char id[ANSWER_ID];
    size_t n = strcspn(rest, "/");
    struct buf out = {0};
    if (strcmp(rest + n, "/cancel") != 0 || n >= sizeof id) {
        not_found(s, x, http_path(x));
        return;
    }
    snprintf(id, sizeof id, "%.*s", (int)n, rest);
    bool runs = strncmp(id, "resp_", 5) == 0 && generate_cancel(s, id + 5);
    if (runs)
        buf_addf(&out, "{\"id\": \"%s\", \"object\": \"response\", \"status\": \"cancelled\"}", id);
    if (runs || kept_response(s, id, &out))
        reply_json(s, x, &out);
    else
        not_found(s, x, id);
}

static void unsupported(struct server *s, struct exchange *x, const char *rest)
{
    struct fault f;
    fault_set(&f, 501, "not_supported", "%s is not supported: this model generates text only",
              http_path(x));
    routes_fault(s, x, &f, fault_write_openai);
}

/* ---- the table ---- */

/* clang-format off */
static const struct route table[] = {
    {HTTP_POST, "/chat/completions",        ROUTE_API, .api = &api_chat},
    {HTTP_POST, "/completions",             ROUTE_API, .api = &api_completions},
    {HTTP_POST, "/messages",                ROUTE_API, .api = &api_messages},
    {HTTP_POST, "/messages/count_tokens",   ROUTE_WORK, .work = own_count_messages},
    {HTTP_POST, "/responses",               ROUTE_API, .api = &api_responses},
    {HTTP_POST, "/responses/input_tokens",  ROUTE_WORK, .work = own_count_responses},
    {HTTP_POST, "/responses/*",             ROUTE_DIRECT, .direct = response_cancel},
    {HTTP_GET, "/responses/*",              ROUTE_DIRECT, .direct = response_get},
    {HTTP_DELETE, "/responses/*",           ROUTE_DIRECT, .direct = response_delete},
    {HTTP_GET, "/models",                   ROUTE_DIRECT, .direct = models},
    {HTTP_GET, "/models/*",                 ROUTE_DIRECT, .direct = model},
    {HTTP_GET, "/health",                   ROUTE_DIRECT, true, .direct = health},
    {HTTP_GET, "/metrics",                  ROUTE_DIRECT, true, .direct = metrics},
    {HTTP_GET, "/props",                    ROUTE_DIRECT, .direct = props},
    {HTTP_GET, "/slots",                    ROUTE_DIRECT, true, .direct = slots},
    {HTTP_POST, "/tokenize",                ROUTE_WORK, .work = own_tokenize},
    {HTTP_POST, "/detokenize",              ROUTE_WORK, .work = own_detokenize},
    {HTTP_POST, "/apply-template",          ROUTE_WORK, .work = own_template},
    {HTTP_POST, "/embeddings",              ROUTE_DIRECT, true, .direct = unsupported},
    {HTTP_POST, "/rerank",                  ROUTE_DIRECT, true, .direct = unsupported},
    {HTTP_GET, "/api/version",              ROUTE_DIRECT, true, .direct = version},
    {HTTP_GET, "/api/tags",                 ROUTE_DIRECT, .direct = tags},
    {HTTP_POST, "/api/pull",                ROUTE_DIRECT, .direct = pull},
    {HTTP_POST, "/api/show",                ROUTE_WORK, .work = own_show},
    {HTTP_POST, "/api/chat",                ROUTE_API, .api = &api_ollama_chat},
    {HTTP_GET, "/",                         ROUTE_DIRECT, true, .direct = page},
};
/* clang-format on */

static bool path_fits(const char *pattern, const char *path, const char **rest)
{
    size_t n = strlen(pattern);
    *rest = "";
    if (pattern[n - 1] != '*')
        return strcmp(pattern, path) == 0;
    if (strncmp(pattern, path, n - 1) != 0 || path[n - 1] == '\0')
        return false;
    *rest = path + n - 1;
    return true;
}

/* The route of a request; *other: one of another method has the path. */
static const struct route *find(enum http_method method, const char *path, const char **rest,
                                bool *other)
{
    *other = false;
    if (strncmp(path, "/v1/", 4) == 0)
        path += 3;
    if (method == HTTP_HEAD)
        method = HTTP_GET;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (!path_fits(table[i].path, path, rest))
            continue;
        if (table[i].method == method)
            return &table[i];
        *other = true;
    }
    return NULL;
}

/* The envelope that clients of a path read errors in. */
static void (*fault_writer(const char *path))(const struct fault *, struct buf *)
{
    return strstr(path, "/messages") ? fault_write_anthropic : fault_write_openai;
}

/* ---- work ---- */

struct job {
    struct loop_post post;
    struct server *s;
    struct exchange *x; /* NULL: gone */
    work_fn work;
    char *body, encoding[16];
    size_t len;
    struct buf out;
    struct sluice_error error;
    enum sluice_status status;
};

static void on_answered(struct loop_post *post)
{
    struct job *j = (struct job *)post;
    struct server *s = j->s;
    s->n_job--;
    if (j->x)
        http_on_gone(j->x, NULL, NULL);
    if (j->x && j->status == SLUICE_OK) {
        reply_json(s, j->x, &j->out);
    } else if (j->x) {
        struct fault f;
        fault_from(&f, &j->error);
        routes_fault(s, j->x, &f, fault_writer(http_path(j->x)));
    }
    buf_deinit(&j->out);
    free(j->body);
    free(j);
    server_settle(s);
}

static void do_work(struct loop_post *post)
{
    struct job *j = (struct job *)post;
    struct json_object *body = NULL;
    j->status = body_parse(j->body, j->len, j->encoding, &body, &j->error);
    if (j->status == SLUICE_OK)
        j->status = j->work(j->s, body, &j->out, &j->error);
    json_object_put(body);
    j->post.run = on_answered;
    loop_post(j->s->loop, &j->post);
}

static void work_gone(void *arg)
{
    ((struct job *)arg)->x = NULL;
}

static void start_work(struct server *s, struct exchange *x, work_fn work, struct str body)
{
    struct job *j = calloc(1, sizeof *j);
    const char *encoding = http_header(x, "Content-Encoding");
    if (!j) {
        struct fault f;
        free((char *)body.at);
        fault_set(&f, 503, NULL, "out of memory for a request");
        routes_fault(s, x, &f, fault_writer(http_path(x)));
        return;
    }
    *j = (struct job){.post.run = do_work,
                      .s = s,
                      .x = x,
                      .work = work,
                      .body = (char *)body.at,
                      .len = body.len};
    snprintf(j->encoding, sizeof j->encoding, "%s", encoding ? encoding : "");
    http_on_gone(x, work_gone, j);
    s->n_job++;
    loop_work(s->loop, &j->post);
}

/* ---- dispatch ---- */

static void preflight(struct server *s, struct exchange *x)
{
    if (s->options->cors) {
        http_add_header(x, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
        const char *headers = http_header(x, "Access-Control-Request-Headers");
        http_add_header(x, "Access-Control-Allow-Headers", headers ? headers : "*");
        http_add_header(x, "Access-Control-Max-Age", "600");
    }
    routes_reply(s, x, 204, NULL, (struct str){"", 0});
}

static void dispatch(struct server *s, struct exchange *x, const struct route *route,
                     const char *rest)
{
    struct fault f;
    char *body;
    size_t len;
    if (!s->ready && !route->early) {
        fault_set(&f, 503, "model_loading", "the model is being loaded");
        f.retry_after = 2;
        routes_fault(s, x, &f, fault_writer(http_path(x)));
    } else if (s->draining && route->kind != ROUTE_DIRECT) {
        fault_set(&f, 503, "stopping", "the server is being stopped");
        f.retry_after = 5;
        routes_fault(s, x, &f, fault_writer(http_path(x)));
    } else if (route->kind == ROUTE_DIRECT) {
        route->direct(s, x, rest);
    } else if (s->n_job >= s->options->max_queued) {
        fault_set(&f, 429, "rate_limit_exceeded", "%d requests wait to be read", s->n_job);
        f.retry_after = 1;
        routes_fault(s, x, &f, fault_writer(http_path(x)));
    } else if (!http_take_body(x, &body, &len)) {
        fault_set(&f, 503, NULL, "out of memory for a body");
        routes_fault(s, x, &f, fault_writer(http_path(x)));
    } else {
        trace_request(s->trace, route->path, (struct str){body, len});
        if (route->kind == ROUTE_WORK)
            start_work(s, x, route->work, (struct str){body, len});
        else
            generate_start(s, x, route->api, body, len);
    }
}

void routes_handle(void *server, struct exchange *x)
{
    struct server *s = server;
    struct fault f;
    const char *path = http_path(x), *rest;
    bool other;
    s->count.requests++;
    if (!guard_check(s, x, &f)) {
        routes_fault(s, x, &f, fault_writer(path));
        return;
    }
    if (http_method(x) == HTTP_OPTIONS) {
        preflight(s, x);
        return;
    }
    const struct route *route = find(http_method(x), path, &rest, &other);
    if (route) {
        dispatch(s, x, route, rest);
        return;
    }
    fault_set(&f, other ? 405 : 404, other ? "method_not_allowed" : "not_found",
              other ? "%.200s does not take this method" : "%.200s does not exist", path);
    routes_fault(s, x, &f, fault_writer(path));
}
