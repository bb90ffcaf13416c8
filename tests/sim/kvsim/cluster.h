/* The cluster of a simulated node: members by reachability, rows that spread with delay, a link that loses.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of cluster/cluster.h and cluster/link.h.  One seat and one link per loop of a node. */
#pragma once

#include "cluster/cluster.h"
#include "cluster/link.h"
#include "sim/kvsim/net.h"

#define SIM_NODE_MAX 8

struct sim_row {
    struct cluster_row row;
    struct buf key, value;
};

struct cluster_watch {
    struct list link;
    struct cluster_seat *seat;
    uint64_t mask;
    cluster_watch_cb *cb;
    void *arg;
};

struct cluster_seat {
    struct world *world;
    unsigned node, index;
    struct net_loop *loop;
    struct cluster_link *link;
    struct list watches;
    struct cluster_member member[SIM_NODE_MAX];
    unsigned member_count;
    struct sim_row **row;
    size_t row_count, row_cap;
    bool is_joined;
};

struct cluster_link {
    struct world *world;
    unsigned node, index;
    uint64_t life; /* of the process: what came for an earlier one is dropped */
    cluster_link_handler *handler[CLUSTER_SERVICE_MAX];
    void *handler_arg[CLUSTER_SERVICE_MAX];
    cluster_link_accept *accept[CLUSTER_SERVICE_MAX];
    void *accept_arg[CLUSTER_SERVICE_MAX];
    struct list calls;   /* sim_call */
    struct list streams; /* cluster_stream */
};

/* Of the world. */
static struct cluster_link *world_link(struct world *w, unsigned node,
                                       uint32_t shard); /* NULL: it is down */
static unsigned world_node_of(struct world *w, const struct uuid *u);
static struct uuid world_uuid(unsigned node);
/* When something sent now arrives; USEC_NEVER: never. */
static usec_t world_arrival(struct world *w, unsigned from, unsigned to, bool is_ordered);
static bool world_is_doubled(struct world *w);
/* 0: it arrives now; else try again then, USEC_NEVER: it is lost. */
static usec_t world_hold(struct world *w, unsigned from, unsigned to, usec_t sent, uint64_t place);
static uint64_t world_place(struct world *w, unsigned from, unsigned to);
static void world_row_put(struct world *w, unsigned node, uint8_t space, struct str key,
                          const struct str *value);

const struct uuid *cluster_self(const struct cluster_seat *s)
{
    return &s->member[s->node].uuid;
}

const struct cluster_member *cluster_member_find(const struct cluster_seat *s,
                                                 const struct uuid *uuid)
{
    for (unsigned i = 0; i < s->member_count; i++)
        if (uuid_eq(&s->member[i].uuid, uuid))
            return &s->member[i];
    return NULL;
}

const struct cluster_member *cluster_member_at(const struct cluster_seat *s, size_t i)
{
    return i < s->member_count ? &s->member[i] : NULL;
}

bool cluster_is_live(const struct cluster_seat *s, const struct uuid *uuid, uint64_t epoch)
{
    const struct cluster_member *m = cluster_member_find(s, uuid);
    return m && m->state <= CLUSTER_ST_SUSPECT && (epoch == 0 || m->epoch == epoch);
}

size_t cluster_live_count(const struct cluster_seat *s)
{
    size_t live = 0;
    for (size_t i = 0; i < s->member_count; i++)
        live += s->member[i].state <= CLUSTER_ST_SUSPECT;
    return live;
}

bool cluster_is_joined(const struct cluster_seat *s)
{
    return s->is_joined;
}

bool cluster_is_named_first(const struct cluster_seat *s)
{
    (void)s; /* simulated clusters are told who founds */
    return false;
}

const struct cluster_row *cluster_row_next(const struct cluster_seat *s, uint8_t space,
                                           struct str prefix, size_t *at)
{
    while (*at < s->row_count) {
        const struct cluster_row *r = &s->row[(*at)++]->row;
        if (r->space == space && str_has_prefix(r->key, prefix))
            return r;
    }
    return NULL;
}

const struct cluster_row *cluster_row_find(const struct cluster_seat *s, uint8_t space,
                                           struct str key, const struct uuid *owner)
{
    for (size_t i = 0; i < s->row_count; i++)
        if (s->row[i]->row.space == space && str_eq(s->row[i]->row.key, key) &&
            (!owner || uuid_eq(&s->row[i]->row.owner, owner)))
            return &s->row[i]->row;
    return NULL;
}

