/* libFuzzer target of the store's records: any bytes are either a record, whose ids and payload can
 * be had, or give one message. They are tried as they are and with all checksums and the key made
 * right, so that what lies behind those is reached too. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kvstore/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Payloads beyond it are only checked. */
#define MOST_BYTES ((uint64_t)1 << 24)

static void check_refused(enum sluice_status st, const struct sluice_error *err)
{
    SLUICE_ASSERT(st == SLUICE_OK || (err->message[0] && !strchr(err->message, '\n')));
}

static void try_record(const uint8_t *bytes, size_t n)
{
    struct record_header h;
    struct record_file file;
    struct sluice_error err = {.code = SLUICE_OK};
    enum sluice_status st = record_check_file(bytes, n, &h, &file, &err);
    check_refused(st, &err);
    if (st != SLUICE_OK)
        return;
    int32_t ids[PAGE_SINK_TOKENS];
    size_t n_ids = record_ids((enum record_kind)h.kind, h.n);
    SLUICE_ASSERT(n_ids <= PAGE_SINK_TOKENS && record_bytes(&h) == n);
    record_read_ids(file.head, &h, ids);
    if (h.raw_bytes > MOST_BYTES)
        return;
    void *payload = malloc(h.raw_bytes + 1);
    if (payload)
        check_refused(record_unpack(&file, &h, payload, h.raw_bytes, &err), &err);
    free(payload);
}

static void repair(uint8_t *bytes, size_t n)
{
    struct record_header h;
    int32_t ids[PAGE_SINK_TOKENS];
    memcpy(&h, bytes, sizeof h);
    memcpy(h.magic, "SLUICEKV", sizeof h.magic);
    h.version = 2;
    h.kind = h.kind % 2 ? RECORD_PAGE : RECORD_CHECKPOINT;
    size_t n_ids = h.n < 0 ? 0 : record_ids((enum record_kind)h.kind, h.n);
    if (n >= sizeof h + n_ids * sizeof *ids) {
        memcpy(ids, bytes + sizeof h, n_ids * sizeof *ids);
        h.key = page_key_next(h.parent, ids, n_ids);
        if (h.kind == RECORD_CHECKPOINT)
            h.key = record_checkpoint_key(h.key);
        h.packed_bytes = n - sizeof h - n_ids * sizeof *ids;
    }
    size_t head = n - (h.packed_bytes < n ? h.packed_bytes : n);
    XXH128_hash_t sum = XXH3_128bits(bytes + head, n - head);
    h.sum_low = sum.low64;
    h.sum_high = sum.high64;
    h.header_sum = XXH3_64bits(&h, offsetof(struct record_header, header_sum));
    memcpy(bytes, &h, sizeof h);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    try_record(bytes, n);
    uint8_t *copy = n >= RECORD_HEADER_BYTES ? malloc(n) : NULL;
    if (copy) {
        memcpy(copy, bytes, n);
        repair(copy, n);
        try_record(copy, n);
    }
    free(copy);
    return 0;
}
