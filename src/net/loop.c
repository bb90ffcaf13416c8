/* The event loop.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. is_open is true exactly between net_loop_open and the end of the turn; the clocks move only
 * there.
 * 2. alarm_at is never later than the earliest timer while the loop sleeps.
 * 3. A sender wakes the loop only if it saw is_asleep, and only one of them does; the loop looks at
 *    inbound after it has said that it is asleep.
 * 4. grace->turn[i] is odd while loop i is within a turn and only grows.
 *
 * Never: sleeps within a turn, calls libevent's own clock cache. */
#include "net/loop_priv.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "net/clock.h"
#include "net/resolve_priv.h"

#define READ_BUFFER_BYTES (128 * 1024)
#define SWALLOW_BYTES_MAX (1024 * 1024)
#define GRACE_RETRY_USEC (5 * USEC_MSEC) /* matters little: how long unlinked memory may wait */

struct net_grace {
    struct {
        _Alignas(64) _Atomic uint64_t turn;
    } loop[NET_GRACE_LOOPS_MAX];
};

struct net_grace *net_grace_new(void)
{
    struct net_grace *g = aligned_alloc(64, sizeof *g);
    must(g != NULL);
    memset((void *)g, 0, sizeof *g);
    return g;
}

struct net_grace *net_grace_free(struct net_grace *g)
{
    return mem_free(g);
}

/* Orders what this thread published before it against what it looks at after it (ThreadSanitizer
 * knows no fences; for it the operations themselves are sequentially consistent). */
static inline void full_fence(void)
{
#ifndef __SANITIZE_THREAD__
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    uint64_t n;
    ssize_t r = read(fd, &n, sizeof n);
    (void)r; /* the mails are in inbound; this only ended the sleep */
    net_loop_open(arg);
}

static void on_alarm(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct net_loop *l = arg;
    l->alarm_at = USEC_NEVER;
    net_loop_open(l);
}