bool cluster_row_put(struct cluster_seat *s, uint8_t space, struct str key, struct str value)
{
    world_row_put(s->world, s->node, space, key, &value);
    return true;
}

void cluster_row_del(struct cluster_seat *s, uint8_t space, struct str key)
{
    world_row_put(s->world, s->node, space, key, NULL);
}

struct cluster_watch *cluster_watch_new(struct cluster_seat *s, uint64_t space_mask,
                                        cluster_watch_cb *cb, void *arg)
{
    struct cluster_watch *w = mem_new(sizeof *w);
    *w = (struct cluster_watch){.seat = s, .mask = space_mask, .cb = cb, .arg = arg};
    list_init(&w->link);
    list_push_back(&s->watches, &w->link);
    return w;
}

struct cluster_watch *cluster_watch_free(struct cluster_watch *w)
{
    list_del(&w->link);
    return mem_free(w);
}

struct cluster_link *cluster_seat_link(struct cluster_seat *s)
{
    return s->link;
}

static void seat_event(struct cluster_seat *s, const struct cluster_event *ev)
{
    list_each(&s->watches, x)
    {
        struct cluster_watch *w = container_of(x, struct cluster_watch, link);
        w->cb(w->arg, s, ev);
    }
}

/* value NULL: gone */
static void seat_row(struct cluster_seat *s, unsigned owner, uint8_t space, struct str key,
                     const struct str *value)
{
    struct uuid who = world_uuid(owner);
    for (size_t i = 0; i < s->row_count; i++) {
        struct sim_row *r = s->row[i];
        if (r->row.space != space || !str_eq(r->row.key, key) || !uuid_eq(&r->row.owner, &who))
            continue;
        if (!value) {
            s->row[i] = s->row[--s->row_count];
            seat_event(s, &(struct cluster_event){.kind = CLUSTER_EV_ROW_GONE, .row = &r->row});
            buf_deinit(&r->key);
            buf_deinit(&r->value);
            mem_free(r);
            return;
        }
        r->value.n = 0;
        buf_put_str(&r->value, *value);
        r->row.value = buf_str(&r->value);
        seat_event(s, &(struct cluster_event){.kind = CLUSTER_EV_ROW, .row = &r->row});
        return;
    }
    if (!value)
        return;
    struct sim_row *r = mem_new(sizeof *r);
    buf_put_str(&r->key, key);
    buf_put_str(&r->value, *value);
    r->row = (struct cluster_row){
        .owner = who, .space = space, .key = buf_str(&r->key), .value = buf_str(&r->value)};
    s->row = mem_grow(s->row, &s->row_cap, s->row_count + 1, sizeof *s->row);
    s->row[s->row_count++] = r;
    seat_event(s, &(struct cluster_event){.kind = CLUSTER_EV_ROW, .row = &r->row});
}

static void seat_rows_gone(struct cluster_seat *s, unsigned owner)
{
    struct uuid who = world_uuid(owner);
    for (size_t i = 0; i < s->row_count;) {
        struct sim_row *r = s->row[i];
        if (!uuid_eq(&r->row.owner, &who)) {
            i++;
            continue;
        }
        s->row[i] = s->row[--s->row_count];
        seat_event(s, &(struct cluster_event){.kind = CLUSTER_EV_ROW_GONE, .row = &r->row});
        buf_deinit(&r->key);
        buf_deinit(&r->value);
        mem_free(r);
    }
}

/* ---- the link -------------------------------------------------------------------------------- */

struct sim_call {
    struct list link;
    struct cluster_link *from;
    cluster_link_reply_cb *cb;
    void *arg;
    uint64_t id;
    struct world_event *timeout;
};

struct sim_packet {
    unsigned from, to;
    uint32_t shard;
    uint16_t service;
    uint64_t call; /* 0: a cast */
    uint64_t life; /* of the sender */
    uint32_t loop; /* of the sender */
    struct buf payload;
    int outcome;
    usec_t sent;
    uint64_t place; /* among all between these two */
};

struct cluster_request {
    struct world *world;
    unsigned from, to; /* from: the server; to: who asked */
    uint32_t loop;
    uint64_t call, life;
};

void cluster_link_serve(struct cluster_link *l, uint16_t service, cluster_link_handler *handler,
                        void *arg)
{
    l->handler[service] = handler;
    l->handler_arg[service] = arg;
}

