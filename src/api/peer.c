/* Asking other nodes, and answering them.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. Every call ends with one callback, by its deadline.
 * 2. An answer never exceeds what the link carries: a page that would is cut, and says that there
 * is more.
 *
 * Never: asks on behalf of another node's operator more than that node has checked: roles are
 * checked where the request came in, and the link lets in members alone. */
#include "api/peer_priv.h"

#include "base/mem.h"
#include "broker/roster.h"
#include "cluster/cluster.h"

#define CALL_USEC (5 * USEC_SEC)          /* matters: how long a node that hangs delays an answer */
#define KILL_USEC (30 * USEC_SEC)         /* matters: for closing all clients of a node */
#define ITEMS_BYTES_MAX ((size_t)8 << 20) /* below CLUSTER_PAYLOAD_MAX */

/* ---- what a node answers ---- */

/* An order under way here: for another node (rq), or for ourselves (cb). */
struct job {
    struct cluster_request *rq;
    api_peer_cb *cb;
    void *arg;
    struct uuid self;
    struct str filter; /* ours */
    bool wants_subs;
};

static void job_end(struct job *j, const struct api_peer_answer *answer)
{
    struct buf b = {0};
    if (j->rq && answer) {
        api_peer_answer_encode(&b, answer);
        cluster_request_reply(j->rq, buf_str(&b));
    } else if (j->rq) {
        cluster_request_refuse(j->rq);
    } else {
        j->cb(j->arg, &j->self, answer);
    }
    buf_deinit(&b);
    mem_free((void *)(uintptr_t)j->filter.p);
    mem_free(j);
}

void api_put_sub(struct buf *b, const struct api_sub_view *s)
{
    buf_put_u8(b, '{');
    api_put_text(b, "clientId", s->client);
    api_put_text(b, "topicFilter", s->filter);
    api_put_number(b, "qos", s->qos);
    api_put_bool(b, "noLocal", s->is_no_local);
    api_put_bool(b, "retainAsPublished", s->is_as_published);
    api_put_number(b, "subscriptionId", s->sub_id);
    api_put_bool(b, "persistent", s->is_persistent);
    api_put_bool(b, "online", s->is_online);
    buf_put_u8(b, '}');
}

static void put_subs(struct buf *b, const struct broker_roster_entry *e, struct str filter)
{
    for (uint32_t i = 0; i < e->sub_count && !e->is_persistent; i++) {
        const struct broker_roster_filter *f = &e->sub[i];
        if (filter.n && !str_eq(filter, f->filter))
            continue;
        if (b->n)
            buf_put_u8(b, ',');
        api_put_sub(b, &(struct api_sub_view){e->client, f->filter, f->qos, f->is_no_local,
                                              f->is_as_published, false, true, f->sub_id});
    }
}

static void put_session(struct buf *b, const struct broker_roster_entry *e, const struct uuid *node)
{
    buf_put_u8(b, '{');
    api_put_text(b, "clientId", e->client);
    api_put_text(b, "userId", e->user);
    api_put_bool(b, "online", true);
    api_put_bool(b, "persistent", e->is_persistent);
    api_put_uuid(b, "node", node);
    api_put_text(b, "address", str_of(e->address));
    api_put_text(b, "listener", e->listener);
    api_put_text(b, "protocol",
                 e->version == 5   ? STR("5.0")
                 : e->version == 4 ? STR("3.1.1")
                                   : STR("3.1"));
    api_put_number(b, "connectedAt", e->since_ms);
    api_put_number(b, "keepAliveSeconds", e->keep_alive_sec);
    api_put_number(b, "expirySeconds", e->expiry_sec);
    api_put_bool(b, "stalled", e->is_stalled);
    api_put_number(b, "queued", e->queue_count);
    api_put_number(b, "inflight", e->inflight_count);
    api_put_number(b, "memoryBytes", e->memory);
    api_put_number(b, "loop", e->loop);
    buf_put_u8(b, '}');
}

static void listed(void *arg, const struct broker_roster_entry *e, size_t count, bool is_more)
{
    struct job *j = arg;
    struct buf items = {0}, json = {0};
    for (size_t i = 0; i < count; i++) {
        json.n = 0;
        if (j->wants_subs)
            put_subs(&json, &e[i], j->filter);
        else
            put_session(&json, &e[i], &j->self);
        if (i > 0 && items.n + json.n > ITEMS_BYTES_MAX) { /* 2 */
            is_more = true;
            break;
        }
        api_peer_item_put(&items, e[i].client, buf_str(&json));
    }
    struct api_peer_answer answer = {.is_more = is_more, .items = buf_str(&items)};
    job_end(j, &answer);
    buf_deinit(&items);
    buf_deinit(&json);
}

static void killed(void *arg, uint64_t count)
{
    job_end(arg, &(struct api_peer_answer){.count = count});
}

static void subbed(void *arg, uint8_t code, bool is_new)
{
    job_end(arg, &(struct api_peer_answer){.code = code, .is_new = is_new});
}

static struct broker_roster_query query_of(const struct api_peer_ask *a)
{
    struct broker_roster_query q = {
        .tenant = a->tenant,
        .prefix = a->prefix,
        .after = a->after,
        .count_max = a->count_max < 1      ? 1
                     : a->count_max > 1000 ? 1000
                                           : (uint32_t)a->count_max,
        .wants_subs = a->wants_subs,
    };
    if (a->has_user)
        q.user = a->user.n ? a->user : STR("");
    if (a->has_client)
        q.client = a->client;
    return q;
}

