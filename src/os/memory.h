/* os/memory.h - how much memory this process may still take. Any thread. */
#ifndef SLUICE_OS_MEMORY_H
#define SLUICE_OS_MEMORY_H

#include <stdint.h>

/* Bytes that can be taken without swapping: what the system calls available, or what the cgroup
 * leaves where that is less. Pages of mapped files count as available. 1 GiB where neither is
 * known. */
int64_t memory_available(void);

#endif
