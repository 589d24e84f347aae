/* server/server_internal.h - what the server's files share: its state, the routes, metrics. */
#ifndef SLUICE_SERVER_SERVER_INTERNAL_H
#define SLUICE_SERVER_SERVER_INTERNAL_H

#include <stdatomic.h>

#include "server/ask.h"
#include "server/event.h"
#include "server/grammars.h"
#include "server/http.h"
#include "server/server.h"
#include "server/shelf.h"
#include "server/source.h"

struct gen;
struct trace;
struct keys;

/* Counted since the start. Loop's thread only. */
struct counters {
    int64_t requests, refused, faults; /* HTTP: all, 4xx, 5xx */
    int64_t generations, cancelled, failed;
    int64_t prompt_tokens, cached_tokens, answer_tokens;
    double queue_s, prefill_s, decode_s, first_token_s;
    int64_t first_tokens; /* summands of first_token_s */
};

struct server {
    /* set once before the loop runs */
    const struct server_options *options;
    struct loop *loop;
    struct http *http;
    struct keys *keys; /* NULL: none are asked for */
    struct shelf *calls, *items; /* any thread */
    struct trace *trace; /* or NULL */
    struct grammars *grammars; /* any thread */
    struct ask_defaults defaults;
    double started; /* clock_seconds() */
    int64_t opened; /* Unix time */

    /* set by the loop's thread when loading ends; read by jobs that were made later */
    struct source source;
    bool ready;

    /* loop's thread */
    struct gen *gens; /* running generations */
    int n_gen, n_job; /* generations, and requests that are being read */
    struct counters count;
    bool draining;
};

/* When nothing is left to do and the server drains: stops it. */
void server_settle(struct server *s);
/* A random id of letters and digits, at most size - 1 <= 32 characters. */
void server_random_id(char *id, size_t size);
/* The name to answer with: what the client said, else the model's. */
const char *server_model_name(const struct server *s, const char *asked);

/* ---- routes.c ---- */
void routes_handle(void *server, struct exchange *x);
/* Writes body with the status of HTTP, counts it, adds the headers of CORS. */
void routes_reply(struct server *s, struct exchange *x, int status, const char *type,
                  struct str body);
void routes_fault(struct server *s, struct exchange *x, const struct fault *f,
                  void (*write)(const struct fault *f, struct buf *out));
/* The headers of CORS that an allowed origin gets. */
void routes_add_cors(struct server *s, struct exchange *x);

/* ---- generate.c ---- */

/* An API that generates. */
struct api {
    const char *name; /* "chat": for /slots, metrics, the trace */
    const struct encoder *encoder;
    /* On the worker thread. a has the defaults. */
    enum sluice_status (*parse)(struct server *s, struct json_object *body, struct ask *a,
                                struct sluice_error *err);
};

/* Answers x by what the body asks for. body: owned. */
void generate_start(struct server *s, struct exchange *x, const struct api *api, char *body,
                    size_t len);
/* Ends all generations at their next step. */
void generate_cancel_all(struct server *s);
/* Ends the one whose id this is; false if none runs. */
bool generate_cancel(struct server *s, const char *id);
/* The ids of the ask's prompts, [ask_prompts]: a conversation is settled first (turns.h). Free with
 * prompts_free. Any thread. */
enum sluice_status prompts_make(struct server *s, struct ask *a, struct sluice_tokens **out,
                                struct sluice_error *err);
void prompts_free(struct sluice_tokens *prompts, int n); /* accepts NULL */
/* A JSON array of the running ones. */
void generate_write_slots(const struct server *s, struct buf *out);

/* ---- body.c ---- */
/* A body as it came -> JSON object; encoding: Content-Encoding or NULL. Any thread. */
enum sluice_status body_parse(const char *bytes, size_t len, const char *encoding,
                              struct json_object **out, struct sluice_error *err);

/* ---- the APIs ---- */
extern const struct api api_chat, api_completions, api_messages, api_responses, api_ollama_chat;
enum sluice_status chat_parse(struct server *s, struct json_object *body, struct ask *a,
                              struct sluice_error *err);
enum sluice_status messages_parse(struct server *s, struct json_object *body, struct ask *a,
                                  struct sluice_error *err);
enum sluice_status responses_parse(struct server *s, struct json_object *body, struct ask *a,
                                   struct sluice_error *err);
/* After the answer is whole: what Responses stores. */
void responses_keep(struct server *s, const struct reply *r);

/* ---- trace.c ---- */
enum sluice_status trace_open(const char *path, struct trace **out, struct sluice_error *err);
void trace_close(struct trace *t);
void trace_request(struct trace *t, const char *api, struct str body);
void trace_answer(struct trace *t, const char *id, const struct answer *a);

/* ---- guard.c ---- */
enum sluice_status keys_open(const char *path, struct keys **out, struct sluice_error *err);
void keys_close(struct keys *k);
/* Fills f and returns false if the request may not pass. */
bool guard_check(const struct server *s, const struct exchange *x, struct fault *f);
bool guard_origin_allowed(const struct server *s, const struct exchange *x);

/* ---- metrics.c ---- */
void metrics_count(struct server *s, const struct answer *a, bool first);
void metrics_write(const struct server *s, struct buf *out);
/* A line of the server's log. */
void server_log(const struct server *s, enum sluice_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
