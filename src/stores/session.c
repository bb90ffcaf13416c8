/* Persistent sessions: attach, detach, subscriptions, exchanges.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Each operation is one command to the range that has the session, fenced by (incarnation, mod).  A
 * subscription is two: the inbox first, then the route, with the inbox's clock as incarnation; when
 * the second fails the client is told and subscribes again, which finds the first done and repeats
 * the second. */
#include "base/mem.h"
#include "codec/msg.h"
#include "stores/op_priv.h"
#include "stores/route_priv.h"
#include "stores/stores_priv.h"

/* ---- who is attached on this loop ------------------------------------------------------------ */

struct held_key {
    struct str tenant, client;
};

static bool held_eq(const void *item, const void *key)
{
    const struct stores_held *h = item;
    const struct held_key *k = key;
    return str_eq(h->client, k->client) && str_eq(h->tenant, k->tenant);
}

static uint64_t held_hash(const struct stores_client *c, struct str tenant, struct str client)
{
    return hash_str(client, hash_str(tenant, c->stores->conf.seed));
}

struct stores_held *stores_held_find(struct stores_client *c, struct str tenant, struct str client)
{
    struct held_key key = {tenant, client};
    return map_find(&c->held, held_hash(c, tenant, client), held_eq, &key);
}

struct stores_held *stores_held_get(struct stores_client *c, struct str tenant, struct str client)
{
    struct stores_held *h = stores_held_find(c, tenant, client);
    if (h == NULL) {
        h = mem_new(sizeof *h);
        h->hash = held_hash(c, tenant, client);
        h->tenant = str_dup(tenant);
        h->client = str_dup(client);
        list_init(&h->doubt);
        map_put(&c->held, h->hash, h);
    }
    return h;
}

void stores_held_free(struct stores_client *c, struct stores_held *h)
{
    map_del(&c->held, h->hash, h);
    list_del(&h->doubt);
    mem_free((void *)(uintptr_t)h->tenant.p);
    mem_free((void *)(uintptr_t)h->client.p);
    mem_free(h);
}

/* ---- operations ------------------------------------------------------------------------------ */

enum stores_outcome stores_inbox_outcome(uint8_t outcome)
{
    switch ((enum inbox_outcome)outcome) {
    case INBOX_OK:
        return STORES_OK;
    case INBOX_E_NONE:
        return STORES_E_NO_SESSION;
    case INBOX_E_CONFLICT:
        return STORES_E_CONFLICT;
    case INBOX_E_EXISTS:
        return STORES_E_EXISTS;
    case INBOX_E_NO_SUB:
        return STORES_E_NO_SUB;
    case INBOX_E_FULL:
        return STORES_E_LIMIT;
    case INBOX_E_INVALID:
    case INBOX_E_MOVED:
    case INBOX_E_DROPPED:
    case INBOX_E_DISPLACED:
    case INBOX_E_DUPLICATE:
    case INBOX_E_AWAY:
    case INBOX_E_PUSHED:
        break;
    }
    return STORES_E_INVALID;
}

/* One command about one session.  The union member in use is the function's that made it. */
struct session_op {
    struct stores_op op;
    void (*finish)(struct session_op *x, enum stores_outcome outcome,
                   const struct inbox_reply *reply);
    union {
        stores_done *done;
        stores_attached_cb *attached;
        stores_exchange_cb *exchange;
    };
    void *arg;
    uint64_t cookie; /* attach */
    bool is_add;     /* sub */
    uint32_t member_max;
    enum stores_outcome first; /* sub: what the inbox said */
    struct dist_route route;   /* sub: views into text */
    struct buf text;
    struct str tenant, client; /* views into text */
};

static void session_free(struct session_op *x)
{
    buf_deinit(&x->text);
    stores_op_free(&x->op);
}