void cluster_link_serve_stream(struct cluster_link *l, uint16_t service,
                               cluster_link_accept *accept, void *arg)
{
    l->accept[service] = accept;
    l->accept_arg[service] = arg;
}

static void packet_free(struct sim_packet *p)
{
    buf_deinit(&p->payload);
    mem_free(p);
}

static void call_end(struct sim_call *c, int outcome, struct str reply)
{
    list_del(&c->link);
    c->timeout->a = NULL;
    c->cb(c->arg, outcome, reply);
    mem_free(c);
}

static void link_call_end(struct cluster_link *l, uint64_t life, uint64_t call, int outcome,
                          struct str reply)
{
    if (!l || l->life != life)
        return;
    list_each(&l->calls, x)
    {
        struct sim_call *c = container_of(x, struct sim_call, link);
        if (c->id != call)
            continue;
        call_end(c, outcome, reply);
        break;
    }
}

static void reply_arrives(struct world_event *ev)
{
    struct sim_packet *p = ev->a;
    struct world *w = ev->b;
    struct cluster_link *l = world_link(w, p->to, p->loop);
    usec_t later = world_hold(w, p->from, p->to, p->sent, p->place);
    if (later != 0 && later != USEC_NEVER) {
        world_at(w, later, reply_arrives, p, w);
        return;
    }
    if (later == USEC_NEVER)
        p->outcome = CLUSTER_LINK_E_UNREACHABLE;
    link_call_end(l, p->life, p->call, p->outcome, buf_str(&p->payload));
    packet_free(p);
}

static void packet_arrives(struct world_event *ev)
{
    struct sim_packet *p = ev->a;
    struct world *w = ev->b;
    struct cluster_link *l = world_link(w, p->to, p->shard);
    usec_t later = world_hold(w, p->from, p->to, p->sent, p->place);
    if (later != 0 && later != USEC_NEVER) {
        world_at(w, later, packet_arrives, p, w);
        return;
    }
    if (later == USEC_NEVER)
        link_call_end(world_link(w, p->from, p->loop), p->life, p->call, CLUSTER_LINK_E_UNREACHABLE,
                      STR(""));
    else if (l && l->handler[p->service]) {
        struct cluster_request *rq = NULL;
        struct cluster_from from = {
            .peer = world_uuid(p->from), .shard = p->shard, .deadline = USEC_NEVER};
        if (p->call) {
            rq = mem_new(sizeof *rq);
            *rq = (struct cluster_request){w, p->to, p->from, p->loop, p->call, p->life};
        }
        l->handler[p->service](l->handler_arg[p->service], rq, &from, buf_str(&p->payload));
    }
    packet_free(p);
}

static void request_end(struct cluster_request *rq, int outcome, struct str payload)
{
    usec_t at = world_arrival(rq->world, rq->from, rq->to, false);
    if (at != USEC_NEVER) {
        struct sim_packet *p = mem_new(sizeof *p);
        *p = (struct sim_packet){.to = rq->to,
                                 .call = rq->call,
                                 .life = rq->life,
                                 .loop = rq->loop,
                                 .outcome = outcome,
                                 .from = rq->from,
                                 .sent = world_now(rq->world),
                                 .place = world_place(rq->world, rq->from, rq->to)};
        buf_put_str(&p->payload, payload);
        world_at(rq->world, at, reply_arrives, p, rq->world);
    }
    mem_free(rq);
}

void cluster_request_reply(struct cluster_request *rq, struct str payload)
{
    request_end(rq, 0, payload);
}

void cluster_request_refuse(struct cluster_request *rq)
{
    request_end(rq, CLUSTER_LINK_E_NO_SERVICE, STR(""));
}

static void send_packet(struct cluster_link *l, const struct cluster_call *c, uint64_t call)
{
    unsigned to = world_node_of(l->world, &c->peer);
    usec_t at = world_arrival(l->world, l->node, to, false);
    for (int copy = 0; copy < (call == 0 && world_is_doubled(l->world) ? 2 : 1); copy++) {
        if (at == USEC_NEVER)
            return;
        struct sim_packet *p = mem_new(sizeof *p);
        *p = (struct sim_packet){.from = l->node,
                                 .to = to,
                                 .shard = c->shard,
                                 .service = c->service,
                                 .call = call,
                                 .life = l->life,
                                 .loop = l->index,
                                 .sent = world_now(l->world),
                                 .place = world_place(l->world, l->node, to)};
        buf_put_str(&p->payload, c->payload);
        world_at(l->world, at, packet_arrives, p, l->world);
        at += rng_below(world_rng(l->world), 5000);
    }
}

