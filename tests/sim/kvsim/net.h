/* The loop of net without threads, clocks and descriptors: turns happen when the world says.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of net/loop.h and net/worker.h for one simulated process per loop. */
#pragma once

#include "base/heap.h"
#include "base/mem.h"
#include "net/loop.h"
#include "net/worker.h"

struct world;
struct world_event {
    struct heap_node node;
    void (*fn)(struct world_event *ev);
    void *a, *b;
    uint64_t u;
};

/* Of the world, for the rooms. */
static struct world_event *world_at(struct world *w, usec_t at, void (*fn)(struct world_event *),
                                    void *a, void *b);
static usec_t world_now(const struct world *w);
static struct rng *world_rng(struct world *w);

struct net_worker {
    struct world *world;
    struct list jobs; /* sim_job */
};

struct sim_job {
    struct list link;
    struct net_worker_job *job;
    struct world_event *ev;
};

struct net_loop {
    struct world *world;
    struct net_loop_conf conf;
    usec_t now;
    struct heap timers;
    struct list defers;
    struct net_mail *mail, **mail_tail;
    struct arena arena;
    struct rng rng;
    struct world_event *turn; /* scheduled */
    uint64_t turns;
    struct list streams;                  /* of kvsim/stream.h */
    void (*flush)(struct net_loop *loop); /* writes what they have, at the end of the turn */
    void *listener;
    bool is_stopped;
    void (*turned)(void *arg);
    void *turned_arg;
};

static void loop_turn(struct world_event *ev);

static void loop_schedule(struct net_loop *l, usec_t at)
{
    if (l->turn && l->turn->node.at <= at)
        return;
    if (l->turn)
        l->turn->a = NULL; /* void */
    l->turn = world_at(l->world, at, loop_turn, l, NULL);
}

static void loop_turn(struct world_event *ev)
{
    struct net_loop *l = ev->a;
    if (!l)
        return;
    l->turn = NULL;
    l->now = world_now(l->world);
    l->turns++;
    struct net_mail *m = l->mail;
    l->mail = NULL;
    l->mail_tail = &l->mail;
    while (m) {
        struct net_mail *next = m->next;
        m->fn(l, m);
        m = next;
    }
    while (heap_deadline(&l->timers) <= l->now) {
        struct net_timer *t = container_of(heap_top(&l->timers), struct net_timer, node);
        heap_del(&l->timers, &t->node);
        t->fn(t->arg, l->now);
    }
    for (struct list *x; (x = list_pop_front(&l->defers));) {
        struct net_defer *d = container_of(x, struct net_defer, link);
        d->fn(d->arg);
    }
    if (l->flush)
        l->flush(l);
    arena_reset(&l->arena);
    if (l->turned)
        l->turned(l->turned_arg);
    if (l->mail)
        loop_schedule(l, l->now + 1 + rng_below(world_rng(l->world), 50));
    else if (heap_deadline(&l->timers) != USEC_NEVER)
        loop_schedule(l, heap_deadline(&l->timers));
}

static struct net_loop *sim_loop_new(struct world *w, unsigned index, uint64_t seed)
{
    struct net_loop *l = mem_new(sizeof *l);
    l->world = w;
    l->conf.index = index;
    l->mail_tail = &l->mail;
    list_init(&l->defers);
    list_init(&l->streams);
    rng_init(&l->rng, seed);
    l->now = world_now(w);
    return l;
}

static void sim_loop_free(struct net_loop *l)
{
    if (l->turn)
        l->turn->a = NULL;
    heap_deinit(&l->timers);
    arena_deinit(&l->arena);
    mem_free(l);
}

unsigned net_loop_index(const struct net_loop *l)
{
    return l->conf.index;
}

usec_t net_loop_now(const struct net_loop *l)
{
    return l->now;
}

usec_t net_loop_wall(const struct net_loop *l)
{
    return l->now + 1700000000 * USEC_SEC;
}

const struct log *net_loop_log(const struct net_loop *l)
{
    return l->conf.log;
}

struct arena *net_loop_arena(struct net_loop *l)
{
    return &l->arena;
}

