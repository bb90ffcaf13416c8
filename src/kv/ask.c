/* Queries and commands of one loop: sent, answered, repeated.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. As calls (client.c): one callback, on the loop that asked.
 * 2. A query may always be repeated; a command only when the answer says that it was not executed.
 *    */
#include "kv/kv_priv.h"

static void ask_send(struct kv_client *c, struct kv_ask *a);

static struct kv_ask *ask_new(struct kv_client *c, usec_t deadline, kv_reply_cb *cb, void *arg)
{
    struct kv_ask *a = mem_new(sizeof *a);
    list_init(&a->link);
    list_init(&a->fly);
    a->client = c;
    a->deadline = deadline;
    a->cb = cb;
    a->arg = arg;
    return a;
}

void kv_ask_free(struct kv_ask *a)
{
    list_del(&a->link);
    list_del(&a->fly);
    buf_deinit(&a->key);
    buf_deinit(&a->request);
    buf_deinit(&a->reply);
    buf_deinit(&a->end);
    kv_spans_free(&a->spans);
    mem_free(a);
}

struct kv_ask *kv_ask_of_request(struct cluster_request *rq, const struct kv_wire_request *w)
{
    struct kv_ask *a = ask_new(NULL, USEC_NEVER, NULL, NULL);
    a->rq = rq;
    if (w->kind == KV_WIRE_QUERY) {
        a->tag = w->query.tag;
        a->read = w->query.is_stale ? KV_READ_STALE : KV_READ_LINEAR;
        buf_put_str(&a->key, w->query.key);
        buf_put_str(&a->request, w->query.request);
    } else {
        a->tag = w->command.tag;
        a->is_command = true;
    }
    return a;
}

static void arm(struct kv_client *c, usec_t wait)
{
    usec_t at = kv_loop_now(c->loop) + wait;
    if (!net_timer_is_set(&c->tick) || c->tick.node.at > at)
        net_timer_set(c->loop->loop, &c->tick, at);
}

static void ask_wait(struct kv_client *c, struct kv_ask *a)
{
    list_del(&a->link);
    list_push_back(&c->asks_waiting, &a->link);
    arm(c, KV_RETRY_USEC);
}

void kv_query(struct kv_client *c, const struct kv_query *q, kv_reply_cb *cb, void *arg)
{
    struct kv_ask *a = ask_new(c, q->deadline, cb, arg);
    a->read = q->read;
    buf_put_str(&a->key, q->key);
    buf_put_str(&a->request, q->request);
    kv_count(&c->loop->count.query_count, 1);
    c->pending_count++;
    list_push_back(&c->asks_flying, &a->fly);
    arm(c, KV_TICK_USEC);
    ask_send(c, a);
}

void *kv_local_machine(struct kv_client *c, struct str key)
{
    const struct kv_route *r = kv_router_find(c, key);
    return r && r->is_ready ? r->machine : NULL;
}

/* ---- sending --------------------------------------------------------------------------------- */

static void ask_here(struct kv_loop *l, struct kv_ask *a)
{
    struct kv_replica *r = kv_replica_find(l, a->tag);
    if (!r)
        kv_ask_done(l, a, KV_WIRE_NO_RANGE);
    else if (a->is_command)
        kv_command_run(r, &a->command, a);
    else
        kv_apply_ask(r, a);
}

static void ask_mail(struct net_loop *here, struct net_mail *mail)
{
    struct kv_ask *a = container_of(mail, struct kv_ask, mail);
    struct kv *kv = a->client->store->kv;
    (void)here;
    ask_here(&kv->loop[a->shard % kv->loop_count], a);
}

static void on_remote(void *arg, int outcome, struct str reply)
{
    struct kv_ask *a = arg;
    struct kv_wire_reply r;
    enum kv_wire_status status = KV_WIRE_UNKNOWN;
    if (outcome == CLUSTER_LINK_E_UNREACHABLE || outcome == CLUSTER_LINK_E_TIMEOUT)
        kv_router_avoid(a->client, a->tag, &a->peer);
    if (outcome == CLUSTER_LINK_E_NO_SERVICE)
        status = KV_WIRE_NO_RANGE;
    else if (outcome == 0 && kv_wire_reply_decode(reply, &r) == 0 &&
             (a->is_command || r.answer.status != KV_WIRE_OK ||
              kv_wire_reply_is_of(&r, buf_str(&a->key)))) {
        status = r.answer.status;
        a->answer = r.answer;
        buf_put_str(&a->reply, r.bytes);
        buf_put_str(&a->end, r.end);
        a->is_last = r.is_last;
    }
    kv_ask_done(a->client->loop, a, status);
}