int cluster_link_cast(struct cluster_link *l, const struct cluster_call *c)
{
    send_packet(l, c, 0);
    return 0;
}

static void call_timeout(struct world_event *ev)
{
    if (ev->a)
        call_end(ev->a, CLUSTER_LINK_E_TIMEOUT, STR(""));
}

int cluster_link_call(struct cluster_link *l, const struct cluster_call *c,
                      cluster_link_reply_cb *cb, void *arg, uint64_t *out_id)
{
    static uint64_t
        id; /* the simulator is one thread and every run begins at any number: only equality counts */
    struct sim_call *call = mem_new(sizeof *call);
    (void)out_id;
    *call = (struct sim_call){.from = l, .cb = cb, .arg = arg, .id = ++id};
    list_push_back(&l->calls, &call->link);
    call->timeout = world_at(l->world, world_now(l->world) + c->timeout, call_timeout, call, NULL);
    send_packet(l, c, call->id);
    return 0;
}

/* ---- streams --------------------------------------------------------------------------------- */

struct cluster_stream {
    struct list link;
    struct cluster_link *owner;
    uint64_t id, life, peer_life;
    unsigned node, peer;
    uint32_t loop, peer_loop;
    const struct cluster_stream_ops *ops;
    void *arg;
    size_t credit;
    usec_t timeout, heard;
    bool is_writer, is_open, is_ended;
};

enum stream_word {
    WORD_OPEN,
    WORD_ACCEPT,
    WORD_DATA,
    WORD_CREDIT,
    WORD_END,
    WORD_FINISH,
    WORD_ABORT
};

struct stream_packet {
    uint64_t id, life, to_life;
    unsigned from, to;
    uint32_t loop, from_loop;
    uint16_t service;
    enum stream_word word;
    size_t n;
    usec_t timeout;
    struct buf payload;
};

static void stream_arrives(struct world_event *ev);

static void stream_send(struct cluster_stream *s, enum stream_word word, struct str payload,
                        size_t n, uint16_t service)
{
    struct world *w = s->owner->world;
    usec_t at = world_arrival(w, s->node, s->peer, true);
    if (at == USEC_NEVER)
        return;
    struct stream_packet *p = mem_new(sizeof *p);
    *p = (struct stream_packet){.id = s->id,
                                .life = s->life,
                                .to_life = s->peer_life,
                                .from = s->node,
                                .to = s->peer,
                                .loop = s->peer_loop,
                                .from_loop = s->loop,
                                .service = service,
                                .word = word,
                                .n = n,
                                .timeout = s->timeout};
    buf_put_str(&p->payload, payload);
    world_at(w, at, stream_arrives, p, w);
}

static void stream_gone(struct cluster_stream *s)
{
    list_del(&s->link);
    mem_free(s);
}

static void stream_watch(struct world_event *ev)
{
    struct cluster_link *l = ev->a;
    if (!l)
        return;
    list_each(&l->streams, x)
    {
        struct cluster_stream *s = container_of(x, struct cluster_stream, link);
        if (s->is_ended && !s->is_writer)
            continue;
        if (world_now(l->world) > s->heard + s->timeout) {
            s->ops->closed(s->arg, s, CLUSTER_LINK_E_TIMEOUT, STR(""));
            stream_gone(s);
            break; /* the callback may have changed the list */
        }
    }
    world_at(l->world, world_now(l->world) + USEC_SEC, stream_watch, l, NULL);
}

/* The connection of two nodes is reset: on this side its streams end now. */
static void link_reset(struct cluster_link *l, unsigned peer)
{
    struct list *x = l->streams.next;
    while (x != &l->streams) {
        struct cluster_stream *s = container_of(x, struct cluster_stream, link);
        x = x->next;
        if (s->peer != peer || (s->is_ended && !s->is_writer))
            continue;
        s->ops->closed(s->arg, s, CLUSTER_LINK_E_UNREACHABLE, STR(""));
        stream_gone(s);
        x = l->streams.next; /* the callback may have changed the list */
    }
}

