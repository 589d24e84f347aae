/* server/server.h - serves one model to the APIs that people's tools speak: OpenAI's Chat
 * Completions, Responses and Completions, Anthropic's Messages, and some of Ollama's.
 *
 * Safe by default: listening beyond this machine needs keys or an explicit word; the Host and
 * Origin of requests are checked, so that a web page cannot reach it; text of users and tools
 * cannot form protocol tokens. */
#ifndef SLUICE_SERVER_SERVER_H
#define SLUICE_SERVER_SERVER_H

#include "sluice.h"

struct source;

/* The model that answers, and where its conversations are kept. */
struct server_model {
    struct sluice_options engine;
    const char *kv_dir; /* or NULL: in memory only */
    int64_t kv_dir_bytes; /* budget of the folder; 0: the store's default */
};

struct server_options {
    const char *host; /* NULL: 127.0.0.1 */
    int port; /* 0: the system chooses */
    const char *key_file; /* one API key per line, or NULL */
    bool open; /* listen beyond this machine without keys */
    const char *tls_cert, *tls_key;
    const char *cors; /* origins, with commas between, or "*"; NULL: none */
    const char *hosts; /* more names that the Host header may have, with commas between */
    const char *trace; /* file that gets prompts and answers, or NULL */
    const char *script; /* answers instead of a model (source_script.c), or NULL */
    /* Opens what answers, on a thread of its own: source_engine_open with model. */
    enum sluice_status (*open_source)(const void *model, struct source *out,
                                      struct sluice_error *err);
    const struct server_model *model; /* borrowed until server_run returns */
    const char *version; /* to say in /props */
    const char *model_name; /* what the model is called, or NULL: its own name */
    int max_queued; /* requests in all before 429; 0: 256 */
    int max_connections; /* 0: LIMIT_HTTP_CONNECTIONS */
    int read_seconds;            /* for a request to come in whole; 0: LIMIT_HTTP_READ_SECONDS */
    int drain_seconds; /* for running requests after SIGTERM; 0: 30 */
    int alive_seconds; /* between signs of life in a stream; 0: 5 */
    struct sluice_sampling sampling; /* for requests that leave it open */
    enum sluice_effort effort; /* likewise */
    bool preview, keep_reasoning, trust_text;
    void (*log)(void *ctx, enum sluice_log_level level, const char *text);
    void *log_ctx;
    /* Called on the loop's thread when it listens, before the model is open; and when the model
     * is. */
    void (*listening)(void *ctx, int port);
    void (*ready)(void *ctx);
    /* Likewise: when it begins to stop, and every beat_ms while the loop turns (0: never). */
    void (*stopping)(void *ctx);
    void (*beat)(void *ctx);
    int beat_ms;
    void *ctx;
};

/* Listens, opens the model, serves until SIGTERM, SIGINT or server_stop; the first of them lets
 * running requests end, the second one cancels them. The caller's signal handlers are back in place
 * after. */
enum sluice_status server_run(const struct server_options *options, struct sluice_error *err);
/* Ends the server that runs, as SIGTERM does. Any thread; harmless if none runs. */
void server_stop(void);

/* For open_source: a model, by sluice_open; model is struct server_model. */
enum sluice_status source_engine_open(const void *model, struct source *out,
                                      struct sluice_error *err);

#endif
