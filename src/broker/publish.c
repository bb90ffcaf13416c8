/* The publish road, top to bottom; docs/FLOW.md walks it.  SPDX-License-Identifier: Apache-2.0
 *
 *   publish_begin   the message gets its time and its publisher
 *   publish_admit   may he?
 *   publish_receive QoS 2 of a persistent session: the inbox remembers its packet identifier first
 *   publish_retain  a leg, if asked for
 *   publish_match   who wants it; may wait in hold.c
 *   broker_road_fan this loop, other loops, other nodes, inboxes: a leg for each that must be waited for
 *   broker_road_leg the only join: one less, the worst reason kept
 *   broker_road_end the acknowledgement
 *
 * Without a leg everything happens on the stack and in this turn: no allocation, no copy but into
 * output buffers.
 *
 * Invariants: 1 the publisher is told exactly once, and not before every leg has ended;  2 the
 * message reaches the legs in the order in which its publisher sent it;  3 QoS 1 and 2: what was
 * matched by an index that may lack a subscription is not acknowledged, unless the cluster has been
 * out of reach for BROKER_HOLD_USEC (hold.c). */
#include "broker/hold_priv.h"

#include "base/hash.h"
#include "base/mem.h"
#include "broker/deliver_priv.h"
#include "broker/durability_priv.h"
#include "broker/lookup_priv.h"
#include "broker/peer_priv.h"
#include "broker/share_priv.h"

#define OFFERS_MAX                                                                                 \
    32 /* matters little: members asked whether they are connected before one is taken             \
          whatever it is */
#define EARLY_BYTES_MAX                                                                            \
    (8 * 1024 * 1024) /* lost at most with this loop, where a tenant accepts that */

/* What the road itself has to tell; who published is known by its client identifier only. */
static void road_report(struct broker_loop *l, const struct broker_tenant *tenant,
                        enum broker_event_id id)
{
    struct broker_event_who who = {.tenant = tenant->name};
    broker_event_report(&l->broker->events, id, &who, "%s", "");
}

/* A store or another node did not take it; what a limit of the tenant refused is told where that
 * was. */
static void dist_report(struct broker_loop *l, const struct broker_tenant *tenant, uint8_t qos,
                        uint8_t reason)
{
    if (likely(reason < 0x80) || reason == CODEC_MQTT_RC_QUOTA_EXCEEDED)
        return;
    road_report(l, tenant, (enum broker_event_id)(BROKER_EV_QOS0_DIST_ERROR + qos));
    road_report(l, tenant, BROKER_EV_DIST_ERROR);
}

struct broker_join *broker_road_leg_begin(struct broker_road *p)
{
    struct broker_join *j = p->join;
    if (!j) {
        p->join = j = mem_new(sizeof(*j));
        j->conn = p->token ? p->conn : NULL;
        j->loop = p->loop;
        j->tenant = p->tenant;
        j->token = p->token;
        j->qos = p->msg->qos;
        if (p->done)
            j->done = *p->done;
        j->legs = 1; /* the road itself */
        if (j->conn)
            broker_conn_hold(j->conn);
    }
    j->legs++;
    return j;
}

void broker_road_leg(struct broker_join *j, uint8_t reason)
{
    if (reason > j->reason)
        j->reason = reason;
    if (--j->legs > 0)
        return;
    dist_report(j->loop, j->tenant, j->qos, j->reason);
    codec_msg_unref(j->msg);
    if (j->conn && j->reason == CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR)
        broker_hold_refuse(j->conn);
    if (j->conn) {
        broker_conn_published(j->conn, j->token, j->reason, j->dropped);
        broker_conn_done(j->conn);
    } else if (j->done.fn) {
        j->done.fn(j->done.arg, j->reason);
    }
    mem_free(j);
}

int broker_road_end(struct broker_road *p, uint8_t *out_reason)
{
    if (p->receivers == 0 && p->reason == 0 && !p->is_held)
        p->reason = CODEC_MQTT_RC_NO_MATCHING_SUBSCRIBERS;
    if (!p->join) {
        dist_report(p->loop, p->tenant, p->msg->qos, p->reason);
        *out_reason = p->reason;
        return 0;
    }
    broker_road_leg(p->join, p->reason);
    return BROKER_PUBLISH_E_PENDING;
}

/* A retained message on its way to the store. */
struct retaining {
    struct broker_join *join;
    size_t len; /* of topic and payload */
    bool is_clear;
};

