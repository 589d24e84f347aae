/* Lines as they come; the terminal itself edits. */
#include <errno.h>
#include <unistd.h>

#include "base/check.h"
#include "cmd/interrupt.h"
#include "cmd/line.h"

struct line_reader {
    char *line;
    size_t room;
    bool terminal;
};

enum sluice_status line_open(struct line_reader **out, struct sluice_error *err)
{
    struct line_reader *r = calloc(1, sizeof *r);
    FAIL_IF(!r, err, SLUICE_ERR_NOMEM, "out of memory for a line reader");
    r->terminal = isatty(STDIN_FILENO);
    *out = r;
    return SLUICE_OK;
}

void line_close(struct line_reader *r)
{
    if (!r)
        return;
    free(r->line);
    free(r);
}

enum line_result line_read(struct line_reader *r, const char *prompt, const char **text)
{
    if (r->terminal) {
        fputs(prompt, stderr);
        fflush(stderr);
    }
    ssize_t n = getline(&r->line, &r->room, stdin);
    if (n < 0 && interrupt_count() > 0) {
        clearerr(stdin);
        interrupt_clear();
        fputc('\n', stderr);
        return LINE_CANCELLED;
    }
    if (n < 0) {
        if (r->terminal)
            fputc('\n', stderr);
        return LINE_END;
    }
    if (n > 0 && r->line[n - 1] == '\n')
        r->line[n - 1] = '\0';
    *text = r->line;
    return LINE_OK;
}

void line_remember(struct line_reader *r, const char *entry)
{
}
