/* cmd/options.h - the one table of options. Help text, parsing and environment twins come from it.
 *
 * Precedence: command line, environment (SLUICE_*), default. Of an option given twice the last
 * counts. */
#ifndef SLUICE_CMD_OPTIONS_H
#define SLUICE_CMD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/status.h"

/* Which commands an option belongs to; one bit per command. */
enum command_bit {
    CMD_RUN = 1 << 0,
    CMD_INSPECT = 1 << 1,
    CMD_LOGITS = 1 << 2,
    CMD_DRAFT = 1 << 3,
    CMD_TOKENIZE = 1 << 4,
    CMD_DETOKENIZE = 1 << 5,
    CMD_RENDER = 1 << 6,
    CMD_PARSE = 1 << 7,
    CMD_GENERATE = 1 << 8,
    CMD_SERVE = 1 << 9,
    CMD_BENCH = 1 << 10,
    CMD_KV_LIST = 1 << 11,
    CMD_KV_VERIFY = 1 << 12,
    CMD_KV_PRUNE = 1 << 13,
    CMD_LAUNCH = 1 << 14,
    CMD_KV_SHOW = 1 << 15,
};

enum option_id {
    /* model and engine */
    OPT_MODEL,
    OPT_MTP,
    OPT_CTX,
    OPT_KV,
    OPT_KV_MEMORY,
    OPT_KV_DIR,
    OPT_KV_SIZE,
    OPT_THREADS,
    OPT_PIN,
    OPT_BACKEND,
    OPT_ISA,
    OPT_CHUNK,
    OPT_PARALLEL,
    /* input and output */
    OPT_PROMPT,
    OPT_FILE,
    OPT_INTERACTIVE,
    OPT_SYSTEM,
    OPT_RAW,
    OPT_IDS,
    OPT_OUT,
    OPT_PLAIN,
    OPT_JSON,
    /* bench */
    OPT_FRONTIERS,
    OPT_DECODE,
    OPT_RANDOM_PAST,
    OPT_PROFILE,
    OPT_OPS,
    OPT_CSV,
    OPT_SVG,
    /* thinking */
    OPT_THINK,
    OPT_NOTHINK,
    OPT_SHOW_THINKING,
    /* sampling */
    OPT_TEMP,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_REPEAT_PENALTY,
    OPT_PRESENCE_PENALTY,
    OPT_FREQUENCY_PENALTY,
    OPT_SEED,
    OPT_MAX_TOKENS,
    OPT_STOP,
    /* server */
    OPT_HOST,
    OPT_PORT,
    OPT_API_KEY_FILE,
    OPT_NO_API_KEY,
    OPT_TLS_CERT,
    OPT_TLS_KEY,
    OPT_CORS,
    OPT_ALLOW_HOST,
    OPT_MODEL_NAME,
    OPT_MAX_QUEUED,
    OPT_DRAIN,
    OPT_KEEP_REASONING,
    OPT_TRUST_TEXT,
    OPT_TRACE,
    OPT_JSON_LOG,
    OPT_SCRIPT,
    /* messages */
    OPT_QUIET,
    OPT_VERBOSE,
    OPT_HELP,
    OPT_COUNT,
};

struct option_value {
    int rank;                /* 0: not given; 1: environment; above: place on the command line */
    const char *text;        /* borrowed from argv or the environment; the last of a list */
    int64_t integer;         /* integers and sizes; 1 or 0 for flags */
    double real;
};

struct options {
    const char *command;     /* "run", for messages */
    enum command_bit bit;
    struct option_value value[OPT_COUNT];
    const char *stop[LIMIT_CMD_STOPS];   /* every --stop, in order */
    int n_stop;
    const char *arg[4];      /* positional arguments */
    int n_arg;
    char **rest;             /* what follows the first one where it is another program's */
    int n_rest;
};

/* max_args of a command whose first argument is another program: what follows is options.rest. */
#define OPTIONS_PASS_ON (-1)

/* What parsing needs to know of a command. */
struct options_command {
    const char *name;
    enum command_bit bit;
    int max_args;
};

/* Parses argv[0..argc), which begins after the command's name. SLUICE_ERR_ARG names the option,
 * what was expected and what was found; an unknown option comes with the nearest known one. Nothing
 * is wrong after --help. */
enum sluice_status options_parse(const struct options_command *command, int argc, char **argv,
                                 struct options *out, struct sluice_error *err);

/* Given on the command line or in the environment? */
bool options_given(const struct options *o, enum option_id id);
/* Text, integer or number as given, else other. */
const char *options_text(const struct options *o, enum option_id id, const char *other);
int64_t options_int(const struct options *o, enum option_id id, int64_t other);
double options_real(const struct options *o, enum option_id id, double other);
bool options_flag(const struct options *o, enum option_id id);

/* The path of a program on the PATH; false if there is none. */
bool options_find_program(const char *name, char *path, size_t size);
/* A path in the folder for temporary files; false if it does not fit. */
bool options_temp_name(const char *name, char *path, size_t size);
/* Where systemd wants to hear of the program's state, or NULL. */
const char *options_notify_socket(void);

/* The time in which systemd wants a sign of life, in microseconds; 0 if it wants none. */
int64_t options_watchdog_us(void);

/* The option table of a command, for its --help, wrapped at 80 columns. */
void options_help(FILE *to, enum command_bit bit);
/* The nearest of n names to a mistyped one, or NULL if none is near. */
const char *options_nearest(const char *typed, const char *const *names, int n);

/* NO_COLOR is set, or the terminal is dumb. */
bool options_plain_terminal(void);
/* The directory for state ($XDG_STATE_HOME/sluice, else ~/.local/state/sluice); false if
 * neither variable is set or the path is longer than size. */
bool options_state_dir(char *path, size_t size);

#endif
