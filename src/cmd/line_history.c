/* The file has an entry per line; backslash and newline inside one are written \\ and \n. */
#include <errno.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/limits.h"
#include "cmd/line.h"
#include "os/file.h"

static void unescape(char *text)
{
    char *to = text;
    for (const char *at = text; *at; at++) {
        if (at[0] == '\\' && (at[1] == '\\' || at[1] == 'n')) {
            at++;
            *to++ = *at == 'n' ? '\n' : '\\';
        } else {
            *to++ = *at;
        }
    }
    *to = '\0';
}

void line_history_load(struct line_history *h, const char *path)
{
    char *text;
    size_t n;
    *h = (struct line_history){.n = 0};
    if (!path || file_read_all(path, LIMIT_CMD_INPUT, &text, &n, NULL) != SLUICE_OK)
        return;
    for (char *at = text, *end; (end = memchr(at, '\n', (size_t)(text + n - at))); at = end + 1) {
        *end = '\0';
        unescape(at);
        line_history_add(h, at);
    }
    free(text);
    h->changed = false;
}

void line_history_add(struct line_history *h, const char *entry)
{
    if (!*entry || (h->n && strcmp(h->entry[h->n - 1], entry) == 0))
        return;
    if (!h->entry)
        h->entry = calloc(LIMIT_CMD_HISTORY, sizeof h->entry[0]);
    char *copy = h->entry ? strdup(entry) : NULL;
    if (!copy)
        return;
    if (h->n == LIMIT_CMD_HISTORY) {
        free(h->entry[0]);
        memmove(h->entry, h->entry + 1, (h->n - 1) * sizeof h->entry[0]);
        h->n--;
    }
    h->entry[h->n++] = copy;
    h->changed = true;
}

/* The directories above path that do not exist, readable by the owner only. */
static void make_parents(const char *path)
{
    char part[4096];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return;
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(part, 0700);
        *slash = '/';
    }
}

enum sluice_status line_history_save(struct line_history *h, const char *path,
                                     struct sluice_error *err)
{
    struct buf b;
    if (!path || !h->changed)
        return SLUICE_OK;
    buf_init(&b, LIMIT_CMD_INPUT);
    for (size_t i = 0; i < h->n; i++) {
        for (const char *at = h->entry[i]; *at; at++) {
            if (*at == '\\' || *at == '\n')
                buf_add_str(&b, *at == '\n' ? "\\n" : "\\\\");
            else
                buf_add_char(&b, *at);
        }
        buf_add_char(&b, '\n');
    }
    enum sluice_status st = buf_status(&b, err);
    if (st == SLUICE_OK) {
        make_parents(path);
        st = file_replace(path, b.data, b.len, 0600, err);
    }
    buf_deinit(&b);
    h->changed = h->changed && st != SLUICE_OK;
    return st;
}

void line_history_deinit(struct line_history *h)
{
    for (size_t i = 0; i < h->n; i++)
        free(h->entry[i]);
    free(h->entry);
}
