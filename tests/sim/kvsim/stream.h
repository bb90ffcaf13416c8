/* Connections of simulated clients to simulated nodes.  SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of net/stream.h, net/listener.h, net/clock.h and net/random.h, and of net_loop_run.  Bytes keep their
 * order and arrive after a while or, when a node has died, never.  What a stream has at the end of its
 * loop's turn leaves then, as in a real loop.  Node i listens on port i + 1. */
#pragma once

#include "net/clock.h"
#include "net/listener.h"
#include "net/random.h"
#include "sim/kvsim/world.h"

static struct world *sim_world; /* for what has no argument to find it by */

struct net_listener {
    struct net_listener_conf conf;
    struct net_loop *loop;
    struct net_address address;
};

struct net_stream {
    struct list link; /* of loop.streams */
    struct net_loop *loop;
    struct net_stream *peer; /* NULL: not yet, or ended */
    const struct net_stream_ops *ops;
    void *arg;
    struct buf out, in;
    usec_t sent_at; /* what was sent last arrives then */
    unsigned paused, refs;
    bool is_client, is_deaf; /* is_deaf: what was on its way to it got lost */
    bool is_open, is_closing, is_ended, is_peer_gone, is_pumped;
    enum net_stream_end why; /* is_closing: to be told */
    uint64_t sent_count, arrived_count; /* flights to it */
    uint64_t read_total, written_total;
    struct net_address from;
    unsigned node; /* between clients and this one */
};

struct pump_mail {
    struct net_mail mail;
    struct net_stream *stream;
};

static struct net_stream *stream_ref(struct net_stream *s)
{
    s->refs++;
    return s;
}

static void stream_unref(struct net_stream *s)
{
    if (--s->refs > 0)
        return;
    buf_deinit(&s->out);
    buf_deinit(&s->in);
    mem_free(s);
}

static struct net_stream *net_stream_make(struct net_loop *l)
{
    struct net_stream *s = mem_new(sizeof *s);
    list_init(&s->link);
    s->loop = l;
    s->refs = 1;
    list_push_back(&l->streams, &s->link);
    return s;
}

static void stream_pump_soon(struct net_stream *s);

static void stream_close(struct net_stream *s, enum net_stream_end why);

/* ---- on the way ------------------------------------------------------------------------------ */

#define STREAM_HELD_USEC (3 * USEC_SEC) /* then TCP gives up */

struct flight {
    struct net_stream *to, *from; /* from: NULL when it has ended itself */
    struct buf bytes;
    usec_t sent;
    uint64_t place;
    bool is_end;
};

/* Between clients and a node, in the direction of what arrives at s. */
static bool stream_is_cut(const struct net_stream *s)
{
    return sim_world->client_cut[s->node][s->is_client ? 1 : 0];
}

static void flight_free(struct flight *f)
{
    buf_deinit(&f->bytes);
    stream_unref(f->to);
    if (f->from)
        stream_unref(f->from);
    mem_free(f);
}

/* Who sent what never arrived, or to one that is no more, hears of it. */
static void flight_is_lost(struct flight *f)
{
    if (f->from && !f->from->is_ended)
        stream_close(f->from, NET_STREAM_END_ERROR);
    flight_free(f);
}

static void flight_arrives(struct world_event *ev)
{
    struct flight *f = ev->a;
    struct net_stream *s = f->to;
    struct world *w = sim_world;
    if (stream_is_cut(s) && !w->is_over) {
        if (!w->is_patient && w->now > f->sent + STREAM_HELD_USEC) {
            s->is_deaf = true; /* the rest of the stream is lost with it */
            flight_is_lost(f);
            return;
        }
        world_at(w, w->now + 50 * USEC_MSEC, flight_arrives, f, NULL);
        return;
    }
    if (s->is_ended || s->is_deaf) {
        flight_is_lost(f);
        return;
    }
    if (f->place != s->arrived_count) { /* what was sent before is still held back */
        world_at(w, w->now + USEC_MSEC, flight_arrives, f, NULL);
        return;
    }
    s->arrived_count++;
    buf_put_str(&s->in, buf_str(&f->bytes));
    s->is_peer_gone = s->is_peer_gone || f->is_end;
    stream_pump_soon(s);
    flight_free(f);
}

static void stream_put(struct net_stream *s, bool is_end)
{
    struct world *w = sim_world;
    usec_t at = w->now + 20 + rng_below(&w->rng, 300);
    if (!s->peer)
        return;
    struct flight *f = mem_new(sizeof *f);
    f->to = stream_ref(s->peer);
    f->from = is_end ? NULL : stream_ref(s);
    f->sent = w->now;
    f->place = s->peer->sent_count++;
    f->is_end = is_end;
    buf_put_str(&f->bytes, buf_str(&s->out));
    s->written_total += s->out.n;
    s->out.n = 0;
    s->sent_at = at > s->sent_at ? at : s->sent_at + 1;
    world_at(w, s->sent_at, flight_arrives, f, NULL);
}

