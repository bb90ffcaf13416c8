/* Who watches over ranges that sleep: one sign of life between two loops instead of heartbeats for
 * each range. SPDX-License-Identifier: Apache-2.0
 *
 * raft/raft.h, "Hibernation".  A loop tells every loop of another node that it shares ranges with,
 * a few times within election_usec, that it lives and which life it is.
 *
 * 1. A leader lets its range sleep only while the loops of all its members are heard: a node that
 *    does not know pulses keeps its ranges awake.
 * 2. A quiet follower relies on the loop of its leader, a quiet leader on those of all members.
 * When one of them is not heard for election_usec, is another life, or its node is declared dead,
 * every quiet replica that relies on it wakes; raft then asks, and votes if need be.
 * 3. Nothing else depends on pulses: leases and votes are raft's own.
 * Watching is mutual, so whoever is relied on sends. */
#include "kv/kv_priv.h"

static usec_t pulse_usec(const struct kv_loop *l)
{
    return l->kv->conf.election_usec / 5;
}

static bool is_heard(const struct kv_loop *l, const struct kv_peer *p)
{
    return p->life != 0 && kv_loop_now(l) < usec_add(p->heard_at, l->kv->conf.election_usec / 2);
}

bool kv_pulse_is_watched(struct kv_replica *r)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    struct kv_loop *l = r->loop;
    if (l->kv->raft_conf.hibernate_usec == 0)
        return false;
    for (size_t i = 0; i < c->count; i++) {
        const struct raft_member *m = &c->member[i];
        if (m->id != r->id &&
            (!l->link ||
             !is_heard(l, kv_peer_of(l, &m->store, kv_shard(r->home->store, r->range_id)))))
            return false;
    }
    return true;
}

void kv_pulse_forget(struct kv_replica *r)
{
    for (size_t i = 0; i < r->watched_count; i++)
        r->watched[i]->quiet_count--;
    r->watched = mem_free(r->watched);
    r->watched_count = 0;
}

static void rely_on(struct kv_replica *r, const struct uuid *node)
{
    struct kv_loop *l = r->loop;
    struct kv_peer *p = kv_peer_of(l, node, kv_shard(r->home->store, r->range_id));
    if (p->quiet_count++ == 0 && !is_heard(l, p))
        p->heard_at = kv_loop_now(l); /* it has as long as anybody */
    r->watched[r->watched_count++] = p;
}

void kv_pulse_changed(struct kv_replica *r)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    uint64_t leader = raft_status_get(&r->raft).leader;
    kv_pulse_forget(r);
    r->is_told_quiet = false;
    if (!r->raft.is_quiet || r->is_closed || !r->loop->link)
        return;
    r->watched = mem_new((c->count + 1) * sizeof(struct kv_peer *));
    for (size_t i = 0; i < c->count; i++)
        if (c->member[i].id != r->id && (leader == r->id || c->member[i].id == leader))
            rely_on(r, &c->member[i].store);
}

/* Everything that relies on it wakes. */
static void wake(struct kv_loop *l, const struct kv_peer *p)
{
    list_each(&l->replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        for (size_t i = 0; i < r->watched_count && !r->is_closed; i++)
            if (r->watched[i] == p) {
                kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_WAKE});
                break; /* it relies on nobody now */
            }
    }
}

void kv_pulse_heard(struct kv_loop *l, const struct uuid *node, uint32_t loop, uint64_t life)
{
    struct kv_peer *p = kv_peer_find(l, node, loop);
    if (!p || life == 0)
        return;
    bool is_other = p->life != 0 && p->life != life;
    p->life = life;
    p->heard_at = kv_loop_now(l);
    if (is_other && p->quiet_count > 0)
        wake(l, p);
}

void kv_pulse_down(struct kv_loop *l, const struct uuid *node)
{
    list_each(&l->peers, x)
    {
        struct kv_peer *p = container_of(x, struct kv_peer, link);
        if (!uuid_eq(&p->node, node))
            continue;
        p->life = 0;
        if (p->quiet_count > 0)
            wake(l, p);
    }
}

static void on_pulse(void *arg, usec_t now)
{
    struct kv_loop *l = arg;
    usec_t patience = l->kv->conf.election_usec;
    list_each(&l->peers, x)
    {
        struct kv_peer *p = container_of(x, struct kv_peer, link);
        if (p->quiet_count > 0 && now >= usec_add(p->heard_at, patience))
            wake(l, p);
        if (p->quiet_count > 0 || now < usec_add(p->used_at, 3 * patience))
            kv_peer_pulse(l, p, l->life);
    }
    /* on the grid of raft's heartbeats: one packet for both */
    net_timer_set(l->loop, &l->pulse_timer, (now / pulse_usec(l) + 1) * pulse_usec(l));
}

void kv_pulse_init(struct kv_loop *l)
{
    net_timer_init(&l->pulse_timer, on_pulse, l);
    if (l->link && l->kv->raft_conf.hibernate_usec != 0)
        net_timer_set(l->loop, &l->pulse_timer, kv_loop_now(l));
}

void kv_pulse_deinit(struct kv_loop *l)
{
    net_timer_del(l->loop, &l->pulse_timer);
}
