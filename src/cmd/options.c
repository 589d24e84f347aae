#include "cmd/options.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <unistd.h>

#include "base/check.h"

enum option_type {
    TYPE_FLAG,
    TYPE_TEXT,
    TYPE_LIST,      /* may be given several times */
    TYPE_CHOICE,    /* one of words */
    TYPE_MAYBE,     /* a flag that takes one of words only as --name=word */
    TYPE_INT,
    TYPE_SIZE,      /* an integer that may end in K, M, G or T (powers of 1024) */
    TYPE_REAL,
};

struct option_row {
    const char *name;
    char letter;
    const char *env;         /* NULL: none */
    const char *metavar;     /* NULL for flags */
    const char *fallback;    /* default as the help shows it; NULL: none worth showing */
    const char *help;
    unsigned commands;
    enum option_type type;
    double min, max;         /* of numbers */
    const char *words;       /* "a|b" of a choice */
};

/* `launch` may start a server. */
#define SERVES (CMD_SERVE | CMD_LAUNCH)
#define ENGINE (CMD_RUN | CMD_LOGITS | CMD_DRAFT | CMD_TOKENIZE | CMD_DETOKENIZE | CMD_GENERATE | \
                SERVES | CMD_BENCH)
#define FORWARD (CMD_RUN | CMD_LOGITS | CMD_DRAFT | CMD_GENERATE | SERVES | CMD_BENCH)
#define SAMPLES (CMD_RUN | CMD_GENERATE)
#define EVERY 0xffffffffu
#define MANY 9007199254740992.0   /* 2^53: every integer up to it is a double */