static void facts(struct api *api, struct job *j)
{
    struct buf b = {0};
    api_put_facts(api, &b);
    job_end(j, &(struct api_peer_answer){.text = buf_str(&b)});
    buf_deinit(&b);
}

static void serve(struct api *api, struct job *j, const struct api_peer_ask *a)
{
    struct broker *b = api->conf.broker;
    j->wants_subs = a->wants_subs;
    j->filter = a->filter.n ? str_dup(a->filter) : str_view(NULL, 0);
    if (a->op == API_PEER_LIST) {
        struct broker_roster_query q = query_of(a);
        broker_roster_list(b, &q, listed, j);
    } else if (a->op == API_PEER_KILL) {
        broker_roster_kill(
            b, &(struct broker_roster_kill){query_of(a), (uint8_t)a->reason, a->reference}, killed,
            j);
    } else if (a->op == API_PEER_SUB) {
        broker_roster_sub(b,
                          &(struct broker_roster_sub){
                              .loop = (unsigned)a->loop,
                              .cookie = a->cookie,
                              .user = a->has_user ? a->user : str_view(NULL, 0),
                              .filter = a->filter,
                              .qos = (uint8_t)a->qos,
                              .is_unsubscribe = a->is_unsubscribe,
                          },
                          subbed, j);
    } else if (a->op == API_PEER_FACTS) {
        facts(api, j);
    } else {
        job_end(j, NULL);
    }
}

static void on_order(void *arg, struct cluster_request *rq, const struct cluster_from *from,
                     struct str payload)
{
    struct api *api = arg;
    struct api_peer_ask a;
    (void)from;
    if (!rq)
        return;
    struct job *j = mem_new(sizeof *j);
    j->rq = rq;
    j->self = *cluster_self(api->conf.seat);
    if (api_peer_ask_decode(payload, &a))
        serve(api, j, &a);
    else
        job_end(j, NULL);
}

void api_peer_open(struct api *api)
{
    if (api->conf.seat)
        cluster_link_serve(cluster_seat_link(api->conf.seat), CLUSTER_SERVICE_API, on_order, api);
}

void api_peer_close(struct api *api)
{
    if (api->conf.seat)
        cluster_link_serve(cluster_seat_link(api->conf.seat), CLUSTER_SERVICE_API, NULL, NULL);
}

/* ---- asking ---- */

struct call {
    struct uuid node;
    api_peer_cb *cb;
    void *arg;
};

static void replied(void *arg, int outcome, struct str reply)
{
    struct call *c = arg;
    struct api_peer_answer a;
    bool is_good = outcome == 0 && api_peer_answer_decode(reply, &a);
    c->cb(c->arg, &c->node, is_good ? &a : NULL);
    mem_free(c);
}

void api_peer_call(struct api *api, const struct uuid *node, const struct api_peer_ask *ask,
                   api_peer_cb *cb, void *arg)
{
    struct cluster_seat *seat = api->conf.seat;
    if (!seat || uuid_eq(node, cluster_self(seat))) {
        struct job *j = mem_new(sizeof *j);
        j->cb = cb;
        j->arg = arg;
        j->self = api->conf.node;
        serve(api, j, ask);
        return;
    }
    struct buf b = {0};
    struct call *c = mem_new(sizeof *c);
    *c = (struct call){*node, cb, arg};
    api_peer_ask_encode(&b, ask);
    struct cluster_call call = {.peer = *node,
                                .service = CLUSTER_SERVICE_API,
                                .lane = CLUSTER_LANE_BULK,
                                .shard = 0,
                                .timeout = ask->op == API_PEER_KILL ? KILL_USEC : CALL_USEC,
                                .payload = buf_str(&b)};
    if (cluster_link_call(cluster_seat_link(seat), &call, replied, c, NULL))
        replied(c, CLUSTER_LINK_E_UNREACHABLE, STR(""));
    buf_deinit(&b);
}

struct fan {
    unsigned left;
    api_peer_cb *each;
    void (*end)(void *arg);
    void *arg;
};

static void fan_leg(struct fan *f)
{
    if (--f->left > 0)
        return;
    f->end(f->arg);
    mem_free(f);
}

static void fan_answered(void *arg, const struct uuid *node, const struct api_peer_answer *answer)
{
    struct fan *f = arg;
    f->each(f->arg, node, answer);
    fan_leg(f);
}

void api_peer_all(struct api *api, const struct api_peer_ask *ask, api_peer_cb *each,
                  void (*end)(void *arg), void *arg)
{
    const struct cluster_seat *seat = api->conf.seat;
    const struct cluster_member *m;
    struct fan *f = mem_new(sizeof *f);
    *f = (struct fan){1, each, end, arg}; /* the walk itself */
    if (!seat) {
        f->left++;
        api_peer_call(api, &api->conf.node, ask, fan_answered, f);
    }
    for (size_t i = 0; seat && (m = cluster_member_at(seat, i)) != NULL; i++) {
        struct uuid node = m->uuid;
        if (!cluster_is_live(seat, &node, 0))
            continue;
        f->left++;
        api_peer_call(api, &node, ask, fan_answered, f);
    }
    fan_leg(f);
}
