/* os/clock.h - monotonic time. Any thread. */
#ifndef SLUICE_OS_CLOCK_H
#define SLUICE_OS_CLOCK_H

/* Seconds since some fixed moment; never goes back. */
double clock_seconds(void);

#endif
