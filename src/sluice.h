/* sluice.h - the public interface of libsluice; nothing else is public.
 *
 * Two nouns. An *engine* is an open model: weights, tokenizer, backend, the memory of all
 * conversations, and one scheduler thread that runs the forward pass. A *request* is a prompt and
 * how to go on from it; the engine batches all running requests into each step. Below them a
 * *session* is one private timeline for evaluation: tokens in, logits out.
 *
 * What must not leak through here: tensors, ops, layers, pages, sockets. A caller sees token ids,
 * UTF-8 text, float32 logits and plain structs.
 *
 * Failures: a status and, where the caller passes one, a record (sluice_status.h). Out-parameters
 * are NULL or untouched on failure unless said otherwise. Every _free and _close accepts NULL.
 *
 * Exactness: what a request produces depends on its tokens, its sampling values and seed, the
 * model, the KV format and the backend; never on threads, chunk sizes, other requests, or whether
 * its prefix was already in memory. */
#ifndef SLUICE_H
#define SLUICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice_status.h"

/* ---- lists and texts that calls hand out ---- */

/* A list of ids; free ids with sluice_free. */
struct sluice_tokens {
    int32_t *ids;
    size_t n;
};
/* Bytes, NUL-terminated beyond len; free at with sluice_free. */
struct sluice_text {
    char *at;
    size_t len;
};
void sluice_free(void *p);

/* ---- open and close ---- */

struct sluice;

enum sluice_kv {
    SLUICE_KV_FP8,      /* rows quantised as the model was trained (default) */
    SLUICE_KV_EXACT,    /* float32 rows, nothing quantised */
};

/* Threads that stay on one CPU each. */
enum sluice_pin {
    SLUICE_PIN_AUTO,    /* on machines with several NUMA nodes (default) */
    SLUICE_PIN_ON,
    SLUICE_PIN_OFF,
};

enum sluice_log_level { SLUICE_LOG_ERROR, SLUICE_LOG_WARN, SLUICE_LOG_INFO, SLUICE_LOG_DEBUG };

/* Zero-initialise; zero means the default. Strings are borrowed for the call only. */
struct sluice_options {
    const char *model;       /* GGUF file, first part of a split, or NULL: the built-in model */
    const char *mtp;         /* sidecar with the MTP block, or NULL: what the model embeds */
    const char *backend;     /* "auto" (default), "cpu", "ref" */
    const char *isa;         /* pins the cpu backend's instruction set, for tests */
    enum sluice_kv kv;
    int threads;             /* 0: one per core, or what a container's quota gives */
    enum sluice_pin pin;
    int64_t context;         /* most tokens of one conversation; 0: 32768 or the model's, if less */
    int max_requests;        /* that run at once; 0: 64. More wait in the queue */
    int chunk;               /* most rows of one step; 0: 512 */
    int64_t kv_bytes;        /* memory of all conversations; 0: a share of what is free */
    bool all_at_once;        /* max_requests conversations of context tokens must fit together, or
                                opening fails; else those that do not fit wait */
    /* Nothing but the tokenizer: a file without tensors will do. Requests and sessions fail with
     * SLUICE_ERR_STATE; of sluice_info only texts, n_vocab, bos and eos are filled. */
    bool vocab_only;
    int64_t checkpoint;      /* tokens between checkpoints of a conversation; 0: 2048 */
    /* Called for every message at or above log_level, on any thread; NULL: silence. text has no
     * newline. */
    enum sluice_log_level log_level;
    void (*log)(void *ctx, enum sluice_log_level level, const char *text);
    void *log_ctx;
};

/* Opens a model and starts its scheduler. SLUICE_ERR_IO, _FORMAT, _MODEL: the file; the message
 * names key or tensor, expected and found. SLUICE_ERR_NOMEM: the plan does not fit; the message has
 * the arithmetic. SLUICE_ERR_ARG: an option. */
enum sluice_status sluice_open(const struct sluice_options *options, struct sluice **out,
                               struct sluice_error *err);