static const struct option_row rows[OPT_COUNT] = {
    [OPT_MODEL] = {"model", 'm', "SLUICE_MODEL", "FILE", "the built-in model",
        "GGUF file, or the first part of a split model",
        ENGINE | CMD_INSPECT | CMD_KV_SHOW, TYPE_TEXT, 0, 0, NULL},
    [OPT_MTP] = {"mtp", 0, "SLUICE_MTP", "FILE", "what the model holds",
        "GGUF file with the MTP block, which drafts tokens",
        FORWARD | CMD_INSPECT, TYPE_TEXT, 0, 0, NULL},
    [OPT_CTX] = {"ctx", 'c', "SLUICE_CTX", "TOKENS", "32768, or the model's if less",
        "most tokens of one conversation, e.g. 65536 or 64K",
        SAMPLES | CMD_INSPECT | SERVES, TYPE_SIZE, 1, LIMIT_CONTEXT, NULL},
    [OPT_KV] = {"kv", 0, "SLUICE_KV", "FORMAT", "fp8",
        "rows of the KV memory: fp8 as the model was trained, or exact",
        FORWARD | CMD_INSPECT, TYPE_CHOICE, 0, 0, "fp8|exact"},
    [OPT_KV_MEMORY] = {"kv-memory", 0, "SLUICE_KV_MEMORY", "SIZE", "a share of what is free",
        "memory of all conversations together, e.g. 4G or 512M",
        SAMPLES | SERVES, TYPE_SIZE, 1, MANY, NULL},
    [OPT_KV_DIR] = {"kv-dir", 0, "SLUICE_KV_DIR", "DIR", NULL,
        "keeps conversations in this folder too, so that a restart goes on without reading them",
        CMD_RUN | SERVES, TYPE_TEXT, 0, 0, NULL},
    [OPT_KV_SIZE] = {"kv-size", 0, "SLUICE_KV_SIZE", "SIZE", "16G",
        "most that the folder may take, e.g. 100G",
        CMD_RUN | SERVES | CMD_KV_PRUNE, TYPE_SIZE, 1, MANY, NULL},
    [OPT_THREADS] = {"threads", 't', "SLUICE_THREADS", "N", "one per core", "threads that compute",
        FORWARD, TYPE_INT, 1, 256, NULL},
    [OPT_PIN] = {"pin", 0, "SLUICE_PIN", "WHEN", "auto",
        "keeps each thread on one CPU: on, off, or auto, which is on with several NUMA nodes",
        FORWARD, TYPE_CHOICE, 0, 0, "auto|on|off"},
    [OPT_BACKEND] = {"backend", 0, "SLUICE_BACKEND", "NAME", "auto",
        "what computes: auto, cpu, or ref (plain C, slow)",
        FORWARD, TYPE_TEXT, 0, 0, NULL},
    [OPT_ISA] = {"isa", 0, "SLUICE_ISA", "NAME", "the best that this machine has",
        "instruction set of the cpu backend, for tests",
        FORWARD, TYPE_TEXT, 0, 0, NULL},
    [OPT_CHUNK] = {"chunk", 0, "SLUICE_CHUNK", "TOKENS", "512",
        "most tokens of one step; changes speed, never the result",
        FORWARD, TYPE_INT, 1, 65536, NULL},
    [OPT_PARALLEL] = {"parallel", 0, "SLUICE_PARALLEL", "N", "8; 64 of the server",
        "requests that run at once",
        CMD_GENERATE | SERVES, TYPE_INT, 1, LIMIT_CMD_PARALLEL, NULL},
    [OPT_PROMPT] = {"prompt", 'p', NULL, "TEXT", NULL,
        "the message; without it, --file or piped input, a conversation begins",
        CMD_RUN, TYPE_TEXT, 0, 0, NULL},
    [OPT_FILE] = {"file", 'f', NULL, "FILE", NULL,
        "reads the message from FILE; - is standard input",
        CMD_RUN, TYPE_TEXT, 0, 0, NULL},
    [OPT_INTERACTIVE] = {"interactive", 'i', NULL, NULL, NULL,
        "a conversation even if standard input is not a terminal",
        CMD_RUN, TYPE_FLAG, 0, 0, NULL},
    [OPT_SYSTEM] = {"system", 's', "SLUICE_SYSTEM", "TEXT", NULL, "the system message",
        CMD_RUN, TYPE_TEXT, 0, 0, NULL},
    [OPT_RAW] = {"raw", 0, NULL, NULL, NULL,
        "goes on from the text as it is: no chat format, nothing parsed",
        CMD_RUN, TYPE_FLAG, 0, 0, NULL},
    [OPT_IDS] = {"ids", 0, NULL, "FILE", NULL, "token ids: raw little-endian int32",
        CMD_LOGITS | CMD_DRAFT, TYPE_TEXT, 0, 0, NULL},
    [OPT_OUT] = {"out", 'o', NULL, "FILE", NULL,
        "logits: raw little-endian float32, a row per token",
        CMD_LOGITS | CMD_DRAFT, TYPE_TEXT, 0, 0, NULL},
    [OPT_PLAIN] = {"plain", 0, NULL, NULL, NULL,
        "the text of protocol tokens is ordinary text",
        CMD_TOKENIZE, TYPE_FLAG, 0, 0, NULL},
    [OPT_FRONTIERS] = {"frontiers", 0, NULL, "LIST", "64,512,1024,2048",
        "context lengths to measure at, ascending",
        CMD_BENCH, TYPE_TEXT, 0, 0, NULL},
    [OPT_DECODE] = {"decode", 0, NULL, "TOKENS", "32",
        "tokens to decode at each frontier",
        CMD_BENCH, TYPE_INT, 1, 4096, NULL},
    [OPT_RANDOM_PAST] = {"random-past", 0, NULL, NULL, NULL,
        "reads nothing: each frontier is reached with random KV rows, which cost as much to "
        "decode after as real ones",
        CMD_BENCH, TYPE_FLAG, 0, 0, NULL},
    [OPT_PROFILE] = {"profile", 0, NULL, NULL, NULL,
        "also the share of each part of a step",
        CMD_BENCH, TYPE_FLAG, 0, 0, NULL},
    [OPT_OPS] = {"ops", 0, NULL, NULL, NULL,
        "times each op alone instead, with random weights and the sizes of the model that -m "
        "names, or of Flash",
        CMD_BENCH, TYPE_FLAG, 0, 0, NULL},
    [OPT_CSV] = {"csv", 0, NULL, "FILE", NULL,
        "writes the table as comma-separated values",
        CMD_BENCH, TYPE_TEXT, 0, 0, NULL},
    [OPT_SVG] = {"svg", 0, NULL, "FILE", NULL,
        "draws speed over context",
        CMD_BENCH, TYPE_TEXT, 0, 0, NULL},
    [OPT_JSON] = {"json", 0, NULL, NULL, NULL, "prints one JSON object",
        CMD_INSPECT, TYPE_FLAG, 0, 0, NULL},
    [OPT_THINK] = {"think", 0, "SLUICE_THINK", "EFFORT", "on, except with the built-in model",
        "thinks before answering; EFFORT is high or max",
        CMD_RUN | CMD_SERVE, TYPE_MAYBE, 0, 0, "high|max"},
    [OPT_NOTHINK] = {"nothink", 0, "SLUICE_NOTHINK", NULL, NULL, "answers without thinking",
        CMD_RUN | CMD_SERVE, TYPE_FLAG, 0, 0, NULL},
    [OPT_SHOW_THINKING] = {"show-thinking", 0, "SLUICE_SHOW_THINKING", NULL, NULL,
        "shows the thinking on standard error even if that is not a terminal",
        CMD_RUN, TYPE_FLAG, 0, 0, NULL},
    [OPT_TEMP] = {"temp", 0, "SLUICE_TEMP", "X", "1; 0 with the built-in model",
        "temperature; 0 takes the most likely token",
        CMD_RUN | CMD_SERVE, TYPE_REAL, 0, 100, NULL},
    [OPT_TOP_K] = {"top-k", 0, "SLUICE_TOP_K", "N", "0: off",
        "samples from the N most likely tokens",
        CMD_RUN | CMD_SERVE, TYPE_INT, 0, LIMIT_VOCAB, NULL},
    [OPT_TOP_P] = {"top-p", 0, "SLUICE_TOP_P", "X", "1: off",
        "samples from the fewest tokens whose probabilities sum to X",
        CMD_RUN | CMD_SERVE, TYPE_REAL, 0, 1, NULL},
    [OPT_MIN_P] = {"min-p", 0, "SLUICE_MIN_P", "X", "0: off",
        "drops tokens less likely than X times the most likely one",
        CMD_RUN | CMD_SERVE, TYPE_REAL, 0, 1, NULL},
    [OPT_REPEAT_PENALTY] = {"repeat-penalty", 0, "SLUICE_REPEAT_PENALTY", "X", "1: off",
        "divides the score of tokens that occurred",
        CMD_RUN, TYPE_REAL, 0, 100, NULL},
    [OPT_PRESENCE_PENALTY] = {"presence-penalty", 0, "SLUICE_PRESENCE_PENALTY", "X", "0",
        "taken once from tokens that the answer has",
        CMD_RUN, TYPE_REAL, -100, 100, NULL},
    [OPT_FREQUENCY_PENALTY] = {"frequency-penalty", 0, "SLUICE_FREQUENCY_PENALTY", "X", "0",
        "taken from tokens for each time that the answer has them",
        CMD_RUN, TYPE_REAL, -100, 100, NULL},
    [OPT_SEED] = {"seed", 0, "SLUICE_SEED", "N", "another each time",
        "of the random numbers; the same seed gives the same answer",
        CMD_RUN, TYPE_INT, 0, MANY, NULL},
    [OPT_MAX_TOKENS] = {"max-tokens", 'n', "SLUICE_MAX_TOKENS", "N", "what the context leaves",
        "most tokens of an answer",
        SAMPLES, TYPE_INT, 1, LIMIT_CONTEXT, NULL},
    [OPT_STOP] = {"stop", 0, NULL, "TEXT", NULL, "ends the answer before TEXT; may be repeated",
        CMD_RUN, TYPE_LIST, 0, 0, NULL},
    [OPT_HOST] = {"host", 0, "SLUICE_HOST", "ADDRESS", "127.0.0.1",
        "where to listen; beyond this machine only with API keys or --no-api-key",
        SERVES, TYPE_TEXT, 0, 0, NULL},
    [OPT_PORT] = {"port", 0, "SLUICE_PORT", "N", "8000", "0: one that is free",
        SERVES, TYPE_INT, 0, 65535, NULL},
    [OPT_API_KEY_FILE] = {"api-key-file", 0, "SLUICE_API_KEY_FILE", "FILE", NULL,
        "one key per line; requests must bring one of them",
        SERVES, TYPE_TEXT, 0, 0, NULL},
    [OPT_NO_API_KEY] = {"no-api-key", 0, NULL, NULL, NULL,
        "lets other machines in without a key",
        CMD_SERVE, TYPE_FLAG, 0, 0, NULL},
    [OPT_TLS_CERT] = {"tls-cert", 0, "SLUICE_TLS_CERT", "FILE", NULL,
        "certificate chain in PEM: serves HTTPS",
        CMD_SERVE, TYPE_TEXT, 0, 0, NULL},
    [OPT_TLS_KEY] = {"tls-key", 0, "SLUICE_TLS_KEY", "FILE", NULL, "its key",
        CMD_SERVE, TYPE_TEXT, 0, 0, NULL},
    [OPT_CORS] = {"cors", 0, "SLUICE_CORS", "ORIGINS", "none",
        "web pages that may call, with commas between, or *",
        CMD_SERVE, TYPE_TEXT, 0, 0, NULL},
    [OPT_ALLOW_HOST] = {"allow-host", 0, "SLUICE_ALLOW_HOST", "NAMES", NULL,
        "names by which clients call this machine, with commas between",
        CMD_SERVE, TYPE_TEXT, 0, 0, NULL},
    [OPT_MODEL_NAME] = {"model-name", 0, "SLUICE_MODEL_NAME", "NAME", "what the file says",
        "what clients see the model as; any name they ask for is served by it",
        CMD_SERVE, TYPE_TEXT, 0, 0, NULL},
    [OPT_MAX_QUEUED] = {"max-queued", 0, "SLUICE_MAX_QUEUED", "N", "256",
        "requests that run or wait before clients are told to come later",
        CMD_SERVE, TYPE_INT, 1, 65536, NULL},
    [OPT_DRAIN] = {"drain", 0, "SLUICE_DRAIN", "SECONDS", "30",
        "that running requests get to end after SIGTERM",
        CMD_SERVE, TYPE_INT, 1, 86400, NULL},
    [OPT_KEEP_REASONING] = {"keep-reasoning", 0, "SLUICE_KEEP_REASONING", NULL, NULL,
        "shows the model its thinking of earlier turns",
        CMD_SERVE, TYPE_FLAG, 0, 0, NULL},
    [OPT_TRUST_TEXT] = {"trust-text", 0, "SLUICE_TRUST_TEXT", NULL, NULL,
        "text of users and tools may form protocol tokens",
        CMD_SERVE, TYPE_FLAG, 0, 0, NULL},
    [OPT_TRACE] = {"trace", 0, NULL, "FILE", NULL,
        "writes requests and answers to FILE (mode 0600)",
        SERVES, TYPE_TEXT, 0, 0, NULL},
    [OPT_JSON_LOG] = {"json-log", 0, "SLUICE_JSON_LOG", NULL, NULL, "log lines are JSON",
        CMD_SERVE, TYPE_FLAG, 0, 0, NULL},
    [OPT_SCRIPT] = {"script", 0, NULL, "FILE", NULL,
        "answers from FILE instead of a model, for tests of clients",
        SERVES, TYPE_TEXT, 0, 0, NULL},
    [OPT_QUIET] = {"quiet", 'q', "SLUICE_QUIET", NULL, NULL,
        "nothing on standard error but errors",
        ENGINE, TYPE_FLAG, 0, 0, NULL},
    [OPT_VERBOSE] = {"verbose", 'v', "SLUICE_VERBOSE", NULL, NULL, "says what is done and why",
        ENGINE, TYPE_FLAG, 0, 0, NULL},
    [OPT_HELP] = {"help", 'h', NULL, NULL, NULL, "this text", EVERY, TYPE_FLAG, 0, 0, NULL},
};

