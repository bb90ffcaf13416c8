/* A node makes itself unneeded: others lead, and have all that it has.
 * SPDX-License-Identifier: Apache-2.0
 *
 *   hand over   every replica that leads hands its leadership to the voter that has most, again and
 *               again until none leads
 *   settle      the leader of every range with a replica here is asked until each entry committed
 *               before is on a quorum without this node (KV_CMD_SETTLE)
 *
 * 1. It ends once, by the deadline; what could not be had by then is said in the log.
 * 2. The walk goes from loop to loop; loop 0 looks in between.  What the walk reads was written on
 *    loop 0 before it set out, or by the walk. */
#include "kv/kv_priv.h"

#define LOOK_USEC (50 * USEC_MSEC)

enum phase { HAND_OVER, SETTLE };

struct kv_drain;

struct settle { /* one range */
    struct kv_drain *drain;
    struct kv_client *client;
    struct range_id id;
    enum kv_outcome outcome;
};

struct kv_drain {
    struct net_mail mail;
    struct net_timer timer;
    struct kv *kv; /* NULL: it has gone, and who comes back is the end */
    bool is_out;   /* the mail is under way */
    usec_t deadline;
    void (*done)(void *arg);
    void *arg;
    enum phase phase;
    bool wants_settle;
    bool is_walked;      /* once, so that hope_count says something */
    unsigned hope_count; /* leaderships that somebody else who lives could have */
    unsigned next;
    struct settle *settle;
    size_t settle_count, settle_cap;
    size_t range_count; /* with other voters */
    size_t led_count;   /* and still led here */
    _Atomic size_t open_count, failed_count;
};

static bool is_live(const struct kv_loop *l, const struct uuid *node)
{
    return l->seat && cluster_is_live(l->seat, node, 0);
}

static bool is_draining(const struct kv_loop *l, const struct uuid *node)
{
    const struct cluster_member *m = cluster_member_find(l->seat, node);
    return m && (m->flags & (CLUSTER_FLAG_DRAINING | CLUSTER_FLAG_STORAGE_FAILED));
}

/* A voter that has most, on a live node; one that drains only when there is no other. */
static uint64_t heir(const struct kv_replica *r)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    uint64_t best = 0, best_match = 0;
    bool is_best_draining = true;
    for (size_t i = 0; i < c->count; i++) {
        struct raft_peer p;
        if (c->member[i].id == r->id || !(c->member[i].role & RAFT_VOTER) ||
            !is_live(r->loop, &c->member[i].store) ||
            !raft_peer_get(&r->raft, c->member[i].id, &p) || p.state != RAFT_PEER_REPLICATE)
            continue;
        bool drains = is_draining(r->loop, &c->member[i].store);
        if (best &&
            (drains > is_best_draining || (drains == is_best_draining && p.match < best_match)))
            continue;
        best = p.id;
        best_match = p.match;
        is_best_draining = drains;
    }
    return best;
}

/* false: nobody else who lives could lead it. */
static bool hand_over(struct kv_replica *r)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    bool is_hoped = false;
    if (!kv_replica_is_leader(r))
        return false;
    for (size_t i = 0; i < c->count; i++)
        is_hoped = is_hoped || (c->member[i].id != r->id && (c->member[i].role & RAFT_VOTER) &&
                                is_live(r->loop, &c->member[i].store));
    uint64_t to = heir(r);
    if (to && raft_status_get(&r->raft).transfer == 0)
        kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_TRANSFER, .peer = to});
    return is_hoped;
}

static void gather(struct kv_drain *d, struct kv_replica *r)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    unsigned voters = 0, others = 0;
    for (size_t i = 0; i < c->count; i++) {
        bool is_voter = c->member[i].role & RAFT_VOTER;
        voters += is_voter;
        others += is_voter && c->member[i].id != r->id && is_live(r->loop, &c->member[i].store);
    }
    if (voters < 2 || !raft_config_is_voter(c, r->id))
        return; /* nobody else votes, or nobody waits for us */
    d->range_count++;
    d->led_count += kv_replica_is_leader(r);
    if (others <= voters / 2) {
        atomic_fetch_add(&d->failed_count, 1); /* there is no quorum without us */
        return;
    }
    d->settle = mem_grow(d->settle, &d->settle_cap, d->settle_count + 1, sizeof *d->settle);
    d->settle[d->settle_count++] =
        (struct settle){.drain = d, .client = r->home, .id = r->range_id};
}

static void settled(void *arg, const struct kv_reply *reply)
{
    struct settle *s = arg;
    if (reply->outcome != KV_OK &&
        reply->outcome != KV_E_INVALID) /* an older leader does not know it */
        atomic_fetch_add(&s->drain->failed_count, 1);
    atomic_fetch_sub(&s->drain->open_count, 1);
}

static void drain_free(struct kv_drain *d)
{
    mem_free(d->settle);
    mem_free(d);
}

