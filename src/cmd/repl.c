/* A conversation at the terminal. */
#include "cmd/repl.h"

#include <ctype.h>
#include <inttypes.h>

#include "base/check.h"
#include "cmd/interrupt.h"
#include "cmd/line.h"

struct repl {
    struct run *run;
    struct line_reader *reader;
    struct line_history history;
    const char *history_path;    /* NULL: not kept */
    struct buf entry;        /* the lines of one message */
    bool quit;
};

/* A command gets what follows its name, without spaces around; "" if nothing. */
struct repl_command {
    const char *name, *args, *help;
    void (*fn)(struct repl *r, const char *arg);
};

static void do_help(struct repl *r, const char *arg);

static void report(const char *text)
{
    fprintf(stderr, "%s\n", text);
}

static void report_status(struct repl *r, enum sluice_status st, const struct sluice_error *err,
                          const char *done)
{
    if (st == SLUICE_OK)
        report(done);
    else
        cmd_error(r->run->o, err);
}

static void do_think(struct repl *r, const char *arg)
{
    if (strcmp(arg, "high") == 0)
        r->run->effort = SLUICE_EFFORT_HIGH;
    else if (strcmp(arg, "max") == 0)
        r->run->effort = SLUICE_EFFORT_MAX;
    else if (!*arg)
        r->run->effort = SLUICE_EFFORT_DEFAULT;
    else
        report("/think: expected nothing, high or max");
}

static void do_nothink(struct repl *r, const char *arg)
{
    r->run->effort = SLUICE_EFFORT_NONE;
}

static void do_system(struct repl *r, const char *arg)
{
    struct sluice_error err;
    const char *now = dialog_system(&r->run->chat);
    if (!*arg) {
        report(now ? now : "there is no system message");
        return;
    }
    report_status(r, dialog_system_set(&r->run->chat, arg, &err), &err,
                  "system message set");
}

static void do_clear(struct repl *r, const char *arg)
{
    dialog_clear(&r->run->chat);
    report("conversation cleared");
}

static void do_stats(struct repl *r, const char *arg)
{
    const struct sluice_info *info = sluice_info(r->run->e);
    struct sluice_stats s;
    char line[256];
    sluice_stats(r->run->e, &s);
    fprintf(stderr, "model      %s (%s), %s\n", info->name, info->family, info->backend);
    fprintf(stderr, "context    %d messages; at most %" PRId64 " tokens\n",
            dialog_count(&r->run->chat), info->context);
    fprintf(stderr, "KV memory  %.1f of %.1f MiB\n", (double)s.kv_used / (1 << 20),
            (double)s.kv_budget / (1 << 20));
    fprintf(stderr, "so far     %" PRId64 " tokens read, %" PRId64 " from memory, %" PRId64
                    " written\n",
            s.prefill_tokens, s.cached_tokens, s.decode_tokens);
    if (r->run->sampling.temperature > 0)
        fprintf(stderr, "seed       %" PRIu64 "\n", r->run->sampling.seed);
    if (r->run->last.prompt) {
        answer_summary(&r->run->last, line, sizeof line);
        fprintf(stderr, "last       %s\n", line);
    }
}

static void do_save(struct repl *r, const char *arg)
{
    struct sluice_error err;
    if (!*arg) {
        report("/save: expected a file's name");
        return;
    }
    report_status(r, dialog_save(&r->run->chat, arg, &err), &err, "saved");
}

static void do_load(struct repl *r, const char *arg)
{
    struct sluice_error err;
    if (!*arg) {
        report("/load: expected a file's name");
        return;
    }
    report_status(r, dialog_load(&r->run->chat, arg, &err), &err, "loaded");
}

static void do_quit(struct repl *r, const char *arg)
{
    r->quit = true;
}

static const struct repl_command commands[] = {
    {"/help", "", "this list", do_help},
    {"/think", "[high|max]", "think before answering", do_think},
    {"/nothink", "", "answer without thinking", do_nothink},
    {"/system", "[TEXT]", "set or show the system message", do_system},
    {"/clear", "", "forget the conversation, keep the system message", do_clear},
    {"/stats", "", "the model, memory and times", do_stats},
    {"/save", "FILE", "write the conversation as JSON", do_save},
    {"/load", "FILE", "go on with a saved conversation", do_load},
    {"/quit", "", "leave, as Ctrl-D does", do_quit},
};
#define N_COMMANDS (int)(sizeof commands / sizeof commands[0])

static void do_help(struct repl *r, const char *arg)
{
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(stderr, "  %-9s %-11s %s\n", commands[i].name, commands[i].args,
                commands[i].help);
    report("A line that ends with \\ goes on in the next; \"\"\" begins and ends a text of\n"
           "several lines. Ctrl-C stops an answer.");
}