/* ---- values ---- */

static const char *unit_name(const struct option_row *row)
{
    return row->type == TYPE_REAL   ? "a number"
           : row->type == TYPE_SIZE ? "a size such as 512M or 4G"
                                    : "an integer";
}

static bool number_parse(const struct option_row *row, const char *text, struct option_value *v)
{
    char *end;
    errno = 0;
    if (!*text || isspace((unsigned char)*text))
        return false;
    if (row->type == TYPE_REAL) {
        v->real = strtod(text, &end);
        return errno == 0 && *end == '\0' && isfinite(v->real);
    }
    long long n = strtoll(text, &end, 10);
    if (errno != 0 || end == text)
        return false;
    if (row->type == TYPE_SIZE && *end) {
        static const char units[] = "KMGT";
        const char *unit = strchr(units, toupper((unsigned char)*end));
        if (!unit || __builtin_mul_overflow(n, 1ll << (10 * (unit - units + 1)), &n))
            return false;
        end++;
        end += end[0] == 'i' && end[1] == 'B' ? 2 : end[0] == 'B' || end[0] == 'i';
    }
    v->integer = n;
    v->real = (double)n;
    return *end == '\0';
}

static bool word_among(const char *words, const char *text)
{
    size_t len = strlen(text);
    for (const char *at = words; at; at = strchr(at, '|')) {
        at += *at == '|';
        if (len && strncmp(at, text, len) == 0 && (at[len] == '|' || at[len] == '\0'))
            return true;
    }
    return false;
}

