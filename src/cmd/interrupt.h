/* cmd/interrupt.h - Ctrl-C as a counter. The handler only counts; whoever waits for an answer looks
 * at the count and cancels. */
#ifndef SLUICE_CMD_INTERRUPT_H
#define SLUICE_CMD_INTERRUPT_H

/* From here on SIGINT is counted, until interrupt_release gives it back its old meaning. The calls
 * nest. System calls that it meets return EINTR. */
void interrupt_catch(void);
void interrupt_release(void);

/* A file descriptor that is readable while the count is above zero, or -1 before interrupt_catch:
 * for waits that a signal taken by another thread, or just before them, must end too. */
int interrupt_fd(void);

/* Times since the last interrupt_clear. */
int interrupt_count(void);
void interrupt_clear(void);

#endif
