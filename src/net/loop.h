/* One event loop: a turn is one wake-up, everything it brings, and one write per connection at its
 * end. SPDX-License-Identifier: Apache-2.0
 *
 * A turn, in this order:
 *   1. sleep until a descriptor, a mail or a timer (not at all while deferred work is left);
 *   2. read the clocks once: net_loop_now and net_loop_wall do not move within a turn;
 *   3. descriptors that are ready (streams read all that is there, once), mails, timers;
 *   4. deferred work (net_loop_defer) until none is left, in the order it was asked for;
 *   5. mailboxes are handed over, at most one wake-up per target loop (net/mailbox.h);
 *   6. streams with output are written, one system call each (net/stream.h); the arena is reset.
 *
 * Thread: everything here belongs to the thread that runs the loop (or, before net_loop_run, to the
 * thread that builds it), except the functions that say "any thread". */
#pragma once

#include "base/arena.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/usec.h"

struct net_loop;

struct net_loop_conf {
    unsigned index;           /* 0-based, unique among the loops of one node */
    const struct log *log;    /* may be NULL */
    uint64_t seed;            /* for net_loop_rng */
    size_t read_buffer_bytes; /* the one shared read buffer; 0: 128 KiB */
    struct net_grace *grace;  /* what net_loop_reclaim waits for; NULL: this loop alone */
};

/* Knows which loops are within a turn: one for all loops that read each other's structures in
 * place. Outlives them. */
struct net_grace;
#define NET_GRACE_LOOPS_MAX 256 /* conf.index is below it */
struct net_grace *net_grace_new(void) must_use;
struct net_grace *net_grace_free(struct net_grace *g);

/* 0, or -errno (no descriptors left).  Yours: net_loop_free. */
must_use int net_loop_new(const struct net_loop_conf *conf, struct net_loop **out_loop);

/* The loop is not running, and its streams, timers, mailboxes and watches are gone.  NULL is fine;
 * returns NULL. */
struct net_loop *net_loop_free(struct net_loop *l);

/* Turns until net_loop_stop; the caller becomes the loop's thread.  0 or -errno. */
must_use int net_loop_run(struct net_loop *l);

/* One turn; sleeps at most sleep_usec_max (0: only looks).  For tests and for tools with a main
 * loop of their own. */
void net_loop_turn(struct net_loop *l, usec_t sleep_usec_max);

/* The loop ends after the turn it is in.  Any thread. */
void net_loop_stop(struct net_loop *l);

/* The same through a thread of its own: starts one that runs l; net_loop_join waits for it. */
must_use int net_loop_start(struct net_loop *l);
void net_loop_join(struct net_loop *l);

unsigned net_loop_index(const struct net_loop *l);
const struct log *net_loop_log(const struct net_loop *l);

/* CLOCK_MONOTONIC and CLOCK_REALTIME as they were when this turn began. */
usec_t net_loop_now(const struct net_loop *l);
usec_t net_loop_wall(const struct net_loop *l);

/* What the watchdog and others ask for, as often as they like: who asks changes nothing for the
 * next.  Any thread. */
#define NET_LOOP_SPAN_USEC (2 * USEC_SEC)
struct net_loop_pulse {
    uint64_t turn_count;
    usec_t turn_longest_usec; /* of those that ended in the last one to two NET_LOOP_SPAN_USEC */
    usec_t turn_began;        /* monotonic, of the turn in progress or of the last one */
    bool is_asleep;
};
struct net_loop_pulse net_loop_pulse(struct net_loop *l);

/* Scratch of this turn, reset when it ends. */
struct arena *net_loop_arena(struct net_loop *l);

/* Chance of this loop, seeded at birth.  Not for secrets (net/random.h). */
struct rng *net_loop_rng(struct net_loop *l);

/* True on the thread that runs l. */
bool net_loop_is_here(const struct net_loop *l);

/* Timers.  Embedded in what they time; 40 bytes; none of them holds a system resource.  They fire
 * in the turn that begins at or after their time, at most some milliseconds late. */
struct net_timer {
    struct heap_node node;
    void (*fn)(void *arg, usec_t now);
    void *arg;
};

void net_timer_init(struct net_timer *t, void (*fn)(void *arg, usec_t now), void *arg);

/* Fires once at `at` (monotonic); setting it again moves it.  USEC_NEVER: as net_timer_del. */
void net_timer_set(struct net_loop *l, struct net_timer *t, usec_t at);

/* Fine when it is not set. */
void net_timer_del(struct net_loop *l, struct net_timer *t);

static inline bool net_timer_is_set(const struct net_timer *t)
{
    return t->node.place != 0;
}

/* Deferred work: runs once, later in this turn, before the loop writes and sleeps.  Embedded;
 * asking twice before it runs is asking once.  What is deferred while deferred work runs still runs
 * in this turn. */
struct net_defer {
    struct list link;
    void (*fn)(void *arg);
    void *arg;
};

void net_defer_init(struct net_defer *d, void (*fn)(void *arg), void *arg);
void net_loop_defer(struct net_loop *l, struct net_defer *d);

/* Takes it back; fine when it is not pending. */
void net_defer_del(struct net_defer *d);

/* A mail: one call of fn on the loop it is sent to.  Embedded in what it carries; the receiver owns
 * the item from the moment of the call, and fn may free it. */
struct net_mail {
    struct net_mail *next;
    void (*fn)(struct net_loop *here, struct net_mail *mail);
};

/* Sends a mail.  Any thread.  From one sender to one loop mails keep their order; a mail to the own
 * loop comes in the next turn. From a loop's thread (from != NULL) it leaves at the end of the turn
 * with all others; from any other thread (from == NULL) at once.  Unbounded: for control and
 * completions that are bounded by what asked for them.  Streams of work from elsewhere go through
 * net/mailbox.h. */
void net_loop_post(struct net_loop *from, struct net_loop *to, struct net_mail *mail,
                   void (*fn)(struct net_loop *here, struct net_mail *mail));

/* Watches a descriptor that somebody else owns (signalfd, inotify).  fn is called in each turn in
 * which it is readable (or writable).  Delete the watch before closing the descriptor. */
enum net_watch_event {
    NET_WATCH_READ = 1,
    NET_WATCH_WRITE = 2,
};

struct net_watch;

struct net_watch *net_watch_new(struct net_loop *l, int fd, unsigned events,
                                void (*fn)(void *arg, unsigned events), void *arg) must_use;
struct net_watch *net_watch_free(struct net_watch *w);

/* Reading in place what one loop writes (quiescent-state RCU).
 *
 * A loop is a reader during its whole turn without doing anything for it; it is quiescent between
 * turns and while it sleeps.  So a pointer read from a published structure is good until the end of
 * the turn. The writer unlinks with a release store and hands the node to net_loop_reclaim; fn runs
 * on the loop that called, in a later turn, after every loop of conf.grace has ended the turn it
 * was in. */
struct net_reclaim {
    struct net_reclaim *next;
    void (*fn)(struct net_reclaim *item, void *arg);
    void *arg;
};

void net_loop_reclaim(struct net_loop *l, struct net_reclaim *item,
                      void (*fn)(struct net_reclaim *item, void *arg), void *arg);