/* source: "--temp" or "SLUICE_TEMP", as the user wrote it. */
static enum sluice_status number_set(const struct option_row *row, const char *source,
                                     const char *text, struct option_value *v,
                                     struct sluice_error *err)
{
    FAIL_IF(!number_parse(row, text, v), err, SLUICE_ERR_ARG, "%s: expected %s, found '%s'", source,
            unit_name(row), text);
    FAIL_IF(v->real < row->min || v->real > row->max, err, SLUICE_ERR_ARG,
            "%s: expected %.15g to %.15g, found '%s'", source, row->min, row->max, text);
    return SLUICE_OK;
}

static enum sluice_status value_set(const struct option_row *row, const char *source,
                                    const char *text, struct option_value *v,
                                    struct sluice_error *err)
{
    v->text = text;
    switch (row->type) {
    case TYPE_FLAG:
        FAIL_IF(!word_among("1|0|true|false|yes|no|on|off", text), err, SLUICE_ERR_ARG,
                "%s: expected 1 or 0, found '%s'", source, text);
        v->integer = word_among("1|true|yes|on", text);
        return SLUICE_OK;
    case TYPE_MAYBE:
        v->integer = 1;
        if (!*text || word_among("1|true|yes|on", text)) {
            v->text = "";
            return SLUICE_OK;
        }
        /* fall through */
    case TYPE_CHOICE:
        FAIL_IF(!word_among(row->words, text), err, SLUICE_ERR_ARG,
                "%s: expected %s, found '%s'", source, row->words, text);
        return SLUICE_OK;
    case TYPE_INT:
    case TYPE_SIZE:
    case TYPE_REAL:
        return number_set(row, source, text, v, err);
    case TYPE_TEXT:
    case TYPE_LIST:
        return SLUICE_OK;
    }
    return SLUICE_OK;
}

