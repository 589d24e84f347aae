/* Parses the header, the metadata and the tensor directory of one file. Every step checks before it
 * trusts. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "formats/gguf_internal.h"

struct cursor {
    const char *path;
    const uint8_t *bytes;
    uint64_t size, at;
    struct sluice_error *err;
};

/* A failure at the cursor. */
#define FAIL_AT(c, ...) status_fail((c)->err, SLUICE_ERR_FORMAT, (int64_t)(c)->at, __VA_ARGS__)

static enum sluice_status need(struct cursor *c, uint64_t n, const char *what)
{
    if (n > c->size - c->at)
        return FAIL_AT(c,
                       "%s: truncated: expected %" PRIu64 " bytes of %s at offset %" PRIu64
                       ", found %" PRIu64,
                       c->path, n, what, c->at, c->size - c->at);
    return SLUICE_OK;
}

static enum sluice_status read_u32(struct cursor *c, uint32_t *out, const char *what)
{
    TRY(need(c, sizeof *out, what));
    memcpy(out, c->bytes + c->at, sizeof *out);
    c->at += sizeof *out;
    return SLUICE_OK;
}

static enum sluice_status read_u64(struct cursor *c, uint64_t *out, const char *what)
{
    TRY(need(c, sizeof *out, what));
    memcpy(out, c->bytes + c->at, sizeof *out);
    c->at += sizeof *out;
    return SLUICE_OK;
}

static enum sluice_status read_name(struct cursor *c, struct str *out, const char *what)
{
    uint64_t len;
    TRY(read_u64(c, &len, what));
    if (len == 0 || len > LIMIT_GGUF_NAME)
        return FAIL_AT(c, "%s: %s of %" PRIu64 " bytes: expected 1 to %d", c->path, what, len,
                       LIMIT_GGUF_NAME);
    TRY(need(c, len, what));
    *out = (struct str){(const char *)c->bytes + c->at, len};
    for (uint64_t i = 0; i < len; i++)
        if ((unsigned char)out->at[i] < 32 || out->at[i] == 127)
            return FAIL_AT(c, "%s: %s contains the control byte 0x%02x", c->path, what,
                           (unsigned char)out->at[i]);
    c->at += len;
    return SLUICE_OK;
}

/* Skips n strings, checking each. */
static enum sluice_status skip_strings(struct cursor *c, uint64_t n, struct str key)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t len;
        TRY(read_u64(c, &len, "a string's length"));
        if (len > c->size - c->at)
            return FAIL_AT(c,
                           "%s: key '%.*s': string %" PRIu64 " of %" PRIu64
                           " bytes runs past the end of the file",
                           c->path, STR_ARG(key), i, len);
        c->at += len;
    }
    return SLUICE_OK;
}

static enum sluice_status read_values(struct cursor *c, struct gguf_kv *kv)
{
    uint64_t start = c->at, bytes;
    kv->bytes = c->bytes + c->at;
    if (kv->elem == GGUF_STRING) {
        TRY(skip_strings(c, kv->count, kv->key));
    } else {
        if (!check_mul(kv->count, gguf_type_size(kv->elem), &bytes) || bytes > c->size - c->at)
            return FAIL_AT(c, "%s: key '%.*s': %" PRIu64 " values run past the end of the file",
                           c->path, STR_ARG(kv->key), kv->count);
        c->at += bytes;
    }
    kv->size = c->at - start;
    return SLUICE_OK;
}

static enum sluice_status read_kv(struct cursor *c, struct gguf_kv *kv)
{
    uint32_t type;
    TRY(read_name(c, &kv->key, "a key"));
    TRY(read_u32(c, &type, "a value type"));
    if (type > GGUF_F64)
        return FAIL_AT(c, "%s: key '%.*s': expected a value type of 0 to 12, found %u", c->path,
                       STR_ARG(kv->key), type);
    kv->type = kv->elem = (enum gguf_type)type;
    kv->count = 1;
    if (kv->type != GGUF_ARRAY)
        return read_values(c, kv);
    TRY(read_u32(c, &type, "an array's element type"));
    if (type > GGUF_F64 || type == GGUF_ARRAY)
        return FAIL_AT(c,
                       "%s: key '%.*s': expected an array of plain values, found element type %u%s",
                       c->path, STR_ARG(kv->key), type,
                       type == GGUF_ARRAY ? " (arrays of arrays are not supported)" : "");
    kv->elem = (enum gguf_type)type;
    TRY(read_u64(c, &kv->count, "an array's length"));
    if (kv->count > LIMIT_GGUF_ARRAY)
        return FAIL_AT(c, "%s: key '%.*s': array of %" PRIu64 " elements: expected at most %u",
                       c->path, STR_ARG(kv->key), kv->count, LIMIT_GGUF_ARRAY);
    return read_values(c, kv);
}

