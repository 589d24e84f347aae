#include "cmd/term.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/check.h"
#include "cmd/options.h"

struct term *term_get(void)
{
    static struct term term;
    static bool known;
    if (!known) {
        term = (struct term){.out = isatty(STDOUT_FILENO), .err = isatty(STDERR_FILENO)};
        term.color = !options_plain_terminal();
        known = true;
    }
    return &term;
}

int term_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

/* A model may write escape sequences, by accident or because a prompt told it to; a terminal must
 * not obey them. */
static void put_safe(FILE *to, const char *text, size_t len)
{
    size_t start = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool c1 = c == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] < 0xa0;
        if ((c >= 0x20 && c != 0x7f && !c1) || c == '\n' || c == '\t')
            continue;
        fwrite(text + start, 1, i - start, to);
        i += c1;
        start = i + 1;
    }
    if (start < len)
        fwrite(text + start, 1, len - start, to);
}

void term_out(struct term *t, const char *text, size_t len)
{
    if (t->broken || len == 0)
        return;
    if (t->out)
        put_safe(stdout, text, len);
    else
        fwrite(text, 1, len, stdout);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        t->broken = true;
        if (errno != EPIPE)
            fprintf(stderr, "sluice: standard output: %s\n", strerror(errno));
    }
}

void term_dim(struct term *t, const char *text, size_t len)
{
    if (t->err && t->color && !t->dim_on)
        fprintf(stderr, "\033[2m");
    t->dim_on = true;
    if (t->err)
        put_safe(stderr, text, len);
    else
        fwrite(text, 1, len, stderr);
    fflush(stderr);
}

void term_dim_end(struct term *t)
{
    if (t->dim_on && t->err && t->color)
        fprintf(stderr, "\033[0m");
    t->dim_on = false;
}

void term_bar(struct term *t, const char *what, int64_t done, int64_t total)
{
    if (!t->err || total <= 0)
        return;
    char counts[64], cells[41];
    int n = snprintf(counts, sizeof counts, "%" PRId64 "/%" PRId64, done, total);
    int room = term_width() - n - (int)strlen(what) - 5;
    room = room > 40 ? 40 : room;
    fprintf(stderr, "\r%s ", what);
    if (room >= 8) {
        int full = (int)((double)done / (double)total * room);
        full = full < 0 ? 0 : full > room ? room : full;
        memset(cells, ' ', sizeof cells);
        memset(cells, '=', (size_t)full);
        fprintf(stderr, "[%.*s] ", room, cells);
    }
    fprintf(stderr, "%s", counts);
    fflush(stderr);
    t->bar_shown = true;
}

void term_bar_clear(struct term *t)
{
    if (!t->bar_shown)
        return;
    int width = term_width();
    fprintf(stderr, "\r%*s\r", width > 1 ? width - 1 : 1, "");
    fflush(stderr);
    t->bar_shown = false;
}

bool term_finish(struct term *t)
{
    if (!t->broken && (fflush(stdout) != 0 || ferror(stdout))) {
        t->broken = true;
        if (errno != EPIPE)
            fprintf(stderr, "sluice: standard output: %s\n", strerror(errno));
    }
    return !t->broken;
}