static void retain_done(void *arg, enum stores_outcome outcome)
{
    struct retaining *r = arg;
    struct broker_join *j = r->join;
    road_report(j->loop, j->tenant,
                outcome != STORES_OK ? BROKER_EV_MSG_RETAINED_ERROR
                : r->is_clear        ? BROKER_EV_RETAIN_MSG_CLEARED
                                     : BROKER_EV_MSG_RETAINED);
    if (outcome == STORES_E_LIMIT)
        road_report(j->loop, j->tenant, BROKER_EV_OUT_OF_TENANT_RESOURCE);
    if (outcome == STORES_OK && !r->is_clear)
        broker_metric_bytes(broker_loop_metrics(j->loop, j->tenant), BROKER_M_RETAINED, r->len, 1);
    mem_free(r);
    broker_road_leg(j, broker_conn_reason_of(outcome));
}

static void publish_retain(struct broker_road *p)
{
    if (!p->msg->is_retain)
        return;
    struct broker_metrics *m = broker_loop_metrics(p->loop, p->tenant);
    broker_metric_bytes(m, BROKER_M_INGRESS_RETAIN, p->msg->topic.n + p->msg->payload.n, 1);
    const struct broker_tenant_limits *max = &p->tenant->limits;
    struct retaining *r = mem_new(sizeof(*r));
    *r = (struct retaining){broker_road_leg_begin(p), p->msg->topic.n + p->msg->payload.n,
                            p->msg->payload.n == 0};
    stores_retain_put(p->loop->stores, p->tenant->name, p->msg, max->retained_max,
                      max->retained_bytes_max, retain_done, r);
}

/* Acknowledged already, on its way to the inboxes. */
struct early {
    struct broker_loop *loop;
    struct broker_tenant *tenant;
    uint64_t bytes, count;
};

static void early_done(void *arg, const struct stores_inserted *r)
{
    struct early *e = arg;
    struct broker_metrics *m = broker_loop_metrics(e->loop, e->tenant);
    if (r->outcome != STORES_OK)
        broker_metric_add(m, BROKER_M_DROP_MEMORY, e->count);
    else if (r->dropped + r->displaced)
        broker_metric_add(m, BROKER_M_DROP_OVERFLOW, r->dropped + r->displaced);
    e->loop->early_bytes -= e->bytes;
    mem_free(e);
}

/* May this one be acknowledged before it is stored?  Beyond EARLY_BYTES_MAX publishers wait as all
 * others do. */
static bool is_early(const struct broker_road *p)
{
    const struct session_settings *s =
        p->conn ? &p->conn->settings->value : &p->tenant->loop[p->loop->index].settings->value;
    return broker_durability_of(p->loop->broker, s) == BROKER_DURABILITY_MEMORY &&
           p->loop->early_bytes < EARLY_BYTES_MAX;
}

static void insert_early(struct broker_road *p, const struct stores_receiver *r, size_t count)
{
    struct early *e = mem_new(sizeof(*e));
    *e =
        (struct early){p->loop, p->tenant, sizeof(*e) + p->msg->topic.n + p->msg->payload.n, count};
    p->loop->early_bytes += e->bytes;
    broker_metric_add(broker_loop_metrics(p->loop, p->tenant), BROKER_M_MEMORY_ACKED, 1);
    /* no lane: that its publisher left ends nothing */
    stores_insert(p->loop->stores, p->tenant->name, p->msg,
                  &(struct stores_origin){.floor = p->floor}, r, count, early_done, e);
}

static void inserted(struct broker_join *j, const struct stores_inserted *r)
{
    if (r->outcome == STORES_OK && r->dropped + r->displaced) {
        broker_metric_add(broker_loop_metrics(j->loop, j->tenant), BROKER_M_DROP_OVERFLOW,
                          r->dropped + r->displaced);
        road_report(j->loop, j->tenant, BROKER_EV_OVERFLOWED);
        j->dropped += r->dropped;
    }
    if (r->outcome != STORES_OK || r->gone)
        road_report(j->loop, j->tenant, BROKER_EV_DELIVER_ERROR);
    broker_road_leg(j, broker_conn_reason_of(r->outcome));
}

static void insert_done(void *arg, const struct stores_inserted *r)
{
    inserted(arg, r);
}

/* Subscriptions of one session in a row become one receiver with the largest QoS and all
 * identifiers. */