/* ---- names ---- */

/* Edit distance, at most 63 bytes of each. */
static int distance(const char *a, const char *b)
{
    int row[64];
    int n = (int)strnlen(b, 63);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1] && i < 64; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *options_nearest(const char *typed, const char *const *names, int n)
{
    const char *nearest = NULL;
    int least = (int)strnlen(typed, 63) / 3 + 2;
    for (int i = 0; i < n; i++) {
        int d = distance(typed, names[i]);
        if (d < least) {
            least = d;
            nearest = names[i];
        }
    }
    return nearest;
}

static int row_find(enum command_bit bit, const char *name, size_t len)
{
    for (int i = 0; i < OPT_COUNT; i++)
        if ((rows[i].commands & bit) && strncmp(rows[i].name, name, len) == 0 &&
            rows[i].name[len] == '\0')
            return i;
    return -1;
}

static int row_find_letter(enum command_bit bit, char letter)
{
    for (int i = 0; i < OPT_COUNT; i++)
        if ((rows[i].commands & bit) && rows[i].letter == letter)
            return i;
    return -1;
}

static enum sluice_status unknown(enum command_bit bit, const char *word, size_t len,
                                  struct sluice_error *err)
{
    const char *names[OPT_COUNT];
    int n = 0;
    char typed[64];
    snprintf(typed, sizeof typed, "%.*s", (int)len, word);
    for (int i = 0; i < OPT_COUNT; i++)
        if (rows[i].commands & bit)
            names[n++] = rows[i].name;
    const char *nearest = options_nearest(typed, names, n);
    FAIL_IF(nearest, err, SLUICE_ERR_ARG, "unknown option --%s; did you mean --%s?", typed,
            nearest);
    return status_fail(err, SLUICE_ERR_ARG, -1, "unknown option --%s", typed);
}