/* True if the entry was a command. */
static bool run_command(struct repl *r, char *entry)
{
    if (entry[0] != '/' || strchr(entry, '\n'))
        return false;
    size_t len = strcspn(entry, " \t");
    char *arg = entry + len + strspn(entry + len, " \t");
    for (size_t n = strlen(arg); n && isspace((unsigned char)arg[n - 1]); n--)
        arg[n - 1] = '\0';
    for (int i = 0; i < N_COMMANDS; i++)
        if (strlen(commands[i].name) == len && memcmp(commands[i].name, entry, len) == 0) {
            commands[i].fn(r, arg);
            return true;
        }
    const char *names[N_COMMANDS];
    for (int i = 0; i < N_COMMANDS; i++)
        names[i] = commands[i].name;
    entry[len] = '\0';
    const char *nearest = options_nearest(entry, names, N_COMMANDS);
    fprintf(stderr, "unknown command %s; %s%s\n", entry, nearest ? "did you mean " : "try ",
            nearest ? nearest : "/help");
    return true;
}

/* ---- entries of several lines ---- */

/* Text up to the closing quotes; the opening ones were at the start of first. */
static enum line_result read_quoted(struct repl *r, const char *first)
{
    const char *line = first + 3;
    for (;;) {
        const char *end = strstr(line, "\"\"\"");
        buf_add(&r->entry, line, end ? (size_t)(end - line) : strlen(line));
        if (end)
            return LINE_OK;
        if (r->entry.len)
            buf_add_char(&r->entry, '\n');
        enum line_result got = line_read(r->reader, "... ", &line);
        if (got != LINE_OK)
            return got;
    }
}

static enum line_result read_entry(struct repl *r)
{
    const char *line;
    buf_clear(&r->entry);
    enum line_result got = line_read(r->reader, "> ", &line);
    if (got == LINE_OK && strncmp(line, "\"\"\"", 3) == 0)
        return read_quoted(r, line);
    while (got == LINE_OK) {
        size_t n = strlen(line);
        bool more = n && line[n - 1] == '\\';
        buf_add(&r->entry, line, n - more);
        if (!more)
            break;
        buf_add_char(&r->entry, '\n');
        got = line_read(r->reader, "... ", &line);
    }
    return got;
}

static int answer_entry(struct repl *r)
{
    struct sluice_error err;
    if (buf_status(&r->entry, &err) != SLUICE_OK) {
        cmd_error(r->run->o, &err);
        return EXIT_OK;
    }
    if (r->entry.len == 0)
        return EXIT_OK;
    line_history_add(&r->history, r->entry.data);
    line_remember(r->reader, r->entry.data);
    /* At once: a terminal that is closed ends the program without asking. */
    if (line_history_save(&r->history, r->history_path, &err) != SLUICE_OK) {
        cmd_error(r->run->o, &err);
        r->history_path = NULL;
    }
    if (run_command(r, r->entry.data))
        return EXIT_OK;
    int code = run_turn(r->run, (struct str){r->entry.data, r->entry.len});
    interrupt_clear();
    /* Only a reader that went away ends the conversation; everything else was reported. */
    return r->run->term->broken ? code : EXIT_OK;
}

static void greet(const struct run *r)
{
    const struct sluice_info *info = sluice_info(r->e);
    if (!options_flag(r->o, OPT_QUIET))
        fprintf(stderr, "%s (%s). /help lists commands, Ctrl-D leaves.\n", info->name,
                info->family);
}

int repl(struct run *run)
{
    struct repl r = {.run = run};
    struct sluice_error err;
    char dir[4000], path[4096];
    if (run->term->err && options_state_dir(dir, sizeof dir)) {
        snprintf(path, sizeof path, "%s/history", dir);
        r.history_path = path;
    }
    interrupt_catch();
    int code = EXIT_OK;
    if (line_open(&r.reader, &err) != SLUICE_OK) {
        cmd_error(run->o, &err);
        code = EXIT_FAILED;
    } else {
        buf_init(&r.entry, LIMIT_CMD_INPUT);
        line_history_load(&r.history, r.history_path);
        for (size_t i = 0; i < r.history.n; i++)
            line_remember(r.reader, r.history.entry[i]);
        greet(run);
        while (!r.quit && code == EXIT_OK) {
            enum line_result got = read_entry(&r);
            if (got == LINE_END)
                break;
            if (got == LINE_OK)
                code = answer_entry(&r);
        }
    }
    line_history_deinit(&r.history);
    line_close(r.reader);
    buf_deinit(&r.entry);
    interrupt_release();
    return code;
}
