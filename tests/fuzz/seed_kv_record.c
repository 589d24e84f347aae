/* Writes the seed corpus of fuzz_kv_record into the directory argv[1]: a page, and checkpoints with
 * and without ids after their last page. */
#include <stdio.h>
#include <string.h>

#include "kvstore/record.h"

static int write_seed(const char *dir, const char *name, const struct record *r)
{
    static const struct page_identity identity = {.model = 7, .page_bytes = 300, .fixed_bytes = 500};
    int32_t ids[PAGE_SINK_TOKENS];
    char payload[300], path[4096];
    struct buf file;
    for (int i = 0; i < PAGE_SINK_TOKENS; i++)
        ids[i] = i;
    memset(payload, 'x', sizeof payload);
    buf_init(&file, 0);
    struct record_body body = {ids, payload, sizeof payload};
    if (record_pack(r, &identity, &body, &file, NULL) != SLUICE_OK)
        return 1;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    int bad = !f || fwrite(file.data, 1, file.len, f) != file.len;
    if (f && fclose(f) != 0)
        bad = 1;
    buf_deinit(&file);
    return bad;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: seed_kv_record DIRECTORY\n");
        return 2;
    }
    const struct record page = {.kind = RECORD_PAGE}, end = {.kind = RECORD_CHECKPOINT, .n = 512},
                        tail = {.kind = RECORD_CHECKPOINT, .n = 300};
    return write_seed(argv[1], "page", &page) || write_seed(argv[1], "end", &end) ||
           write_seed(argv[1], "tail", &tail);
}