static enum sluice_status read_dims(struct cursor *c, struct gguf_tensor *t, uint64_t *elems)
{
    uint32_t n_dims;
    TRY(read_u32(c, &n_dims, "a tensor's dimension count"));
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
        return FAIL_AT(c, "%s: tensor '%.*s': expected 1 to %d dimensions, found %u", c->path,
                       STR_ARG(t->name), GGUF_MAX_DIMS, n_dims);
    t->n_dims = (int)n_dims;
    *elems = 1;
    for (int d = 0; d < GGUF_MAX_DIMS; d++) {
        uint64_t ne = 1;
        if (d < t->n_dims)
            TRY(read_u64(c, &ne, "a tensor dimension"));
        if (ne == 0 || ne > (uint64_t)LIMIT_GGUF_DIM || !check_mul(*elems, ne, elems))
            return FAIL_AT(c,
                           "%s: tensor '%.*s': dimension %d is %" PRIu64 ": expected 1 to %" PRId64
                           " with a product below 2^64",
                           c->path, STR_ARG(t->name), d, ne, LIMIT_GGUF_DIM);
        t->ne[d] = (int64_t)ne;
    }
    return SLUICE_OK;
}

static enum sluice_status read_tensor(struct cursor *c, struct gguf_tensor *t)
{
    uint64_t elems = 1;
    uint32_t type;
    TRY(read_name(c, &t->name, "a tensor name"));
    TRY(read_dims(c, t, &elems));
    TRY(read_u32(c, &type, "a tensor's type"));
    const struct quant_info *info = quant_info(type);
    if (!info)
        return FAIL_AT(c, "%s: tensor '%.*s': type id %u is not supported", c->path,
                       STR_ARG(t->name), type);
    t->type = (enum quant_type)type;
    if (t->ne[0] % info->block_elems != 0)
        return FAIL_AT(c,
                       "%s: tensor '%.*s': rows of %" PRId64 " values: %s needs a multiple of %u",
                       c->path, STR_ARG(t->name), t->ne[0], info->name, info->block_elems);
    if (!check_mul(elems / info->block_elems, info->block_bytes, &t->bytes))
        return FAIL_AT(c, "%s: tensor '%.*s': size overflows", c->path, STR_ARG(t->name));
    return read_u64(c, &t->file_offset, "a tensor's offset");
}

/* Turns the offset relative to the data section into an address, inside the file. */
static enum sluice_status place_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t data,
                                       uint64_t align)
{
    uint64_t offset = t->file_offset;
    if (offset % align != 0)
        return FAIL_AT(
            c, "%s: tensor '%.*s': offset %" PRIu64 " is not a multiple of the alignment %" PRIu64,
            c->path, STR_ARG(t->name), offset, align);
    if (offset > c->size - data || t->bytes > c->size - data - offset)
        return FAIL_AT(c,
                       "%s: tensor '%.*s': offset %" PRIu64 " + %" PRIu64
                       " bytes lies outside the file (%" PRIu64 " bytes of data)",
                       c->path, STR_ARG(t->name), offset, t->bytes, c->size - data);
    t->file_offset = data + offset;
    t->data = c->bytes + t->file_offset;
    return SLUICE_OK;
}

static enum sluice_status read_header(struct cursor *c, uint64_t *n_tensor, uint64_t *n_kv)
{
    uint32_t version;
    TRY(need(c, 4, "the magic"));
    if (memcmp(c->bytes, "GGUF", 4) != 0)
        return FAIL_AT(
            c, "%s: not a GGUF file: expected the magic \"GGUF\", found %02x %02x %02x %02x",
            c->path, c->bytes[0], c->bytes[1], c->bytes[2], c->bytes[3]);
    c->at = 4;
    TRY(read_u32(c, &version, "the version"));
    if (version == 0x02000000 || version == 0x03000000)
        return FAIL_AT(c, "%s: big-endian GGUF files are not supported", c->path);
    if (version != 2 && version != 3)
        return FAIL_AT(c, "%s: expected GGUF version 2 or 3, found %u", c->path, version);
    TRY(read_u64(c, n_tensor, "the tensor count"));
    TRY(read_u64(c, n_kv, "the key count"));
    if (*n_tensor > LIMIT_GGUF_TENSORS)
        return FAIL_AT(c, "%s: %" PRIu64 " tensors: expected at most %d", c->path, *n_tensor,
                       LIMIT_GGUF_TENSORS);
    if (*n_kv > LIMIT_GGUF_KEYS)
        return FAIL_AT(c, "%s: %" PRIu64 " keys: expected at most %d", c->path, *n_kv,
                       LIMIT_GGUF_KEYS);
    /* the smallest key takes 8 + 1 + 4 + 1 bytes, the smallest tensor 8 + 1 + 4 + 8 + 4 + 8 */
    if (*n_kv > (c->size - c->at) / 14 || *n_tensor > (c->size - c->at) / 33)
        return FAIL_AT(c,
                       "%s: truncated: %" PRIu64 " keys and %" PRIu64
                       " tensors cannot fit in %" PRIu64 " bytes",
                       c->path, *n_kv, *n_tensor, c->size);
    return SLUICE_OK;
}

