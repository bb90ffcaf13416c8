/* Raft messages of all ranges to one loop of one node: one frame a turn.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * 1. A frame keeps the order in which its pieces were sent.
 * 2. A replica that is not here is never made by a stranger's word: only by the leader's answer to
 *    our question, when no
 *    tombstone forbids it and no other range of ours owns these keys.
 * 3. Frames may be lost; Raft asks again. */
#include "kv/kv_priv.h"

/* So long the other halves of a split may take to be born before they are made from a snapshot. */
#define BORN_USEC (3 * USEC_SEC)

/* The peer's loop that a shard lives on. */
static uint32_t loop_of(struct kv_loop *l, const struct uuid *node, uint32_t shard)
{
    const struct cluster_member *m = cluster_member_find(l->seat, node);
    return m && m->loops > 0 ? shard % m->loops : 0;
}

struct kv_peer *kv_peer_find(struct kv_loop *l, const struct uuid *node, uint32_t loop)
{
    list_each(&l->peers, x)
    {
        struct kv_peer *p = container_of(x, struct kv_peer, link);
        if (p->loop == loop && uuid_eq(&p->node, node))
            return p;
    }
    return NULL;
}

struct kv_peer *kv_peer_of(struct kv_loop *l, const struct uuid *node, uint32_t shard)
{
    uint32_t loop = loop_of(l, node, shard);
    struct kv_peer *p = kv_peer_find(l, node, loop);
    if (p)
        return p;
    p = mem_new(sizeof *p);
    p->node = *node;
    p->loop = loop;
    list_push_back(&l->peers, &p->link);
    return p;
}

static void cast(struct kv_loop *l, struct kv_peer *p)
{
    struct cluster_call call = {
        .peer = p->node,
        .service = CLUSTER_SERVICE_RAFT,
        .lane = CLUSTER_LANE_CONTROL,
        .shard = p->loop,
        .payload = buf_str(&p->frame),
    };
    int r = cluster_link_cast(l->link, &call);
    (void)r; /* gone or overloaded: as good as lost on the way */
    p->frame.n = 0;
}

void kv_peer_send(struct kv_loop *l, const struct uuid *node, uint32_t shard,
                  enum kv_wire_frame kind, uint64_t tag, const struct raft_message *m,
                  struct str body)
{
    if (!l->link || uuid_eq(node, &l->kv->conf.node))
        return;
    struct kv_peer *p = kv_peer_of(l, node, shard);
    p->used_at = kv_loop_now(l);
    size_t at;
    if (p->frame.n == 0) {
        at = kv_wire_frame_open(&p->frame, KV_WIRE_FRAME_FROM, l->index);
        kv_wire_frame_close(&p->frame, at);
    }
    at = kv_wire_frame_open(&p->frame, kind, tag);
    if (m)
        raft_message_encode(m, &p->frame);
    buf_put_str(&p->frame, body);
    kv_wire_frame_close(&p->frame, at);
    if (p->frame.n > KV_FRAME_BYTES)
        cast(l, p);
    kv_loop_wake(l);
}

void kv_peer_pulse(struct kv_loop *l, struct kv_peer *p, uint64_t life)
{
    size_t at = kv_wire_frame_open(&p->frame, KV_WIRE_FRAME_PULSE, life);
    buf_put_varint(&p->frame, l->index);
    kv_wire_frame_close(&p->frame, at);
    kv_loop_wake(l);
}

void kv_peer_flush(struct kv_loop *l)
{
    list_each(&l->peers, x)
    {
        struct kv_peer *p = container_of(x, struct kv_peer, link);
        if (p->frame.n > 0)
            cast(l, p);
    }
}

void kv_peer_deinit(struct kv_loop *l)
{
    for (struct list *x; (x = list_pop_front(&l->peers));) {
        struct kv_peer *p = container_of(x, struct kv_peer, link);
        buf_deinit(&p->frame);
        mem_free(p);
    }
}

/* ---- receiving ------------------------------------------------------------------------------- */

static bool is_from_leader(uint8_t type)
{
    return type == RAFT_MSG_APPEND || type == RAFT_MSG_HEARTBEAT || type == RAFT_MSG_COMMIT;
}

/* loop: the sender's. */
static void recv_raft(struct kv_loop *l, const struct cluster_from *from, uint32_t loop,
                      uint64_t tag, struct str body)
{
    struct raft_message m;
    if (raft_message_decode(body, &l->messages, &m) != 0 || m.type == RAFT_MSG_SNAPSHOT)
        return; /* snapshots come as streams (ship.c) */
    struct kv_replica *r = kv_replica_find(l, tag);
    if (r && !r->is_closed && r->id == m.to) {
        kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_RECV, .message = &m});
        if (m.type == RAFT_MSG_HEARTBEAT && !r->is_closed)
            kv_fresh_beat(r);
        return;
    }
    if (r && !r->is_closed && r->id > m.to)
        return; /* for the one that was here before us */
    if (!is_from_leader(m.type))
        return;
    struct buf id = {0};
    buf_put_varint(&id, m.to);
    kv_peer_send(l, &from->peer, loop, KV_WIRE_FRAME_UNKNOWN, tag, NULL, buf_str(&id));
    buf_deinit(&id);
}