static struct cluster_stream *stream_new(struct cluster_link *l, uint64_t id, unsigned peer,
                                         usec_t timeout)
{
    struct cluster_stream *s = mem_new(sizeof *s);
    s->owner = l;
    s->id = id;
    s->life = l->life;
    s->node = l->node;
    s->loop = l->index;
    s->peer = peer;
    s->timeout = timeout;
    s->heard = world_now(l->world);
    list_push_back(&l->streams, &s->link);
    return s;
}

static void stream_opened(struct cluster_link *l, struct stream_packet *p)
{
    struct cluster_stream *s = stream_new(l, p->id, p->from, p->timeout);
    struct cluster_from from = {.peer = world_uuid(p->from), .deadline = USEC_NEVER};
    s->peer_life = p->life;
    s->peer_loop = p->from_loop;
    if (!l->accept[p->service] || !l->accept[p->service](l->accept_arg[p->service], s, &from,
                                                         buf_str(&p->payload), &s->ops, &s->arg)) {
        stream_send(s, WORD_ABORT, STR(""), 0, 0);
        stream_gone(s);
        return;
    }
    stream_send(s, WORD_ACCEPT, STR(""), 0, 0);
}

static void stream_take(struct cluster_stream *s, struct stream_packet *p)
{
    s->heard = world_now(s->owner->world);
    switch (p->word) {
    case WORD_OPEN:
        break;
    case WORD_ACCEPT:
        s->peer_life = p->life;
        s->is_open = true;
        s->credit = CLUSTER_STREAM_WINDOW;
        s->ops->writable(s->arg, s);
        break;
    case WORD_DATA:
        s->ops->data(s->arg, s, buf_str(&p->payload));
        break;
    case WORD_CREDIT:
        s->credit += p->n;
        s->ops->writable(s->arg, s);
        break;
    case WORD_END:
        s->is_ended = true;
        s->ops->closed(s->arg, s, 0, STR(""));
        break;
    case WORD_FINISH:
    case WORD_ABORT:
        s->ops->closed(s->arg, s, p->word == WORD_FINISH ? 0 : CLUSTER_LINK_E_CANCELLED,
                       buf_str(&p->payload));
        stream_gone(s);
        break;
    }
}

static void stream_arrives(struct world_event *ev)
{
    struct stream_packet *p = ev->a;
    struct cluster_link *l = world_link(ev->b, p->to, p->loop);
    if (l && p->word == WORD_OPEN)
        stream_opened(l, p);
    else if (l)
        list_each(&l->streams, x)
        {
            struct cluster_stream *s = container_of(x, struct cluster_stream, link);
            if (s->id != p->id || s->peer != p->from)
                continue;
            stream_take(s, p);
            break;
        }
    buf_deinit(&p->payload);
    mem_free(p);
}

struct cluster_stream *cluster_stream_open(struct cluster_link *l, const struct cluster_call *c,
                                           const struct cluster_stream_ops *ops, void *arg,
                                           int *out_outcome)
{
    static uint64_t id;
    struct cluster_stream *s = stream_new(l, ++id, world_node_of(l->world, &c->peer), c->timeout);
    *out_outcome = 0;
    s->peer_loop = c->shard;
    s->ops = ops;
    s->arg = arg;
    s->is_writer = true;
    stream_send(s, WORD_OPEN, c->payload, 0, c->service);
    return s;
}

int cluster_stream_write(struct cluster_stream *s, struct str piece)
{
    if (piece.n > s->credit)
        return CLUSTER_LINK_E_OVERLOADED;
    s->credit -= piece.n;
    stream_send(s, WORD_DATA, piece, 0, 0);
    return 0;
}

size_t cluster_stream_credit(const struct cluster_stream *s)
{
    return s->credit;
}

void cluster_stream_end(struct cluster_stream *s)
{
    stream_send(s, WORD_END, STR(""), 0, 0);
}

void cluster_stream_consume(struct cluster_stream *s, size_t n)
{
    stream_send(s, WORD_CREDIT, STR(""), n, 0);
}

void cluster_stream_finish(struct cluster_stream *s, struct str word)
{
    stream_send(s, WORD_FINISH, word, 0, 0);
    stream_gone(s);
}

void cluster_stream_abort(struct cluster_stream *s)
{
    stream_send(s, WORD_ABORT, STR(""), 0, 0);
    stream_gone(s);
}
