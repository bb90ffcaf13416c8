/* Snapshots to a replica that is too far behind.  SPDX-License-Identifier: Apache-2.0
 *
 * The stream (CLUSTER_SERVICE_SNAPSHOT, bulk lane): first word kv_wire_ship; then rows as
 * kv_wire_row_put writes them, cut anywhere, with a mark after each part.  landing.c receives.
 *
 * 1. What is sent is one view of the rows, at the applied index named in the head.
 * 2. A stream that broke leaves its view for KEEP_USEC: when raft asks again, the receiver is asked
 *    what it has (a stream that is a question), and the rest of the same view follows.  What the
 *    others have of it is never assumed.
 * 3. All streams of a node together send no more than ship_bytes_per_sec.
 * Never more than the stream's window in memory. */
#include "kv/kv_priv.h"

#define PACE_USEC (20 * USEC_MSEC) /* sent ahead of the rate, all streams together */
#define KEEP_USEC                                                                                  \
    (60 * USEC_SEC) /* matters: rows deleted meanwhile stay on the disk, the log is not cut */
#define SILENCE_USEC (20 * USEC_SEC) /* of the other side: then the stream is broken */

enum ship_phase {
    SHIP_VIEW,    /* is being made */
    SHIP_SENDING, /* until it is there, or broke */
    SHIP_KEPT,    /* it broke; raft may ask again */
    SHIP_ASKING,  /* the receiver, what it has */
};

struct kv_ship {
    struct list link; /* of the replica's ships */
    struct kv_replica *replica;
    struct cluster_stream *stream;
    enum ship_phase phase;
    uint64_t peer;
    struct kv_state_job view;
    struct kv_spans spans;
    size_t at; /* of them */
    struct engine_iter *iter;
    struct net_worker_job job;
    struct buf head, message, range;
    struct raft_config *config;
    uint64_t index, term;
    struct buf part; /* encoded, not yet written */
    size_t sent;     /* of part */
    struct kv_wire_rows rows;
    struct net_timer pace; /* SENDING: when it is its turn again; KEPT: when it is forgotten */
    size_t granted;        /* bytes it may send, taken out of the node's rate */
    usec_t keep_until;     /* once it broke */
    struct buf after;      /* rows begin here, when some of them are there */
    bool is_wanted;        /* KEPT: raft has asked again */
    bool is_reading, is_end, is_dead;
    int result;
};

static void out_free(struct kv_ship *s)
{
    struct kv_replica *r = s->replica;
    list_del(&s->link);
    net_timer_del(r->loop->loop, &s->pace);
    if (s->is_reading) {
        s->is_dead = true;
        return;
    }
    s->iter = engine_iter_free(s->iter);
    kv_spans_free(&s->spans);
    if (s->view.view)
        engine_view_free(r->home->store->state, s->view.view);
    buf_deinit(&s->head);
    buf_deinit(&s->message);
    buf_deinit(&s->range);
    buf_deinit(&s->part);
    buf_deinit(&s->after);
    mem_free(s->config);
    mem_free(s);
    r->pins--;
    if (r->is_closed)
        kv_replica_reap(r);
}

/* Raft hears; false: it leads no longer, and nobody needs s. */
static bool out_tell(struct kv_ship *s, bool ok)
{
    struct kv_replica *r = s->replica;
    s->stream = NULL;
    net_timer_del(r->loop->loop, &s->pace);
    list_del(&s->link); /* what the step makes of the others does not concern it */
    if (!r->is_closed)
        kv_replica_step(
            r, &(struct raft_event){.kind = RAFT_EV_SNAPSHOT_SENT, .peer = s->peer, .ok = ok});
    return !r->is_closed && kv_replica_is_leader(r);
}

static void out_end(struct kv_ship *s, bool ok)
{
    (void)out_tell(s, ok);
    out_free(s);
}

static struct kv_ship *out_find(struct kv_replica *r, uint64_t peer)
{
    list_each(&r->ships, x)
    {
        struct kv_ship *s = container_of(x, struct kv_ship, link);
        if (s->peer == peer)
            return s;
    }
    return NULL;
}

