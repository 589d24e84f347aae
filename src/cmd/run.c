/* `sluice run`: one prompt and its answer, or a conversation. */
#include <unistd.h>

#include "base/check.h"
#include "kvstore/kvstore.h"
#include "cmd/interrupt.h"
#include "cmd/repl.h"
#include "os/file.h"

/* ---- one turn ---- */

static int finish_code(const struct run *r, const struct answer *a)
{
    if (r->term->broken)
        return EXIT_FAILED;
    if (a->finish == SLUICE_FINISH_ERROR) {
        cmd_error(r->o, &a->error);
        return a->error.code == SLUICE_ERR_NOMEM ? EXIT_MEMORY : EXIT_FAILED;
    }
    return a->finish == SLUICE_FINISH_CANCELLED ? EXIT_INTERRUPTED : EXIT_OK;
}

static int submit(struct run *r, struct sluice_tokens prompt, struct answer *a)
{
    struct sluice_error err;
    struct sluice_request_options request = {
        .prompt = prompt.ids,
        .n_prompt = prompt.n,
        .sampling = r->sampling,
        .max_tokens = options_int(r->o, OPT_MAX_TOKENS, 0),
        .stop = r->o->stop,
        .n_stop = r->o->n_stop,
        .raw = options_flag(r->o, OPT_RAW),
        .thinking = r->effort != SLUICE_EFFORT_NONE && !options_flag(r->o, OPT_RAW),
    };
    enum sluice_status st = answer_run(r->e, &request, &r->style, a, &err);
    if (st == SLUICE_OK) {
        r->last = a->usage;
        return finish_code(r, a);
    }
    cmd_error(r->o, &err);
    return st == SLUICE_ERR_NOMEM ? EXIT_MEMORY : EXIT_FAILED;
}

int run_turn(struct run *r, struct str text)
{
    struct sluice_error err;
    struct sluice_tokens prompt;
    struct answer a = {.finish = SLUICE_FINISH_ERROR};
    enum sluice_status st = dialog_add(&r->chat, "user", text, (struct str){0}, &err);
    if (st == SLUICE_OK) {
        st = dialog_tokens(&r->chat, r->e, r->effort, &prompt, &err);
        if (st != SLUICE_OK)
            dialog_drop_last(&r->chat);
    }
    if (st != SLUICE_OK) {
        cmd_error(r->o, &err);
        return EXIT_FAILED;
    }
    int code = submit(r, prompt, &a);
    sluice_free(prompt.ids);
    /* What was said stays said, also when it was cut short. */
    if (a.content.len || a.reasoning.len)
        st = dialog_add(&r->chat, "assistant", (struct str){a.content.data, a.content.len},
                              (struct str){a.reasoning.data, a.reasoning.len}, &err);
    else if (code != EXIT_OK)
        dialog_drop_last(&r->chat);
    else
        st = dialog_add(&r->chat, "assistant", STR_LIT(""), (struct str){0}, &err);
    if (st != SLUICE_OK) {
        cmd_error(r->o, &err);
        code = EXIT_FAILED;
    }
    answer_deinit(&a);
    return code;
}

/* Text that the model goes on from; an empty one begins with the first token of all. */
static int run_raw(struct run *r, struct str text)
{
    struct sluice_error err;
    struct sluice_tokens prompt;
    struct answer a;
    enum sluice_status st = sluice_tokenize(r->e, text.at, text.len, /*allow_special=*/true,
                                            &prompt, &err);
    if (st == SLUICE_OK && prompt.n == 0)
        st = status_fail(&err, SLUICE_ERR_ARG, -1, "the prompt is empty");
    if (st != SLUICE_OK) {
        cmd_error(r->o, &err);
        return EXIT_FAILED;
    }
    int code = submit(r, prompt, &a);
    sluice_free(prompt.ids);
    answer_deinit(&a);
    return code;
}

/* ---- what to do ---- */

enum source { FROM_OPTION, FROM_FILE, FROM_TERMINAL };

