/* server/page.c - the page of "/", page.html: chat in a browser, without requests to anywhere else.
 * It is read when this file is assembled. */
#include "server/api_own.h"

__asm__(".pushsection .rodata\n"
        ".globl own_page\n"
        "own_page:\n"
        ".incbin \"src/server/page.html\"\n"
        ".byte 0\n"
        ".popsection\n");