static struct event_base *base_new(void)
{
    struct event_config *c = event_config_new();
    if (!c)
        return NULL;
    /* No locks: other threads only touch inbound and the eventfd. */
    event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_flag(c, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    event_config_set_flag(c, EVENT_BASE_FLAG_IGNORE_ENV);
    struct event_base *b = event_base_new_with_config(c);
    event_config_free(c);
    return b;
}

int net_loop_new(const struct net_loop_conf *conf, struct net_loop **out_loop)
{
    must(conf->index < NET_GRACE_LOOPS_MAX);
    struct net_loop *l = aligned_alloc(64, sizeof *l);
    must(l != NULL);
    memset((void *)l, 0, sizeof *l);
    l->log = conf->log;
    l->index = conf->index;
    atomic_store_explicit(&l->runner, pthread_self(), memory_order_relaxed);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->base = base_new();
    if (l->wake_fd < 0 || !l->base) {
        int r = errno ? -errno : -ENOMEM;
        if (l->base)
            event_base_free(l->base);
        if (l->wake_fd >= 0)
            close(l->wake_fd);
        mem_free(l);
        return err_trace(r);
    }
    l->grace = conf->grace ? conf->grace : net_grace_new();
    l->is_own_grace = !conf->grace;
    list_init(&l->deferred);
    list_init(&l->flush);
    list_init(&l->later);
    list_init(&l->homeless);
    list_init(&l->closing);
    rng_init(&l->rng, conf->seed);
    l->read_buffer_bytes = conf->read_buffer_bytes ? conf->read_buffer_bytes : READ_BUFFER_BYTES;
    l->read_buffer = mem_alloc(l->read_buffer_bytes);
    l->alarm_at = USEC_NEVER;
    l->now = net_clock_now();
    l->wall = net_clock_wall();
    must(event_assign(&l->alarm, l->base, -1, 0, on_alarm, l) == 0);
    must(event_assign(&l->wake, l->base, l->wake_fd, EV_READ | EV_PERSIST, on_wake, l) == 0);
    must(event_add(&l->wake, NULL) == 0);
    *out_loop = l;
    return 0;
}

static void reclaim_all(struct net_loop *l);

struct net_loop *net_loop_free(struct net_loop *l)
{
    if (!l)
        return NULL;
    net_loop_homeless_free(l);
    must(l->stream_count == 0);
    reclaim_all(l);
    net_resolve_loop_deinit(l);
    event_del(&l->wake);
    event_del(&l->alarm);
    event_base_free(l->base);
    close(l->wake_fd);
    net_loop_out_free(l);
    heap_deinit(&l->timers);
    arena_deinit(&l->arena);
    buf_deinit(&l->swallow);
    mem_free(l->read_buffer);
    mem_free(l->lane);
    if (l->is_own_grace)
        net_grace_free(l->grace);
    return mem_free(l);
}

void net_loop_open(struct net_loop *l)
{
    if (likely(l->is_open))
        return;
    l->is_open = true;
    atomic_store_explicit(&l->is_asleep, 0, memory_order_relaxed);
    (void)atomic_fetch_add(&l->grace->loop[l->index].turn, 1);
    full_fence();
    l->now = net_clock_now();
    l->wall = net_clock_wall();
    atomic_store_explicit(&l->turn_began, l->now, memory_order_relaxed);
}

/* Mails. */

static void inbound_push(struct net_loop *to, struct net_mail *newest, struct net_mail *oldest)
{
    struct net_mail *was = atomic_load_explicit(&to->inbound, memory_order_relaxed);
    do
        oldest->next = was;
    while (!atomic_compare_exchange_weak(&to->inbound, &was, newest));
    full_fence();
    if (atomic_load(&to->is_asleep) && atomic_exchange(&to->is_asleep, 0)) {
        uint64_t one = 1;
        must(write(to->wake_fd, &one, sizeof one) == sizeof one);
    }
}

void net_loop_post(struct net_loop *from, struct net_loop *to, struct net_mail *mail,
                   void (*fn)(struct net_loop *here, struct net_mail *mail))
{
    mail->fn = fn;
    if (!from) {
        inbound_push(to, mail, mail);
        return;
    }
    while (from->lane_count <= to->index) {
        size_t was = from->lane_count, cap = was;
        from->lane = mem_grow(from->lane, &cap, to->index + 1, sizeof *from->lane);
        memset(from->lane + was, 0, (cap - was) * sizeof *from->lane);
        from->lane_count = cap;
    }
    from->has_mail = true;
    struct net_loop_lane *lane = &from->lane[to->index];
    must(!lane->newest || lane->to == to);
    lane->to = to;
    mail->next = lane->newest;
    lane->newest = mail;
    if (!lane->oldest)
        lane->oldest = mail;
}

static void lanes_hand_over(struct net_loop *l)
{
    if (!l->has_mail)
        return;
    l->has_mail = false;
    for (size_t i = 0; i < l->lane_count; i++) {
        struct net_loop_lane *lane = &l->lane[i];
        if (!lane->newest)
            continue;
        struct net_mail *newest = lane->newest, *oldest = lane->oldest;
        lane->newest = lane->oldest = NULL;
        inbound_push(lane->to, newest, oldest);
    }
}

static void inbound_receive(struct net_loop *l)
{
    struct net_mail *m = atomic_exchange(&l->inbound, NULL), *first = NULL;
    while (m) {
        struct net_mail *next = m->next;
        m->next = first;
        first = m;
        m = next;
    }
    while (first) {
        struct net_mail *next = first->next;
        first->fn(l, first);
        first = next;
    }
}

/* Timers. */

void net_timer_init(struct net_timer *t, void (*fn)(void *arg, usec_t now), void *arg)
{
    *t = (struct net_timer){.fn = fn, .arg = arg};
}

void net_timer_set(struct net_loop *l, struct net_timer *t, usec_t at)
{
    if (at == USEC_NEVER)
        heap_del(&l->timers, &t->node);
    else
        heap_put(&l->timers, &t->node, at);
}

void net_timer_del(struct net_loop *l, struct net_timer *t)
{
    heap_del(&l->timers, &t->node);
}

static void timers_fire(struct net_loop *l)
{
    while (heap_deadline(&l->timers) <= l->now) {
        struct net_timer *t = container_of(heap_top(&l->timers), struct net_timer, node);
        heap_del(&l->timers, &t->node);
        t->fn(t->arg, l->now);
    }
}

/* Deferred work. */

void net_defer_init(struct net_defer *d, void (*fn)(void *arg), void *arg)
{
    list_init(&d->link);
    d->fn = fn;
    d->arg = arg;
}

void net_loop_defer(struct net_loop *l, struct net_defer *d)
{
    if (list_empty(&d->link))
        list_push_back(&l->deferred, &d->link);
}

void net_defer_del(struct net_defer *d)
{
    list_del(&d->link);
}

static void deferred_run(struct net_loop *l)
{
    for (;;) {
        net_loop_later(l);
        struct list *x = list_pop_front(&l->deferred);
        if (!x)
            return;
        struct net_defer *d = container_of(x, struct net_defer, link);
        d->fn(d->arg);
    }
}

/* Reclaiming. */

void net_loop_reclaim(struct net_loop *l, struct net_reclaim *item,
                      void (*fn)(struct net_reclaim *item, void *arg), void *arg)
{
    item->fn = fn;
    item->arg = arg;
    item->next = l->reclaim;
    l->reclaim = item;
}

/* At the end of the turn: remembers where the others are. */
static void reclaim_close(struct net_loop *l)
{
    if (!l->reclaim)
        return;
    full_fence();
    size_t count = l->is_own_grace ? 0 : NET_GRACE_LOOPS_MAX;
    struct net_reclaim_batch *b = mem_new(sizeof *b + count * sizeof b->seen[0]);
    for (size_t i = 0; i < count; i++) {
        b->seen[i] = i == l->index ? 0 : atomic_load(&l->grace->loop[i].turn);
        if (b->seen[i])
            b->count = (unsigned)i + 1;
    }
    b->first = l->reclaim;
    l->reclaim = NULL;
    if (l->grace_last)
        l->grace_last->next = b;
    else
        l->grace_first = b;
    l->grace_last = b;
}

static bool batch_is_over(const struct net_loop *l, const struct net_reclaim_batch *b)
{
    for (unsigned i = 0; i < b->count; i++)
        if ((b->seen[i] & 1) && atomic_load(&l->grace->loop[i].turn) == b->seen[i])
            return false;
    return true;
}

static void batch_free(struct net_reclaim_batch *b)
{
    for (struct net_reclaim *r = b->first, *next; r; r = next) {
        next = r->next;
        r->fn(r, r->arg);
    }
    mem_free(b);
}

static void reclaim_run(struct net_loop *l)
{
    while (l->grace_first && batch_is_over(l, l->grace_first)) {
        struct net_reclaim_batch *b = l->grace_first;
        l->grace_first = b->next;
        if (!b->next)
            l->grace_last = NULL;
        batch_free(b);
    }
}

/* No loop reads any more. */
static void reclaim_all(struct net_loop *l)
{
    do {
        reclaim_close(l);
        struct net_reclaim_batch *b = l->grace_first;
        if (!b)
            break;
        l->grace_first = b->next;
        if (!b->next)
            l->grace_last = NULL;
        batch_free(b);
    } while (l->reclaim || l->grace_first);
}

/* The turn. */

/* True when the loop may sleep; the alarm is set then. */
static bool sleep_prepare(struct net_loop *l, usec_t sleep_usec_max)
{
    if (sleep_usec_max == 0 || l->has_mail || !list_empty(&l->deferred) || !list_empty(&l->later) ||
        !list_empty(&l->flush))
        return false;
    usec_t at = heap_deadline(&l->timers);
    if (sleep_usec_max != USEC_NEVER || l->grace_first) {
        usec_t nap = l->grace_first ? usec_min(sleep_usec_max, GRACE_RETRY_USEC) : sleep_usec_max;
        at = usec_min(at, usec_add(net_clock_now(), nap));
    }
    if (at < l->alarm_at) {
        usec_t wait = usec_until(net_clock_now(), at);
        if (wait == 0)
            return false;
        /* libevent counts in coarse milliseconds: a wait is rounded up, so that we do not wake to
         * find nothing due. */
        wait = (wait + USEC_MSEC - 1) / USEC_MSEC * USEC_MSEC;
        struct timeval tv = {.tv_sec = (time_t)(wait / USEC_SEC),
                             .tv_usec = (suseconds_t)(wait % USEC_SEC)};
        must(event_add(&l->alarm, &tv) == 0);
        l->alarm_at = at;
    }
    atomic_store(&l->is_asleep, 1);
    full_fence();
    return !atomic_load(&l->inbound);
}

static void note_turn(struct net_loop *l)
{
    usec_t now = net_clock_now(), took = usec_until(l->now, now);
    uint64_t span = now / NET_LOOP_SPAN_USEC;
    uint64_t last = atomic_load_explicit(&l->turn_span, memory_order_relaxed);
    _Atomic usec_t *longest = &l->turn_longest[span & 1];
    if (span > last + 1)
        atomic_store_explicit(&l->turn_longest[~span & 1], 0, memory_order_relaxed);
    if (span != last || took > atomic_load_explicit(longest, memory_order_relaxed))
        atomic_store_explicit(longest, took, memory_order_relaxed);
    atomic_store_explicit(&l->turn_span, span, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&l->turn_count, 1, memory_order_relaxed);
}

static void turn_end(struct net_loop *l)
{
    reclaim_close(l);
    lanes_hand_over(l);
    net_loop_flush(l);
    arena_reset(&l->arena);
    l->swallow.n = 0;
    if (unlikely(l->swallow.cap > SWALLOW_BYTES_MAX))
        buf_deinit(&l->swallow);
    note_turn(l);
    l->is_open = false;
    (void)atomic_fetch_add(&l->grace->loop[l->index].turn, 1);
}

void net_loop_turn(struct net_loop *l, usec_t sleep_usec_max)
{
    atomic_store_explicit(&l->runner, pthread_self(), memory_order_relaxed);
    bool may_sleep = sleep_prepare(l, sleep_usec_max);
    int r = event_base_loop(l->base, may_sleep ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
    must(r >= 0);
    net_loop_open(l);
    inbound_receive(l);
    timers_fire(l);
    reclaim_run(l);
    deferred_run(l);
    turn_end(l);
}

int net_loop_run(struct net_loop *l)
{
    while (!atomic_load_explicit(&l->is_stopping, memory_order_acquire))
        net_loop_turn(l, USEC_NEVER);
    atomic_store(&l->is_stopping, 0);
    return 0;
}

static void stop_here(struct net_loop *here, struct net_mail *mail)
{
    atomic_store_explicit(&here->is_stopping, 1, memory_order_release);
    mem_free(mail);
}

void net_loop_stop(struct net_loop *l)
{
    struct net_mail *m = mem_new(sizeof *m);
    net_loop_post(NULL, l, m, stop_here);
}

static void *thread_main(void *arg)
{
    int r = net_loop_run(arg);
    must(r == 0);
    return NULL;
}

int net_loop_start(struct net_loop *l)
{
    int r = pthread_create(&l->thread, NULL, thread_main, l);
    return -r;
}

void net_loop_join(struct net_loop *l)
{
    must(pthread_join(l->thread, NULL) == 0);
}

/* Small questions. */

unsigned net_loop_index(const struct net_loop *l)
{
    return l->index;
}

const struct log *net_loop_log(const struct net_loop *l)
{
    return l->log;
}

usec_t net_loop_now(const struct net_loop *l)
{
    return l->now;
}

usec_t net_loop_wall(const struct net_loop *l)
{
    return l->wall;
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
    return pthread_equal(atomic_load_explicit(&l->runner, memory_order_relaxed), pthread_self());
}

static usec_t turn_longest(const struct net_loop *l)
{
    uint64_t span = net_clock_now() / NET_LOOP_SPAN_USEC;
    uint64_t last = atomic_load_explicit(&l->turn_span, memory_order_relaxed);
    usec_t here = atomic_load_explicit(&l->turn_longest[last & 1], memory_order_relaxed);
    usec_t before = atomic_load_explicit(&l->turn_longest[~last & 1], memory_order_relaxed);
    if (span > last + 1)
        return 0;
    return span == last && before > here ? before : here;
}

struct net_loop_pulse net_loop_pulse(struct net_loop *l)
{
    return (struct net_loop_pulse){
        .turn_count = atomic_load_explicit(&l->turn_count, memory_order_relaxed),
        .turn_longest_usec = turn_longest(l),
        .turn_began = atomic_load_explicit(&l->turn_began, memory_order_relaxed),
        .is_asleep = atomic_load(&l->is_asleep) != 0,
    };
}

/* Watches. */

struct net_watch {
    struct event ev;
    struct net_loop *loop;
    void (*fn)(void *arg, unsigned events);
    void *arg;
};

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    struct net_watch *w = arg;
    net_loop_open(w->loop);
    w->fn(w->arg,
          (what & EV_READ ? NET_WATCH_READ : 0u) | (what & EV_WRITE ? NET_WATCH_WRITE : 0u));
}

struct net_watch *net_watch_new(struct net_loop *l, int fd, unsigned events,
                                void (*fn)(void *arg, unsigned events), void *arg)
{
    struct net_watch *w = mem_new(sizeof *w);
    w->loop = l;
    w->fn = fn;
    w->arg = arg;
    int what = EV_PERSIST | (events & NET_WATCH_READ ? EV_READ : 0) |
               (events & NET_WATCH_WRITE ? EV_WRITE : 0);
    must(event_assign(&w->ev, l->base, fd, (short)what, on_watch, w) == 0);
    must(event_add(&w->ev, NULL) == 0);
    return w;
}

struct net_watch *net_watch_free(struct net_watch *w)
{
    if (w)
        event_del(&w->ev);
    return mem_free(w);
}
