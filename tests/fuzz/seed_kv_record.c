/* Writes the seed corpus of fuzz_kv_record into the directory argv[1]: pages and checkpoints, with
 * and without ids after their last page, packed and as they are. */
#include <stdbool.h>
#include <stdio.h>

#include "kvstore/record.h"

/* even: a payload that packs well. */
static int write_seed(const char *dir, const char *name, const struct record *r, bool even)
{
    static const struct page_identity identity = {
        .model = 7, .page_bytes = 300, .fixed_bytes = 500};
    int32_t ids[PAGE_SINK_TOKENS];
    char payload[300], path[4096];
    struct buf file;
    for (int i = 0; i < PAGE_SINK_TOKENS; i++)
        ids[i] = i;
    for (int i = 0; i < (int)sizeof payload; i++)
        payload[i] = (char)(even ? 'x' : i * i >> 3 ^ i);
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
    return write_seed(argv[1], "page", &page, true) || write_seed(argv[1], "end", &end, false) ||
           write_seed(argv[1], "tail", &tail, true) || write_seed(argv[1], "plain", &page, false);
}