/* ---- parsing ---- */

struct parser {
    const struct options_command *command;
    int argc, at;
    char **argv;
    struct options *out;
};

static enum sluice_status store(struct parser *p, int id, const char *source, const char *text,
                                struct sluice_error *err)
{
    struct options *o = p->out;
    TRY(value_set(&rows[id], source, text, &o->value[id], err));
    o->value[id].rank = 2 + p->at;
    if (id == OPT_STOP) {
        FAIL_IF(o->n_stop == LIMIT_CMD_STOPS, err, SLUICE_ERR_ARG, "--stop: more than %d",
                LIMIT_CMD_STOPS);
        FAIL_IF(!*text, err, SLUICE_ERR_ARG, "--stop: expected a text, found an empty one");
        o->stop[o->n_stop++] = text;
    }
    return SLUICE_OK;
}

/* The word after the option that stands at p->at. */
static enum sluice_status next_word(struct parser *p, int id, const char *source, const char **text,
                                    struct sluice_error *err)
{
    FAIL_IF(p->at + 1 >= p->argc, err, SLUICE_ERR_ARG, "%s: expected %s after it", source,
            rows[id].metavar);
    *text = p->argv[++p->at];
    return SLUICE_OK;
}

static enum sluice_status parse_long(struct parser *p, const char *word, struct sluice_error *err)
{
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    int id = row_find(p->command->bit, word, len);
    if (id < 0)
        return unknown(p->command->bit, word, len, err);
    char source[64];
    snprintf(source, sizeof source, "--%s", rows[id].name);
    const char *text = equals ? equals + 1 : NULL;
    FAIL_IF(text && rows[id].type == TYPE_FLAG, err, SLUICE_ERR_ARG, "%s: takes no value", source);
    FAIL_IF(text && !*text && rows[id].type == TYPE_MAYBE, err, SLUICE_ERR_ARG,
            "%s=: expected %s after it", source, rows[id].words);
    if (!text && rows[id].type == TYPE_FLAG)
        text = "1";
    else if (!text && rows[id].type == TYPE_MAYBE)
        text = "";
    else if (!text)
        TRY(next_word(p, id, source, &text, err));
    return store(p, id, source, text, err);
}

