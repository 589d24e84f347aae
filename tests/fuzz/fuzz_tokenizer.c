/* Any bytes survive encoding and decoding, with and without added tokens; streamed text is valid
 * UTF-8. The vocabulary is a small synthetic one, built once. */
#include "text/bpe.h"
#include "text/detok.h"
#include "text/utf8.h"
#include "vocab_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_utf8(const struct buf *b)
{
    for (size_t at = 0; at < b->len;) {
        int32_t c;
        size_t len = utf8_next(b->data + at, b->len - at, &c);
        SLUICE_ASSERT(len > 0 && c >= 0);
        at += len;
    }
}

static void check_stream(const struct vocab *v, const struct token_list *ids)
{
    static const struct str stops[] = {{"ab a", 4}, {"<think>", 7},
                                       {"\xEF\xBF\xBD\xEF\xBF\xBD", 6}};
    struct detok d;
    struct buf out;
    buf_init(&out, 0);
    SLUICE_ASSERT(detok_init(&d, v, stops, 3, NULL) == SLUICE_OK);
    for (size_t i = 0; i < ids->n; i++)
        SLUICE_ASSERT(detok_push(&d, ids->at[i], &out, NULL) == SLUICE_OK);
    SLUICE_ASSERT(detok_finish(&d, &out, NULL) == SLUICE_OK);
    check_utf8(&out);
    for (int i = 0; i < 3 && out.data; i++)
        SLUICE_ASSERT(!memmem(out.data, out.len, stops[i].at, stops[i].len));
    detok_deinit(&d);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vocab *v;
    struct str text = {(const char *)data, size};
    if (!v)
        v = fixture_vocab();
    for (int added = 0; added < 2; added++) {
        struct token_list ids = {0};
        struct buf out;
        buf_init(&out, 0);
        SLUICE_ASSERT(bpe_encode(v, text, added, &ids, NULL) == SLUICE_OK);
        SLUICE_ASSERT(bpe_decode(v, ids.at, ids.n, &out, NULL) == SLUICE_OK);
        SLUICE_ASSERT(str_eq((struct str){out.data, out.len}, text));
        check_stream(v, &ids);
        token_list_deinit(&ids);
        buf_deinit(&out);
    }
    return 0;
}
