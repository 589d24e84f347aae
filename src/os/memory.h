/* os/memory.h - how much memory this process may still take, and where it lies. Any thread. */
#ifndef SLUICE_OS_MEMORY_H
#define SLUICE_OS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that can be taken without swapping: what the system calls available, or what the cgroup
 * leaves where that is less. Pages of mapped files count as available. 1 GiB where neither is
 * known. */
int64_t memory_available(void);

/* ---- placement: hints, which a system may refuse without harm ---- */

/* From this size on memory is worth whole huge pages. */
#define MEMORY_HUGE_FROM ((size_t)8 << 20)

/* On which NUMA node memory of MEMORY_HUGE_FROM and more lies. */
enum memory_place {
    MEMORY_NEAR,    /* on that of the thread that touches it first */
    MEMORY_SPREAD,  /* on all of them, page by page: any thread may read any part of it */
};

/* Uninitialised memory for free(), 64-byte aligned; of MEMORY_HUGE_FROM and more on huge pages
 * where the system has them. NULL when there is none. */
void *memory_take(size_t bytes, enum memory_place place);

/* NUMA nodes that have memory; 1 where that is not known. */
int memory_nodes(void);
/* What the calling thread takes or reads from files from now on is spread over all nodes. Nothing
 * on one node. */
void memory_spread_thread(void);
/* The bits of "0-2,5" as the system writes lists of nodes; those beyond 63 are left out. 0: not
 * such a list. For memory_nodes and its test. */
uint64_t memory_node_list(const char *text);

#endif
