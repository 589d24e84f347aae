/* cmd/launch.h - the parts of `sluice launch`: a server that runs or is started (launch_server.c),
 * and how each client is told of it (launch_client.c). */
#ifndef SLUICE_CMD_LAUNCH_H
#define SLUICE_CMD_LAUNCH_H

#include <sys/types.h>

#include "cmd/options.h"

#define LAUNCH_PATH 4096

/* A server that a client may use. */
struct launch_server {
    char url[128]; /* "http://127.0.0.1:8000" */
    char model[128]; /* a name without spaces and quotes */
    char key[LIMIT_SERVER_KEY + 1]; /* "": it wants none */
    int64_t context;
    pid_t pid; /* of one that was started, else 0 */
    char log[LAUNCH_PATH]; /* what it writes to standard error, in a file */
};

/* The server at --host and --port, or one that is started there (without --port: on a free one);
 * dir is a folder for its log. SLUICE_ERR_CANCELLED after Ctrl-C. */
enum sluice_status launch_server_open(const struct options *o, const char *dir,
                                      struct launch_server *s, struct sluice_error *err);
/* Ends it if it was started, and shows what it complained of. */
void launch_server_close(struct launch_server *s);

/* What a client is started with besides the user's arguments. */
struct launch_plan {
    char path[LAUNCH_PATH]; /* of the program */
    char *arg[16]; /* before the user's */
    int n_arg;
    struct launch_env {
        const char *name;
        char *value; /* NULL: removed */
    } env[20];
    int n_env;
    char file[LAUNCH_PATH]; /* a file that was written, or "" */
};

struct launch_client;
/* NULL if there is none of this name; *nearest is one that may be meant, or NULL. */
const struct launch_client *launch_client_find(const char *name, const char **nearest);
/* "codex, claude, opencode or pi" */
const char *launch_client_names(void);
/* Fills plan, with a file in dir where the client needs one. SLUICE_ERR_IO if the client is not
 * installed: the message says how it is. */
enum sluice_status launch_client_find_program(const struct launch_client *c,
                                              struct launch_plan *plan, struct sluice_error *err);
enum sluice_status launch_client_prepare(const struct launch_client *c,
                                         const struct launch_server *s, const char *dir,
                                         struct launch_plan *plan, struct sluice_error *err);
void launch_plan_deinit(struct launch_plan *plan);

#endif
