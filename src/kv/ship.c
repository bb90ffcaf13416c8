/* Snapshots from a replica to one that is too far behind.  SPDX-License-Identifier: Apache-2.0
 *
 * The stream (CLUSTER_SERVICE_SNAPSHOT, bulk lane): first word kv_wire_ship; then rows as
 * kv_wire_row_put writes them, cut anywhere.
 *
 * 1. What is sent is one view of the rows, at the applied index named in the head.
 * 2. The receiver writes into a space of its own; the switch to it is one batch, durable before
 *    raft hears of it.
 * 3. Nothing is switched unless count and checksum agree.
 * 4. A broken stream leaves a space that is dropped, and raft knows.
 * 5. All streams of a node together send no more than ship_bytes_per_sec.
 * Never more than the stream's window in memory on either side. */
#include "kv/kv_priv.h"

#define PART_BYTES (128u << 10)
#define PACE_USEC (20 * USEC_MSEC) /* sent ahead of the rate, all streams together */
#define ROW_BYTES_MAX (64u << 20)

struct kv_ship {
    struct list link;
    struct kv_replica *replica;
    struct cluster_stream *stream;
    /* sending */
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
    struct net_timer pace; /* when it is its turn again */
    size_t granted;        /* bytes it may send, taken out of the node's rate */
    bool is_reading, is_end, is_dead;
    int result;
    /* receiving */
    uint64_t space;
    struct range got_range;
    bool has_range;
    struct engine_batch *batch;
    struct kv_state_job done;
    size_t unused, writing; /* bytes not given back to the window; of those, in the batch that is
                               being written */
    bool is_writing, is_switching, is_over, is_ended;
};

/* ---- sending --------------------------------------------------------------------------------- */

static void out_free(struct kv_ship *s)
{
    struct kv_replica *r = s->replica;
    if (s->is_reading) {
        s->is_dead = true;
        return;
    }
    list_del(&s->link);
    s->iter = engine_iter_free(s->iter);
    kv_spans_free(&s->spans);
    if (s->view.view)
        engine_view_free(r->home->store->state, s->view.view);
    buf_deinit(&s->head);
    buf_deinit(&s->message);
    buf_deinit(&s->range);
    buf_deinit(&s->part);
    mem_free(s->config);
    mem_free(s);
    r->pins--;
    if (r->is_closed)
        kv_replica_reap(r);
}

static void out_end(struct kv_ship *s, bool ok)
{
    struct kv_replica *r = s->replica;
    uint64_t peer = s->peer;
    s->stream = NULL;
    net_timer_del(r->loop->loop, &s->pace);
    list_del(&s->link);
    if (!r->is_closed)
        kv_replica_step(
            r, &(struct raft_event){.kind = RAFT_EV_SNAPSHOT_SENT, .peer = peer, .ok = ok});
    out_free(s);
}

static void read_span(struct kv_ship *s)
{
    const struct kv_span *n = &s->spans.at[s->at++];
    s->iter = engine_iter_free(s->iter);
    s->iter = engine_iter_new(s->replica->home->store->state, s->view.view, n->space,
                              buf_str(&n->from), buf_str(&n->to));
}

