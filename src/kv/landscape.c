/* What replicas tell the cluster, and what we learn from it.  SPDX-License-Identifier: Apache-2.0
 *
 * Rows of CLUSTER_SPACE_LANDSCAPE: key "<store>/<range id>", value a descriptor, owner the node of
 * the replica.
 *
 * 1. A row is written when something that others act on has changed; figures alone are worth a row every ten
 *    seconds where the range is led, else every minute: in a cluster of fifty each row costs all of them.
 * 2. What is learnt from rows only steers; versions and Raft decide. */
#include "kv/kv_priv.h"

#define REFRESH_USEC (10 * USEC_SEC)
#define REFRESH_OTHERS_USEC (60 * USEC_SEC)

static enum range_replica_role role_of(const struct kv_replica *r)
{
    const struct raft_member *m = raft_config_find(raft_config_get(&r->raft), r->id);
    if (r->raft.role == RAFT_LEADER)
        return RANGE_ROLE_LEADER;
    if (!m)
        return RANGE_ROLE_NONE;
    if (!raft_config_is_voter(raft_config_get(&r->raft), r->id))
        return RANGE_ROLE_LEARNER;
    return r->raft.role == RAFT_FOLLOWER ? RANGE_ROLE_FOLLOWER : RANGE_ROLE_CANDIDATE;
}

void kv_landscape_members(const struct kv_replica *r, struct range_descriptor *out)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    usec_t now = kv_loop_now(r->loop);
    out->is_joint = c->is_joint;
    for (size_t i = 0; i < c->count && out->member_count < RANGE_MEMBER_MAX; i++) {
        const struct raft_member *m = &c->member[i];
        struct range_member *o = &out->member[out->member_count++];
        struct raft_peer p;
        *o = (struct range_member){
            .node = m->store,
            .replica = m->id,
            .is_voter = m->role & RAFT_VOTER,
            .is_learner = m->role & RAFT_LEARNER,
            .is_next_voter = m->role & RAFT_NEXT_VOTER,
            .is_next_learner = m->role & RAFT_NEXT_LEARNER,
            .is_current = m->id == r->id,
        };
        if (m->id == r->id || !raft_peer_get(&r->raft, m->id, &p))
            continue;
        o->lag = r->raft.log.last > p.match ? r->raft.log.last - p.match : 0;
        /* who sleeps is not asked; pulse.c wakes the range when a member falls silent */
        o->silent_ms = now > p.contact && !r->raft.is_quiet ? (now - p.contact) / USEC_MSEC : 0;
        o->is_current = p.state == RAFT_PEER_REPLICATE;
    }
}

void kv_landscape_describe(const struct kv_replica *r, struct range_descriptor *out,
                           struct buf *fact)
{
    struct raft_status st = raft_status_get(&r->raft);
    *out = (struct range_descriptor){
        .id = r->range_id,
        .bounds = range_bounds_all(),
        .replica = r->id,
        .role = role_of(r),
        .leader = kv_replica_leader(r),
        .term = st.term,
        .commit = st.commit,
        .applied = r->applied,
        .log_bytes = r->log_bytes,
        .bytes = kv_weigh_bytes(r),
        .rate = r->rate,
        .fanout = r->fanout,
        .has_crowd = r->is_weighed && r->crowd.n > 0,
        .is_ready = r->is_ready,
        .fact = STR(""),
    };
    if (r->has_range) {
        out->version = r->range.version;
        out->bounds = r->range.bounds;
    }
    if (out->role != RANGE_ROLE_LEADER)
        return;
    kv_landscape_members(r, out);
    fact->n = 0;
    if (r->is_ready && r->home->store->conf.ops->fact)
        r->home->store->conf.ops->fact(r->machine, fact);
    if (fact->n <= RANGE_FACT_MAX)
        out->fact = buf_str(fact);
}

static void key_of(const struct kv_replica *r, char out[KV_STORE_NAME_MAX + 1 + RANGE_ID_TEXT])
{
    char id[RANGE_ID_TEXT];
    range_id_format(r->range_id, id);
    snprintf(out, KV_STORE_NAME_MAX + 1 + RANGE_ID_TEXT, "%s/%s", r->home->store->name, id);
}

/* Of what others act on. */
static uint64_t essence(const struct range_descriptor *d)
{
    uint64_t h = hash_u64(d->role * 2 + d->is_ready) + hash_u64(range_version_pack(d->version) + 3);
    h ^= hash_bytes(d->leader.b, sizeof d->leader.b, 7) + d->term;
    h ^= hash_str(d->fact, 11);
    for (unsigned i = 0; i < d->member_count; i++)
        h = hash_u64(
            h ^ (d->member[i].replica * 4 + d->member[i].is_current * 2 + d->member[i].is_voter));
    return h;
}