static void ask_remote(struct kv_client *c, struct kv_ask *a, const struct uuid *peer)
{
    struct buf *out = &c->loop->scratch;
    usec_t t = usec_until(kv_loop_now(c->loop), a->deadline);
    a->peer = *peer;
    out->n = 0;
    if (a->is_command) {
        a->command.store = c->store->hash;
        a->command.tag = a->tag;
        kv_wire_command_encode(&a->command, out);
    } else {
        struct kv_wire_query q = {c->store->hash, a->tag, a->read == KV_READ_STALE,
                                  buf_str(&a->key), buf_str(&a->request)};
        kv_wire_query_encode(&q, out);
    }
    struct cluster_call call = {
        .peer = *peer,
        .service = CLUSTER_SERVICE_KV,
        .lane = CLUSTER_LANE_CONTROL,
        .shard = a->shard,
        .timeout = t < USEC_MSEC       ? USEC_MSEC
                   : t > 60 * USEC_SEC ? 60 * USEC_SEC
                                       : t,
        .payload = buf_str(out),
    };
    if (cluster_link_call(c->loop->link, &call, on_remote, a, NULL) != 0)
        kv_ask_done(c->loop, a, KV_WIRE_NO_RANGE);
}

static void ask_send(struct kv_client *c, struct kv_ask *a)
{
    struct kv *kv = c->store->kv;
    struct kv_route *r =
        a->is_command ? kv_router_of_id(c, a->range) : kv_router_find(c, buf_str(&a->key));
    bool is_local = r && r->is_local &&
                    (a->is_command ? a->command.kind == KV_CMD_RECOVER
                                   : a->read == KV_READ_STALE && r->is_ready);
    struct uuid leader = r ? kv_router_leader(c, r) : (struct uuid){{0}};
    if (!r || (!is_local && uuid_is_zero(&leader))) {
        ask_wait(c, a);
        return;
    }
    a->tag = r->tag;
    a->shard = r->shard;
    a->reply.n = a->end.n = 0;
    if (!is_local && !uuid_eq(&r->leader, &kv->conf.node)) {
        ask_remote(c, a, &r->leader);
        return;
    }
    struct kv_loop *l = &kv->loop[r->shard % kv->loop_count];
    if (l == c->loop)
        ask_here(l, a);
    else
        net_loop_post(c->loop->loop, l->loop, &a->mail, ask_mail);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void done_mail(struct net_loop *here, struct net_mail *mail)
{
    struct kv_ask *a = container_of(mail, struct kv_ask, mail);
    (void)here;
    list_push_back(&a->client->loop->done_asks, &a->link);
    kv_loop_wake(a->client->loop);
}

static void reply_remote(struct kv_loop *l, struct kv_ask *a)
{
    struct kv_wire_reply r = {a->answer, STR(""), STR(""), a->is_last};
    if (a->answer.status == KV_WIRE_OK) {
        r.bytes = buf_str(&a->reply);
        r.end = buf_str(&a->end);
    }
    l->scratch.n = 0;
    kv_wire_reply_encode(&r, &l->scratch);
    cluster_request_reply(a->rq, buf_str(&l->scratch));
    kv_ask_free(a);
}

void kv_ask_done(struct kv_loop *here, struct kv_ask *a, enum kv_wire_status status)
{
    a->answer.status = status;
    list_del(&a->link);
    if (!a->client)
        reply_remote(here, a);
    else if (a->client->loop == here) {
        list_push_back(&here->done_asks, &a->link);
        kv_loop_wake(here);
    } else
        net_loop_post(here->loop, a->client->loop->loop, &a->mail, done_mail);
}

static enum kv_outcome outcome_of(const struct kv_ask *a)
{
    static const enum kv_outcome of[KV_WIRE_STATUS_COUNT] = {
        [KV_WIRE_OK] = KV_OK,
        [KV_WIRE_UNKNOWN] = KV_E_UNKNOWN,
        [KV_WIRE_NO_RANGE] = KV_E_NO_RANGE,
        [KV_WIRE_NOT_LEADER] = KV_E_NO_LEADER,
        [KV_WIRE_VERSION] = KV_E_VERSION,
        [KV_WIRE_FULL] = KV_E_FULL,
        [KV_WIRE_LOST] = KV_E_NO_LEADER,
        [KV_WIRE_INVALID] = KV_E_INVALID,
        [KV_WIRE_CONFLICT] = KV_E_CONFLICT,
        [KV_WIRE_STOPPED] = KV_E_STOPPED,
    };
    return of[a->answer.status];
}

static void ask_answer(struct kv_ask *a, enum kv_outcome outcome)
{
    kv_reply_cb *cb = a->cb;
    a->cb = NULL;
    if (!cb)
        return;
    a->client->pending_count--;
    cb(a->arg, &(struct kv_reply){
                   .outcome = outcome,
                   .bytes = outcome == KV_OK ? buf_str(&a->reply) : STR(""),
                   .range_end = outcome == KV_OK ? buf_str(&a->end) : STR(""),
                   .is_last = a->is_last,
               });
}

void kv_ask_deliver(struct kv_ask *a)
{
    struct kv_client *c = a->client;
    enum kv_wire_status s = a->answer.status;
    bool is_moved =
        s == KV_WIRE_NO_RANGE || s == KV_WIRE_NOT_LEADER || s == KV_WIRE_LOST ||
        (!a->is_command && (s == KV_WIRE_UNKNOWN || s == KV_WIRE_VERSION || s == KV_WIRE_FULL));
    if (s == KV_WIRE_NOT_LEADER)
        kv_router_hint(c, a->tag, &a->answer.leader, a->answer.term);
    if (is_moved && a->cb && kv_loop_now(c->loop) < a->deadline && !c->store->kv->is_stopping) {
        kv_count(&c->loop->count.retry_count, 1);
        a->ctx = a->index = 0;
        ask_wait(c, a);
        return;
    }
    ask_answer(a, outcome_of(a));
    kv_ask_free(a);
}

void kv_asks_tick(struct kv_client *c)
{
    usec_t now = kv_loop_now(c->loop);
    struct list todo;
    list_init(&todo);
    for (struct list *x; (x = list_pop_front(&c->asks_waiting));)
        list_push_back(&todo, x);
    for (struct list *x; (x = list_pop_front(&todo));) {
        struct kv_ask *a = container_of(x, struct kv_ask, link);
        if (now < a->deadline) {
            ask_send(c, a);
            continue;
        }
        ask_answer(a, kv_router_find(c, buf_str(&a->key)) || a->is_command ? KV_E_NO_LEADER
                                                                           : KV_E_NO_RANGE);
        kv_ask_free(a);
    }
    list_each(&c->asks_flying, x)
    {
        struct kv_ask *a = container_of(x, struct kv_ask, fly);
        if (now >= a->deadline && a->cb)
            ask_answer(a, a->is_command ? KV_E_UNKNOWN : KV_E_DEADLINE);
    }
}

void kv_asks_drop(struct kv_client *c)
{
    while (!list_empty(&c->asks_flying)) {
        struct kv_ask *a = container_of(c->asks_flying.next, struct kv_ask, fly);
        ask_answer(a, KV_E_STOPPED);
        kv_ask_free(a);
    }
}

/* ---- commands -------------------------------------------------------------------------------- */

void kv_run(struct kv_client *c, const struct kv_command *cmd, kv_reply_cb *cb, void *arg)
{
    struct kv_ask *a = ask_new(c, cmd->deadline, cb, arg);
    unsigned n = cmd->node_count < RANGE_MEMBER_MAX ? cmd->node_count : RANGE_MEMBER_MAX;
    a->is_command = true;
    a->range = (struct range_id){cmd->id.epoch, cmd->id.id};
    a->command = (struct kv_wire_command){.kind = (uint8_t)cmd->kind,
                                          .version = cmd->version,
                                          .node_count = n,
                                          .voter_count = cmd->voter_count};
    if (a->command.voter_count > n)
        a->command.voter_count = n;
    memcpy(a->command.node, cmd->node, n * sizeof *cmd->node);
    buf_put_str(&a->key, cmd->key);
    a->command.key = buf_str(&a->key);
    c->pending_count++;
    list_push_back(&c->asks_flying, &a->fly);
    arm(c, KV_TICK_USEC);
    ask_send(c, a);
}