static void out_broke(struct kv_ship *s)
{
    struct kv_replica *r = s->replica;
    usec_t now = kv_loop_now(r->loop);
    if (s->keep_until == 0)
        s->keep_until = usec_add(now, KEEP_USEC);
    if (!out_tell(s, false) || now >= s->keep_until || out_find(r, s->peer)) {
        out_free(s);
        return;
    }
    s->phase = SHIP_KEPT;
    s->is_wanted = false;
    list_push_back(&r->ships, &s->link);
    net_timer_set(r->loop->loop, &s->pace, s->keep_until);
}

static void read_span(struct kv_ship *s)
{
    const struct kv_span *n = &s->spans.at[s->at++];
    struct str from =
        buf_str(str_cmp(buf_str(&s->after), buf_str(&n->from)) > 0 ? &s->after : &n->from);
    s->iter = engine_iter_free(s->iter);
    s->iter = engine_iter_new(s->replica->home->store->state, s->view.view, n->space, from,
                              buf_str(&n->to));
}

static void read_work(struct net_worker_job *job)
{
    struct kv_ship *s = container_of(job, struct kv_ship, job);
    size_t part = s->replica->loop->kv->conf.limits.ship_part_bytes;
    while (s->part.n < part && !s->is_end) {
        struct str key, value;
        s->result = engine_iter_next(s->iter, &key, &value);
        if (s->result == 0) {
            kv_wire_row_put(&s->rows, key, value, &s->part);
            continue;
        }
        if (s->result == ENGINE_STATE_E_NONE && s->at < s->spans.count) {
            read_span(s);
            continue;
        }
        s->is_end = true;
        if (s->result != ENGINE_STATE_E_NONE)
            return;
        s->result = 0;
        kv_wire_rows_end(&s->rows, &s->part);
    }
    if (!s->is_end)
        kv_wire_rows_mark(&s->rows, &s->part);
}

static void pump(struct kv_ship *s);
static void out_ask(struct kv_ship *s);

static void read_done(struct net_worker_job *job)
{
    struct kv_ship *s = container_of(job, struct kv_ship, job);
    s->is_reading = false;
    if (s->is_dead) {
        out_free(s);
        return;
    }
    if (s->phase == SHIP_KEPT) {
        if (s->is_wanted)
            out_ask(s);
        return;
    }
    if (job->is_cancelled || s->result < 0) {
        cluster_stream_abort(s->stream);
        out_end(s, false);
        return;
    }
    pump(s);
}

usec_t kv_ship_pace(_Atomic usec_t *free_at, usec_t now, size_t n, size_t bytes_per_sec)
{
    usec_t at = atomic_load_explicit(free_at, memory_order_relaxed), from;
    do
        from = at > now ? at : now;
    while (!atomic_compare_exchange_weak_explicit(free_at, &at,
                                                  from + (usec_t)n * USEC_SEC / bytes_per_sec,
                                                  memory_order_relaxed, memory_order_relaxed));
    return from > now + PACE_USEC ? from - PACE_USEC : now;
}

/* May n bytes leave now?  Else the timer calls when their turn has come. */
static bool may_send(struct kv_ship *s, size_t n)
{
    struct kv_loop *l = s->replica->loop;
    usec_t now = kv_loop_now(l);
    if (s->granted >= n)
        return true;
    usec_t at = kv_ship_pace(&l->kv->ship_free_at, now, n - s->granted,
                             l->kv->conf.limits.ship_bytes_per_sec);
    s->granted = n;
    if (at > now)
        net_timer_set(l->loop, &s->pace, at);
    return at <= now;
}

