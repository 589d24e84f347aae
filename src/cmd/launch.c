/* `sluice launch`: one of the coding agents, set up for this server. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "cmd/cmd.h"
#include "cmd/interrupt.h"
#include "cmd/launch.h"

static volatile sig_atomic_t client_pid;

/* What ends this program ends the client; Ctrl-C is the terminal's to send. */
static void pass_on(int number)
{
    if (client_pid > 0)
        kill((pid_t)client_pid, number);
}

static sigset_t mask; /* of signals, as it was */

/* From here on what ends this program waits until there is a client to pass it on to. */
static void hold_signals(void)
{
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGTERM);
    sigaddset(&held, SIGHUP);
    sigprocmask(SIG_BLOCK, &held, &mask);
    signal(SIGTERM, pass_on);
    signal(SIGHUP, pass_on);
    signal(SIGQUIT, SIG_IGN);
}

_Noreturn static void become(const struct launch_plan *plan, char **argv)
{
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    for (int i = 0; i < plan->n_env; i++) {
        if (plan->env[i].value)
            setenv(plan->env[i].name, plan->env[i].value, 1);
        else
            unsetenv(plan->env[i].name);
    }
    execv(plan->path, argv);
    fprintf(stderr, "sluice launch: %s: %s\n", plan->path, strerror(errno));
    _exit(EXIT_FAILED);
}

/* Runs the client to its end; its exit status, or as a shell reports a signal. */
static int run(const struct options *o, const struct launch_plan *plan)
{
    char **argv = calloc((size_t)plan->n_arg + (size_t)o->n_rest + 2, sizeof *argv);
    int n = 0, status = 0;
    if (!argv)
        return EXIT_MEMORY;
    argv[n++] = (char *)o->arg[0];
    for (int i = 0; i < plan->n_arg; i++)
        argv[n++] = plan->arg[i];
    for (int i = 0; i < o->n_rest; i++)
        argv[n++] = o->rest[i];
    fflush(NULL);
    hold_signals();
    pid_t pid = fork();
    if (pid == 0)
        become(plan, argv);
    client_pid = pid;
    sigprocmask(SIG_SETMASK, &mask, NULL);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    client_pid = 0;
    free(argv);
    if (pid < 0) {
        fprintf(stderr, "sluice launch: cannot start a process\n");
        return EXIT_FAILED;
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int launch(const struct options *o, const struct launch_client *client, const char *dir,
                  struct launch_plan *plan)
{
    struct launch_server server;
    struct sluice_error err;
    enum sluice_status st = launch_server_open(o, dir, &server, &err);
    if (st == SLUICE_OK)
        st = launch_client_prepare(client, &server, dir, plan, &err);
    int code = EXIT_OK;
    if (st == SLUICE_OK) {
        if (!options_flag(o, OPT_QUIET))
            fprintf(stderr, "sluice launch: %s asks %s at %s\n", o->arg[0], server.model,
                    server.url);
        code = run(o, plan);
    }
    launch_server_close(&server);
    if (st == SLUICE_OK)
        return code;
    cmd_error(o, &err);
    return st == SLUICE_ERR_CANCELLED ? EXIT_INTERRUPTED
           : st == SLUICE_ERR_ARG     ? EXIT_USAGE
                                      : EXIT_FAILED;
}

int cmd_launch(const struct options *o)
{
    const char *nearest = NULL;
    if (o->n_arg == 0)
        return cmd_usage(o, "expected %s", launch_client_names());
    const struct launch_client *client = launch_client_find(o->arg[0], &nearest);
    if (!client && nearest)
        return cmd_usage(o, "unknown client '%s'; did you mean '%s'?", o->arg[0], nearest);
    if (!client)
        return cmd_usage(o, "unknown client '%s': expected %s", o->arg[0], launch_client_names());
    struct launch_plan plan = {0};
    struct sluice_error err;
    if (launch_client_find_program(client, &plan, &err) != SLUICE_OK) {
        cmd_error(o, &err);
        return EXIT_FAILED;
    }
    char dir[LAUNCH_PATH / 2];
    if (!options_temp_name("sluice-launch-XXXXXX", dir, sizeof dir) || !mkdtemp(dir)) {
        fprintf(stderr, "sluice launch: no folder for temporary files\n");
        return EXIT_FAILED;
    }
    interrupt_catch();
    int code = launch(o, client, dir, &plan);
    launch_plan_deinit(&plan);
    rmdir(dir);
    interrupt_release();
    return code;
}