static enum source source_of(const struct options *o)
{
    if (options_given(o, OPT_PROMPT))
        return FROM_OPTION;
    if (options_given(o, OPT_FILE) || o->n_arg)
        return FROM_FILE;
    return options_flag(o, OPT_INTERACTIVE) || isatty(STDIN_FILENO) ? FROM_TERMINAL : FROM_FILE;
}

static int check_use(const struct options *o)
{
    int sources = options_given(o, OPT_PROMPT) + options_given(o, OPT_FILE) + (o->n_arg > 0) +
                  options_flag(o, OPT_INTERACTIVE);
    if (o->n_arg && strcmp(o->arg[0], "-") != 0)
        return cmd_usage(o, "unexpected argument '%s'; a prompt is given with -p", o->arg[0]);
    if (sources > 1)
        return cmd_usage(o, "expected one of --prompt, --file, - and --interactive");
    if (options_flag(o, OPT_RAW) && source_of(o) == FROM_TERMINAL)
        return cmd_usage(o, "--raw: expected a prompt (-p, --file or piped input)");
    return EXIT_OK;
}

/* The prompt, owned by the caller, NULL for a conversation. The newline that ends a file or a pipe
 * is no part of a message. */
static int read_prompt(const struct options *o, char **text, size_t *len)
{
    struct sluice_error err;
    *text = NULL;
    if (source_of(o) == FROM_TERMINAL)
        return EXIT_OK;
    bool from_file = source_of(o) == FROM_FILE;
    if (from_file && file_read_all(options_text(o, OPT_FILE, "-"), LIMIT_CMD_INPUT, text, len,
                                   &err) != SLUICE_OK) {
        cmd_error(o, &err);
        return EXIT_FAILED;
    }
    if (!from_file) {
        *text = strdup(options_text(o, OPT_PROMPT, ""));
        *len = *text ? strlen(*text) : 0;
    }
    while (from_file && !options_flag(o, OPT_RAW) && *len && strchr("\r\n", (*text)[*len - 1]))
        (*text)[--*len] = '\0';
    if (*len)
        return EXIT_OK;
    free(*text);
    *text = NULL;
    return cmd_usage(o, "the prompt is empty");
}

static enum sluice_status run_init(struct run *r, struct sluice_error *err)
{
    const struct sluice_info *info = sluice_info(r->e);
    bool quiet = options_flag(r->o, OPT_QUIET);
    r->term = term_get();
    r->effort = cmd_effort(r->o, info->builtin);
    cmd_sampling(r->o, info->builtin ? 0.0f : 1.0f, &r->sampling);
    r->style = (struct answer_style){
        .show_thinking = options_flag(r->o, OPT_SHOW_THINKING) || (r->term->err && !quiet),
        .notes = !quiet,
    };
    TRY(dialog_init(&r->chat, err));
    return dialog_system_set(&r->chat, options_text(r->o, OPT_SYSTEM, NULL), err);
}

int cmd_run(const struct options *o)
{
    struct run r = {.o = o};
    struct sluice_options engine;
    struct sluice_error err;
    char *text = NULL;
    size_t len = 0;
    int code = check_use(o);
    if (code == EXIT_OK)
        code = read_prompt(o, &text, &len);
    if (code != EXIT_OK)
        return code;
    if (!options_given(o, OPT_MODEL) && !options_flag(o, OPT_QUIET))
        fprintf(stderr, "sluice: using the built-in model; -m FILE opens another\n");
    cmd_engine_options(o, &engine);
    /* One conversation runs at a time. */
    engine.max_requests = 1;
    code = cmd_open(o, &engine, &r.e);
    struct kvstore *store = NULL;
    bool failed = code == EXIT_OK && (cmd_open_store(o, r.e, &store, &err) != SLUICE_OK ||
                                      run_init(&r, &err) != SLUICE_OK);
    if (failed) {
        cmd_error(o, &err);
        code = EXIT_FAILED;
    } else if (code == EXIT_OK) {
        code = !text                       ? repl(&r)
               : options_flag(o, OPT_RAW) ? run_raw(&r, (struct str){text, len})
                                           : run_turn(&r, (struct str){text, len});
    }
    dialog_deinit(&r.chat);
    sluice_close(r.e);
    kvstore_close(store);
    free(text);
    return code;
}
