/* Lines edited with libedit. Ctrl-C is a signal here as elsewhere: it ends the library's read, and
 * the count tells it from the end of the input. */
#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>
#include <wchar.h>

#include "base/check.h"
#include "base/limits.h"
#include "cmd/interrupt.h"
#include "cmd/line.h"

struct line_reader {
    EditLine *el;
    History *history;
    const char *prompt;
    char *line;
    size_t room;
    bool terminal;
};

static char *show_prompt(EditLine *el)
{
    struct line_reader *r;
    el_get(el, EL_CLIENTDATA, &r);
    return (char *)(uintptr_t)r->prompt;
}

/* The library's own read waits for ever when the signal came just before it. */
static bool wait_for_key(void)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = interrupt_fd(), .events = POLLIN}};
    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR)
            return false;
    return !(fds[1].revents & POLLIN);
}

/* One character for the library: 1, 0 at the end, -1 when interrupted. A byte that is not text in
 * the user's encoding is passed on as it is. */
static int read_key(EditLine *el, wchar_t *key)
{
    mbstate_t state = {0};
    for (;;) {
        char byte;
        if (!wait_for_key())
            return -1;
        ssize_t got = read(STDIN_FILENO, &byte, 1);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return (int)got;
        size_t n = mbrtowc(key, &byte, 1, &state);
        if (n == (size_t)-1)
            *key = (unsigned char)byte;
        if (n != (size_t)-2)
            return 1;
    }
}

static bool editor_open(struct line_reader *r)
{
    HistEvent event;
    r->history = history_init();
    r->el = el_init("sluice", stdin, stderr, stderr);
    if (!r->history || !r->el)
        return false;
    history(r->history, &event, H_SETSIZE, LIMIT_CMD_HISTORY);
    el_set(r->el, EL_CLIENTDATA, r);
    el_set(r->el, EL_PROMPT, show_prompt);
    el_set(r->el, EL_GETCFN, read_key);
    el_set(r->el, EL_EDITOR, "emacs");
    el_set(r->el, EL_HIST, history, r->history);
    el_set(r->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(r->el, EL_BIND, "^[[3~", "ed-delete-next-char", NULL);
    el_set(r->el, EL_BIND, "^[[1;5C", "em-next-word", NULL);
    el_set(r->el, EL_BIND, "^[[1;5D", "ed-prev-word", NULL);
    return true;
}

enum sluice_status line_open(struct line_reader **out, struct sluice_error *err)
{
    struct line_reader *r = calloc(1, sizeof *r);
    FAIL_IF(!r, err, SLUICE_ERR_NOMEM, "out of memory for a line reader");
    r->terminal = isatty(STDIN_FILENO);
    if (r->terminal && !editor_open(r)) {
        line_close(r);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "the line editor cannot be started");
    }
    *out = r;
    return SLUICE_OK;
}

void line_close(struct line_reader *r)
{
    if (!r)
        return;
    if (r->el)
        el_end(r->el);
    if (r->history)
        history_end(r->history);
    free(r->line);
    free(r);
}

/* The library's line ends with a newline and is its own. */
static enum line_result copy(struct line_reader *r, const char *line, size_t n, const char **text)
{
    while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        n--;
    if (n + 1 > r->room) {
        char *more = realloc(r->line, n + 1);
        if (!more)
            return LINE_END;
        r->line = more;
        r->room = n + 1;
    }
    if (n)
        memcpy(r->line, line, n);
    r->line[n] = '\0';
    *text = r->line;
    return LINE_OK;
}

enum line_result line_read(struct line_reader *r, const char *prompt, const char **text)
{
    if (!r->terminal) {
        ssize_t got = getline(&r->line, &r->room, stdin);
        if (got < 0)
            return LINE_END;
        if (got > 0 && r->line[got - 1] == '\n')
            r->line[got - 1] = '\0';
        *text = r->line;
        return LINE_OK;
    }
    int n = 0;
    r->prompt = prompt;
    interrupt_clear();
    /* Before the prompt, or what is typed as soon as it shows is treated by the terminal. */
    el_set(r->el, EL_PREP_TERM, 1);
    const char *line = el_gets(r->el, &n);
    if (!line || n <= 0) {
        fputc('\n', stderr);
        return interrupt_count() ? LINE_CANCELLED : LINE_END;
    }
    return copy(r, line, (size_t)n, text);
}

void line_remember(struct line_reader *r, const char *entry)
{
    HistEvent event;
    if (r->history && *entry)
        history(r->history, &event, H_ENTER, entry);
}
