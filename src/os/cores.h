/* os/cores.h - the CPUs that this process may use, by core. Any thread.
 *
 * CPUs that share a core share its units: tiles (AMX) do not overlap any more while the core's
 * other CPU is busy, a product then takes 18 ns instead of 7, a load 15 instead of 4. */
#ifndef SLUICE_OS_CORES_H
#define SLUICE_OS_CORES_H

#include <sched.h>

struct cores {
    int n_cpus, n_cores;           /* >= 1 */
    int n_threads;                 /* worth having: n_cores, or less where a quota allows less */
    int cpu[CPU_SETSIZE];          /* [n_cpus]: one of each core, ascending, then the others */
};

/* What the system and the control group allow; CPU 0 alone where the system does not say. */
void cores_usable(struct cores *out);

/* The same of a set, not empty. tree: a copy of /sys/devices/system/cpu; a CPU whose core it does
 * not name counts as a core. quota: a file "QUOTA PERIOD", of which CPUs are the quotient, rounded
 * up; another text, or no file: no quota. */
void cores_of(const cpu_set_t *usable, const char *tree, const char *quota, struct cores *out);

#endif
