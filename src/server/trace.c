/* server/trace.c - prompts and answers in a file, for whoever asks for it: JSON lines, mode 0600.
 * Loop's thread only. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/server_internal.h"

struct trace {
    FILE *file;
};

enum sluice_status trace_open(const char *path, struct trace **out, struct sluice_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    FAIL_IF(fd < 0, err, SLUICE_ERR_IO, "cannot write the trace %s: %s", path, strerror(errno));
    struct trace *t = calloc(1, sizeof *t);
    if (!t || fchmod(fd, 0600) != 0 || !(t->file = fdopen(fd, "a"))) {
        close(fd);
        free(t);
        return status_fail(err, SLUICE_ERR_IO, -1, "cannot write the trace %s", path);
    }
    *out = t;
    return SLUICE_OK;
}

void trace_close(struct trace *t)
{
    if (!t)
        return;
    fclose(t->file);
    free(t);
}

static void put(struct trace *t, struct buf *line)
{
    buf_add_str(line, "}\n");
    if (buf_status(line, NULL) == SLUICE_OK) {
        fwrite(line->data, 1, line->len, t->file);
        fflush(t->file);
    }
    buf_deinit(line);
}

static void member(struct buf *line, const char *key, struct str text)
{
    buf_addf(line, ", \"%s\": ", key);
    json_text_write_str(line, text);
}

void trace_request(struct trace *t, const char *api, struct str body)
{
    struct buf line = {0};
    if (!t)
        return;
    buf_addf(&line, "{\"time\": %lld, \"api\": \"%s\"", (long long)time(NULL), api);
    member(&line, "request", body);
    put(t, &line);
}

void trace_answer(struct trace *t, const char *id, const struct answer *a)
{
    struct buf line = {0};
    if (!t)
        return;
    buf_addf(&line,
             "{\"time\": %lld, \"id\": \"%s\", \"finish\": \"%s\", \"prompt\": %d, "
             "\"cached\": %d, \"answer\": %d",
             (long long)time(NULL), id, answer_finish_word(a), a->usage.prompt, a->usage.cached,
             a->usage.answer);
    member(&line, "reasoning", (struct str){a->reasoning.data, a->reasoning.len});
    member(&line, "content", (struct str){a->content.data, a->content.len});
    buf_add_str(&line, ", \"calls\": [");
    for (int i = 0; i < a->n_call; i++) {
        buf_add_str(&line, i ? ", [" : "[");
        json_text_write_str(&line, str_of(a->call[i].name));
        struct str args = {a->call[i].args.data, a->call[i].args.len};
        buf_add_str(&line, ", ");
        if (a->call[i].broken)
            json_text_write_str(&line, args);
        else
            buf_add(&line, args.at, args.len);
        buf_add_str(&line, "]");
    }
    buf_add_str(&line, "]");
    put(t, &line);
}