/* Cancels every request, waits for the scheduler, frees everything. Requests must have been
 * released and sessions closed before. */
void sluice_close(struct sluice *e);

/* ---- what was opened ---- */

struct sluice_info {
    const char *name;            /* general.name of the file, or the file's name */
    const char *family;          /* "Flash", "Pro" or "custom" */
    const char *model_path;      /* "built-in" for the built-in model */
    const char *backend;         /* one line: backend, instruction set, threads */
    bool builtin, has_mtp;
    int32_t n_vocab, n_layer, n_expert, n_expert_used, dim, n_stream;
    int32_t bos, eos;            /* token ids */
    int64_t context, context_max;    /* of a conversation here; of the model */
    int64_t n_params;            /* of the trunk */
    int64_t weight_bytes;        /* of the trunk's tensors */
    int64_t token_bytes;         /* of weights that one decoded token reads */
    int64_t kv_bytes_fixed;      /* of one conversation, whatever its length */
    int64_t kv_bytes_per_1k;     /* more for each 1024 tokens, rounded up to pages */
    int64_t step_bytes;          /* intermediates, once per engine */
    int64_t kv_budget;           /* memory of all conversations */
    enum sluice_kv kv;
    int threads, max_requests, chunk;
};

/* Weights that fit in memory are read in the background from sluice_open on. Waits for the end of
 * that and returns the seconds that it took since; 0 if they do not fit or need no reading. Any
 * thread. */
double sluice_load_wait(struct sluice *e);

/* Valid until sluice_close. Any thread. */
const struct sluice_info *sluice_info(const struct sluice *e);
/* "0.1.0 (abc1234)". */
const char *sluice_version(void);
/* "x86-64: avx2 avx512 ...": what this machine's processor offers to the kernels; static. */
const char *sluice_cpu_features(void);

/* What the files of options->model hold, as one JSON object, without loading weights or starting
 * anything: files, shape, tensors by name, type and size, tokenizer, and the bytes of one
 * conversation for options->context and kv. Parts of a split model are read together; of a slice,
 * or of a file that holds only a tokenizer, what is there is listed and "unusable" says why it
 * cannot be run by itself. Fails as sluice_open does where the files cannot be read at all. */
enum sluice_status sluice_inspect(const struct sluice_options *options, struct sluice_text *out,
                                  struct sluice_error *err);

/* ---- text ---- any thread, also while requests run */

/* allow_special: the literal text of protocol tokens ("<｜User｜>") becomes their id; else it is
 * ordinary text. No token is added. */
enum sluice_status sluice_tokenize(const struct sluice *e, const char *text, size_t len,
                                   bool allow_special, struct sluice_tokens *out,
                                   struct sluice_error *err);
/* Raw bytes of n ids; may end inside a UTF-8 character. */
enum sluice_status sluice_detokenize(const struct sluice *e, const int32_t *ids, size_t n,
                                     struct sluice_text *out, struct sluice_error *err);

/* How the model is asked to think (model-spec section 7.3). */
enum sluice_effort {
    SLUICE_EFFORT_NONE,      /* no thinking */
    SLUICE_EFFORT_DEFAULT,   /* thinking, no effort text */
    SLUICE_EFFORT_HIGH,
    SLUICE_EFFORT_MAX,
};

/* A conversation as clients send it. Strings are borrowed for the call. */
struct sluice_chat {
    const char *messages;        /* JSON array of OpenAI-shaped messages; may carry "tools",
                                    "response_format", "task", "reasoning_content", ... */
    size_t messages_len;
    const char *tools;           /* JSON array of OpenAI tools, or NULL: added to the first system
                                    message, or to an empty one put in front */
    size_t tools_len;
    enum sluice_effort effort;
    /* the April checkpoint's effort texts instead of the later one's */
    bool preview;
    bool keep_reasoning;         /* do not drop the reasoning of earlier turns */
    bool trust_text;             /* message text may form protocol tokens, as in the reference */
    bool continue_last;          /* the last, assistant, message is a beginning to go on from */
};

