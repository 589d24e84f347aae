/* engine/load.c - reading the weights in the background.
 *
 * Weights are mapped, so that opening a model takes no time; a step would then wait for every page
 * that it touches first, in the order in which experts happen to be picked. Where all weights fit
 * beside what else was planned, a thread reads the files from front to back, which disks do
 * several times faster. Where they do not, the system pages what is used.
 *
 *   IDLE --load_begin--> RUNNING --all read, or load_end--> DONE */
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/engine.h"
#include "os/clock.h"
#include "os/memory.h"

/* Between two looks at whether to stop. */
#define PIECE ((uint64_t)4 << 20)
/* Steps go before it where cores are short. */
#define NICENESS 5

static bool load_file(struct load *load, const struct gguf *g)
{
    for (int f = 0; g && f < gguf_file_count(g); f++) {
        for (uint64_t at = 0; at < gguf_file_size(g, f); at += PIECE) {
            if (load->stop)
                return false;
            gguf_file_load(g, f, at, PIECE);
        }
    }
    return true;
}

static void *load_main(void *arg)
{
    struct sluice *e = arg;
    struct load *load = &e->load;
    memory_spread_thread();
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICENESS);
    bool whole = load_file(load, e->file) && load_file(load, e->mtp_file);
    pthread_mutex_lock(&load->lock);
    load->seconds = whole ? clock_seconds() - load->began : 0;
    load->running = false;
    pthread_cond_broadcast(&load->done);
    pthread_mutex_unlock(&load->lock);
    return NULL;
}

void load_init(struct load *load)
{
    *load = (struct load){.began = clock_seconds()};
    pthread_mutex_init(&load->lock, NULL);
    pthread_cond_init(&load->done, NULL);
}

void load_begin(struct sluice *e)
{
    struct load *load = &e->load;
    if (e->info.builtin || !e->ops.host_memory)
        return;
    if (!e->weights_fit) {
        engine_log(e, SLUICE_LOG_INFO, "the weights do not fit in memory: the system pages them");
        return;
    }
    load->running = true;
    load->started = pthread_create(&load->thread, NULL, load_main, e) == 0;
    if (!load->started) {
        load->running = false;
        engine_log(e, SLUICE_LOG_WARN, "no thread reads the weights ahead");
    }
}

void load_end(struct load *load)
{
    load->stop = true;
    if (load->started)
        pthread_join(load->thread, NULL);
    pthread_cond_destroy(&load->done);
    pthread_mutex_destroy(&load->lock);
}

double sluice_load_wait(struct sluice *e)
{
    struct load *load = &e->load;
    pthread_mutex_lock(&load->lock);
    while (load->running)
        pthread_cond_wait(&load->done, &load->lock);
    double seconds = load->seconds;
    pthread_mutex_unlock(&load->lock);
    return seconds;
}