static size_t receivers_make(struct arena *a, const struct dist_receiver *const *in, size_t count,
                             uint8_t qos, struct stores_receiver *out)
{
    uint32_t *ids = arena_alloc(a, count * sizeof(*ids));
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const struct dist_receiver *r = in[i];
        struct str client = str_view(r->client, r->client_len);
        struct stores_receiver *x = n ? &out[n - 1] : NULL;
        if (!x || !str_eq(x->client, client) || x->incarnation != r->session) {
            x = &out[n++];
            *x = (struct stores_receiver){
                .client = client, .incarnation = r->session, .options = r->options, .sub_id = ids};
        }
        uint8_t granted = r->options & DIST_OPTION_QOS, old = x->options & DIST_OPTION_QOS;
        x->options = (uint8_t)((x->options & r->options & DIST_OPTION_NO_LOCAL) |
                               ((x->options | r->options) & DIST_OPTION_AS_PUBLISHED) |
                               (granted > old ? granted : old));
        granted = x->options & DIST_OPTION_QOS;
        x->qos = granted < qos ? granted : qos;
        if (r->sub_id) {
            *ids++ = r->sub_id;
            x->sub_id_count++;
        }
    }
    return n;
}

static bool is_own(const struct broker_road *p, const struct stores_receiver *r)
{
    return p->msg->publisher.n && str_eq(r->client, p->msg->publisher);
}

/* Not all who want it get it: the publisher is told, and the event names it. */
static void fan_throttled(struct broker_road *p, enum broker_event_id id)
{
    struct broker_event_who who = {.tenant = p->tenant->name, .client_id = p->msg->publisher};
    broker_event_report(&p->loop->broker->events, id, &who, "%.*s", STR_ARG(p->msg->topic));
    p->reason = CODEC_MQTT_RC_QUOTA_EXCEEDED;
}

/* A message for a persistent member of a shared subscription, if it is connected somewhere. */
struct offer {
    struct broker_join *join;
    struct codec_msg *msg;
    struct broker_lookup *lookup; /* NULL: matched here */
    uint64_t from_cookie, floor;
    uint64_t group;
    uint32_t asked_count;
    uint64_t asked[]; /* in the order they were asked, this one last */
};

static void offered(void *arg, const struct stores_inserted *r);

static struct offer *offer_new(struct broker_road *p, const struct broker_target_group *g,
                               const struct dist_receiver *r)
{
    uint32_t count = p->asked ? p->asked->count : 0;
    struct offer *o = mem_new(sizeof(*o) + (count + 1) * sizeof(uint64_t));
    o->join = broker_road_leg_begin(p);
    o->msg = codec_msg_keep(p->msg);
    o->from_cookie = p->from_cookie;
    o->floor = p->floor;
    o->lookup = p->lookup ? broker_lookup_ref(p->lookup) : NULL;
    o->group = broker_share_group_id(g);
    o->asked_count = count + 1;
    if (count)
        memcpy(o->asked, p->asked->member, count * sizeof(uint64_t));
    o->asked[count] = broker_share_member_id(r);
    return o;
}

/* offer_of: the one receiver is a member of this group and gets it only if it is connected; or
 * NULL. */
static void fan_inboxes(struct broker_road *p, const struct dist_receiver *const *in, size_t count,
                        const struct broker_target_group *offer_of)
{
    struct arena *a = net_loop_arena(p->loop->net);
    struct stores_receiver *r = arena_alloc(a, count * sizeof(*r));
    size_t n = receivers_make(a, in, count, p->msg->qos, r), kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!(r[i].options & DIST_OPTION_NO_LOCAL) || !is_own(p, &r[i]))
            r[kept++] = r[i];
    const struct session_settings *s = &p->tenant->loop[p->loop->index].settings->value;
    uint64_t len = p->msg->topic.n + p->msg->payload.n;
    if (p->stored + kept > (uint64_t)s->max_persistent_fanout) {
        kept = (size_t)s->max_persistent_fanout - p->stored;
        fan_throttled(p, BROKER_EV_PERSISTENT_FANOUT_THROTTLED);
    }
    uint64_t fit = len ? (uint64_t)s->max_persistent_fanout_bytes / len : UINT64_MAX;
    if (p->stored + kept > fit) {
        kept = fit > p->stored ? (size_t)(fit - p->stored) : 0;
        fan_throttled(p, BROKER_EV_PERSISTENT_FANOUT_BYTES_THROTTLED);
    }
    if (kept == 0)
        return;
    p->receivers += kept;
    p->stored += kept;
    broker_metric_bytes(broker_loop_metrics(p->loop, p->tenant), BROKER_M_PFANOUT, len * kept,
                        kept);
    struct stores_origin from = {p->floor, p->token ? p->from_cookie : 0, offer_of != NULL};
    if (offer_of)
        stores_insert(p->loop->stores, p->tenant->name, p->msg, &from, r, kept, offered,
                      offer_new(p, offer_of, in[0]));
    else if (is_early(p))
        insert_early(p, r, kept);
    else
        stores_insert(p->loop->stores, p->tenant->name, p->msg, &from, r, kept, insert_done,
                      broker_road_leg_begin(p));
}