struct rng *net_loop_rng(struct net_loop *l)
{
    return &l->rng;
}

bool net_loop_is_here(const struct net_loop *l)
{
    (void)l;
    return true; /* one thread, one loop of a node */
}

void net_loop_stop(struct net_loop *l)
{
    l->is_stopped = true;
}

void net_timer_init(struct net_timer *t, void (*fn)(void *arg, usec_t now), void *arg)
{
    *t = (struct net_timer){.fn = fn, .arg = arg};
}

void net_timer_set(struct net_loop *l, struct net_timer *t, usec_t at)
{
    if (at == USEC_NEVER) {
        net_timer_del(l, t);
        return;
    }
    heap_put(&l->timers, &t->node, at);
    loop_schedule(l, at > world_now(l->world) ? at : world_now(l->world) + 1);
}

void net_timer_del(struct net_loop *l, struct net_timer *t)
{
    heap_del(&l->timers, &t->node);
}

void net_defer_init(struct net_defer *d, void (*fn)(void *arg), void *arg)
{
    list_init(&d->link);
    d->fn = fn;
    d->arg = arg;
}

void net_loop_defer(struct net_loop *l, struct net_defer *d)
{
    if (list_empty(&d->link))
        list_push_back(&l->defers, &d->link);
    loop_schedule(l, world_now(l->world) + 1);
}

void net_defer_del(struct net_defer *d)
{
    list_del(&d->link);
}

void net_loop_post(struct net_loop *from, struct net_loop *to, struct net_mail *mail,
                   void (*fn)(struct net_loop *here, struct net_mail *mail))
{
    (void)from;
    mail->next = NULL;
    mail->fn = fn;
    *to->mail_tail = mail;
    to->mail_tail = &mail->next;
    loop_schedule(to, world_now(to->world) + 1 + rng_below(world_rng(to->world), 50));
}

struct sim_reclaim {
    struct net_mail mail;
    struct net_reclaim *item;
};

static void reclaim_mail(struct net_loop *here, struct net_mail *mail)
{
    struct sim_reclaim *r = container_of(mail, struct sim_reclaim, mail);
    (void)here;
    r->item->fn(r->item, r->item->arg);
    mem_free(r);
}

/* The one reader is this loop: when its turn is over nobody looks any more. */
void net_loop_reclaim(struct net_loop *l, struct net_reclaim *item,
                      void (*fn)(struct net_reclaim *item, void *arg), void *arg)
{
    struct sim_reclaim *r = mem_new(sizeof *r);
    item->fn = fn;
    item->arg = arg;
    r->item = item;
    net_loop_post(l, l, &r->mail, reclaim_mail);
}

static void job_mail(struct net_loop *here, struct net_mail *mail)
{
    struct net_worker_job *job = container_of(mail, struct net_worker_job, mail);
    (void)here;
    job->done(job);
}

static void job_run(struct world_event *ev)
{
    struct sim_job *j = ev->a;
    if (!j)
        return;
    list_del(&j->link);
    j->job->is_cancelled = false;
    j->job->work(j->job);
    net_loop_post(NULL, j->job->loop, &j->job->mail, job_mail);
    mem_free(j);
}

int net_worker_push(struct net_worker *w, struct net_loop *here, struct net_worker_job *job,
                    void (*work)(struct net_worker_job *job),
                    void (*done)(struct net_worker_job *job))
{
    struct sim_job *j = mem_new(sizeof *j);
    job->loop = here;
    job->work = work;
    job->done = done;
    j->job = job;
    list_push_back(&w->jobs, &j->link);
    j->ev = world_at(w->world, world_now(w->world) + 20 + rng_below(world_rng(w->world), 2000),
                     job_run, j, NULL);
    return 0;
}

/* The process ends: what has not run comes back cancelled, at once. */
static void sim_worker_cancel(struct net_worker *w)
{
    for (struct list *x; (x = list_pop_front(&w->jobs));) {
        struct sim_job *j = container_of(x, struct sim_job, link);
        j->ev->a = NULL;
        j->job->is_cancelled = true;
        j->job->done(j->job);
        mem_free(j);
    }
}