/* The prompt's ids. */
enum sluice_status sluice_chat_tokens(const struct sluice *e, const struct sluice_chat *chat,
                                      struct sluice_tokens *out, struct sluice_error *err);
/* The prompt as the text that the ids stand for; needs no model. */
enum sluice_status sluice_chat_text(const struct sluice_chat *chat, struct sluice_text *out,
                                    struct sluice_error *err);
/* A whole completion -> JSON {"reasoning_content","content","tool_calls"}; needs no model.
 * thinking: the completion begins inside the thinking part. */
enum sluice_status sluice_parse_answer(const char *text, size_t len, bool thinking,
                                       struct sluice_text *out, struct sluice_error *err);

/* ---- grammars ---- what an answer may be, token by token */

struct sluice_grammar;

/* Zero-initialise. What an answer may be: a text of the GBNF (text/grammar.h has the notation), or
 * JSON that follows the schema; or a block of calls of the tools; with tools and one of the others
 * either. Strings are borrowed for the call. */
struct sluice_grammar_options {
    const char *gbnf;            /* or NULL */
    size_t gbnf_len;
    const char *schema;          /* a JSON schema, or NULL */
    size_t schema_len;
    const char *schema_name;     /* what messages call the schema or the GBNF; NULL: these words */
    const char *tools;           /* JSON array of OpenAI tools, or NULL */
    size_t tools_len;
    const char *tool;            /* the name of the only one that may be called, or NULL */
    bool one_call;
    /* A tool whose schema cannot be followed takes any arguments; else that is an error. */
    bool loose;
};

/* Compiles one for this engine's vocabulary; any number of requests may have it at once.
 * SLUICE_ERR_ARG names the line of the GBNF, or the keyword of the schema and its path;
 * SLUICE_ERR_LIMIT a cap. Any thread. */
enum sluice_status sluice_grammar_new(struct sluice *e,
                                      const struct sluice_grammar_options *options,
                                      struct sluice_grammar **out, struct sluice_error *err);
/* One more share of it, to be given up too; returns g. Any thread. */
struct sluice_grammar *sluice_grammar_hold(struct sluice_grammar *g);
/* Gives up a share; requests keep theirs until they are released. Accepts NULL. Before
 * sluice_close. Any thread. */
void sluice_grammar_free(struct sluice_grammar *g);

/* ---- requests ---- */

struct sluice_bias {
    int32_t id;
    float add;                   /* to the logit; -INFINITY forbids */
};

/* Zero-initialised it is greedy. Order: bias, penalties, temperature, top_k, top_p, min_p. */
struct sluice_sampling {
    float temperature;           /* 0: greedy, exact argmax, lowest id of equals */
    int32_t top_k;               /* 0: off */
    float top_p;                 /* 0 or 1: off */
    float min_p;                 /* 0: off; relative to the most likely */
    float repetition_penalty;    /* 0 or 1: off; over prompt and answer */
    float presence_penalty, frequency_penalty;   /* over the answer */
    uint64_t seed;
    const struct sluice_bias *bias;  /* borrowed for the call; copied */
    int32_t n_bias;
    int32_t logprobs;            /* most likely alternatives per token to report, 0..20; -1: none */
};

enum sluice_finish {
    SLUICE_FINISH_STOP,          /* end of the turn */
    SLUICE_FINISH_STOP_STRING,
    SLUICE_FINISH_LENGTH,        /* max_tokens, or the context is full */
    SLUICE_FINISH_TOOL_CALLS,
    SLUICE_FINISH_CANCELLED,
    SLUICE_FINISH_ERROR,
};

