#include "cmd/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>

static volatile sig_atomic_t count;
static struct sigaction old;
static int depth;
static int wake = -1;        /* an eventfd that does not block */

static void on_interrupt(int number)
{
    int saved = errno;
    count++;
    eventfd_write(wake, 1);
    errno = saved;
}

void interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    if (depth++ > 0)
        return;
    if (wake < 0)
        wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &old);
    interrupt_clear();
}

void interrupt_release(void)
{
    if (--depth == 0)
        sigaction(SIGINT, &old, NULL);
}

int interrupt_count(void)
{
    return count;
}

void interrupt_clear(void)
{
    eventfd_t taken;
    eventfd_read(wake, &taken);
    count = 0;
}

int interrupt_fd(void)
{
    return wake;
}