static void answered(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct session_op *x = container_of(op, struct session_op, op);
    struct inbox_reply reply = {0};
    if (outcome == STORES_OK && !inbox_reply_decode(kv->bytes, &reply))
        outcome = STORES_E_INVALID;
    if (outcome == STORES_OK && reply.outcome == INBOX_E_MOVED) {
        stores_op_send_again(op);
        return;
    }
    if (outcome == STORES_OK)
        outcome = stores_inbox_outcome(reply.outcome);
    x->finish(x, outcome, &reply);
}

static struct session_op *
session_op_new(struct stores_client *c, struct str tenant, struct str client,
               void (*finish)(struct session_op *, enum stores_outcome, const struct inbox_reply *))
{
    struct session_op *x = stores_op_new(c, STORES_TABLE_INBOX, sizeof *x, answered);
    x->finish = finish;
    inbox_key(&x->op.key, tenant, client);
    buf_put_str(&x->text, tenant);
    buf_put_str(&x->text, client);
    x->tenant = str_view(x->text.p, tenant.n);
    x->client = str_view(x->text.p + tenant.n, client.n);
    return x;
}

static struct inbox_ref ref_of(const struct stores_session *s)
{
    return (struct inbox_ref){s->tenant, s->client, s->incarnation, s->mod};
}

static void finish_done(struct session_op *x, enum stores_outcome outcome,
                        const struct inbox_reply *reply)
{
    stores_done *done = x->done;
    void *arg = x->arg;
    (void)reply;
    session_free(x);
    if (done != NULL)
        done(arg, outcome);
}

/* ---- attach ---------------------------------------------------------------------------------- */

static void finish_attach(struct session_op *x, enum stores_outcome outcome,
                          const struct inbox_reply *r)
{
    struct stores_client *c = x->op.client;
    struct stores_held *h = stores_held_find(c, x->tenant, x->client);
    bool is_ours =
        h != NULL && h->cookie == x->cookie; /* no later attach of this loop took its place */
    if (outcome != STORES_OK && is_ours)
        stores_held_free(c, h);
    struct stores_attached a = {.outcome = outcome,
                                .incarnation = r->incarnation,
                                .mod = r->mod,
                                .is_present = r->is_present,
                                .acked_seq = r->acked,
                                .next_seq = r->next,
                                .qos0_acked_seq = r->qos0_acked,
                                .qos0_next_seq = r->qos0_next,
                                .sent_seq = r->sent,
                                .floor = r->floor};
    struct stores_mark *mark = NULL;
    struct stores_received *received = NULL;
    size_t mark_cap = 0, received_cap = 0;
    struct inbox_mark m;
    struct stores_received in;
    struct str rest = r->marks;
    while (outcome == STORES_OK && inbox_reply_mark(&rest, &m)) {
        mark = mem_grow(mark, &mark_cap, a.mark_count + 1, sizeof *mark);
        mark[a.mark_count++] = (struct stores_mark){m.seq, (enum stores_phase)m.phase};
    }
    rest = r->received;
    while (outcome == STORES_OK && inbox_reply_received(&rest, &in.packet_id, &in.exchange)) {
        received = mem_grow(received, &received_cap, a.received_count + 1, sizeof *received);
        received[a.received_count++] = in;
    }
    a.mark = mark;
    a.received = received;
    if (outcome == STORES_OK && is_ours) {
        h->incarnation = r->incarnation;
        h->mod = r->mod;
        if (h->missed_next > a.next_seq)
            a.next_seq = h->missed_next;
    }
    stores_attached_cb *cb = x->attached;
    void *arg = x->arg;
    session_free(x);
    cb(arg, &a);
    mem_free(mark);
    mem_free(received);
}

