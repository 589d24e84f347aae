/* The program: finds the subcommand, parses its options, runs it. */
#include <locale.h>
#include <signal.h>
#include <stdarg.h>

#include "base/check.h"
#include "cmd/cmd.h"
#include "cmd/term.h"

static const struct command commands[] = {
    {"run", "talk with a model, or answer one prompt", "[-]",
     "The answer goes to standard output, everything else to standard error. Without\n"
     "a prompt, and with a terminal, a conversation begins; /help lists its commands.",
     1, CMD_RUN, cmd_run},
    {"serve", "serve a model to other programs", NULL,
     "Speaks OpenAI's Chat Completions, Responses and Completions and Anthropic's\n"
     "Messages below http://ADDRESS:PORT/v1; / is a page to chat. SIGTERM lets running\n"
     "requests end.",
     0, CMD_SERVE, cmd_serve},
    {"launch", "start a coding agent that uses this server", "CLIENT [ARGUMENTS]",
     "CLIENT is codex, claude, opencode or pi; what follows it is the client's own. It\n"
     "uses the server at --host and --port. If none runs there, one is started with\n"
     "the options below, and ended with the client. The client's files stay as they\n"
     "are.",
     OPTIONS_PASS_ON, CMD_LAUNCH, cmd_launch},
    {"inspect", "what a model file holds and the memory it needs", "[FILE]", NULL, 1, CMD_INSPECT,
     cmd_inspect},
    {"bench", "how fast this machine runs a model", NULL,
     "At each frontier: the rest of the context is read, some tokens are decoded, and\n"
     "speed is set against the machine's own read bandwidth, measured first. The hash\n"
     "of the last logits is the same on every run, and on every machine but for AMX.\n"
     "With --ops, each op of a step is timed alone.",
     0, CMD_BENCH, cmd_bench},
    {"kv list", "conversations kept on disk", "DIR",
     "One line a record: kind, tokens, size, days since its last use, file.", 1, CMD_KV_LIST,
     cmd_kv_list},
    {"kv show", "one conversation kept on disk, or a line for each", "DIR [ID]",
     "ID is the beginning of a state's, as the list without it shows them. The text is\n"
     "shown where the model is the one that read it.",
     2, CMD_KV_SHOW, cmd_kv_show},
    {"kv verify", "checks conversations kept on disk", "DIR",
     "Reads every record whole; names those that are harmed and then exits with 1.", 1,
     CMD_KV_VERIFY, cmd_kv_verify},
    {"kv prune", "removes harmed and old conversations from disk", "DIR",
     "Removes what is harmed and then what was not used for the longest time, until\n"
     "the rest fits --kv-size.",
     1, CMD_KV_PRUNE, cmd_kv_prune},
    {"debug logits", "logits of every token", NULL,
     "Reads token ids and writes float32 [tokens][vocabulary].", 0, CMD_LOGITS, cmd_debug_logits},
    {"debug draft", "logits of the MTP block", NULL,
     "Writes float32 [tokens - 1][vocabulary]: row i was fed the streams of token i\n"
     "and the id of token i + 1.",
     0, CMD_DRAFT, cmd_debug_draft},
    {"debug tokenize", "text to token ids", NULL,
     "JSON lines {\"text\": ...} on standard input, {\"ids\": [...]} on standard output.", 0,
     CMD_TOKENIZE, cmd_debug_tokenize},
    {"debug detokenize", "token ids to text", NULL,
     "JSON lines {\"ids\": [...]} on standard input, {\"text\": ...} on standard output.", 0,
     CMD_DETOKENIZE, cmd_debug_detokenize},
    {"debug render", "conversations as the text of their prompt", NULL,
     "JSON lines {\"messages\": [...], \"mode\": \"chat\" or \"thinking\", \"effort\": null,\n"
     "\"high\" or \"max\", \"drop_thinking\": true, \"revision\": \"0731\" or \"preview\"} on\n"
     "standard input, {\"text\": ...} on standard output. Lines of another \"kind\" than\n"
     "\"encode\" are passed over.",
     0, CMD_RENDER, cmd_debug_render},
    {"debug parse", "answers as content, reasoning and tool calls", NULL,
     "JSON lines {\"text\": ..., \"mode\": \"chat\" or \"thinking\"} on standard input,\n"
     "{\"reasoning_content\", \"content\", \"tool_calls\"} on standard output. Lines of\n"
     "another \"kind\" than \"parse\" are passed over.",
     0, CMD_PARSE, cmd_debug_parse},
    {"debug generate", "answers to many conversations at once", NULL,
     "JSON lines {\"messages\": [...], \"tools\": [...], \"thinking\": false,\n"
     "\"max_tokens\": N, \"temperature\": 0, \"seed\": N} on standard input; for each, in\n"
     "order, a line with \"content\", \"reasoning_content\", \"tool_calls\", \"finish\" and\n"
     "\"usage\".",
     0, CMD_GENERATE, cmd_debug_generate},
};
#define N_COMMANDS (int)(sizeof commands / sizeof commands[0])