static void pump(struct kv_ship *s)
{
    if (net_timer_is_set(&s->pace))
        return;
    while (s->sent < s->part.n) {
        size_t n = s->part.n - s->sent, credit = cluster_stream_credit(s->stream);
        if (credit == 0)
            return;
        n = n < credit ? n : credit;
        if (!may_send(s, n) ||
            cluster_stream_write(s->stream, str_view(s->part.p + s->sent, n)) != 0)
            return;
        s->sent += n;
        s->granted -= n;
        kv_count(&s->replica->loop->count.snapshot_bytes_out, n);
    }
    if (s->is_reading)
        return;
    s->part.n = s->sent = 0;
    if (s->is_end) {
        cluster_stream_end(s->stream);
        return;
    }
    struct kv_loop *l = s->replica->loop;
    s->is_reading = true;
    if (net_worker_push(l->kv->conf.worker, l->loop, &s->job, read_work, read_done) != 0) {
        s->is_reading = false;
        cluster_stream_abort(s->stream);
        out_end(s, false);
    }
}

static void on_pace(void *arg, usec_t now)
{
    struct kv_ship *s = arg;
    (void)now;
    if (s->phase != SHIP_KEPT && !s->is_reading && s->stream)
        pump(s);
    else if (s->phase == SHIP_KEPT && !s->is_wanted)
        out_free(s);
    else if (s->phase == SHIP_KEPT && !s->is_reading)
        out_ask(s);
}

static void out_writable(void *arg, struct cluster_stream *stream)
{
    struct kv_ship *s = arg;
    (void)stream;
    if (!s->is_reading)
        pump(s);
}

static void out_closed(void *arg, struct cluster_stream *stream, int outcome, struct str word)
{
    (void)stream;
    (void)word;
    if (outcome == 0)
        out_end(arg, true);
    else
        out_broke(arg);
}

static const struct cluster_stream_ops out_ops = {.writable = out_writable, .closed = out_closed};

/* The moment the view is asked for: this is what it will show. */
static void out_asked(struct kv_state_job *view)
{
    struct kv_ship *s = container_of(view, struct kv_ship, view);
    struct kv_replica *r = s->replica;
    s->index = r->applied;
    s->term = r->applied_term;
    s->config = raft_config_dup(r->config);
    range_encode(&r->range, &s->range);
    s->spans = kv_spans_all(&r->parts, &r->range.bounds);
}

static struct cluster_stream *out_open(struct kv_ship *s, const struct cluster_stream_ops *ops,
                                       const struct kv_wire_ship *head)
{
    struct kv_replica *r = s->replica;
    const struct raft_member *to = raft_config_find(raft_config_get(&r->raft), s->peer);
    int outcome = 0;
    s->head.n = 0;
    kv_wire_ship_encode(head, &s->head);
    if (!to || !r->loop->link)
        return NULL;
    struct cluster_call call = {
        .peer = to->store,
        .service = CLUSTER_SERVICE_SNAPSHOT,
        .lane = CLUSTER_LANE_BULK,
        .shard = kv_shard(r->home->store, r->range_id),
        .timeout = SILENCE_USEC,
        .payload = buf_str(&s->head),
    };
    return cluster_stream_open(r->loop->link, &call, ops, s, &outcome);
}

/* From the first span that has rows behind s->after. */
static void out_rewind(struct kv_ship *s)
{
    s->part.n = s->sent = s->granted = 0;
    s->is_end = false;
    s->at = 0;
    while (s->at + 1 < s->spans.count &&
           str_cmp(buf_str(&s->spans.at[s->at].to), buf_str(&s->after)) <= 0)
        s->at++;
    read_span(s);
}

/* held: what the receiver has; NULL: nothing. */
static void out_begin(struct kv_ship *s, const struct kv_wire_held *held, struct str held_as_told)
{
    struct kv_replica *r = s->replica;
    struct raft_event ev = {.kind = RAFT_EV_SNAPSHOT_BEGIN,
                            .snapshot = {s->peer, s->index, s->term, s->config}};
    s->phase = SHIP_SENDING;
    s->message.n = 0;
    kv_replica_step(r, &ev);
    if (s->message.n == 0) {
        out_free(s);
        return;
    }
    s->after.n = 0;
    s->rows = (struct kv_wire_rows){0};
    if (held) {
        buf_put_str(&s->after, held->key);
        buf_put_u8(&s->after, 0); /* the key next to it */
        s->rows.count = held->count;
        s->rows.crc = held->crc;
        kv_count(&r->loop->count.snapshot_resumed, 1);
    }
    out_rewind(s);
    kv_count(&r->loop->count.snapshot_out, 1);
    s->stream = out_open(s, &out_ops,
                         &(struct kv_wire_ship){.store = r->home->store->hash,
                                                .id = r->range_id,
                                                .range = buf_str(&s->range),
                                                .message = buf_str(&s->message),
                                                .held = held_as_told});
    if (!s->stream)
        out_broke(s);
}

