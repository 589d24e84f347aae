#include "cmd/interrupt.h"

#include <signal.h>

static volatile sig_atomic_t count;
static struct sigaction old;
static int depth;

static void on_interrupt(int number)
{
    count++;
}

void interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    if (depth++ > 0)
        return;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &old);
    count = 0;
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
    count = 0;
}