void stores_attach(struct stores_client *c, const struct stores_attach *a, stores_attached_cb *cb,
                   void *arg)
{
    const struct stores_conf *conf = &c->stores->conf;
    struct session_op *x = session_op_new(c, a->tenant, a->client, finish_attach);
    x->attached = cb;
    x->arg = arg;
    x->cookie = a->cookie;
    x->op.is_once =
        true; /* a repeated one would find the session it made and say that it was present */
    struct stores_held *h = stores_held_get(c, a->tenant, a->client);
    h->cookie = a->cookie;
    h->incarnation = h->mod = h->missed_next = 0;
    c->command.n = 0;
    if (a->will != NULL)
        codec_msg_encode(&c->command, a->will);
    struct inbox_attach attach = {.tenant = a->tenant,
                                  .client = a->client,
                                  .clean_start = a->is_clean,
                                  .expiry_sec = a->expiry_sec,
                                  .limit = a->queue_len_max < INBOX_LIMIT_MAX ? a->queue_len_max
                                                                              : INBOX_LIMIT_MAX,
                                  .byte_max = a->queue_byte_max,
                                  .window = a->receive_max,
                                  .qos0_drop_oldest = a->is_drop_oldest,
                                  .owner = {conf->node, conf->epoch, c->loop},
                                  .info = a->info,
                                  .will = buf_str(&c->command),
                                  .will_delay_sec = a->will_delay_sec};
    inbox_command_attach(&x->op.bytes, &attach);
    stores_op_send(&x->op);
}

void stores_detach(struct stores_client *c, const struct stores_session *s,
                   const struct stores_detach *d, stores_done *done, void *arg)
{
    struct session_op *x = session_op_new(c, s->tenant, s->client, finish_done);
    x->done = done;
    x->arg = arg;
    struct stores_held *h = stores_held_find(c, s->tenant, s->client);
    if (h != NULL && h->incarnation == s->incarnation && h->mod == s->mod)
        stores_held_free(c, h);
    struct inbox_detach detach = {ref_of(s), d->expiry_sec, !d->is_will_discarded, d->sent_seq};
    inbox_command_detach(&x->op.bytes, &detach);
    stores_op_send(&x->op);
}

/* ---- subscriptions --------------------------------------------------------------------------- */

static void routed(void *arg, enum stores_outcome outcome)
{
    struct session_op *x = arg;
    finish_done(x, outcome == STORES_OK ? x->first : outcome, NULL);
}

static void finish_sub(struct session_op *x, enum stores_outcome outcome,
                       const struct inbox_reply *r)
{
    if (outcome != STORES_OK && outcome != STORES_E_EXISTS) {
        /* An unsubscribe that finds nothing may repeat one whose route was not removed: remove it
         * all the same. */
        if (outcome != STORES_E_NO_SUB || x->is_add || r->hlc == 0) {
            finish_done(x, outcome, r);
            return;
        }
    }
    x->first = outcome;
    x->route.incarnation = r->hlc;
    if (x->is_add)
        stores_route_put(x->op.client, &x->route, x->member_max, routed, x);
    else
        stores_route_drop(x->op.client, &x->route, routed, x);
}

static struct session_op *sub_op_new(struct stores_client *c, const struct stores_session *s,
                                     const struct stores_sub *sub, stores_done *done, void *arg)
{
    struct session_op *x = session_op_new(c, s->tenant, s->client, finish_sub);
    x->done = done;
    x->arg = arg;
    x->member_max = sub->member_max;
    const struct codec_topic_filter *f = &sub->filter;
    buf_put_str(&x->text, f->filter);
    buf_put_str(&x->text, f->group);
    const uint8_t *client = x->text.p + s->tenant.n, *filter = client + s->client.n;
    x->tenant = str_view(x->text.p, s->tenant.n);
    x->client = str_view(client, s->client.n);
    x->route = (struct dist_route){
        .tenant = x->tenant,
        .filter = str_view(filter, f->filter.n),
        .share = stores_route_share(f),
        .group = str_view(filter + f->filter.n, f->group.n),
        .kind = DIST_KIND_INBOX,
        .client = x->client,
        .session = s->incarnation,
        .options = sub->options,
        .sub_id = sub->sub_id,
    };
    return x;
}