void kv_landscape_tell(struct kv_replica *r, bool is_forced)
{
    struct kv_loop *l = r->loop;
    usec_t now = kv_loop_now(l);
    if (!l->seat || r->is_closed || (r->is_told_quiet && !is_forced))
        return;
    struct range_descriptor d;
    struct buf fact = {0}, row = {0};
    char key[KV_STORE_NAME_MAX + 1 + RANGE_ID_TEXT];
    kv_landscape_describe(r, &d, &fact);
    uint64_t hash = essence(&d);
    usec_t refresh = d.role == RANGE_ROLE_LEADER ? REFRESH_USEC : REFRESH_OTHERS_USEC;
    bool is_old = now >= r->told_at + refresh && r->told_applied != r->applied;
    if (hash != r->told_hash || is_forced || is_old) {
        r->told_hash = hash;
        r->told_at = now;
        r->told_applied = r->applied;
        range_descriptor_encode(&d, &row);
        key_of(r, key);
        if (!cluster_row_put(l->seat, CLUSTER_SPACE_LANDSCAPE, str_of(key), buf_str(&row)))
            r->reason = "its descriptor is too long for the cluster's table";
    }
    r->is_told_quiet = r->raft.is_quiet && r->told_applied == r->applied;
    buf_deinit(&fact);
    buf_deinit(&row);
}

void kv_landscape_untell(struct kv_replica *r)
{
    char key[KV_STORE_NAME_MAX + 1 + RANGE_ID_TEXT];
    if (!r->loop->seat)
        return;
    key_of(r, key);
    cluster_row_del(r->loop->seat, CLUSTER_SPACE_LANDSCAPE, str_of(key));
}

/* ---- learning -------------------------------------------------------------------------------- */

static struct kv_client *client_of(struct kv_loop *l, const struct cluster_row *row,
                                   struct range_id *out_id)
{
    struct str rest = row->key, name;
    if (!str_next(&rest, '/', &name) || !range_id_parse(rest, out_id))
        return NULL;
    struct kv_store *s = kv_store_of_name(l->kv, name);
    return s ? &s->client[l->index] : NULL;
}

static void learn(struct kv_loop *l, const struct cluster_row *row)
{
    struct range_descriptor d;
    struct range_id id;
    struct kv_client *c = client_of(l, row, &id);
    if (!c || range_descriptor_decode(row->value, &d) != 0 || d.version.boundary == 0 ||
        !range_id_eq(d.id, id))
        return;
    kv_router_learn(c, &(struct kv_route_news){.id = d.id,
                                               .version = d.version,
                                               .bounds = d.bounds,
                                               .leader = d.leader,
                                               .term = d.term});
}

static void on_event(void *arg, struct cluster_seat *s, const struct cluster_event *ev)
{
    struct kv_loop *l = arg;
    struct range_id id;
    bool is_ours = !ev->row || ev->row->space == CLUSTER_SPACE_LANDSCAPE;
    l->news++;
    if (!is_ours)
        return; /* a rule or a mark: balancers look again */
    if (ev->kind == CLUSTER_EV_ROW)
        learn(l, ev->row);
    else if (ev->kind == CLUSTER_EV_ROW_GONE) {
        struct kv_client *c = client_of(l, ev->row, &id);
        if (c && !cluster_row_find(s, CLUSTER_SPACE_LANDSCAPE, ev->row->key, NULL))
            kv_router_forget(c, id);
    } else if (ev->kind == CLUSTER_EV_DOWN) {
        kv_pulse_down(l, &ev->member->uuid);
        for (unsigned i = 0; i < l->kv->store_count; i++)
            kv_router_unlead(&l->kv->store[i]->client[l->index], &ev->member->uuid);
    }
}

void kv_landscape_init(struct kv_loop *l)
{
    if (l->seat)
        l->watch = cluster_watch_new(l->seat,
                                     cluster_space_bit(CLUSTER_SPACE_LANDSCAPE) |
                                         cluster_space_bit(CLUSTER_SPACE_BALANCER_RULE) |
                                         cluster_space_bit(CLUSTER_SPACE_SETTING),
                                     on_event, l);
}

void kv_landscape_deinit(struct kv_loop *l)
{
    if (l->watch)
        l->watch = cluster_watch_free(l->watch);
}