static void read_work(struct net_worker_job *job)
{
    struct kv_ship *s = container_of(job, struct kv_ship, job);
    while (s->part.n < PART_BYTES && !s->is_end) {
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
}

static void pump(struct kv_ship *s);

static void read_done(struct net_worker_job *job)
{
    struct kv_ship *s = container_of(job, struct kv_ship, job);
    s->is_reading = false;
    if (s->is_dead) {
        out_free(s);
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
    if (!s->is_reading && s->stream)
        pump(s);
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
    out_end(arg, outcome == 0);
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

static void out_view(struct kv_state_job *view)
{
    struct kv_ship *s = container_of(view, struct kv_ship, view);
    struct kv_replica *r = s->replica;
    const struct raft_member *to = raft_config_find(raft_config_get(&r->raft), s->peer);
    int outcome = 0;

    if (r->is_closed || s->is_dead || !to || !r->loop->link) {
        list_del(&s->link);
        out_free(s);
        return;
    }
    struct cluster_call call = {
        .peer = to->store,
        .service = CLUSTER_SERVICE_SNAPSHOT,
        .lane = CLUSTER_LANE_BULK,
        .shard = kv_shard(r->home->store, r->range_id),
        .timeout = 20 * USEC_SEC,
    };
    struct raft_event ev = {.kind = RAFT_EV_SNAPSHOT_BEGIN,
                            .snapshot = {s->peer, s->index, s->term, s->config}};
    kv_replica_step(r, &ev);
    if (s->message.n == 0) {
        out_free(s);
        return;
    }
    struct kv_wire_ship head = {.store = r->home->store->hash,
                                .id = r->range_id,
                                .range = buf_str(&s->range),
                                .message = buf_str(&s->message)};
    kv_wire_ship_encode(&head, &s->head);
    call.payload = buf_str(&s->head);
    read_span(s);
    s->stream = cluster_stream_open(r->loop->link, &call, &out_ops, s, &outcome);
    kv_count(&r->loop->count.snapshot_out, 1);
    if (!s->stream)
        out_end(s, false);
}

static void out_drop(struct kv_state_job *view)
{
    out_free(container_of(view, struct kv_ship, view));
}

void kv_ship_out(struct kv_replica *r, uint64_t peer)
{
    list_each(&r->ships, x) if (container_of(x, struct kv_ship, link)->peer == peer) return;
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
    list_each(&r->ships, x)
    {
        struct kv_ship *s = container_of(x, struct kv_ship, link);
        if (s->peer == m->to && s->message.n == 0)
            raft_message_encode(m, &s->message);
    }
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void in_free(struct kv_ship *s, bool is_dropped)
{
    struct kv_replica *r = s->replica;
    if (r->ship_in == s)
        r->ship_in = NULL;
    if (is_dropped) {
        s->batch = s->batch ? s->batch : engine_batch_new();
        engine_batch_drop(s->batch, s->space, STR(""), STR(""));
        engine_state_write(r->home->store->state, s->batch, NULL, 0);
        s->batch = NULL;
    }
    s->is_over = true;
    if (s->is_writing)
        return;
    s->batch = engine_batch_free(s->batch);
    buf_deinit(&s->part);
    mem_free(s->config);
    if (s->has_range)
        range_deinit(&s->got_range);
    mem_free(s);
    r->pins--;
    if (r->is_closed)
        kv_replica_reap(r);
}

static void in_fail(struct kv_ship *s)
{
    struct kv_replica *r = s->replica;
    if (s->stream)
        cluster_stream_abort(s->stream);
    s->stream = NULL;
    if (!r->is_closed)
        kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_SNAPSHOT_FAILED});
    in_free(s, true);
}

static void in_write(struct kv_ship *s);
static void in_switch(struct kv_ship *s);

static void in_written(struct kv_state_job *job)
{
    struct kv_ship *s = container_of(job, struct kv_ship, done);
    s->is_writing = false;
    if (s->is_over) {
        in_free(s, false);
        return;
    }
    s->unused -= s->writing;
    if (s->stream)
        cluster_stream_consume(s->stream, s->writing);
    s->writing = 0;
    if (s->is_ended)
        in_switch(s);
    else if (s->unused >= PART_BYTES / 2)
        in_write(s);
}

static void in_drop(struct kv_state_job *job)
{
    struct kv_ship *s = container_of(job, struct kv_ship, done);
    s->is_writing = false;
    in_free(s, false);
}

static void in_drop_switched(struct kv_state_job *job)
{
    struct kv_ship *s = container_of(job, struct kv_ship, view);
    s->is_writing = false;
    in_free(s, false);
}

static void in_write(struct kv_ship *s)
{
    if (s->is_writing)
        return;
    s->is_writing = true;
    s->writing = s->unused;
    s->done.loop = s->replica->loop;
    s->done.fn = in_written;
    if (!s->batch)
        s->batch = engine_batch_new();
    s->done.drop = in_drop;
    kv_state_write(s->replica->home->store, s->batch, &s->done);
    s->batch = NULL;
}

/* One row or the end off the front of part; false: not all of it is there. */
static bool in_take(struct kv_ship *s, struct codec_cursor *c, bool *out_bad)
{
    struct str key, value;
    enum kv_wire_piece piece = kv_wire_row_next(&s->rows, c, &key, &value);
    *out_bad = piece == KV_WIRE_PIECE_BAD ||
               (piece == KV_WIRE_PIECE_ROW && !range_bounds_has(&s->got_range.bounds, key));
    if (*out_bad || piece != KV_WIRE_PIECE_ROW)
        return piece == KV_WIRE_PIECE_END;
    if (!s->batch)
        s->batch = engine_batch_new();
    engine_batch_put(s->batch, s->space, key, value);
    return true;
}

static void in_data(void *arg, struct cluster_stream *stream, struct str piece)
{
    struct kv_ship *s = arg;
    bool is_bad = false;
    (void)stream;
    kv_count(&s->replica->loop->count.snapshot_bytes_in, piece.n);
    buf_put_str(&s->part, piece);
    s->unused += piece.n;
    struct codec_cursor c = codec_cursor_of(buf_str(&s->part));
    while (codec_cursor_left(&c) > 0 && in_take(s, &c, &is_bad))
        continue;
    buf_drop(&s->part, (size_t)(c.p - s->part.p));
    if (is_bad || s->part.n > ROW_BYTES_MAX)
        in_fail(s);
    else if (s->unused >= PART_BYTES / 2)
        in_write(s);
}

static void in_durable(struct kv_state_job *job)
{
    struct kv_ship *s = container_of(job, struct kv_ship, view);
    struct kv_replica *r = s->replica;
    s->is_writing = false;
    if (r->is_closed || s->is_over) {
        in_free(s, false);
        return;
    }
    struct raft_event ev = {.kind = RAFT_EV_SNAPSHOT_INSTALLED,
                            .snapshot = {0, s->index, s->term, s->config}};
    kv_count(&r->loop->count.snapshot_in, 1);
    r->durable = s->index;
    kv_load_begin(r, NULL);
    kv_replica_step(r, &ev);
    if (s->stream)
        cluster_stream_finish(s->stream, STR("ok"));
    s->stream = NULL;
    in_free(s, false);
}

/* All is there: the new space becomes ours. */
static void in_switch(struct kv_ship *s)
{
    struct kv_replica *r = s->replica;
    struct engine_batch *b = s->batch ? s->batch : engine_batch_new();
    s->batch = NULL;
    kv_client_rows_flush(r->home);
    kv_apply_lost(r, s->index, KV_WIRE_UNKNOWN);
    if (r->has_range) {
        kv_replica_ready(r, false);
        kv_spans_drop(&r->parts, &r->range.bounds, b);
        range_deinit(&r->range);
    } else
        r->machine = r->home->store->conf.ops->new (r->home->store->conf.machine_conf);
    r->is_paused = true;
    r->range = s->got_range;
    s->has_range = false;
    r->has_range = true;
    kv_parts_free(&r->parts);
    r->parts.space = s->space;
    kv_apply_drop(r); /* older than the snapshot */
    mem_free(r->config);
    r->config = raft_config_dup(s->config);
    r->applied = r->snapshot_index = s->index;
    r->applied_term = s->term;
    r->is_routed_dirty = true;
    kv_meta_put(r, b);
    kv_meta_put_applied(r, b);
    engine_state_write(r->home->store->state, b, NULL, 0);
    s->is_switching = s->is_writing = true;
    s->view.loop = r->loop;
    s->view.fn = in_durable;
    s->view.drop = in_drop_switched;
    kv_state_sync(r->home->store, &s->view);
}

static void in_closed(void *arg, struct cluster_stream *stream, int outcome, struct str word)
{
    struct kv_ship *s = arg;
    (void)stream;
    (void)word;
    if (outcome != 0)
        s->stream = NULL; /* gone already */
    if (s->is_switching)
        return;
    if (outcome == 0 && s->rows.is_end && !s->replica->is_closed && !s->is_writing)
        in_switch(s);
    else if (outcome == 0 && s->rows.is_end && !s->replica->is_closed)
        s->is_ended = true; /* when the write under way is done */
    else
        in_fail(s);
}

static const struct cluster_stream_ops in_ops = {.data = in_data, .closed = in_closed};

static bool on_stream(void *arg, struct cluster_stream *stream, const struct cluster_from *from,
                      struct str first, const struct cluster_stream_ops **out_ops_at,
                      void **out_arg)
{
    struct kv_loop *l = arg;
    struct kv_wire_ship head;
    struct raft_message m;
    struct range range;
    struct uuid peer = from->peer;
    struct kv_store *store;

    if (kv_wire_ship_decode(first, &head) != 0 || !(store = kv_store_of_hash(l->kv, head.store)) ||
        raft_message_decode(head.message, &l->messages, &m) != 0 || m.type != RAFT_MSG_SNAPSHOT)
        return false;
    struct kv_replica *r = kv_replica_find(l, kv_tag(store, head.id));
    if (!r || r->is_closed || r->ship_in || r->is_paused || r->id != m.to)
        return false;
    struct raft_config *config = raft_config_decode(m.config);
    if (!config)
        return false;
    if (range_decode(head.range, &range) != 0) {
        mem_free(config);
        return false;
    }
    l->receiving = &peer;
    r->wants_install = false;
    kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_RECV, .message = &m});
    l->receiving = NULL;
    if (!r->wants_install) {
        mem_free(config);
        range_deinit(&range);
        return false;
    }
    struct kv_ship *s = mem_new(sizeof *s);
    list_init(&s->link);
    s->replica = r;
    s->stream = stream;
    s->config = config;
    s->got_range = range;
    s->has_range = true;
    s->index = m.index;
    s->term = m.log_term;
    s->space = engine_state_space(store->state);
    r->ship_in = s;
    r->pins++;
    *out_ops_at = &in_ops;
    *out_arg = s;
    return true;
}

void kv_ship_serve(struct kv_loop *l)
{
    if (l->link)
        cluster_link_serve_stream(l->link, CLUSTER_SERVICE_SNAPSHOT, on_stream, l);
}

void kv_ship_stop(struct kv_replica *r)
{
    while (!list_empty(&r->ships)) {
        struct kv_ship *s = container_of(r->ships.next, struct kv_ship, link);
        list_del(&s->link);
        if (!s->stream) {
            s->is_dead = true; /* its view is on the way */
            continue;
        }
        cluster_stream_abort(s->stream);
        s->stream = NULL;
        net_timer_del(r->loop->loop, &s->pace);
        out_free(s);
    }
    if (r->ship_in && r->is_closed && !r->ship_in->is_switching)
        in_fail(r->ship_in);
}