static void peer_done(void *arg, uint8_t reason)
{
    broker_road_leg(arg, reason);
}

/* A leg if the message must not be lost on the way. */
static bool fan_peer(struct broker_road *p, const struct dist_node *to,
                     const struct broker_cross_send *send)
{
    if (p->msg->qos == 0)
        return broker_peer_send(p->loop, to, send, NULL, NULL);
    struct broker_join *j = broker_road_leg_begin(p);
    if (broker_peer_send(p->loop, to, send, peer_done, j))
        return true;
    j->legs--;
    p->reason = CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR;
    return false;
}

/* A live member of a shared subscription, wherever it is. */
static void fan_member(struct broker_road *p, const struct dist_receiver *r)
{
    struct broker_cross_send send = {
        .tenant = p->tenant,
        .msg = p->msg,
        .from_cookie = p->from_cookie,
        .cookie = broker_share_cookie(r),
        .sub_id = r->sub_id,
        .qos = r->options & DIST_OPTION_QOS,
        .flags = r->options & DIST_OPTION_AS_PUBLISHED ? BROKER_TARGET_AS_PUBLISHED : 0,
    };
    bool is_sent;
    unsigned to = broker_cookie_loop(send.cookie);
    if (!atomic_load_explicit(&r->node->is_local, memory_order_relaxed))
        is_sent = fan_peer(p, r->node, &send);
    else if (to == p->loop->index)
        is_sent = broker_deliver_one(p->loop, &send);
    else {
        is_sent = to < p->loop->broker->loop_count && !broker_cross_put(p->loop, to, &send);
        if (is_sent && p->msg->qos > 0 && p->conn)
            broker_cross_wait(p->conn, to, p->msg);
    }
    if (is_sent)
        p->receivers++;
    else {
        broker_metric_add(broker_loop_metrics(p->loop, p->tenant), BROKER_M_DROP_CLOSED, 1);
        road_report(p->loop, p->tenant, BROKER_EV_DELIVER_ERROR);
    }
}

/* Whether this member shall get the message only if it is connected: another might take it. */
static bool is_offered(const struct broker_road *p, const struct dist_group *g,
                       const struct dist_receiver *r)
{
    const struct broker_asked *a = p->asked;
    return broker_share_is_doubtful(p->loop, g, r) &&
           (!a || (a->count < OFFERS_MAX && !broker_share_was_asked(a, r)));
}

/* One member of a shared subscription; returns it when it is to be stored for, whether connected or
 * not. */
static const struct dist_receiver *fan_group(struct broker_road *p,
                                             const struct broker_target_group *g)
{
    const struct dist_receiver *r = broker_share_pick(p->loop, g->group, p->msg, p->asked);
    if (!r)
        return NULL;
    if (r->kind != DIST_KIND_INBOX)
        fan_member(p, r);
    else if (is_offered(p, g->group, r))
        fan_inboxes(p, &r, 1, g);
    else
        return r;
    return NULL;
}

/* Persistent members join the persistent receivers: one insert for all. */
static void fan_stored(struct broker_road *p, const struct broker_targets *t)
{
    size_t count = 0, max = t->inbox_count + t->group_count;
    const struct dist_receiver **in =
        arena_alloc(net_loop_arena(p->loop->net), max * sizeof(struct dist_receiver *));
    for (size_t i = 0; i < t->inbox_count; i++)
        in[count++] = t->inbox[i];
    int64_t left = p->tenant->loop[p->loop->index].settings->value.max_group_fanout;
    if (unlikely(left < (int64_t)t->group_count))
        fan_throttled(p, BROKER_EV_GROUP_FANOUT_THROTTLED);
    for (size_t i = 0; i < t->group_count && left-- > 0; i++) {
        const struct dist_receiver *r = fan_group(p, &t->group[i]);
        if (r)
            in[count++] = r;
    }
    if (count)
        fan_inboxes(p, in, count, NULL);
}

