/* libFuzzer target of the GGUF reader: any bytes either open and can be walked to the end, or give
 * one message. */
#include <stdlib.h>
#include <string.h>

#include "support/gguf_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static volatile uint64_t sink;
    (void)sink;
    struct sluice_error err = {.code = SLUICE_OK};
    struct gguf *g;
    if (gguf_open_memory(bytes, n, &g, &err) == SLUICE_OK) {
        sink += gguf_walk(g);
        gguf_close(g);
    } else {
        SLUICE_ASSERT(!g && err.code != SLUICE_OK && err.message[0] && !strchr(err.message, '\n'));
    }
    return 0;
}