/* A member of a range that we lead says that it is not there: tell it that it should be. */
static void recv_unknown(struct kv_loop *l, const struct cluster_from *from, uint64_t tag,
                         struct str body)
{
    uint64_t id;
    struct kv_replica *r = kv_replica_find(l, tag);
    if (kv_wire_number_decode(body, &id) != 0 || !r || r->is_closed || !r->has_range ||
        !kv_replica_is_leader(r))
        return;
    if (kv_loop_now(l) < r->born_at + BORN_USEC)
        return;
    const struct raft_member *m = raft_config_find(raft_config_get(&r->raft), id);
    if (!m || !uuid_eq(&m->store, &from->peer))
        return;
    struct kv_wire_ensure e = {r->home->store->hash, r->range_id, id, r->range.bounds};
    struct buf out = {0};
    kv_wire_ensure_encode(&e, &out);
    kv_peer_send(l, &from->peer, kv_shard(r->home->store, r->range_id), KV_WIRE_FRAME_ENSURE, tag,
                 NULL, buf_str(&out));
    buf_deinit(&out);
}

static bool is_taken(struct kv_client *c, const struct kv_wire_ensure *e)
{
    for (size_t i = 0; i < c->route_count; i++)
        if (c->route[i]->is_local && !range_id_eq(c->route[i]->id, e->id) &&
            range_bounds_overlap(&c->route[i]->bounds, &e->bounds))
            return true;
    return false;
}

static void recv_ensure(struct kv_loop *l, uint64_t tag, struct str body)
{
    struct kv_wire_ensure e;
    if (kv_wire_ensure_decode(body, &e) != 0)
        return;
    struct kv_store *s = kv_store_of_hash(l->kv, e.store);
    if (!s || kv_tag(s, e.id) != tag || kv_shard(s, e.id) % l->kv->loop_count != l->index)
        return;
    struct kv_client *c = &s->client[l->index];
    struct kv_replica *r = kv_replica_find(l, tag);
    if (kv_meta_is_tombstone(c, tag, e.replica))
        return;
    /* The leader has given our place another name: what we were is over, also while the new one cannot begin because a
     * merged range's replica is still in its way: that one may wait for what we were to take it in. */
    if (r && r->id < e.replica)
        kv_replica_close(r, true);
    if (is_taken(c, &e))
        return;
    if (!r && atomic_load_explicit(&l->count.replica_count, memory_order_relaxed) <
                  l->kv->conf.limits.range_count_max)
        (void)kv_meta_ensure(c, e.id, e.replica);
}

static void recv_pulse(struct kv_loop *l, const struct cluster_from *from, uint64_t life,
                       struct str body)
{
    uint64_t loop;
    if (kv_wire_number_decode(body, &loop) == 0 && loop < KV_LOOP_MAX)
        kv_pulse_heard(l, &from->peer, (uint32_t)loop, life);
}

static void on_frame(void *arg, struct cluster_request *rq, const struct cluster_from *from,
                     struct str payload)
{
    struct kv_loop *l = arg;
    struct codec_cursor c = codec_cursor_of(payload);
    enum kv_wire_frame kind;
    uint64_t tag;
    struct str body;
    struct uuid peer = from->peer;
    uint32_t loop = 0;

    l->receiving = &peer;
    while (kv_wire_frame_next(&c, &kind, &tag, &body))
        switch (kind) {
        case KV_WIRE_FRAME_FROM:
            loop = (uint32_t)tag;
            break;
        case KV_WIRE_FRAME_RAFT:
            recv_raft(l, from, loop, tag, body);
            break;
        case KV_WIRE_FRAME_UNKNOWN:
            recv_unknown(l, from, tag, body);
            break;
        case KV_WIRE_FRAME_ENSURE:
            recv_ensure(l, tag, body);
            break;
        case KV_WIRE_FRAME_PULSE:
            recv_pulse(l, from, tag, body);
            break;
        default:
            break; /* of a newer version */
        }
    l->receiving = NULL;
    if (rq)
        cluster_request_refuse(rq);
}

/* ---- requests of other nodes ----------------------------------------------------------------- */

static void serve_propose(struct kv_loop *l, struct cluster_request *rq,
                          const struct kv_wire_propose *p)
{
    struct kv_bundle *b = kv_bundle_new(NULL);
    b->rq = rq;
    b->tag = p->tag;
    b->boundary = p->boundary;
    b->count = p->count;
    b->convoy = p->convoy;
    buf_put_str(&b->data, p->data);
    struct kv_replica *r = kv_replica_find(l, p->tag);
    if (r)
        kv_replica_take(r, b);
    else
        kv_bundle_done(l, b, KV_WIRE_NO_RANGE);
}

static void on_request(void *arg, struct cluster_request *rq, const struct cluster_from *from,
                       struct str payload)
{
    struct kv_loop *l = arg;
    struct kv_wire_request w;
    (void)from;
    if (!rq)
        return;
    if (kv_wire_request_decode(payload, &w) != 0) {
        cluster_request_refuse(rq);
        return;
    }
    if (w.kind == KV_WIRE_PROPOSE) {
        serve_propose(l, rq, &w.propose);
        return;
    }
    struct kv_ask *a = kv_ask_of_request(rq, &w);
    struct kv_replica *r = kv_replica_find(l, a->tag);
    if (!r)
        kv_ask_done(l, a, KV_WIRE_NO_RANGE);
    else if (w.kind == KV_WIRE_COMMAND)
        kv_command_run(r, &w.command, a);
    else
        kv_apply_ask(r, a);
}

void kv_peer_serve(struct kv_loop *l)
{
    if (!l->link)
        return;
    cluster_link_serve(l->link, CLUSTER_SERVICE_RAFT, on_frame, l);
    cluster_link_serve(l->link, CLUSTER_SERVICE_KV, on_request, l);
}