/* The inbox answered.  Nobody is connected for that member: the next one, as if it had not been
 * there. */
static void offered(void *arg, const struct stores_inserted *r)
{
    struct offer *o = arg;
    struct broker_join *j = o->join;
    if (r->outcome == STORES_OK && r->away) {
        struct broker_asked asked = {o->asked, o->asked_count};
        broker_share_away(j->loop, o->asked[o->asked_count - 1]);
        struct broker_road p = {.loop = j->loop,
                                .tenant = j->tenant,
                                .conn = j->conn,
                                .token = j->token,
                                .from_cookie = o->from_cookie,
                                .floor = o->floor,
                                .msg = o->msg,
                                .join = j,
                                .asked = &asked,
                                .lookup = o->lookup};
        const struct broker_targets *t =
            o->lookup ? broker_targets_of(j->loop, j->tenant, o->msg->topic, o->lookup->index)
                      : broker_targets_get(j->loop, j->tenant, o->msg->topic);
        size_t i = 0;
        while (i < t->group_count && broker_share_group_id(&t->group[i]) != o->group)
            i++;
        const struct dist_receiver *next = i < t->group_count ? fan_group(&p, &t->group[i]) : NULL;
        if (next)
            fan_inboxes(&p, &next, 1, NULL);
        broker_road_leg(j, p.reason);
    } else {
        inserted(j, r);
    }
    broker_lookup_unref(o->lookup);
    codec_msg_unref(o->msg);
    mem_free(o);
}

static void fan_loops(struct broker_road *p, uint64_t loops)
{
    struct broker_cross_send send = {
        .tenant = p->tenant, .msg = p->msg, .from_cookie = p->from_cookie};
    while (loops) {
        unsigned to = (unsigned)__builtin_ctzll(loops);
        loops &= loops - 1;
        if (broker_cross_put(p->loop, to, &send)) {
            broker_metric_add(broker_loop_metrics(p->loop, p->tenant), BROKER_M_DROP_OVERFLOW, 1);
            if (p->msg->qos > 0) /* not acknowledged: the client keeps it */
                p->reason = CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR;
        }
        if (p->msg->qos > 0 && p->conn)
            broker_cross_wait(p->conn, to, p->msg);
        p->receivers++;
    }
}

static void fan_nodes(struct broker_road *p, const struct broker_targets *t)
{
    struct broker_cross_send send = {
        .tenant = p->tenant, .msg = p->msg, .from_cookie = p->from_cookie};
    for (size_t i = 0; i < t->node_count; i++) {
        if (!fan_peer(p, t->node[i], &send))
            broker_metric_add(broker_loop_metrics(p->loop, p->tenant), BROKER_M_DROP_LINK, 1);
        p->receivers++;
    }
}

void broker_road_fan(struct broker_road *p, const struct broker_targets *t)
{
    broker_metric_bytes(broker_loop_metrics(p->loop, p->tenant),
                        (enum broker_metric_id)(BROKER_M_DIST_QOS0 + p->msg->qos),
                        p->msg->topic.n + p->msg->payload.n, 1);
    if (unlikely(p->conn && p->conn->settings->value.debug_mode_enabled))
        broker_conn_debug(p->conn, BROKER_EV_DELIVERED, p->msg->topic);
    p->receivers += t->local_count;
    if (t->loops)
        fan_loops(p, t->loops);
    if (t->node_count)
        fan_nodes(p, t);
    if (t->inbox_count | t->group_count)
        fan_stored(p, t);
    broker_deliver_local(p->loop, t, p->msg, p->conn, p->from_cookie);
}

/* The index is looked at before its state is: had it been incomplete, the state says so. */
static void publish_match(struct broker_road *p)
{
    const struct broker_targets *t = broker_targets_get(p->loop, p->tenant, p->msg->topic);
    if (broker_hold_is_needed(p))
        broker_hold_put(p);
    else
        broker_road_fan(p, t);
}

static void receive_done(struct broker_join *j)
{
    const struct stores_exchange *x = &j->exchange;
    uint8_t reason = broker_conn_reason_of(x->outcome);
    if (reason) {
        broker_road_leg(j, reason);
        return;
    }
    struct codec_msg *msg = j->msg; /* ours alone until now: nobody else has seen it */
    msg->exchange = x->exchange;
    msg->incarnation = j->conn->inflow->incarnation;
    struct broker_road p = {.loop = j->loop,
                            .tenant = j->tenant,
                            .conn = j->conn,
                            .token = j->token,
                            .from_cookie = j->conn->cookie,
                            .floor = x->floor,
                            .msg = msg,
                            .join = j};
    publish_retain(&p);
    publish_match(&p);
    uint8_t ignored;
    (void)!broker_road_end(&p, &ignored);
}