/* Nothing is said to its owner from now on. */
static void stream_leave(struct net_stream *s)
{
    must(!s->is_ended);
    s->is_ended = true;
    list_del(&s->link);
    if (s->peer)
        stream_put(s, true);
    if (s->peer)
        stream_unref(s->peer);
    s->peer = NULL;
    stream_unref(s);
}

static void stream_end(struct net_stream *s, enum net_stream_end why)
{
    const struct net_stream_ops *ops = s->ops;
    stream_ref(s);
    stream_leave(s);
    if (ops)
        ops->closed(s->arg, s, why);
    stream_unref(s);
}

static void stream_pump(struct net_stream *s)
{
    while (!s->is_ended && !s->is_closing && s->paused == 0 && s->in.n > 0 && s->ops) {
        size_t used = s->ops->read(s->arg, s, s->in.p, s->in.n);
        if (used == 0)
            break;
        s->read_total += used;
        memmove(s->in.p, s->in.p + used, s->in.n - used);
        s->in.n -= used;
    }
    if (s->is_ended)
        return;
    if (s->is_closing)
        stream_end(s, s->why);
    else if (s->is_peer_gone && s->paused == 0)
        stream_end(s, NET_STREAM_END_PEER);
}

static void stream_pumped(struct net_loop *here, struct net_mail *mail)
{
    struct pump_mail *m = container_of(mail, struct pump_mail, mail);
    struct net_stream *s = m->stream;
    (void)here;
    s->is_pumped = false;
    if (!s->is_ended)
        stream_pump(s);
    mem_free(m);
    stream_unref(s);
}

static void stream_pump_soon(struct net_stream *s)
{
    if (s->is_pumped)
        return;
    struct pump_mail *m = mem_new(sizeof *m);
    s->is_pumped = true;
    m->stream = stream_ref(s);
    net_loop_post(s->loop, s->loop, &m->mail, stream_pumped);
}

static void streams_flush(struct net_loop *l)
{
    list_each(&l->streams, x)
    {
        struct net_stream *s = container_of(x, struct net_stream, link);
        if (s->is_open && s->out.n > 0)
            stream_put(s, false);
    }
}

/* ---- net/stream.h ---------------------------------------------------------------------------- */

void net_stream_set(struct net_stream *s, const struct net_stream_ops *ops, void *arg)
{
    s->ops = ops;
    s->arg = arg;
}

struct buf *net_stream_out(struct net_stream *s)
{
    loop_schedule(s->loop, sim_world->now + 1); /* it leaves at the end of a turn */
    return &s->out;
}

size_t net_stream_out_len(const struct net_stream *s)
{
    return s->out.n;
}

bool net_stream_is_high(const struct net_stream *s)
{
    return s->out.n > 1 << 20;
}

void net_stream_owe_drained(struct net_stream *s, size_t n)
{
    (void)s, (void)n; /* what is appended leaves with the turn: nobody is ever above a mark */
}

void net_stream_pause(struct net_stream *s)
{
    s->paused++;
}

void net_stream_resume(struct net_stream *s)
{
    must(s->paused > 0);
    if (--s->paused == 0)
        stream_pump_soon(s);
}

void net_stream_want(struct net_stream *s, size_t n)
{
    (void)s, (void)n;
}

void net_stream_set_rate(struct net_stream *s, uint64_t read_bytes_per_sec)
{
    (void)s, (void)read_bytes_per_sec;
}

void net_stream_set_write_rate(struct net_stream *s, uint64_t write_bytes_per_sec)
{
    (void)s, (void)write_bytes_per_sec;
}

static void stream_close(struct net_stream *s, enum net_stream_end why)
{
    if (s->is_closing)
        return;
    s->is_closing = true;
    s->why = why;
    stream_pump_soon(s);
}

void net_stream_close(struct net_stream *s)
{
    stream_close(s, NET_STREAM_END_CLOSED);
}

static void close_is_due(struct world_event *ev)
{
    struct net_stream *s = ev->a;
    if (!s->is_ended)
        net_stream_close(s);
    stream_unref(s);
}

void net_stream_close_later(struct net_stream *s, usec_t delay_usec)
{
    world_at(sim_world, sim_world->now + delay_usec, close_is_due, stream_ref(s), NULL);
}

void net_stream_abort(struct net_stream *s)
{
    s->out.n = 0;
    stream_close(s, NET_STREAM_END_ABORTED);
}

void net_stream_forget(struct net_stream *s)
{
    s->ops = NULL;
    stream_leave(s);
}

const struct net_address *net_stream_peer(const struct net_stream *s)
{
    return &s->from;
}

uint64_t net_stream_read_total(const struct net_stream *s)
{
    return s->read_total;
}

uint64_t net_stream_written_total(const struct net_stream *s)
{
    return s->written_total;
}