enum sluice_event_kind {
    SLUICE_EVENT_QUEUED,         /* n: place in the queue, 0 is next */
    SLUICE_EVENT_PREFILL,        /* n of total prompt tokens are in; cached came from memory */
    SLUICE_EVENT_TOKEN,          /* id and its logprobs, before the text it completes */
    SLUICE_EVENT_REASONING,      /* text */
    SLUICE_EVENT_CONTENT,        /* text */
    SLUICE_EVENT_CALL_BEGIN,     /* n: index of the call; text: its name */
    SLUICE_EVENT_CALL_ARGS,      /* n: index; text: a piece of the arguments' JSON */
    SLUICE_EVENT_CALL_END,       /* n: index */
    SLUICE_EVENT_CALL_ABORT,     /* n: index; the call was malformed and is void: its text follows
                                    as CONTENT */
    SLUICE_EVENT_DONE,           /* the last event: finish, usage, error */
};

struct sluice_logprob {
    int32_t id;
    float logprob;               /* natural logarithm, before temperature */
};

struct sluice_usage {
    int32_t prompt, cached, answer, reasoning;   /* tokens; cached of prompt needed no work */
    double queue_s, prefill_s, decode_s, first_token_s;  /* first token: since submission */
};

/* Valid during the callback only. */
struct sluice_event {
    enum sluice_event_kind kind;
    const char *text;            /* UTF-8, complete characters, NUL-terminated */
    size_t len;
    int64_t n, total, cached;
    int32_t id;
    struct sluice_logprob own;   /* of id */
    const struct sluice_logprob *top;    /* [n_top], most likely first */
    int32_t n_top;
    enum sluice_finish finish;
    const char *stop;            /* the stop string found, or NULL */
    struct sluice_usage usage;
    const struct sluice_error *error;    /* SLUICE_FINISH_ERROR only */
};

struct sluice_request;

/* Borrowed for the call; copied. */
struct sluice_request_options {
    const int32_t *prompt;       /* [n_prompt], at least one */
    size_t n_prompt;
    struct sluice_sampling sampling;
    int64_t max_tokens;          /* of the answer; 0: what the context leaves */
    int64_t think_budget;        /* tokens of thinking before it is closed; 0: no limit */
    const char *const *stop;     /* [n_stop], not empty, UTF-8 */
    int n_stop;
    /* Text as it comes: CONTENT only, nothing parsed. With thinking, what think_budget, stop and
     * usage.reasoning mean is as without raw. */
    bool raw;
    bool thinking;               /* the prompt ends inside the thinking part */
    bool ignore_eos;             /* not with a grammar */
    /* What the answer may be, or NULL: anything. It holds from the end of the thinking, which must
     * come, and where the answer ends the grammar's text does too, unless it is cut by a limit or a
     * stop string. If no token can follow, the request fails (SLUICE_ERR_ARG). Shared, not taken
     * over. */
    struct sluice_grammar *grammar;
    const char *grammar_begun;   /* the prompt's end that is of the grammar's text already, or
                                    NULL */
    int priority;                /* higher is admitted first; equals in order of submission */
    /* Called on the scheduler's thread, in order; must return soon and must not call sluice_submit,
     * sluice_wait, sluice_close or a session's functions. Never called again after DONE. */
    void (*on_event)(void *ctx, const struct sluice_event *event);
    void *ctx;
};

/* Queues a request. SLUICE_ERR_ARG: empty prompt, id outside the vocabulary, bad sampling value;
 * SLUICE_ERR_LIMIT: prompt longer than the context (both counts in the message) or the queue is
 * full. Any thread. */
enum sluice_status sluice_submit(struct sluice *e, const struct sluice_request_options *options,
                                 struct sluice_request **out, struct sluice_error *err);
/* Ends a request at the next step, with DONE (SLUICE_FINISH_CANCELLED); harmless after DONE. What
 * was read stays usable as a prefix. Any thread, also in on_event and in a signal-free handler. */
void sluice_cancel(struct sluice_request *r);
/* Waits until DONE was delivered; true if so within seconds (negative: for ever). Any thread but
 * the scheduler's. */
bool sluice_wait(struct sluice_request *r, double seconds);
/* Gives the handle back; cancels if it still runs and waits for DONE. Not in on_event. */
void sluice_release(struct sluice_request *r);

