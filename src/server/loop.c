/* server/loop.c - see loop.h. */
#include "server/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

/* Posts of one turn: sockets come to their right between. */
#define LOOP_POSTS 64

struct queue {
    struct loop_post *first, **end;
};

struct loop {
    struct event_base *base;
    struct event *wake;
    int fd; /* eventfd that makes the loop look at posts */
    pthread_t worker;
    bool has_worker;

    pthread_mutex_t lock;
    pthread_cond_t work_came;
    struct queue posts, work; /* under lock, as all below */
    bool stop, worker_stop;
};

static void queue_init(struct queue *q)
{
    q->first = NULL;
    q->end = &q->first;
}

static void queue_add(struct queue *q, struct loop_post *p)
{
    p->next = NULL;
    *q->end = p;
    q->end = &p->next;
}

static struct loop_post *queue_take(struct queue *q)
{
    struct loop_post *p = q->first;
    if (!p)
        return NULL;
    q->first = p->next;
    if (!q->first)
        q->end = &q->first;
    return p;
}

/* Runs at most max posts; true if more wait. */
static bool run_posts(struct loop *l, int max)
{
    bool more = true;
    for (int i = 0; i < max && more; i++) {
        pthread_mutex_lock(&l->lock);
        struct loop_post *p = queue_take(&l->posts);
        more = l->posts.first != NULL;
        pthread_mutex_unlock(&l->lock);
        if (p)
            p->run(p);
    }
    return more;
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct loop *l = arg;
    eventfd_t count;
    eventfd_read(l->fd, &count);
    bool more = run_posts(l, LOOP_POSTS);
    pthread_mutex_lock(&l->lock);
    bool stop = l->stop;
    if (more)
        eventfd_write(l->fd, 1);
    pthread_mutex_unlock(&l->lock);
    if (stop)
        event_base_loopbreak(l->base);
}

static void *work(void *arg)
{
    struct loop *l = arg;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->work.first && !l->worker_stop)
            pthread_cond_wait(&l->work_came, &l->lock);
        struct loop_post *p = queue_take(&l->work);
        if (!p)
            break;
        pthread_mutex_unlock(&l->lock);
        p->run(p);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static struct event_base *base_new(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;
    if (!config)
        return NULL;
    /* Without it a client that leaves while nothing is sent would go unnoticed. */
    if (event_config_require_features(config, EV_FEATURE_EARLY_CLOSE) == 0)
        base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

enum sluice_status loop_open(struct loop **out, struct sluice_error *err)
{
    struct loop *l = calloc(1, sizeof *l);
    FAIL_IF(!l, err, SLUICE_ERR_NOMEM, "out of memory for the event loop");
    queue_init(&l->posts);
    queue_init(&l->work);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work_came, NULL);
    l->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->base = base_new();
    if (l->fd >= 0 && l->base)
        l->wake = event_new(l->base, l->fd, EV_READ | EV_PERSIST, on_wake, l);
    l->has_worker =
        l->wake && event_add(l->wake, NULL) == 0 && pthread_create(&l->worker, NULL, work, l) == 0;
    if (!l->has_worker) {
        loop_close(l);
        return status_fail(err, SLUICE_ERR_IO, -1, "cannot make the event loop: %s",
                           strerror(errno));
    }
    *out = l;
    return SLUICE_OK;
}

void loop_close(struct loop *l)
{
    if (!l)
        return;
    if (l->has_worker) {
        pthread_mutex_lock(&l->lock);
        l->worker_stop = true;
        pthread_cond_signal(&l->work_came);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->worker, NULL);
    }
    while (run_posts(l, LOOP_POSTS))
        continue;
    if (l->wake)
        event_free(l->wake);
    if (l->base)
        event_base_free(l->base);
    if (l->fd >= 0)
        close(l->fd);
    pthread_cond_destroy(&l->work_came);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

struct event_base *loop_base(const struct loop *l)
{
    return l->base;
}

void loop_post(struct loop *l, struct loop_post *p)
{
    pthread_mutex_lock(&l->lock);
    bool first = l->posts.first == NULL;
    queue_add(&l->posts, p);
    /* Under the lock, so that loop_close cannot come between. */
    if (first)
        eventfd_write(l->fd, 1);
    pthread_mutex_unlock(&l->lock);
}

void loop_work(struct loop *l, struct loop_post *p)
{
    pthread_mutex_lock(&l->lock);
    queue_add(&l->work, p);
    pthread_cond_signal(&l->work_came);
    pthread_mutex_unlock(&l->lock);
}

void loop_run(struct loop *l)
{
    event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

void loop_stop(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    eventfd_write(l->fd, 1);
    pthread_mutex_unlock(&l->lock);
}