static void print_commands(FILE *to, const char *group)
{
    size_t skip = strlen(group);
    for (int i = 0; i < N_COMMANDS; i++)
        if (strncmp(commands[i].name, group, skip) == 0)
            fprintf(to, "  %-18s%s\n", commands[i].name, commands[i].summary);
}

static void print_help(FILE *to)
{
    fprintf(to, "Usage: sluice COMMAND [options]\n\n"
                "Runs DeepSeek V4 models. `sluice run` talks with the built-in one.\n\n"
                "Commands:\n");
    print_commands(to, "");
    fprintf(to, "\n`sluice COMMAND --help` lists a command's options; most can also be set by the\n"
                "environment variable shown in brackets.\n"
                "  --version         version and what the processor offers\n"
                "  --help            this text\n\n"
                "Exit status: 0 success, 1 failure, 2 wrong use, 3 the model file cannot be used,\n"
                "4 not enough memory, 130 interrupted.\n");
}

static void print_command_help(FILE *to, const struct command *c)
{
    fprintf(to, "Usage: sluice %s [options]%s%s\n\nsluice %s: %s\n\n", c->name, c->args ? " " : "",
            c->args ? c->args : "", c->name, c->summary);
    if (c->about)
        fprintf(to, "%s\n\n", c->about);
    options_help(to, c->bit);
}

int cmd_usage(const struct options *o, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "sluice %s: ", o->command);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nTry 'sluice %s --help'.\n", o->command);
    return EXIT_USAGE;
}

/* The command that argv begins with, and how many words its name has. */
static const struct command *find_command(int argc, char **argv, int *words)
{
    char name[64];
    for (*words = 1; *words <= 2 && *words <= argc; ++*words) {
        snprintf(name, sizeof name, "%s%s%s", argv[0], *words == 2 ? " " : "",
                 *words == 2 ? argv[1] : "");
        for (int i = 0; i < N_COMMANDS; i++)
            if (strcmp(commands[i].name, name) == 0)
                return &commands[i];
    }
    return NULL;
}

/* What the names of a group's commands begin with, "debug "; NULL if word names no group. */
static const char *group_of(const char *word)
{
    static const char *const groups[] = {"debug ", "kv "};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        if (strncmp(groups[i], word, strlen(word)) == 0 && groups[i][strlen(word)] == ' ')
            return groups[i];
    return NULL;
}

static void print_group_help(FILE *to, const char *group)
{
    fprintf(to, "Usage: sluice %sCOMMAND [options]\n\nCommands:\n", group);
    print_commands(to, group);
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int unknown_command(int argc, char **argv)
{
    const char *names[N_COMMANDS], *group = group_of(argv[0]);
    const char *typed = group && argc > 1 ? argv[1] : argv[0];
    size_t skip = group ? strlen(group) : 0;
    int n = 0;
    if (group && argc == 1) {
        print_group_help(stderr, group);
        return EXIT_USAGE;
    }
    for (int i = 0; i < N_COMMANDS; i++)
        if (group ? strncmp(commands[i].name, group, skip) == 0 : !strchr(commands[i].name, ' '))
            names[n++] = commands[i].name + skip;
    const char *nearest = options_nearest(typed, names, n);
    fprintf(stderr, "sluice: unknown command '%s%s'", group ? group : "", typed);
    if (nearest)
        fprintf(stderr, "; did you mean '%s%s'?", group ? group : "", nearest);
    fprintf(stderr, "\nTry 'sluice --help'.\n");
    return EXIT_USAGE;
}

static int dispatch(int argc, char **argv)
{
    if (argc == 0) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (is_help(argv[0]) || (strcmp(argv[0], "help") == 0 && argc == 1)) {
        print_help(stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "-V") == 0) {
        printf("sluice %s\n%s\n", sluice_version(), sluice_cpu_features());
        return EXIT_OK;
    }
    if (argv[0][0] == '-') {
        fprintf(stderr, "sluice: unknown option %s\nTry 'sluice --help'.\n", argv[0]);
        return EXIT_USAGE;
    }
    bool help = strcmp(argv[0], "help") == 0;
    argc -= help;
    argv += help;
    const char *group = group_of(argv[0]);
    if (group && (argc == 1 ? help : is_help(argv[1]))) {
        print_group_help(stdout, group);
        return EXIT_OK;
    }
    int words;
    const struct command *c = find_command(argc, argv, &words);
    if (!c)
        return unknown_command(argc, argv);
    struct options o;
    struct sluice_error err;
    struct options_command known = {c->name, c->bit, c->max_args};
    if (help) {
        print_command_help(stdout, c);
        return EXIT_OK;
    }
    if (options_parse(&known, argc - words, argv + words, &o, &err) != SLUICE_OK)
        return cmd_usage(&o, "%s", err.message);
    if (options_flag(&o, OPT_HELP)) {
        print_command_help(stdout, c);
        return EXIT_OK;
    }
    return c->fn(&o);
}

int main(int argc, char **argv)
{
    /* Characters only: numbers keep the point. */
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    int code = dispatch(argc - 1, argv + 1);
    if (!term_finish(term_get()) && code == EXIT_OK)
        code = EXIT_FAILED;
    return code;
}
