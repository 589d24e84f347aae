/* Opening a model from the command line. */
#include <inttypes.h>
#include <sys/random.h>
#include <time.h>

#include "base/check.h"
#include "cmd/cmd.h"
#include "kvstore/kvstore.h"
#include "cmd/term.h"

void cmd_error(const struct options *o, const struct sluice_error *err)
{
    term_bar_clear(term_get());
    fprintf(stderr, "sluice %s: %s\n", o->command, err->message);
}

/* On any thread; one call of fprintf is one line. */
static void log_line(void *ctx, enum sluice_log_level level, const char *text)
{
    static const char *const names[] = {"error: ", "warning: ", "", ""};
    fprintf(stderr, "sluice: %s%s\n", names[level], text);
}

static enum sluice_pin pin_of(const struct options *o)
{
    const char *when = options_text(o, OPT_PIN, "auto");
    return strcmp(when, "on") == 0    ? SLUICE_PIN_ON
           : strcmp(when, "off") == 0 ? SLUICE_PIN_OFF
                                      : SLUICE_PIN_AUTO;
}

void cmd_engine_options(const struct options *o, struct sluice_options *out)
{
    *out = (struct sluice_options){
        .model = options_text(o, OPT_MODEL, NULL),
        .mtp = options_text(o, OPT_MTP, NULL),
        .backend = options_text(o, OPT_BACKEND, NULL),
        .isa = options_text(o, OPT_ISA, NULL),
        .kv = strcmp(options_text(o, OPT_KV, "fp8"), "exact") == 0 ? SLUICE_KV_EXACT
                                                                   : SLUICE_KV_FP8,
        .threads = (int)options_int(o, OPT_THREADS, 0),
        .pin = pin_of(o),
        .context = options_int(o, OPT_CTX, 0),
        .chunk = (int)options_int(o, OPT_CHUNK, 0),
        .kv_bytes = options_int(o, OPT_KV_MEMORY, 0),
        .log_level = options_flag(o, OPT_VERBOSE) ? SLUICE_LOG_INFO
                     : options_flag(o, OPT_QUIET) ? SLUICE_LOG_ERROR
                                                  : SLUICE_LOG_WARN,
        .log = log_line,
    };
}

enum sluice_status cmd_open_store(const struct options *o, struct sluice *e,
                                  struct kvstore **store, struct sluice_error *err)
{
    struct kvstore_options options = {
        .dir = options_text(o, OPT_KV_DIR, NULL),
        .bytes = options_int(o, OPT_KV_SIZE, 0),
        .log = log_line};
    *store = NULL;
    if (!options.dir)
        return SLUICE_OK;
    sluice_store_identity(e, &options.identity);
    TRY(kvstore_open(&options, store, err));
    sluice_store_set(e, kvstore_sink(*store));
    return SLUICE_OK;
}

int cmd_open_code(enum sluice_status status)
{
    switch (status) {
    case SLUICE_OK:
        return EXIT_OK;
    case SLUICE_ERR_IO:
    case SLUICE_ERR_FORMAT:
    case SLUICE_ERR_MODEL:
        return EXIT_MODEL;
    case SLUICE_ERR_NOMEM:
        return EXIT_MEMORY;
    case SLUICE_ERR_ARG:
        return EXIT_USAGE;
    default:
        return EXIT_FAILED;
    }
}

int cmd_open(const struct options *o, const struct sluice_options *engine, struct sluice **e)
{
    struct sluice_error err;
    *e = NULL;
    enum sluice_status st = sluice_open(engine, e, &err);
    if (st == SLUICE_OK)
        return EXIT_OK;
    cmd_error(o, &err);
    return cmd_open_code(st);
}

/* A seed that differs from run to run. */
static uint64_t fresh_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = (uint64_t)time(NULL);
    return seed & UINT32_MAX;
}

void cmd_sampling(const struct options *o, float temperature, struct sluice_sampling *out)
{
    *out = (struct sluice_sampling){
        .temperature = (float)options_real(o, OPT_TEMP, temperature),
        .top_k = (int32_t)options_int(o, OPT_TOP_K, 0),
        .top_p = (float)options_real(o, OPT_TOP_P, 1),
        .min_p = (float)options_real(o, OPT_MIN_P, 0),
        .repetition_penalty = (float)options_real(o, OPT_REPEAT_PENALTY, 1),
        .presence_penalty = (float)options_real(o, OPT_PRESENCE_PENALTY, 0),
        .frequency_penalty = (float)options_real(o, OPT_FREQUENCY_PENALTY, 0),
        .seed = options_given(o, OPT_SEED) ? (uint64_t)options_int(o, OPT_SEED, 0) : fresh_seed(),
        .logprobs = -1,
    };
}

enum sluice_effort cmd_effort(const struct options *o, bool builtin)
{
    const char *word = options_text(o, OPT_THINK, NULL);
    if (o->value[OPT_NOTHINK].integer && o->value[OPT_NOTHINK].rank > o->value[OPT_THINK].rank)
        return SLUICE_EFFORT_NONE;
    if (!word)
        return builtin ? SLUICE_EFFORT_NONE : SLUICE_EFFORT_DEFAULT;
    return strcmp(word, "max") == 0    ? SLUICE_EFFORT_MAX
           : strcmp(word, "high") == 0 ? SLUICE_EFFORT_HIGH
                                       : SLUICE_EFFORT_DEFAULT;
}