const char *net_stream_error_text(const struct net_stream *s)
{
    (void)s;
    return "connection refused";
}

bool net_stream_identity(struct net_stream *s, struct net_stream_identity *out)
{
    (void)s, (void)out;
    return false;
}

/* ---- who comes in ---------------------------------------------------------------------------- */

static void stream_accepted(struct net_loop *here, struct net_mail *mail)
{
    struct pump_mail *m = container_of(mail, struct pump_mail, mail);
    struct net_stream *s = m->stream;
    struct net_listener *n = here->listener;
    if (!s->is_ended && n)
        n->conf.accepted(n->conf.arg, here, s);
    else if (!s->is_ended)
        stream_leave(s);
    mem_free(m);
    stream_unref(s);
}

static void stream_connects(struct world_event *ev)
{
    struct net_stream *c = ev->a;
    struct sim_node *n = &sim_world->node[c->node];
    if (!c->is_ended && (sim_world->client_cut[c->node][0] || sim_world->client_cut[c->node][1])) {
        if (ev->u++ < 20) { /* SYN again, for a while */
            world_at(sim_world, sim_world->now + 50 * USEC_MSEC, stream_connects, c, NULL)->u =
                ev->u;
            return;
        }
        stream_close(c, NET_STREAM_END_TIMEOUT);
    } else if (!c->is_ended && n->is_up && n->loop->listener) {
        struct net_stream *s = net_stream_make(n->loop);
        s->peer = stream_ref(c);
        c->peer = stream_ref(s);
        s->is_open = c->is_open = true;
        s->node = c->node;
        (void)!net_address_parse(STR("127.0.0.1:1"), &s->from);
        struct pump_mail *m = mem_new(sizeof *m);
        m->stream = stream_ref(s);
        net_loop_post(n->loop, n->loop, &m->mail, stream_accepted);
        loop_schedule(c->loop, sim_world->now + 1);
    } else if (!c->is_ended) {
        stream_close(c, NET_STREAM_END_ERROR);
    }
    stream_unref(c);
}

int net_stream_connect(struct net_loop *l, const struct net_address *to,
                       const struct net_stream_conf *conf, struct net_stream **out_stream)
{
    struct net_stream *s = net_stream_make(l);
    net_stream_set(s, conf->ops, conf->arg);
    s->node = net_address_port(to) - 1u;
    s->is_client = true;
    world_at(sim_world, sim_world->now + 100, stream_connects, stream_ref(s), NULL);
    *out_stream = s;
    return 0;
}

int net_listener_new(struct net_loop *accept_loop, const struct net_listener_conf *conf,
                     char out_error[NET_LISTENER_ERROR_MAX], struct net_listener **out_listener)
{
    struct net_listener *n = mem_new(sizeof *n);
    (void)out_error;
    n->conf = *conf;
    n->loop = accept_loop;
    accept_loop->listener = n;
    accept_loop->flush = streams_flush;
    *out_listener = n;
    return 0;
}

void net_listener_begin(struct net_listener *n)
{
    (void)n; /* none waits here */
}

void net_listener_stop(struct net_listener *n)
{
    n->loop->listener = NULL;
}

struct net_listener *net_listener_free(struct net_listener *n)
{
    if (n)
        net_listener_stop(n);
    return mem_free(n);
}

void net_listener_set_rate(struct net_listener *n, unsigned connect_per_sec_max)
{
    (void)n, (void)connect_per_sec_max;
}

void net_listener_set_count(struct net_listener *n, size_t connection_count_max)
{
    (void)n, (void)connection_count_max;
}

const struct net_address *net_listener_address(const struct net_listener *n)
{
    return &n->address;
}

/* ---- time and chance ------------------------------------------------------------------------- */

usec_t net_clock_now(void)
{
    return sim_world->now;
}

usec_t net_clock_wall(void)
{
    return sim_world->now + 1700000000 * USEC_SEC;
}

usec_t net_clock_cpu(void)
{
    return 0;
}

uint64_t net_random_u64(void)
{
    return rng_u64(&sim_world->rng);
}

void net_random_bytes(void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)rng_u64(&sim_world->rng);
}

struct uuid net_random_uuid(void)
{
    struct uuid u;
    net_random_bytes(u.b, sizeof u.b);
    return u;
}

int net_loop_run(struct net_loop *l)
{
    struct world *w = sim_world;
    while (!l->is_stopped && !w->failed && heap_top(&w->events))
        run_until(w, heap_deadline(&w->events));
    return 0;
}

/* What was sent to it arrives, though it turns no more. */
static void sim_loop_settle(struct net_loop *l)
{
    while (l->mail) {
        struct net_mail *m = l->mail;
        l->mail = NULL;
        l->mail_tail = &l->mail;
        for (struct net_mail *next; m; m = next) {
            next = m->next;
            m->fn(l, m);
        }
    }
}