/* ---- conversations on disk ---- a store implements engine/page_sink.h (kvstore/ does) */

struct page_sink;
struct page_identity;

/* What a store must be bound to: bytes of another identity are of no use to this engine. Reads a
 * part of the model's file. Where only the tokenizer is open, out->model alone means something. */
void sluice_store_identity(const struct sluice *e, struct page_identity *out);
/* From now on conversations are kept there too, and looked for. Borrowed until sluice_close, which
 * may still put; before the first request. */
void sluice_store_set(struct sluice *e, const struct page_sink *sink);

/* Counters of the engine, for reports. Any thread. */
struct sluice_stats {
    int32_t running, queued, conversations;  /* conversations: kept in memory */
    int64_t kv_used, kv_budget;
    int64_t steps, prefill_tokens, cached_tokens, decode_tokens;
    double prefill_s, decode_s;  /* of the model's steps */
    double keep_s;               /* of finding, checkpointing and saving conversations */
    double schedule_s;           /* of the rest between steps, but for sampling and callbacks */
};
void sluice_stats(const struct sluice *e, struct sluice_stats *out);

/* ---- sessions ---- one thread at a time each; steps of sessions and requests take turns */

struct sluice_session;

/* An empty timeline of at most context tokens (0: the engine's). It does not share memory with
 * requests and is not evicted. */
enum sluice_status sluice_session_open(struct sluice *e, int64_t context,
                                       struct sluice_session **out, struct sluice_error *err);
void sluice_session_close(struct sluice_session *s);
int64_t sluice_session_length(const struct sluice_session *s);

/* Tokens to run through a session, and where the results go. */
struct sluice_eval {
    const int32_t *ids;          /* [n] */
    size_t n;
    int chunk;                   /* most tokens of one step; 0: the engine's. Where logits are asked
                                    for, so many as 64 MiB of logits hold at most */
    float *logits;               /* [n][n_vocab], or NULL: not wanted */
    float *streams;              /* [n][S][D] after the last layer, or NULL: not wanted */
};

/* Appends tokens. On failure the timeline keeps the steps that succeeded. */
enum sluice_status sluice_session_eval(struct sluice_session *s, const struct sluice_eval *eval,
                                       struct sluice_error *err);
/* Parts of a step, for reports. */
enum sluice_stage {
    SLUICE_STAGE_EMBED,
    SLUICE_STAGE_HYPER,          /* mixing and spreading the residual streams */
    SLUICE_STAGE_ATTENTION,
    SLUICE_STAGE_COMPRESSOR,
    SLUICE_STAGE_INDEXER,
    SLUICE_STAGE_ROUTER,
    SLUICE_STAGE_EXPERTS,
    SLUICE_STAGE_HEAD,
    SLUICE_STAGES
};
const char *sluice_stage_name(enum sluice_stage stage);
/* From now on adds the seconds that this session's steps take to seconds[stage]; NULL ends it. A
 * step that is measured waits after every stage. seconds is borrowed. */
void sluice_session_profile(struct sluice_session *s, double seconds[SLUICE_STAGES]);

/* Drops the last tokens so that length remain: any length while few are dropped, else only 0
 * (SLUICE_ERR_STATE). */
enum sluice_status sluice_session_rewind(struct sluice_session *s, int64_t length,
                                         struct sluice_error *err);
/* For measurements of long contexts: the timeline becomes length tokens long, but nobody computed
 * them: its rows are random. A step after it costs what it does after real tokens, and says
 * nothing. */
enum sluice_status sluice_session_random_past(struct sluice_session *s, int64_t length,
                                              struct sluice_error *err);
/* Draft logits: row i is fed streams[i] (read here) and ids[i], the token after that row; logits is
 * not NULL. Starts a timeline of its own at each call. SLUICE_ERR_STATE without an MTP block. */
enum sluice_status sluice_session_draft(struct sluice_session *s, const struct sluice_eval *eval,
                                        struct sluice_error *err);

#endif
