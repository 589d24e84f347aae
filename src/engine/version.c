/* engine/version.c - the one object that knows the commit; the build defines both. */
#include "sluice.h"

const char *sluice_version(void)
{
    return SLUICE_VERSION " (" SLUICE_COMMIT ")";
}
