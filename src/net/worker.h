/* Threads for what blocks: disk, name lookups, password hashing.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * work() runs on a thread of the pool, done() on the loop that asked, in a later turn, always, also
 * when the pool is being freed (then work may not have run: is_cancelled).  Jobs of one pool start
 * in the order they were pushed; with more than one thread they may end in any order. */
#pragma once

#include "net/loop.h"

enum net_worker_outcome {
    NET_WORKER_E_FULL = 1, /* queue_len_max jobs wait already, or it was stopped: not taken */
};

struct net_worker; /* a pool */

struct net_worker_job {
    struct net_mail mail;
    struct net_worker_job *next;
    struct net_loop *loop;
    void (*work)(struct net_worker_job *job);
    void (*done)(struct net_worker_job *job);
    bool is_cancelled; /* work did not run */
};

/* thread_count 1..64; name: at most 15 characters, shown by the system's tools.  0 or -errno. */
must_use int net_worker_new(unsigned thread_count, size_t queue_len_max, const char *name,
                            struct net_worker **out_pool);

/* Waits for the running jobs; the waiting ones come back cancelled, and no more are taken.  The
 * loops must still turn once after it to get the completions.  Twice is fine. */
void net_worker_stop(struct net_worker *w);

/* Stops it too.  NULL is fine; returns NULL. */
struct net_worker *net_worker_free(struct net_worker *w);

/* The job is embedded and lives until done.  Any thread; here is the loop that gets done().  0 or
 * NET_WORKER_E_FULL. */
must_use int net_worker_push(struct net_worker *w, struct net_loop *here,
                             struct net_worker_job *job, void (*work)(struct net_worker_job *job),
                             void (*done)(struct net_worker_job *job));

/* Jobs that wait.  Any thread. */
size_t net_worker_len(struct net_worker *w);
