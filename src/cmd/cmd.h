/* cmd/cmd.h - what the subcommands share: exit codes, the table of commands, opening a model. */
#ifndef SLUICE_CMD_CMD_H
#define SLUICE_CMD_CMD_H

#include "cmd/options.h"
#include "sluice.h"

struct kvstore;

enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_MODEL = 3,         /* the model file cannot be read or run */
    EXIT_MEMORY = 4,        /* the plan does not fit in memory */
    EXIT_INTERRUPTED = 130, /* as a shell reports SIGINT */
};

/* A subcommand. Runs with parsed options and returns an exit code. */
struct command {
    const char *name;        /* "run", "debug logits" */
    const char *summary;     /* one line of `sluice --help` */
    const char *args;        /* after "[options]" in the usage line, or NULL */
    const char *about;       /* paragraph of its help, or NULL */
    int max_args;            /* positional arguments it takes, or OPTIONS_PASS_ON */
    enum command_bit bit;
    int (*fn)(const struct options *o);
};

int cmd_run(const struct options *o);
int cmd_serve(const struct options *o);
int cmd_launch(const struct options *o);
int cmd_kv_list(const struct options *o);
int cmd_kv_show(const struct options *o);
int cmd_kv_verify(const struct options *o);
int cmd_kv_prune(const struct options *o);
int cmd_bench(const struct options *o);
int cmd_inspect(const struct options *o);
int cmd_debug_logits(const struct options *o);
int cmd_debug_draft(const struct options *o);
int cmd_debug_tokenize(const struct options *o);
int cmd_debug_detokenize(const struct options *o);
int cmd_debug_render(const struct options *o);
int cmd_debug_parse(const struct options *o);
int cmd_debug_generate(const struct options *o);

/* "sluice CMD: message" on stderr. */
void cmd_error(const struct options *o, const struct sluice_error *err);
/* A wrong use found after parsing: message and hint; returns EXIT_USAGE. */
int cmd_usage(const struct options *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The engine's options that the command line gives; log messages go to stderr. */
void cmd_engine_options(const struct options *o, struct sluice_options *out);
/* Opens the model; on failure reports it, leaves *e NULL and returns the exit code, else
 * EXIT_OK. */
int cmd_open(const struct options *o, const struct sluice_options *engine, struct sluice **e);
/* The exit code of a failure to open a model. */
int cmd_open_code(enum sluice_status status);
/* Keeps the engine's conversations in --kv-dir, where that is given; *store is NULL else. To be
 * closed after the engine. */
enum sluice_status cmd_open_store(const struct options *o, struct sluice *e,
                                  struct kvstore **store, struct sluice_error *err);
/* Sampling as given; temperature is what to use when none was. */
void cmd_sampling(const struct options *o, float temperature, struct sluice_sampling *out);
/* How much to think, as given; without a word, the built-in model does not. */
enum sluice_effort cmd_effort(const struct options *o, bool builtin);

#endif
