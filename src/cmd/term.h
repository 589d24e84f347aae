/* cmd/term.h - the terminal: who is one, colours, width, a progress bar. Main thread only. */
#ifndef SLUICE_CMD_TERM_H
#define SLUICE_CMD_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct term {
    bool out, err;           /* stdout, stderr is a terminal */
    bool color;              /* colours may be used where there is a terminal */
    bool bar_shown;
    bool dim_on;
    bool broken;             /* writing to stdout failed; nothing is written any more */
};

/* The process has one terminal. */
struct term *term_get(void);
int term_width(void);

/* Text to stdout at once; on a terminal control characters other than newline and tab are left
 * out. */
void term_out(struct term *t, const char *text, size_t len);
/* Dimmed text to stderr; term_dim_end before anything else is written there. */
void term_dim(struct term *t, const char *text, size_t len);
void term_dim_end(struct term *t);

/* "reading [=====     ] 512/2048" in place, on a terminal only; term_bar_clear takes it away. */
void term_bar(struct term *t, const char *what, int64_t done, int64_t total);
void term_bar_clear(struct term *t);

/* Flushes stdout; false if anything was lost. A reader that went away is not reported. */
bool term_finish(struct term *t);

#endif