/* The question of one loop's ranges; the answers come to that loop. */
static void settle_ask(struct kv_drain *d, struct kv_loop *l)
{
    for (size_t i = 0; i < d->settle_count; i++) {
        struct settle *s = &d->settle[i];
        if (s->client->loop != l)
            continue;
        struct kv_command cmd = {.kind = KV_CMD_SETTLE,
                                 .id = {s->id.epoch, s->id.id},
                                 .node = {d->kv->conf.node},
                                 .node_count = 1,
                                 .deadline = d->deadline,
                                 .key = STR("")};
        kv_run(s->client, &cmd, settled, s);
    }
}

static void walk(struct net_loop *here, struct net_mail *mail)
{
    struct kv_drain *d = container_of(mail, struct kv_drain, mail);
    if (!d->kv) {
        drain_free(d);
        return;
    }
    if (d->next < d->kv->loop_count) {
        struct kv_loop *l = &d->kv->loop[d->next++];
        if (d->phase == SETTLE)
            settle_ask(d, l);
        else
            list_each(&l->replicas, x)
            {
                struct kv_replica *r = container_of(x, struct kv_replica, link);
                if (!r->is_closed)
                    d->hope_count += hand_over(r);
            }
        net_loop_post(here, d->kv->loop[d->next < d->kv->loop_count ? d->next : 0].loop, &d->mail,
                      walk);
        return;
    }
    d->is_out = false;
    net_timer_set(here, &d->timer, net_loop_now(here) + LOOK_USEC);
}

static void end(struct kv_drain *d)
{
    void (*done)(void *) = d->done;
    void *arg = d->arg;
    d->kv->drain = NULL;
    drain_free(d);
    if (done)
        done(arg);
}

/* All replicas of all loops, from loop to loop. */
static void collect(struct net_loop *here, struct net_mail *mail)
{
    struct kv_drain *d = container_of(mail, struct kv_drain, mail);
    if (!d->kv) {
        drain_free(d);
        return;
    }
    struct kv_loop *l = &d->kv->loop[d->next++];
    list_each(&l->replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        if (!r->is_closed && r->is_ready)
            gather(d, r);
    }
    if (d->next < d->kv->loop_count) {
        net_loop_post(here, d->kv->loop[d->next].loop, &d->mail, collect);
        return;
    }
    atomic_store(&d->open_count, d->settle_count);
    d->next = 0;
    d->phase = SETTLE;
    net_loop_post(here, d->kv->loop[0].loop, &d->mail, walk);
}

static void on_look(void *arg, usec_t now)
{
    struct kv_drain *d = arg;
    struct net_loop *loop = d->kv->loop[0].loop;
    struct kv_stats st;
    kv_stats_get(d->kv, &st);
    bool is_late = now >= d->deadline;
    if (d->phase == HAND_OVER) {
        bool is_hopeless = d->is_walked && d->hope_count == 0;
        bool is_over = st.leader_count == 0 || is_late || is_hopeless;
        d->next = 0;
        d->hope_count = 0;
        d->is_walked = true;
        d->is_out = !is_over || d->wants_settle;
        if (!d->is_out)
            end(d);
        else
            net_loop_post(loop, loop, &d->mail, is_over ? collect : walk);
        return;
    }
    if (atomic_load(&d->open_count) > 0) { /* each ends by the deadline */
        net_timer_set(loop, &d->timer, now + LOOK_USEC);
        return;
    }
    size_t failed = atomic_load(&d->failed_count);
    if (d->led_count > 0)
        log_line(d->kv->conf.log, LOG_LEVEL_WARN, "kv.drain.leads",
                 "%zu ranges are still led here: no other voter could take them", d->led_count);
    if (failed > 0)
        log_line(d->kv->conf.log, LOG_LEVEL_WARN, "kv.drain.behind",
                 "%zu of %zu ranges have no quorum without this node that has everything", failed,
                 d->range_count);
    end(d);
}

static void begin(struct kv *kv, const struct kv_drain *as)
{
    struct kv_drain *d = kv->drain;
    if (!d) {
        d = kv->drain = mem_new(sizeof *d);
        d->kv = kv;
        net_timer_init(&d->timer, on_look, d);
        net_timer_set(kv->loop[0].loop, &d->timer, net_loop_now(kv->loop[0].loop));
    }
    d->deadline = as->deadline;
    d->done = as->done;
    d->arg = as->arg;
    d->wants_settle = d->wants_settle || as->wants_settle;
}

void kv_hand_over(struct kv *kv, usec_t deadline, void (*done)(void *arg), void *arg)
{
    begin(kv, &(struct kv_drain){.deadline = deadline, .done = done, .arg = arg});
}

void kv_drain(struct kv *kv, usec_t deadline, void (*done)(void *arg), void *arg)
{
    begin(kv,
          &(struct kv_drain){.deadline = deadline, .done = done, .arg = arg, .wants_settle = true});
}

void kv_drain_deinit(struct kv *kv)
{
    if (!kv->drain)
        return;
    net_timer_del(kv->loop[0].loop, &kv->drain->timer);
    kv->drain->kv = NULL;
    if (!kv->drain->is_out)
        drain_free(kv->drain);
    kv->drain = NULL;
}