/* An answer that was asked for again may come after that for a later message. */
static void received(void *arg, const struct stores_exchange *x)
{
    struct broker_join *j = arg;
    struct broker_conn *c = j->conn;
    struct list *waiting = &c->inflow->receiving;
    j->exchange = *x;
    j->is_answered = true;
    broker_conn_hold(c);
    while (!list_empty(waiting) &&
           (j = container_of(waiting->next, struct broker_join, link))->is_answered) {
        list_del(&j->link);
        receive_done(j);
    }
    broker_conn_done(c);
}

/* What follows waits for the inbox; the road's own leg ends in receive_done. */
static int publish_receive(struct broker_road *p, uint16_t packet_id)
{
    struct broker_conn *c = p->conn;
    struct broker_join *j = broker_road_leg_begin(p);
    j->legs--;
    j->msg = codec_msg_dup(p->msg);
    list_push_back(&c->inflow->receiving, &j->link);
    struct stores_session s = {p->tenant->name, session_client_id(c->session),
                               c->inflow->incarnation, c->inflow->mod};
    stores_receive(p->loop->stores, &s, packet_id, c->cookie, received, j);
    return BROKER_PUBLISH_E_PENDING;
}

static bool publish_admit(struct broker_conn *c, const struct codec_msg *msg)
{
    struct broker_loop *l = c->loop;
    const struct broker_acl *acl = broker_conn_acl(c);
    if (likely(!acl && msg->topic.p[0] != '$'))
        return true;
    uint64_t hash = hash_str(msg->topic, l->broker->seed ^ (uintptr_t)acl) | 1;
    if (hash == c->acl_hash)
        return true;
    if (!broker_conn_may_publish(c, msg->topic)) {
        broker_conn_report(c, BROKER_EV_PUB_ACTION_DISALLOW, "");
        return false;
    }
    c->acl_hash = hash;
    return true;
}

static void publish_begin(struct broker_loop *l, struct broker_tenant *tenant,
                          struct codec_msg *msg)
{
    msg->hlc = hlc_now(&l->hlc, net_loop_wall(l->net));
    struct broker_metrics *m = broker_loop_metrics(l, tenant);
    broker_metric_bytes(m, (enum broker_metric_id)(BROKER_M_INGRESS_QOS0 + msg->qos),
                        msg->topic.n + msg->payload.n, 1);
}

int broker_publish(struct broker_conn *c, const struct session_publish *in, uint8_t *out_reason)
{
    struct codec_msg msg;
    memcpy(&msg, &in->msg, sizeof(msg));
    publish_begin(c->loop, c->tenant, &msg);
    if (!publish_admit(c, &msg)) {
        *out_reason = CODEC_MQTT_RC_NOT_AUTHORIZED;
        return 0;
    }
    struct broker_road p = {.loop = c->loop,
                            .tenant = c->tenant,
                            .conn = c,
                            .token = in->token,
                            .from_cookie = c->cookie,
                            .msg = &msg};
    if (in->is_stored)
        return publish_receive(&p, in->packet_id);
    publish_retain(&p);
    publish_match(&p);
    return broker_road_end(&p, out_reason);
}

void broker_publish_message(struct broker_loop *l, struct broker_tenant *tenant,
                            const struct codec_msg *in, const struct broker_publish_done *done)
{
    struct codec_msg msg;
    memcpy(&msg, in, sizeof(msg));
    atomic_init(&msg.refs, 0);
    publish_begin(l, tenant, &msg);
    struct broker_road p = {.loop = l, .tenant = tenant, .msg = &msg, .done = done};
    publish_retain(&p);
    publish_match(&p);
    uint8_t reason;
    if (broker_road_end(&p, &reason) == 0 && done && done->fn)
        done->fn(done->arg, reason);
}

void broker_publish_live(struct broker_loop *l, struct broker_tenant *tenant,
                         const struct codec_msg *msg)
{
    struct broker_road p = {.loop = l, .tenant = tenant, .msg = msg};
    const struct broker_targets *t = broker_targets_get(l, tenant, msg->topic);
    if (t->loops)
        fan_loops(&p, t->loops);
    broker_deliver_local(l, t, msg, NULL, 0);
}
