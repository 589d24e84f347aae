/* cmd/line.h - reads lines from a person, with editing (line_edit.c) or without (line_plain.c);
 * line_history.c keeps what was entered in a file. Main thread only. */
#ifndef SLUICE_CMD_LINE_H
#define SLUICE_CMD_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum line_result {
    LINE_OK,
    LINE_END,                /* Ctrl-D, or the end of the input */
    LINE_CANCELLED,          /* Ctrl-C: what was typed is gone */
};

struct line_reader;

/* SIGINT must be caught by interrupt_catch while a reader is open. */
enum sluice_status line_open(struct line_reader **out, struct sluice_error *err);
void line_close(struct line_reader *r);   /* accepts NULL */
/* *text is the line without its newline, NUL-terminated, valid until the next call. prompt is shown
 * on a terminal only. */
enum line_result line_read(struct line_reader *r, const char *prompt, const char **text);
/* Makes an entry available to the arrow keys. */
void line_remember(struct line_reader *r, const char *entry);

/* Entries, oldest first, at most LIMIT_CMD_HISTORY. A file that cannot be read is no history; one
 * that cannot be written is reported by save. path == NULL: nothing is loaded or saved. */
struct line_history {
    char **entry;
    size_t n;
    bool changed;
};
void line_history_load(struct line_history *h, const char *path);
void line_history_add(struct line_history *h, const char *entry);
/* If changed, with mode 0600; makes the directory. */
enum sluice_status line_history_save(struct line_history *h, const char *path,
                                     struct sluice_error *err);
void line_history_deinit(struct line_history *h);

#endif