void stores_sub(struct stores_client *c, const struct stores_session *s,
                const struct stores_sub *sub, stores_done *done, void *arg)
{
    struct session_op *x = sub_op_new(c, s, sub, done, arg);
    struct inbox_ref ref = ref_of(s);
    struct inbox_sub in = {sub->filter.text, sub->options, sub->sub_id};
    x->is_add = true;
    inbox_command_sub(&x->op.bytes, &ref, &in, sub->sub_max);
    stores_op_send(&x->op);
}

void stores_unsub(struct stores_client *c, const struct stores_session *s,
                  const struct stores_sub *sub, stores_done *done, void *arg)
{
    struct session_op *x = sub_op_new(c, s, sub, done, arg);
    struct inbox_ref ref = ref_of(s);
    inbox_command_unsub(&x->op.bytes, &ref, sub->filter.text);
    stores_op_send(&x->op);
}

/* ---- exchanges and the rest ------------------------------------------------------------------ */

void stores_commit(struct stores_client *c, const struct stores_session *s, uint64_t acked_seq,
                   uint64_t qos0_acked_seq, const struct stores_mark *mark, size_t mark_count,
                   stores_done *done, void *arg)
{
    struct session_op *x = session_op_new(c, s->tenant, s->client, finish_done);
    x->done = done;
    x->arg = arg;
    struct inbox_mark *m = arena_alloc(net_loop_arena(c->net), (mark_count + 1) * sizeof *m);
    for (size_t i = 0; i < mark_count; i++)
        m[i] = (struct inbox_mark){mark[i].seq, (uint8_t)mark[i].phase};
    struct inbox_commit commit = {ref_of(s), acked_seq, qos0_acked_seq, m, mark_count};
    inbox_command_commit(&x->op.bytes, &commit);
    stores_op_send(&x->op);
}

static void finish_receive(struct session_op *x, enum stores_outcome outcome,
                           const struct inbox_reply *r)
{
    struct stores_exchange e = {outcome, r->exchange, r->floor};
    stores_exchange_cb *cb = x->exchange;
    void *arg = x->arg;
    session_free(x);
    cb(arg, &e);
}

void stores_receive(struct stores_client *c, const struct stores_session *s, uint16_t packet_id,
                    uint64_t lane, stores_exchange_cb *cb, void *arg)
{
    struct session_op *x = session_op_new(c, s->tenant, s->client, finish_receive);
    x->op.lane = lane;
    struct inbox_ref ref = ref_of(s);
    x->exchange = cb;
    x->arg = arg;
    inbox_command_receive(&x->op.bytes, &ref, packet_id);
    stores_op_send(&x->op);
}

static void finish_release(struct session_op *x, enum stores_outcome outcome,
                           const struct inbox_reply *r)
{
    finish_done(x, outcome == STORES_OK && !r->is_present ? STORES_E_NO_SUB : outcome, r);
}

void stores_release(struct stores_client *c, const struct stores_session *s, uint16_t packet_id,
                    stores_done *done, void *arg)
{
    struct session_op *x = session_op_new(c, s->tenant, s->client, finish_release);
    struct inbox_ref ref = ref_of(s);
    x->done = done;
    x->arg = arg;
    inbox_command_release(&x->op.bytes, &ref, packet_id);
    stores_op_send(&x->op);
}

void stores_will_done(struct stores_client *c, struct str tenant, struct str client,
                      uint64_t will_id)
{
    struct session_op *x = session_op_new(c, tenant, client, finish_done);
    inbox_command_will_done(&x->op.bytes, tenant, client, will_id);
    stores_op_send(&x->op);
}

void stores_delete(struct stores_client *c, struct str tenant, struct str client, stores_done *done,
                   void *arg)
{
    struct session_op *x = session_op_new(c, tenant, client, finish_done);
    struct inbox_ref ref = {tenant, client, 0, 0};
    x->done = done;
    x->arg = arg;
    inbox_command_delete(&x->op.bytes, &ref);
    stores_op_send(&x->op);
}