/* "-qm FILE", "-mFILE": letters of flags may stand together, the last may take a value. */
static enum sluice_status parse_letters(struct parser *p, const char *word,
                                        struct sluice_error *err)
{
    for (const char *at = word; *at; at++) {
        int id = row_find_letter(p->command->bit, *at);
        FAIL_IF(id < 0, err, SLUICE_ERR_ARG, "unknown option -%c", *at);
        char source[8];
        snprintf(source, sizeof source, "-%c", *at);
        if (rows[id].type == TYPE_FLAG) {
            TRY(store(p, id, source, "1", err));
            continue;
        }
        const char *text = at + 1;
        if (!*text)
            TRY(next_word(p, id, source, &text, err));
        return store(p, id, source, text, err);
    }
    return SLUICE_OK;
}

static enum sluice_status parse_environment(const struct options_command *command,
                                            struct options *out, struct sluice_error *err)
{
    for (int i = 0; i < OPT_COUNT; i++) {
        if (!rows[i].env || !(rows[i].commands & command->bit))
            continue;
        const char *text = getenv(rows[i].env);
        if (!text || !*text)
            continue;
        if (rows[i].type == TYPE_MAYBE && word_among("0|false|no|off", text))
            continue;
        TRY(value_set(&rows[i], rows[i].env, text, &out->value[i], err));
        out->value[i].rank = 1;
    }
    return SLUICE_OK;
}

static enum sluice_status parse_words(struct parser *p, struct sluice_error *err)
{
    bool options_over = false;
    for (; p->at < p->argc; p->at++) {
        const char *word = p->argv[p->at];
        if (!options_over && strcmp(word, "--") == 0) {
            options_over = true;
        } else if (!options_over && word[0] == '-' && word[1] == '-') {
            TRY(parse_long(p, word + 2, err));
        } else if (!options_over && word[0] == '-' && word[1]) {
            TRY(parse_letters(p, word + 1, err));
        } else if (p->command->max_args == OPTIONS_PASS_ON) {
            p->out->arg[p->out->n_arg++] = word;
            p->out->rest = p->argv + p->at + 1;
            p->out->n_rest = p->argc - p->at - 1;
            return SLUICE_OK;
        } else {
            FAIL_IF(p->out->n_arg == p->command->max_args, err, SLUICE_ERR_ARG,
                    "unexpected argument '%s'", word);
            p->out->arg[p->out->n_arg++] = word;
        }
        if (p->out->value[OPT_HELP].rank)
            return SLUICE_OK;
    }
    return SLUICE_OK;
}

enum sluice_status options_parse(const struct options_command *command, int argc, char **argv,
                                 struct options *out, struct sluice_error *err)
{
    struct parser p = {command, argc, 0, argv, out};
    *out = (struct options){.command = command->name, .bit = command->bit};
    SLUICE_ASSERT(command->max_args <= (int)(sizeof out->arg / sizeof out->arg[0]));
    TRY(parse_words(&p, err));
    if (out->value[OPT_HELP].rank)
        return SLUICE_OK;
    /* The environment is read into a second record, so that a wrong variable that the command line
     * overrides is an error all the same, and never wins. */
    struct options env = {0};
    TRY(parse_environment(command, &env, err));
    for (int i = 0; i < OPT_COUNT; i++)
        if (!out->value[i].rank)
            out->value[i] = env.value[i];
    return SLUICE_OK;
}

/* ---- reading ---- */

bool options_given(const struct options *o, enum option_id id)
{
    return o->value[id].rank > 0;
}

const char *options_text(const struct options *o, enum option_id id, const char *other)
{
    return options_given(o, id) ? o->value[id].text : other;
}

