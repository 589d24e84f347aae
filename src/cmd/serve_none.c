/* `sluice serve` of a program that was built without its server. */
#include "base/check.h"
#include "cmd/cmd.h"

int cmd_serve(const struct options *o)
{
    fprintf(stderr, "sluice serve: this program was built with WITH_SERVER=0\n");
    return EXIT_FAILED;
}