static enum sluice_status read_alignment(struct cursor *c, const struct gguf_kv *kv, uint64_t n_kv,
                                         uint64_t *align)
{
    *align = 32;
    for (uint64_t i = 0; i < n_kv; i++) {
        int64_t value;
        if (!str_is(kv[i].key, "general.alignment"))
            continue;
        if (kv[i].type == GGUF_ARRAY || gguf_kv_i64_at(&kv[i], 0, &value, NULL) != SLUICE_OK ||
            value < 1 || value > LIMIT_GGUF_ALIGNMENT || (value & (value - 1)) != 0)
            return FAIL_AT(c, "%s: key 'general.alignment': expected a power of two of at most %d",
                           c->path, LIMIT_GGUF_ALIGNMENT);
        *align = (uint64_t)value;
    }
    return SLUICE_OK;
}

/* Part `part` of a split model says so itself; a file without split.no (a layer slice) may stand
 * anywhere. */
static enum sluice_status check_part(struct cursor *c, const struct gguf_part *p,
                                     const struct gguf_kv *kv, uint64_t n_kv)
{
    for (uint64_t i = 0; p->split_count > 0 && i < n_kv; i++) {
        bool is_no = str_is(kv[i].key, "split.no"), is_count = str_is(kv[i].key, "split.count");
        int64_t expected = is_no ? p->split_no : p->split_count, found = -1;
        if (!is_no && !is_count)
            continue;
        if (kv[i].count != 1 || gguf_kv_i64_at(&kv[i], 0, &found, NULL) != SLUICE_OK ||
            found != expected)
            return FAIL_AT(
                c, "%s: key '%.*s': expected %" PRId64 " as in the file's name, found %" PRId64,
                c->path, STR_ARG(kv[i].key), expected, found);
    }
    return SLUICE_OK;
}

static enum sluice_status grow_tensors(struct gguf *g, uint64_t n, struct sluice_error *err)
{
    if (n <= g->tensor_room)
        return SLUICE_OK;
    struct gguf_tensor *grown = realloc(g->tensor, n * sizeof *grown);
    FAIL_IF(!grown, err, SLUICE_ERR_NOMEM, "out of memory for %" PRIu64 " tensors", n);
    g->tensor = grown;
    g->tensor_room = n;
    return SLUICE_OK;
}

static enum sluice_status read_directory(struct gguf *g, int part, struct cursor *c,
                                         uint64_t n_tensor)
{
    TRY(grow_tensors(g, g->n_tensor + n_tensor, c->err));
    for (uint64_t i = 0; i < n_tensor; i++) {
        struct gguf_tensor *t = &g->tensor[g->n_tensor + i];
        *t = (struct gguf_tensor){.file = part};
        TRY(read_tensor(c, t));
    }
    return SLUICE_OK;
}

enum sluice_status gguf_read_part(struct gguf *g, int part, struct sluice_error *err)
{
    struct gguf_part *p = &g->part[part];
    struct cursor c = {.path = p->path, .bytes = p->bytes, .size = p->size, .err = err};
    uint64_t n_tensor, n_kv, align, data;
    TRY(read_header(&c, &n_tensor, &n_kv));
    struct gguf_kv *kv = calloc(n_kv ? n_kv : 1, sizeof *kv);
    FAIL_IF(!kv, err, SLUICE_ERR_NOMEM, "%s: out of memory for %" PRIu64 " keys", p->path, n_kv);
    if (part == 0) {
        g->kv = kv;
        g->n_kv = n_kv;
    }
    enum sluice_status st = SLUICE_OK;
    for (uint64_t i = 0; i < n_kv; i++)
        TRY_OUT(read_kv(&c, &kv[i]));
    TRY_OUT(check_part(&c, p, kv, n_kv));
    TRY_OUT(read_alignment(&c, kv, n_kv, &align));
    TRY_OUT(read_directory(g, part, &c, n_tensor));
    data = (c.at + align - 1) / align * align;
    if (data > c.size) {
        /* a file without tensors may end with its header */
        if (n_tensor > 0)
            st = FAIL_AT(&c,
                         "%s: truncated: the data section would begin at %" PRIu64 " of %" PRIu64
                         " bytes",
                         p->path, data, c.size);
        goto out;
    }
    for (uint64_t i = 0; i < n_tensor; i++)
        TRY_OUT(place_tensor(&c, &g->tensor[g->n_tensor + i], data, align));
    g->n_tensor += n_tensor;
out:
    if (part != 0)
        free(kv);
    return st;
}