int64_t options_int(const struct options *o, enum option_id id, int64_t other)
{
    return options_given(o, id) ? o->value[id].integer : other;
}

double options_real(const struct options *o, enum option_id id, double other)
{
    return options_given(o, id) ? o->value[id].real : other;
}

bool options_flag(const struct options *o, enum option_id id)
{
    return options_given(o, id) && o->value[id].integer != 0;
}

bool options_find_program(const char *name, char *path, size_t size)
{
    const char *folders = getenv("PATH");
    while (folders && *folders) {
        size_t len = strcspn(folders, ":");
        int n = snprintf(path, size, "%.*s/%s", (int)len, folders, name);
        if (len > 0 && n > 0 && (size_t)n < size && access(path, X_OK) == 0)
            return true;
        folders += len;
        folders += *folders == ':';
    }
    return false;
}

bool options_temp_name(const char *name, char *path, size_t size)
{
    const char *folder = getenv("TMPDIR");
    int n = snprintf(path, size, "%s/%s", folder && *folder ? folder : "/tmp", name);
    return n > 0 && (size_t)n < size;
}

const char *options_notify_socket(void)
{
    return getenv("NOTIFY_SOCKET");
}

int64_t options_watchdog_us(void)
{
    const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!us || (pid && strtoll(pid, NULL, 10) != (long long)getpid()))
        return 0;
    int64_t n = strtoll(us, NULL, 10);
    return n > 0 && n < MANY ? n : 0;
}

bool options_plain_terminal(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return (no_color && *no_color) || !term || !*term || strcmp(term, "dumb") == 0;
}

bool options_state_dir(char *path, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int n = -1;
    if (state && state[0] == '/')
        n = snprintf(path, size, "%s/sluice", state);
    else if (home && home[0] == '/')
        n = snprintf(path, size, "%s/.local/state/sluice", home);
    return n >= 0 && (size_t)n < size;
}

/* ---- help ---- */

#define HELP_INDENT 28
#define HELP_WIDTH 80

/* Words of text from column HELP_INDENT on. */
static void print_wrapped(FILE *to, const char *text)
{
    int column = HELP_INDENT;
    while (*text) {
        int len = (int)strcspn(text, " ");
        if (column > HELP_INDENT && column + 1 + len > HELP_WIDTH) {
            fprintf(to, "\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        }
        if (column > HELP_INDENT)
            column += fprintf(to, " ");
        fprintf(to, "%.*s", len, text);
        column += len;
        text += len;
        text += *text == ' ';
    }
    fprintf(to, "\n");
}

static void help_row(FILE *to, const struct option_row *row)
{
    char left[64], right[512];
    char letter[8] = "    ";
    if (row->letter)
        snprintf(letter, sizeof letter, "-%c, ", row->letter);
    const char *open = !row->metavar ? "" : row->type == TYPE_MAYBE ? "[=" : " ";
    snprintf(left, sizeof left, "  %s--%s%s%s%s", letter, row->name, open,
             row->metavar ? row->metavar : "", row->type == TYPE_MAYBE ? "]" : "");
    int n = snprintf(right, sizeof right, "%s", row->help);
    if (row->fallback)
        n += snprintf(right + n, sizeof right - (size_t)n, " (default: %s)", row->fallback);
    if (row->env)
        snprintf(right + n, sizeof right - (size_t)n, " [%s]", row->env);
    if (strlen(left) + 2 > HELP_INDENT)
        fprintf(to, "%s\n%*s", left, HELP_INDENT, "");
    else
        fprintf(to, "%-*s", HELP_INDENT, left);
    print_wrapped(to, right);
}

void options_help(FILE *to, enum command_bit bit)
{
    fprintf(to, "Options:\n");
    for (int i = 0; i < OPT_COUNT; i++)
        if (rows[i].commands & bit)
            help_row(to, &rows[i]);
}
