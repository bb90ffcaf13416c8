/* How old reads of this node's own machines are.  SPDX-License-Identifier: Apache-2.0
 *
 * Whoever reads a local machine in place (the match index) must know that it is not behind.  So
 * each replica of a store that wants it asks the leader again and again how far the log is (Raft
 * thesis 6.4, a linear read without its query), and notes when it asked once it has applied that
 * far: all that was committed before then is in the machine.
 *
 * 1. A stamp is the time of the question, not of the answer.
 * 2. The stamp of a store is zero while any part of its key space has no ready replica here.
 * 3. A replica that ceases to be ready takes the stamp of its loop back before its machine changes.
 */
#include "kv/kv_priv.h"

#define ASK_USEC                                                                                   \
    (50 * USEC_MSEC) /* how often; matters for how long a node that was cut off holds back */
/* Matters: while nobody reads, questions leave with the answer to the first heartbeat after this
 * time, in one packet.  A leader whom fifty nodes ask has nothing else to do; well within what a
 * reader takes for fresh. */
#define IDLE_USEC (250 * USEC_MSEC)
#define LATE_USEC (100 * USEC_MSEC)  /* without a heartbeat */
#define AGAIN_USEC (300 * USEC_MSEC) /* a question without an answer is asked again */

static bool is_here(const struct kv_route *r)
{
    return r->is_local && r->is_ready;
}

/* The local replicas of this loop are of `stamp`; UINT64_MAX: there are none. */
static void client_put(struct kv_client *c)
{
    uint64_t stamp = UINT64_MAX;
    list_each(&c->loop->replicas, x)
    {
        const struct kv_replica *r = container_of(x, struct kv_replica, link);
        if (r->home != c || r->is_closed)
            continue;
        uint64_t own = r->is_ready ? r->fresh_at : 0;
        stamp = own < stamp ? own : stamp;
    }
    if (stamp != UINT64_MAX && !kv_router_is_whole(c, is_here))
        stamp = 0;
    atomic_store_explicit(&c->fresh_at, stamp, memory_order_release);
}

static void replica_ask(struct kv_replica *r)
{
    usec_t now = kv_loop_now(r->loop);
    if (r->is_closed || !r->is_ready || r->range.frozen != 0 ||
        (r->fresh_ctx != 0 && now < usec_add(r->fresh_asked, AGAIN_USEC)))
        return;
    r->fresh_ctx = ++r->read_ctx;
    r->fresh_asked = now;
    r->fresh_index = 0;
    kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_READ, .read = {.ctx = r->fresh_ctx}});
    if (r->fresh_ctx != 0 && r->outcome != RAFT_OK)
        r->fresh_ctx = 0;
}

/* Was the last answer to a question that is not so old? */
static bool is_fresh(const struct kv_replica *r, usec_t pause)
{
    return r->fresh_ctx == 0 && r->fresh_at != 0 &&
           kv_loop_now(r->loop) < usec_add(r->fresh_asked, pause);
}

void kv_fresh_beat(struct kv_replica *r)
{
    if (r->home->store->conf.is_fresh_kept && !is_fresh(r, IDLE_USEC))
        replica_ask(r);
}

void kv_fresh_read(struct kv_replica *r, const struct raft_read_done *read)
{
    if (read->ctx != r->fresh_ctx)
        return;
    if (read->outcome == RAFT_OK)
        r->fresh_index = read->index;
    else
        r->fresh_ctx = 0;
}

void kv_fresh_applied(struct kv_replica *r)
{
    if (r->fresh_ctx == 0 || r->fresh_index == 0 || r->applied < r->fresh_index || !r->is_ready ||
        r->range.frozen != 0)
        return;
    r->fresh_ctx = 0;
    r->fresh_at = r->fresh_asked;
    client_put(r->home);
}

void kv_fresh_end(struct kv_replica *r)
{
    r->fresh_ctx = 0;
    r->fresh_at = 0;
    if (r->home->store->conf.is_fresh_kept)
        client_put(r->home);
}

static void on_tick(void *arg, usec_t now)
{
    struct kv_client *c = arg;
    if (atomic_exchange_explicit(&c->is_fresh_read, false, memory_order_relaxed))
        c->fresh_read_at = now;
    bool is_idle = now >= usec_add(c->fresh_read_at, IDLE_USEC);
    list_each(&c->loop->replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        if (r->home == c && !is_fresh(r, is_idle ? IDLE_USEC + LATE_USEC : 0))
            replica_ask(r);
    }
    client_put(c);
    net_timer_set(c->loop->loop, &c->fresh_tick, usec_add(now, ASK_USEC));
}

void kv_fresh_init(struct kv_client *c)
{
    net_timer_init(&c->fresh_tick, on_tick, c);
    atomic_init(&c->fresh_at, UINT64_MAX);
}

void kv_fresh_start(struct kv_client *c)
{
    if (c->store->conf.is_fresh_kept)
        net_timer_set(c->loop->loop, &c->fresh_tick, kv_loop_now(c->loop));
}

void kv_fresh_stop(struct kv_client *c)
{
    net_timer_del(c->loop->loop, &c->fresh_tick);
}

usec_t kv_fresh_since(const struct kv_store *s)
{
    uint64_t since = UINT64_MAX;
    for (unsigned i = 0; i < s->kv->loop_count; i++) {
        struct kv_client *c = &s->client[i];
        uint64_t at = atomic_load_explicit(&c->fresh_at, memory_order_acquire);
        if (!atomic_load_explicit(&c->is_fresh_read,
                                  memory_order_relaxed)) /* its line stays shared */
            atomic_store_explicit(&c->is_fresh_read, true, memory_order_relaxed);
        since = at < since ? at : since;
    }
    return since == UINT64_MAX ? 0 : since;
}
