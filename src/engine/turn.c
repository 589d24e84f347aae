/* engine/turn.c - a lock that is given in order of asking (engine.h). */
#include "engine/engine.h"

void turn_init(struct turn *t)
{
    *t = (struct turn){0};
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->next, NULL);
}

void turn_deinit(struct turn *t)
{
    pthread_cond_destroy(&t->next);
    pthread_mutex_destroy(&t->lock);
}

void turn_take(struct turn *t)
{
    pthread_mutex_lock(&t->lock);
    uint64_t mine = t->asked++;
    while (t->serving != mine)
        pthread_cond_wait(&t->next, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

void turn_give(struct turn *t)
{
    pthread_mutex_lock(&t->lock);
    t->serving++;
    pthread_cond_broadcast(&t->next);
    pthread_mutex_unlock(&t->lock);
}
