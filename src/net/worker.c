/* A pool of threads that may block.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A job is in the queue, in work(), or on its way home as a mail; done() follows exactly once.
 * 2. len is the length of the queue and at most len_max.
 *
 * Never: runs done() on a pool thread. */
#include "net/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"

#define THREADS_MAX 64

struct net_worker {
    pthread_mutex_t lock;
    pthread_cond_t has_job;
    struct net_worker_job *first, *last;
    size_t len, len_max;
    unsigned thread_count;
    bool is_ending;
    char name[16];
    pthread_t thread[THREADS_MAX];
};

static void job_home(struct net_loop *here, struct net_mail *mail)
{
    (void)here;
    struct net_worker_job *job = container_of(mail, struct net_worker_job, mail);
    job->done(job);
}

static struct net_worker_job *queue_pop(struct net_worker *w)
{
    struct net_worker_job *job = w->first;
    if (!job)
        return NULL;
    w->first = job->next;
    if (!w->first)
        w->last = NULL;
    w->len--;
    return job;
}

static void *thread_main(void *arg)
{
    struct net_worker *w = arg;
    pthread_setname_np(pthread_self(), w->name);
    pthread_mutex_lock(&w->lock);
    while (!w->is_ending) {
        struct net_worker_job *job = queue_pop(w);
        if (!job) {
            pthread_cond_wait(&w->has_job, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        job->work(job);
        net_loop_post(NULL, job->loop, &job->mail, job_home);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int net_worker_new(unsigned thread_count, size_t queue_len_max, const char *name,
                   struct net_worker **out_pool)
{
    must(thread_count >= 1);
    must(thread_count <= THREADS_MAX);
    struct net_worker *w = mem_new(sizeof *w);
    must(pthread_mutex_init(&w->lock, NULL) == 0);
    must(pthread_cond_init(&w->has_job, NULL) == 0);
    w->len_max = queue_len_max;
    str_copy(w->name, sizeof w->name, str_of(name));
    for (; w->thread_count < thread_count; w->thread_count++) {
        int r = pthread_create(&w->thread[w->thread_count], NULL, thread_main, w);
        if (r) {
            net_worker_free(w);
            return err_trace(-r);
        }
    }
    *out_pool = w;
    return 0;
}

void net_worker_stop(struct net_worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->is_ending = true;
    pthread_cond_broadcast(&w->has_job);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->thread_count; i++)
        must(pthread_join(w->thread[i], NULL) == 0);
    w->thread_count = 0;
    for (struct net_worker_job *job; (job = queue_pop(w)) != NULL;) {
        job->is_cancelled = true;
        net_loop_post(NULL, job->loop, &job->mail, job_home);
    }
}

struct net_worker *net_worker_free(struct net_worker *w)
{
    if (!w)
        return NULL;
    net_worker_stop(w);
    pthread_cond_destroy(&w->has_job);
    pthread_mutex_destroy(&w->lock);
    return mem_free(w);
}

int net_worker_push(struct net_worker *w, struct net_loop *here, struct net_worker_job *job,
                    void (*work)(struct net_worker_job *job),
                    void (*done)(struct net_worker_job *job))
{
    job->next = NULL;
    job->loop = here;
    job->work = work;
    job->done = done;
    job->is_cancelled = false;
    pthread_mutex_lock(&w->lock);
    bool is_full = w->is_ending || w->len >= w->len_max;
    if (!is_full) {
        if (w->last)
            w->last->next = job;
        else
            w->first = job;
        w->last = job;
        w->len++;
        pthread_cond_signal(&w->has_job);
    }
    pthread_mutex_unlock(&w->lock);
    return is_full ? NET_WORKER_E_FULL : 0;
}

size_t net_worker_len(struct net_worker *w)
{
    pthread_mutex_lock(&w->lock);
    size_t n = w->len;
    pthread_mutex_unlock(&w->lock);
    return n;
}