static void out_view(struct kv_state_job *view)
{
    struct kv_ship *s = container_of(view, struct kv_ship, view);
    struct kv_replica *r = s->replica;
    if (r->is_closed || s->is_dead || !raft_config_find(raft_config_get(&r->raft), s->peer) ||
        !r->loop->link)
        out_free(s);
    else
        out_begin(s, NULL, STR(""));
}

/* ---- asking what is there -------------------------------------------------------------------- */

static bool is_inside(const struct kv_ship *s, struct str key)
{
    struct str to = buf_str(&s->spans.at[s->spans.count - 1].to);
    return str_cmp(buf_str(&s->spans.at[0].from), key) <= 0 && (to.n == 0 || str_cmp(key, to) < 0);
}

static void question_writable(void *arg, struct cluster_stream *stream)
{
    (void)arg;
    cluster_stream_end(stream);
}

/* Who refuses to answer has nothing, or is of a version that does not keep it. */
static void question_closed(void *arg, struct cluster_stream *stream, int outcome, struct str word)
{
    struct kv_ship *s = arg;
    struct kv_wire_held held;
    (void)stream;
    s->stream = NULL;
    if (outcome != 0 && outcome != CLUSTER_LINK_E_CANCELLED) {
        out_broke(s);
        return;
    }
    bool is_some = outcome == 0 && word.n > 0 && kv_wire_held_decode(word, &held) == 0 &&
                   held.index == s->index && held.term == s->term && held.count > 0 &&
                   is_inside(s, held.key);
    out_begin(s, is_some ? &held : NULL, is_some ? word : STR(""));
}

static const struct cluster_stream_ops question_ops = {.writable = question_writable,
                                                       .closed = question_closed};

static void out_ask(struct kv_ship *s)
{
    s->phase = SHIP_ASKING;
    net_timer_del(s->replica->loop->loop, &s->pace);
    s->stream = out_open(s, &question_ops,
                         &(struct kv_wire_ship){.store = s->replica->home->store->hash,
                                                .id = s->replica->range_id,
                                                .is_question = true});
    if (!s->stream)
        out_broke(s);
}

static void out_drop(struct kv_state_job *view)
{
    out_free(container_of(view, struct kv_ship, view));
}

void kv_ship_out(struct kv_replica *r, uint64_t peer)
{
    struct kv_ship *old = out_find(r, peer);
    if (old && old->phase == SHIP_KEPT) {
        old->is_wanted = true; /* not at once: we are in the middle of a step */
        net_timer_set(r->loop->loop, &old->pace, kv_loop_now(r->loop));
    }
    if (old)
        return;
    struct kv_ship *s = mem_new(sizeof *s);
    s->replica = r;
    s->peer = peer;
    s->view.loop = r->loop;
    s->view.asked = out_asked;
    s->view.fn = out_view;
    s->view.drop = out_drop;
    net_timer_init(&s->pace, on_pace, s);
    r->pins++;
    list_push_back(&r->ships, &s->link);
    kv_load_view_soon(r, &s->view);
}

void kv_ship_head(struct kv_replica *r, const struct raft_message *m)
{
    struct kv_ship *s = out_find(r, m->to);
    if (s && s->message.n == 0)
        raft_message_encode(m, &s->message);
}

void kv_ship_stop(struct kv_replica *r)
{
    while (!list_empty(&r->ships)) {
        struct kv_ship *s = container_of(r->ships.next, struct kv_ship, link);
        list_del(&s->link);
        if (s->phase == SHIP_VIEW) {
            s->is_dead = true; /* its view is on the way */
            continue;
        }
        if (s->stream)
            cluster_stream_abort(s->stream);
        s->stream = NULL;
        out_free(s);
    }
}
